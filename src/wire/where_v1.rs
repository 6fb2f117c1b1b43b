//! `where`: from JSON to a typed [`Filter`], and to the one spelling that cursors and hashes are bound to.
//!
//! `{"field": value}` is equality (`null`: the field is null), `{"field": {"gte": …, "lt": …, "in": […]}}` compares.
//! Every row's `id`, `created_at`, `owner_id` and `team_id` can be filtered; a column if the catalog says so.

use mosaic_actors::domain::catalog::{ColumnKind, Resource};
use mosaic_actors::domain::fault::Fault;
use mosaic_actors::domain::query::{Condition, Filter, FilterValue, Operator};
use serde_json::value::RawValue;
use time::format_description::well_known::Rfc3339;
use time::macros::{date, format_description};
use time::{Date, OffsetDateTime, UtcOffset};
use uuid::Uuid;

use crate::config::Limits;

mod canonical;
pub mod members;

#[cfg(test)]
mod tests;

pub use canonical::{canonical_where, canonical_where_within};
use members::{Members, MembersError};

/// How large a filter may be; each bound is explained where it is configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WhereLimits {
    /// Of the canonical form.
    pub bytes: usize,
    /// Comparisons.
    pub conditions: usize,
    /// Values of one `in`.
    pub values: usize,
    /// Characters of one text.
    pub text_chars: usize,
}

impl From<&Limits> for WhereLimits {
    fn from(limits: &Limits) -> Self {
        Self {
            bytes: limits.filter,
            conditions: limits.filter_conditions,
            values: limits.filter_values,
            text_chars: limits.filter_text,
        }
    }
}

impl Default for WhereLimits {
    fn default() -> Self {
        Self::from(&Limits::default())
    }
}

/// Deepest nesting of a `where`: the object, the operators of a field, the list of `in`.
pub const WHERE_DEPTH_MAX: usize = 3;

/// Parses a `where` against the resource it filters, within the default limits. A refusal (400) names the field and what
/// would be right.
pub fn parse_where(raw: &RawValue, resource: &Resource) -> Result<Filter, Fault> {
    parse_where_within(raw, resource, &WhereLimits::default())
}

/// [`parse_where`] within limits of the configuration.
pub fn parse_where_within(raw: &RawValue, resource: &Resource, limits: &WhereLimits) -> Result<Filter, Fault> {
    if raw.get().len() > limits.bytes {
        return Err(Fault::invalid(format!("where: is larger than {} bytes", limits.bytes)));
    }
    let fields = members(raw, "where")?;
    let mut conditions = Vec::with_capacity(fields.len());
    for (name, value) in &fields {
        let (name, kind) = field(name, resource)?;
        conditions_of(&Field { name, kind, limits }, value, &mut conditions)?;
        if conditions.len() > limits.conditions {
            return Err(Fault::invalid(format!("where: has more than {} conditions", limits.conditions)));
        }
    }
    conditions.sort_by(|a, b| (&a.field, a.operator).cmp(&(&b.field, b.operator)));
    Ok(Filter { conditions })
}

/// The kind of a field that every row has; the catalog cannot use these names for columns.
#[must_use]
pub fn built_in_field(name: &str, resource: &Resource) -> Option<ColumnKind> {
    match name {
        "id" => Some(resource.id_kind),
        "created_at" => Some(ColumnKind::Timestamp),
        "owner_id" | "team_id" => Some(ColumnKind::Uuid),
        _ => None,
    }
}

struct Field<'a> {
    name: &'a str,
    kind: ColumnKind,
    limits: &'a WhereLimits,
}

impl Field<'_> {
    fn refuse(&self, why: impl std::fmt::Display) -> Fault {
        Fault::invalid(format!("where.{}: {why}", self.name))
    }
}

fn field<'a>(name: &'a str, resource: &Resource) -> Result<(&'a str, ColumnKind), Fault> {
    if let Some(kind) = built_in_field(name, resource) {
        return Ok((name, kind));
    }
    match resource.columns.iter().find(|column| &*column.name == name) {
        Some(column) if column.filterable => Ok((name, column.kind)),
        Some(_) => Err(Fault::invalid(format!("where.{name}: this field cannot be filtered"))),
        None => Err(Fault::invalid(format!("where.{}: {} has no such field", shown(name), resource.name))),
    }
}

fn conditions_of(field: &Field<'_>, raw: &RawValue, conditions: &mut Vec<Condition>) -> Result<(), Fault> {
    let mut push = |operator, values| conditions.push(Condition { field: field.name.into(), operator, values });
    if !raw.get().starts_with('{') {
        let value = if raw.get() == "null" { FilterValue::Null } else { value(field, raw)? };
        push(Operator::Equal, vec![value]);
        return Ok(());
    }
    let operators = members(raw, &format!("where.{}", field.name))?;
    if operators.is_empty() {
        return Err(field.refuse("names no comparison; use gte, gt, lte, lt or in"));
    }
    for (name, raw) in &operators {
        let operator = operator(field, name)?;
        let values = if operator == Operator::In { list(field, raw)? } else { vec![value(field, raw)?] };
        push(operator, values);
    }
    Ok(())
}

