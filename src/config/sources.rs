//! File, environment and flags as one map from keys to values, each with its origin. Unknown keys are problems.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::flags::ConfigArgs;
use super::keys::{Place, environment_name, paths, place_of};
use super::problem::{Origin, Problem, meant};

/// What surrounds the process: the only things that the configuration reads besides its file and flags.
#[derive(Debug, Clone)]
pub struct Surroundings {
    pub environment: BTreeMap<String, OsString>,
    pub is_root: bool,
    pub current_dir: PathBuf,
}

impl Surroundings {
    /// Those of this process. Names that are not UTF-8 are nobody's.
    #[must_use]
    pub fn of_this_process() -> Self {
        let environment =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value))).collect();
        Self {
            environment,
            is_root: rustix::process::geteuid().is_root(),
            current_dir: std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/")),
        }
    }

    /// A variable's text; one that is empty is not set, as `NAME=` in a compose file means.
    pub(super) fn variable(&self, name: &str) -> Option<&str> {
        self.environment.get(name)?.to_str().filter(|value| !value.is_empty())
    }
}

/// A value as its source has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    Integer(i64),
    Bool(bool),
    Texts(Vec<String>),
    /// Something that no key takes; its TOML type.
    Other(&'static str),
}

#[derive(Debug, Clone)]
pub(super) struct Setting {
    pub(super) value: Value,
    pub(super) origin: Origin,
}

/// The tables of `[[resource]]`: key → value each, and where the table starts.
pub(super) type ResourceTable = (BTreeMap<String, Setting>, Origin);

#[derive(Debug, Default)]
pub(super) struct Sources {
    pub(super) settings: BTreeMap<String, Setting>,
    pub(super) resources: Vec<ResourceTable>,
    pub(super) file: Option<PathBuf>,
    pub(super) problems: Vec<Problem>,
}

/// The file's name when nobody names one.
pub const DEFAULT_FILE: &str = "mosaic.toml";

/// Variables with our prefix that are no configuration keys: they belong to the CLI.
const OTHER_VARIABLES: &[&str] = &["MOSAIC_CONFIG", "MOSAIC_ADMIN_TOKEN", "MOSAIC_TOKEN", "MOSAIC_API_URL"];

impl Sources {
    pub(super) fn read(args: &ConfigArgs, around: &Surroundings) -> Self {
        let mut sources = Self::default();
        sources.read_file(args, around);
        sources.read_environment(around);
        sources.read_flags(args);
        sources
    }

