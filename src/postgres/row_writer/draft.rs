//! A row as a client wrote it: checked against the catalog, field by field, and put down as JSON that the database reads.

use mosaic_actors::domain::fault::{Fault, FaultKind, Stage};
use mosaic_actors::domain::identity::{Session, TeamId};
use mosaic_actors::domain::query::RowId;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::postgres::catalog::{Storage, TableColumn, TableMap};
use crate::postgres::row_json::text::write_string;
use crate::postgres::row_json::{date_text, timestamp_text};
use crate::postgres::rows::parameters::row_key;
use crate::wire::where_v1::members::{self, MembersError};
use crate::wire::where_v1::{expected, parse_date, parse_timestamp, parse_uuid, shown};

/// What a row is written for; it decides which fields may be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Insert,
    /// As [`Self::Insert`], and `created_at` may be given: rows come from elsewhere.
    Import,
    /// Only what changes.
    Update,
}

/// The fields that were given, as JSON that `json_to_recordset` reads: `k1` id, `k3` team, `k0` time, `c…` columns.
pub(super) struct Draft {
    fields: Vec<(Slot, String)>,
}

/// Where a field goes; ordered, so that the order in a body makes no other statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Slot {
    Id,
    Team,
    CreatedAt,
    Column(usize),
}

impl Slot {
    /// Its name inside the statement.
    pub(super) fn name(self) -> String {
        match self {
            Self::Id => "k1".to_owned(),
            Self::Team => "k3".to_owned(),
            Self::CreatedAt => "k0".to_owned(),
            Self::Column(index) => format!("c{index}"),
        }
    }
}

impl Draft {
    /// A refusal (400, or 403 for another's team) names the field.
    pub(super) fn parse(body: &[u8], table: &TableMap, session: &Session, purpose: Purpose) -> Result<Self, Fault> {
        let text = std::str::from_utf8(body).map_err(|_| Fault::invalid("the row is not UTF-8"))?;
        let members = members::parse(text).map_err(|error| match error {
            MembersError::NoObject => Fault::invalid("the row must be a JSON object"),
            MembersError::Doubled(name) => Fault::invalid(format!("{}: is given twice", shown(&name))),
        })?;
        let mut fields = Vec::with_capacity(members.len() + 1);
        for (name, raw) in &members {
            if let Some(field) = field(name, raw, table, session, purpose)? {
                fields.push(field);
            }
        }
        if purpose != Purpose::Update && !fields.iter().any(|(slot, _)| *slot == Slot::Id) {
            fields.extend(made_id(table)?);
        }
        fields.sort_unstable_by_key(|(slot, _)| *slot);
        Ok(Self { fields })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    pub(super) fn shape(&self) -> Vec<Slot> {
        self.fields.iter().map(|(slot, _)| *slot).collect()
    }

    pub(super) fn json(&self) -> String {
        let mut out = String::new();
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) {
        for (index, (slot, json)) in self.fields.iter().enumerate() {
            out.push_str(if index == 0 { "{\"" } else { ",\"" });
            out.push_str(&slot.name());
            out.push_str("\":");
            out.push_str(json);
        }
        out.push_str(if self.fields.is_empty() { "{}" } else { "}" });
    }
}

pub(super) fn json_array<'a>(drafts: impl IntoIterator<Item = &'a Draft>) -> String {
    let mut out = String::from("[");
    for (index, draft) in drafts.into_iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        draft.write(&mut out);
    }
    out.push(']');
    out
}

/// `None`: there is nothing to write, because a table without teams has none in any row.
fn field(
    name: &str,
    raw: &RawValue,
    table: &TableMap,
    session: &Session,
    purpose: Purpose,
) -> Result<Option<(Slot, String)>, Fault> {
    let refuse = |why: &str| Err(Fault::invalid(format!("{name}: {why}")));
    match name {
        "id" if purpose == Purpose::Update => refuse("a row keeps its id"),
        "id" if table.id.read_only => refuse("is made by the database"),
        "id" => id(raw, table).map(|id| Some((Slot::Id, id))),
        "team_id" => team(raw, table, session).map(|team| team.map(|team| (Slot::Team, team))),
        "created_at" if purpose == Purpose::Import => match parse_text(raw).and_then(|text| parse_timestamp(&text)) {
            Some(at) => Ok(Some((Slot::CreatedAt, quoted(&timestamp_text(at))))),
            None => refuse(&format!("takes {}", expected(mosaic_actors::domain::catalog::ColumnKind::Timestamp))),
        },
        "created_at" => refuse("is set by the node; only an import may give it"),
        "owner_id" => refuse("is always the session's user and cannot be given"),
        _ => match table.columns.iter().position(|column| &*column.name == name) {
            None => Err(Fault::invalid(format!("{}: {} has no such field", shown(name), table.resource.name))),
            Some(index) if table.columns[index].read_only => refuse("is set by the node and cannot be given"),
            Some(index) => match value(&table.columns[index], raw) {
                Ok(json) => Ok(Some((Slot::Column(index), json))),
                Err(why) => refuse(&why),
            },
        },
    }
}