fn operator(field: &Field<'_>, name: &str) -> Result<Operator, Fault> {
    let operator = match name {
        "gte" => Operator::GreaterOrEqual,
        "gt" => Operator::GreaterThan,
        "lte" => Operator::LessOrEqual,
        "lt" => Operator::LessThan,
        "in" => Operator::In,
        _ => return Err(field.refuse(format!("'{}' is no comparison; use gte, gt, lte, lt or in", shown(name)))),
    };
    let ordered = !matches!(field.kind, ColumnKind::Bool | ColumnKind::Uuid);
    if operator != Operator::In && !ordered {
        return Err(field.refuse("has no order to compare by; use a value or in"));
    }
    Ok(operator)
}

fn list(field: &Field<'_>, raw: &RawValue) -> Result<Vec<FilterValue>, Fault> {
    let items: Vec<&RawValue> =
        serde_json::from_str(raw.get()).map_err(|_| field.refuse("'in' takes a list of values"))?;
    let most = field.limits.values;
    if items.len() > most {
        return Err(field.refuse(format!("'in' has more than {most} values")));
    }
    items.into_iter().map(|item| value(field, item)).collect()
}

fn value(field: &Field<'_>, raw: &RawValue) -> Result<FilterValue, Fault> {
    let parsed = match field.kind {
        ColumnKind::Text => text(raw).filter(|text| !text.contains('\0')).map(FilterValue::Text),
        ColumnKind::Uuid => text(raw).and_then(|text| parse_uuid(&text)).map(FilterValue::Uuid),
        ColumnKind::Bool => serde_json::from_str(raw.get()).ok().map(FilterValue::Bool),
        ColumnKind::Integer => serde_json::from_str(raw.get()).ok().map(FilterValue::Integer),
        ColumnKind::Float => {
            serde_json::from_str(raw.get()).ok().filter(|number: &f64| number.is_finite()).map(FilterValue::Float)
        }
        ColumnKind::Timestamp => text(raw).and_then(|text| parse_timestamp(&text)).map(FilterValue::Timestamp),
        ColumnKind::Date => text(raw).and_then(|text| parse_date(&text)).map(FilterValue::Date),
        ColumnKind::Json | ColumnKind::TextList => return Err(field.refuse("this field cannot be filtered")),
    };
    match parsed {
        Some(FilterValue::Text(text)) if text.chars().count() > field.limits.text_chars => {
            Err(field.refuse(format!("is longer than {} characters", field.limits.text_chars)))
        }
        Some(value) => Ok(value),
        None => Err(field.refuse(format!("takes {}", expected(field.kind)))),
    }
}

/// What a value of this kind looks like, for messages.
#[must_use]
pub fn expected(kind: ColumnKind) -> &'static str {
    match kind {
        ColumnKind::Text => "a text",
        ColumnKind::Uuid => "a UUID such as \"0198c8a0-5f4e-7cc3-98c4-dc0c0c07398f\"",
        ColumnKind::Bool => "true or false",
        ColumnKind::Integer => "a whole number of at most 64 bits",
        ColumnKind::Float => "a number",
        ColumnKind::Timestamp => "an RFC 3339 time of at most 6 fraction digits such as \"2026-11-02T09:30:00Z\"",
        ColumnKind::Date => "a date such as \"2026-11-02\"",
        ColumnKind::Json => "any JSON value",
        ColumnKind::TextList => "a list of texts",
    }
}

fn text(raw: &RawValue) -> Option<String> {
    serde_json::from_str(raw.get()).ok()
}

/// A UUID in its hyphenated form; upper case is forgiven, braces and URNs are not.
#[must_use]
pub fn parse_uuid(text: &str) -> Option<Uuid> {
    (text.len() == 36).then(|| Uuid::parse_str(text).ok()).flatten()
}

/// An RFC 3339 time of the years 1 to 9999, with at most microseconds: what Postgres keeps and the wire can write.
#[must_use]
pub fn parse_timestamp(text: &str) -> Option<OffsetDateTime> {
    let time = OffsetDateTime::parse(text, &Rfc3339).ok()?.checked_to_offset(UtcOffset::UTC)?;
    ((1..=9999).contains(&time.year()) && time.nanosecond() % 1_000 == 0).then_some(time)
}

/// `YYYY-MM-DD` of the years 1 to 9999.
#[must_use]
pub fn parse_date(text: &str) -> Option<Date> {
    let date = Date::parse(text, format_description!("[year]-[month]-[day]")).ok()?;
    (text.len() == 10 && (date!(0001 - 01 - 01)..=date!(9999 - 12 - 31)).contains(&date)).then_some(date)
}

fn members<'a>(raw: &'a RawValue, place: &str) -> Result<Members<'a>, Fault> {
    members::parse(raw.get()).map_err(|error| match error {
        MembersError::Doubled(name) => Fault::invalid(format!("{place}: '{}' is given twice", shown(&name))),
        MembersError::NoObject => Fault::invalid(format!("{place}: must be an object such as {{\"status\":\"open\"}}")),
    })
}

/// A name that somebody sent, short and harmless enough for a message.
#[must_use]
pub fn shown(name: &str) -> String {
    let short: String = name.chars().take(64).collect();
    short.escape_debug().to_string()
}