    fn read_file(&mut self, args: &ConfigArgs, around: &Surroundings) {
        let named = args.config.as_ref().map(|file| around.current_dir.join(file));
        let path = named.clone().unwrap_or_else(|| around.current_dir.join(DEFAULT_FILE));
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                self.parse_file(&text, &path);
                self.file = Some(path);
            }
            Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => self.problems.push(Problem {
                origin: Origin::File { path, line: 1 },
                key: String::new(),
                what: format!("cannot be read: {error}"),
                remedy: "check the path, or make the file with: mosaic gateway init".to_owned(),
            }),
        }
    }

    fn parse_file(&mut self, text: &str, path: &Path) {
        let at = |offset: usize| Origin::File { path: path.to_owned(), line: line_of(text, offset) };
        let (table, errors) = DeTable::parse_recoverable(text);
        // The parser's own rendering quotes the line, and a line may hold a password.
        for error in errors {
            self.problems.push(Problem {
                origin: at(error.span().map_or(0, |span| span.start)),
                key: String::new(),
                what: format!("is not TOML: {}", error.message()),
                remedy: "see https://toml.io; texts stand in quotes".to_owned(),
            });
        }
        if !self.problems.is_empty() {
            return;
        }
        for (name, value) in table.get_ref() {
            let key: &str = name.get_ref();
            match value.get_ref() {
                DeValue::Array(tables) if key == "resource" => {
                    for table in tables.iter() {
                        self.add_resource(table.get_ref(), at(table.span().start), &at);
                    }
                }
                _ if key == "resource" => self.problems.push(Problem {
                    origin: at(name.span().start),
                    key: key.to_owned(),
                    what: "is not a list of tables".to_owned(),
                    remedy: "write [[resource]], with two brackets, before each".to_owned(),
                }),
                DeValue::Table(table) if known_table(key) => {
                    for (inner, value) in table {
                        let path = format!("{key}.{}", inner.get_ref());
                        self.add(path, value_of(value.get_ref()), at(inner.span().start));
                    }
                }
                other => self.add(key.to_owned(), value_of(other), at(name.span().start)),
            }
        }
    }

    fn add_resource(&mut self, table: &DeValue<'_>, origin: Origin, at: &dyn Fn(usize) -> Origin) {
        let DeValue::Table(table) = table else {
            return self.problems.push(Problem {
                origin,
                key: "resource".to_owned(),
                what: "holds something that is not a table".to_owned(),
                remedy: "write [[resource]] before each, then its keys".to_owned(),
            });
        };
        let entries = table.iter().map(|(name, value)| {
            let setting = Setting { value: value_of(value.get_ref()), origin: at(name.span().start) };
            (name.get_ref().to_string(), setting)
        });
        self.resources.push((entries.collect(), origin));
    }

    fn read_environment(&mut self, around: &Surroundings) {
        let known: BTreeMap<String, String> = paths().map(|path| (environment_name(&path), path)).collect();
        for (name, value) in around.environment.iter().filter(|(name, _)| name.starts_with("MOSAIC_")) {
            let origin = Origin::Environment(name.clone());
            match (known.get(name), value.to_str()) {
                (_, Some("")) => {}
                (Some(path), Some(value)) => self.add(path.clone(), Value::Text(value.to_owned()), origin),
                (Some(_), None) => self.problems.push(Problem {
                    origin,
                    key: String::new(),
                    what: "is not UTF-8".to_owned(),
                    remedy: "set it to UTF-8 text".to_owned(),
                }),
                (None, _) if OTHER_VARIABLES.contains(&name.as_str()) || is_service_link(name) => {}
                (None, _) => {
                    let meant = meant(name, known.keys().map(String::as_str));
                    self.problems.push(unknown(origin, String::new(), "is not a setting", meant, "unset it"));
                }
            }
        }
    }

    fn read_flags(&mut self, args: &ConfigArgs) {
        for (key, value, flag) in args.values() {
            self.add(key, Value::Text(value), Origin::Flag(flag));
        }
    }

    fn add(&mut self, path: String, value: Value, origin: Origin) {
        if !is_known(&path) {
            let known: Vec<String> = paths().collect();
            let meant = meant(&path, known.iter().map(String::as_str));
            return self.problems.push(unknown(origin, path, "is not a setting", meant, "remove it"));
        }
        if place_of(&path) == Place::EnvironmentOnly && !matches!(origin, Origin::Environment(_)) {
            let remedy = format!("set {} in the environment, or name a file with {path}_file", environment_name(&path));
            let what = "is a secret and is not taken from here".to_owned();
            return self.problems.push(Problem { origin, key: path, what, remedy });
        }
        self.settings.insert(path, Setting { value, origin });
    }
}

pub(super) fn unknown(origin: Origin, key: String, what: &str, meant: Option<&str>, otherwise: &str) -> Problem {
    match meant {
        Some(word) => Problem {
            origin,
            key,
            what: format!("{what}; did you mean {word}?"),
            remedy: format!("write {word}, or {otherwise}"),
        },
        None => Problem {
            origin,
            key,
            what: what.to_owned(),
            remedy: format!("{otherwise}; all settings are in the file that 'mosaic gateway init' writes"),
        },
    }
}

fn is_known(path: &str) -> bool {
    paths().any(|known| known == path)
}

fn known_table(name: &str) -> bool {
    paths().any(|known| known.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')))
}

/// What Kubernetes and Docker links put into the environment of a container beside a service named `mosaic`.
fn is_service_link(name: &str) -> bool {
    let rest = name.trim_start_matches("MOSAIC_");
    ["SERVICE_HOST", "SERVICE_PORT"].iter().any(|part| rest.contains(part))
        || rest == "PORT"
        || rest.strip_prefix("PORT_").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        || rest.ends_with("_PORT")
        || rest.split_once("_PORT_").is_some_and(|(_, rest)| rest.starts_with(|c: char| c.is_ascii_digit()))
}

fn value_of(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => {
            let parsed = i64::from_str_radix(number.as_str(), number.radix());
            parsed.map_or(Value::Other("integer of more than 64 bits"), Value::Integer)
        }
        DeValue::Boolean(value) => Value::Bool(*value),
        DeValue::Array(values) => {
            let texts = values.iter().map(|value| value.get_ref().as_str().map(str::to_owned));
            texts.collect::<Option<Vec<String>>>().map_or(Value::Other("array"), Value::Texts)
        }
        other => Value::Other(other.type_str()),
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count() + 1
}
