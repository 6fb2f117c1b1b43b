//! Typed values out of [`Sources`]. A value that cannot be read is noted as a problem and reading goes on.

use std::path::PathBuf;

use super::keys::{Place, place_of};
use super::limits::{LimitSpec, Unit};
use super::problem::{Origin, Problem, meant};
use super::sources::{Setting, Sources, Value};

/// Why a value is none, and what to do: "is not an address", "write …".
pub(super) struct Wrong {
    pub(super) what: String,
    pub(super) remedy: String,
}

pub(super) fn wrong(what: impl Into<String>, remedy: impl Into<String>) -> Wrong {
    Wrong { what: what.into(), remedy: remedy.into() }
}

pub(super) struct Reader {
    pub(super) sources: Sources,
    pub(super) current_dir: PathBuf,
}

impl Reader {
    /// The text at `key` as `parse` understands it; `None` when it is not set or wrong.
    pub(super) fn text<T>(&mut self, key: &str, parse: impl FnOnce(&str) -> Result<T, Wrong>) -> Option<T> {
        let setting = self.sources.settings.get(key)?.clone();
        let parsed = match &setting.value {
            Value::Text(text) => parse(text),
            other => Err(wrong(format!("is {}, not text", kind_of(other)), "write it in quotes")),
        };
        self.noted(key, &setting, parsed)
    }

    /// One of `words`.
    pub(super) fn word<T: Copy>(&mut self, key: &str, words: &[(&str, T)]) -> Option<T> {
        self.text(key, |text| {
            let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
            let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            found.ok_or_else(|| {
                let remedy = match meant(text, known.iter().copied()) {
                    Some(word) => format!("did you mean {word}?"),
                    None => format!("write one of: {}", known.join(", ")),
                };
                wrong("is not a known word", remedy)
            })
        })
    }

    pub(super) fn flag(&mut self, key: &str) -> Option<bool> {
        let setting = self.sources.settings.get(key)?.clone();
        let parsed = match &setting.value {
            Value::Bool(value) => Ok(*value),
            Value::Text(text) if text == "true" => Ok(true),
            Value::Text(text) if text == "false" => Ok(false),
            _ => Err(wrong("is neither true nor false", "write true or false, without quotes")),
        };
        self.noted(key, &setting, parsed)
    }

    /// A path; relative ones are seen from the file that says so, or from the current directory.
    pub(super) fn path(&mut self, key: &str) -> Option<PathBuf> {
        let base = match self.origin(key) {
            Origin::File { path, .. } => path.parent().map(PathBuf::from).unwrap_or_default(),
            _ => self.current_dir.clone(),
        };
        let current = self.current_dir.clone();
        self.text(key, |text| {
            if text.is_empty() || text.contains('\0') {
                return Err(wrong("is no path", "write a path, or remove the key"));
            }
            Ok(tidy(&current.join(base).join(text)))
        })
    }

    pub(super) fn limit(&mut self, spec: &LimitSpec) -> u64 {
        let key = format!("limits.{}", spec.key);
        let Some(setting) = self.sources.settings.get(&key).cloned() else { return spec.default };
        let number = match &setting.value {
            Value::Integer(number) => u64::try_from(*number).ok(),
            Value::Text(text) => text.parse().ok(),
            _ => None,
        };
        let parsed = number.filter(|number| (spec.least..=spec.most).contains(number)).ok_or_else(|| {
            let unit = unit_words(spec.unit);
            let range =
                format!("write a number from {} to {}{unit}; the default is {}", spec.least, spec.most, spec.default);
            wrong("is no number in its range", range)
        });
        self.noted(&key, &setting, parsed).unwrap_or(spec.default)
    }

    pub(super) fn origin(&self, key: &str) -> Origin {
        self.sources.settings.get(key).map_or(Origin::Absent, |setting| setting.origin.clone())
    }

    pub(super) fn is_set(&self, key: &str) -> bool {
        self.sources.settings.contains_key(key)
    }

    /// A problem with `key` as it stands, or with its absence.
    pub(super) fn problem(&mut self, key: &str, what: impl Into<String>, remedy: impl Into<String>) {
        let origin = self.origin(key);
        self.sources.problems.push(Problem { origin, key: key.to_owned(), what: what.into(), remedy: remedy.into() });
    }

    fn noted<T>(&mut self, key: &str, setting: &Setting, parsed: Result<T, Wrong>) -> Option<T> {
        parsed
            .map_err(|wrong| {
                let shown = if place_of(key) == Place::Anywhere { shown(&setting.value) } else { String::new() };
                self.sources.problems.push(Problem {
                    origin: setting.origin.clone(),
                    key: key.to_owned(),
                    what: format!("{shown}{}", wrong.what),
                    remedy: wrong.remedy,
                });
            })
            .ok()
    }
}

/// `= "value" `, for a message; long ones are cut.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Text(text) => {
            let cut: String = text.chars().take(80).collect();
            let more = if cut.len() < text.len() { "…" } else { "" };
            format!("= \"{}{more}\" ", cut.escape_debug())
        }
        Value::Integer(number) => format!("= {number} "),
        Value::Bool(value) => format!("= {value} "),
        Value::Texts(_) | Value::Other(_) => String::new(),
    }
}

pub(super) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Text(_) => "text",
        Value::Integer(_) => "a number",
        Value::Bool(_) => "true or false",
        Value::Texts(_) => "a list",
        Value::Other(kind) => kind,
    }
}

fn unit_words(unit: Unit) -> &'static str {
    match unit {
        Unit::Milliseconds => " (milliseconds)",
        Unit::Seconds => " (seconds)",
        Unit::Bytes => " (bytes)",
        Unit::Mebibytes => " (MiB)",
        Unit::Rows | Unit::Slots | Unit::Count => "",
    }
}

/// Without `.` components and doubled slashes; `..` stays, because what it means depends on links.
fn tidy(path: &std::path::Path) -> PathBuf {
    path.components().collect()
}