fn id(raw: &RawValue, table: &TableMap) -> Result<String, Fault> {
    let refuse = |why: String| Fault::invalid(format!("id: {why}"));
    let text = parse_text(raw).ok_or_else(|| refuse("takes a text".to_owned()))?;
    let id = RowId::parse(&text).map_err(|error| refuse(error.to_string()))?;
    if row_key(&table.id.storage, &id).is_none() {
        return Err(refuse(format!("takes {}", expected(table.id.storage.kind()))));
    }
    Ok(quoted(id.as_str()))
}

/// An id for a row that was given none; `None` where the database makes it.
fn made_id(table: &TableMap) -> Result<Option<(Slot, String)>, Fault> {
    match &table.id.storage {
        Storage::Uuid | Storage::Text { .. } => Ok(Some((Slot::Id, quoted(&Uuid::now_v7().hyphenated().to_string())))),
        _ if table.id.has_default || table.id.read_only => Ok(None),
        _ => Err(Fault::invalid("id: is required")),
    }
}

fn team(raw: &RawValue, table: &TableMap, session: &Session) -> Result<Option<String>, Fault> {
    if raw.get() == "null" {
        return Ok(table.team.is_some().then(|| "null".to_owned()));
    }
    if table.team.is_none() {
        return Err(Fault::invalid(format!("team_id: rows of {} have no team", table.resource.name)));
    }
    let team = parse_text(raw).and_then(|text| parse_uuid(&text)).map(TeamId);
    let team = team.ok_or_else(|| {
        Fault::invalid(format!("team_id: takes {} or null", expected(mosaic_actors::domain::catalog::ColumnKind::Uuid)))
    })?;
    if session.teams.contains(&team) {
        Ok(Some(quoted(&team.to_string())))
    } else {
        Err(Fault::new(FaultKind::Forbidden, Stage::Authorize).with_message("team_id: is none of your teams"))
    }
}

/// The value as JSON for the column's type, or what is wrong with it.
fn value(column: &TableColumn, raw: &RawValue) -> Result<String, String> {
    if raw.get() == "null" {
        return if column.not_null { Err("must not be null".to_owned()) } else { Ok("null".to_owned()) };
    }
    let json = match &column.storage {
        Storage::Text { chars_max } => return text_value(raw, *chars_max),
        Storage::Enum { labels, .. } => {
            let label = parse_text(raw).filter(|text| labels.contains(text));
            return label.map(|label| quoted(&label)).ok_or_else(|| format!("takes one of: {}", labels.join(", ")));
        }
        Storage::Uuid => {
            parse_text(raw).and_then(|text| parse_uuid(&text)).map(|id| quoted(&id.hyphenated().to_string()))
        }
        Storage::Bool => serde_json::from_str::<bool>(raw.get()).ok().map(|flag| flag.to_string()),
        Storage::Int2 => return integer(raw, i16::MIN.into(), i16::MAX.into()),
        Storage::Int4 => return integer(raw, i32::MIN.into(), i32::MAX.into()),
        Storage::Int8 => serde_json::from_str::<i64>(raw.get()).ok().map(|number| number.to_string()),
        #[allow(clippy::cast_possible_truncation)]
        Storage::Float4 => number(raw).filter(|number| (*number as f32).is_finite()).map(|number| number.to_string()),
        Storage::Float8 => number(raw).map(|number| number.to_string()),
        // As it was written: a double would lose digits.
        Storage::Numeric => number(raw).map(|_| raw.get().to_owned()),
        Storage::Timestamptz => {
            parse_text(raw).and_then(|text| parse_timestamp(&text)).map(|at| quoted(&timestamp_text(at)))
        }
        Storage::Date => parse_text(raw).and_then(|text| parse_date(&text)).map(|day| quoted(&date_text(day))),
        Storage::Json | Storage::Jsonb => {
            if raw.get().contains("\\u0000") {
                return Err("must not hold the character \\u0000".to_owned());
            }
            Some(raw.get().to_owned())
        }
        Storage::TextArray => text_list(raw),
    };
    json.ok_or_else(|| format!("takes {}", expected(column.storage.kind())))
}

fn text_value(raw: &RawValue, chars_max: Option<usize>) -> Result<String, String> {
    let text = parse_text(raw).ok_or("takes a text")?;
    if text.contains('\0') {
        return Err("must not hold the character \\u0000".to_owned());
    }
    match chars_max {
        Some(most) if text.chars().count() > most => Err(format!("is longer than {most} characters")),
        _ => Ok(quoted(&text)),
    }
}

fn text_list(raw: &RawValue) -> Option<String> {
    let texts: Vec<String> = serde_json::from_str(raw.get()).ok()?;
    if texts.iter().any(|text| text.contains('\0')) {
        return None;
    }
    Some(format!("[{}]", texts.iter().map(|text| quoted(text)).collect::<Vec<_>>().join(",")))
}

fn integer(raw: &RawValue, least: i64, most: i64) -> Result<String, String> {
    let number = serde_json::from_str::<i64>(raw.get()).ok().filter(|number| (least..=most).contains(number));
    number.map(|number| number.to_string()).ok_or_else(|| format!("takes a whole number from {least} to {most}"))
}

fn number(raw: &RawValue) -> Option<f64> {
    serde_json::from_str(raw.get()).ok().filter(|number: &f64| number.is_finite())
}

fn parse_text(raw: &RawValue) -> Option<String> {
    serde_json::from_str(raw.get()).ok()
}

fn quoted(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len() + 2);
    write_string(text, &mut out);
    String::from_utf8(out).expect("invariant: a JSON string is UTF-8")
}
