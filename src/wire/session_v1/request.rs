//! From the bytes of a query to a request whose every field is checked.

use std::num::NonZeroU32;
use std::time::Duration;

use mosaic_actors::domain::answer::SourceName;
use mosaic_actors::domain::catalog::ResourceName;
use mosaic_actors::domain::fault::{Fault, FaultKind, Stage};
use mosaic_actors::domain::identity::SiteName;
use mosaic_actors::domain::query::{RowId, SourceSelector};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Most names in `require`: more than any site has links.
const REQUIRE_MAX: usize = 256;

/// The body of `POST /api/v1/query` as a client writes it. Absent and `null` mean the same.
#[derive(Debug, Clone, Default, Serialize, utoipa::ToSchema)]
pub struct QueryBody {
    /// `list` or `get`.
    pub verb: String,
    pub resource: String,
    /// `get` only: the row's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// `local`, `federated:<peer>` or `all`, which is the default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// `list` only: rows wanted, default 50; above 200 means 200.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// `list` only: `next_cursor` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// `list` only: `{"field": value}` or `{"field": {"gte": …, "lt": …, "in": […]}}`.
    #[serde(rename = "where", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub filter: Option<serde_json::Value>,
    /// Sources without whose rows the answer is of no use: `local` or peers' names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub require: Vec<String>,
    /// 1 to 30000, default 5000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    /// Adds `_explain`: how the query was run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub explain: Option<bool>,
}

/// What a request may ask for at most, and what it means when it does not say.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    pub page_default: NonZeroU32,
    pub page_cap: NonZeroU32,
    pub deadline_default: Duration,
    pub deadline_max: Duration,
}

/// A query whose every field is in range. What it names (resource, source, fields of `where`) may still not exist.
#[derive(Debug)]
pub struct QueryRequest {
    pub asked: Asked,
    pub source: SourceSelector,
    /// Without doubles, in the order of the request.
    pub require: Vec<SourceName>,
    pub deadline: Duration,
    pub explain: bool,
}

/// The verb with the fields that belong to it.
#[derive(Debug)]
pub enum Asked {
    List {
        resource: ResourceName,
        /// Already capped.
        limit: NonZeroU32,
        /// `where` as it was written.
        filter: Option<Box<RawValue>>,
        cursor: Option<String>,
    },
    Get {
        resource: ResourceName,
        id: RowId,
    },
}

/// The fields as raw JSON, so that a value of the wrong type is refused with the name of its field.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawQuery<'a> {
    #[serde(borrow)]
    verb: Option<&'a RawValue>,
    #[serde(borrow)]
    resource: Option<&'a RawValue>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    source: Option<&'a RawValue>,
    #[serde(borrow)]
    limit: Option<&'a RawValue>,
    #[serde(borrow)]
    cursor: Option<&'a RawValue>,
    #[serde(borrow, rename = "where")]
    filter: Option<&'a RawValue>,
    #[serde(borrow)]
    require: Option<&'a RawValue>,
    #[serde(borrow)]
    deadline_ms: Option<&'a RawValue>,
    #[serde(borrow)]
    explain: Option<&'a RawValue>,
    #[serde(borrow)]
    query: Option<&'a RawValue>,
    #[serde(borrow)]
    resources: Option<&'a RawValue>,
}

/// Parses a query body.
///
/// # Errors
/// `InvalidRequest` naming the field; `UnknownSource` for a `federated:<name>` that no site can have.
pub fn parse_query(body: &[u8], bounds: &Bounds) -> Result<QueryRequest, Fault> {
    // Serde would take a list as a struct's fields in order.
    if body.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return Err(Fault::invalid(
            "the body must be a JSON object, such as {\"verb\":\"list\",\"resource\":\"tasks\"}",
        ));
    }
    let raw: RawQuery<'_> = serde_json::from_slice(body).map_err(|e| not_this_object(&e))?;
    let verb: String = required("verb", "a string: 'list' or 'get'", raw.verb)?;
    let asked = match verb.as_str() {
        "list" => list(&raw, bounds)?,
        "get" => get(&raw)?,
        other => {
            return Err(Fault::invalid(format!("'verb' is '{}'; this version answers 'list' and 'get'", shown(other))));
        }
    };
    Ok(QueryRequest {
        asked,
        source: source(optional("source", "a string", raw.source)?)?,
        require: require(optional("require", "a list of source names", raw.require)?.unwrap_or_default())?,
        deadline: deadline(raw.deadline_ms, bounds)?,
        explain: optional("explain", "true or false", raw.explain)?.unwrap_or(false),
    })
}

fn list(raw: &RawQuery<'_>, bounds: &Bounds) -> Result<Asked, Fault> {
    refuse("list", &[("id", raw.id), ("query", raw.query), ("resources", raw.resources)])?;
    Ok(Asked::List {
        resource: resource(raw)?,
        limit: limit(raw.limit, bounds)?,
        filter: raw.filter.map(ToOwned::to_owned),
        cursor: optional("cursor", "a string: 'next_cursor' of the page before", raw.cursor)?,
    })
}

fn get(raw: &RawQuery<'_>) -> Result<Asked, Fault> {
    let foreign = [
        ("limit", raw.limit),
        ("cursor", raw.cursor),
        ("where", raw.filter),
        ("query", raw.query),
        ("resources", raw.resources),
    ];
    refuse("get", &foreign)?;
    let id: String = required("id", "a string: the row's id", raw.id)?;
    let id = RowId::parse(&id).map_err(|e| Fault::invalid(format!("'id': {e}")))?;
    Ok(Asked::Get { resource: resource(raw)?, id })
}

fn resource(raw: &RawQuery<'_>) -> Result<ResourceName, Fault> {
    let name: String = required("resource", "a string", raw.resource)?;
    ResourceName::parse(&name).map_err(|e| Fault::invalid(format!("'resource' is '{}': {e}", shown(&name))))
}

/// A field that another verb has is a mistake of the client, not something to overlook.
fn refuse(verb: &str, fields: &[(&str, Option<&RawValue>)]) -> Result<(), Fault> {
    match fields.iter().find(|(_, value)| value.is_some()) {
        Some((name, _)) => Err(Fault::invalid(format!("'{name}' does not belong to the verb '{verb}'"))),
        None => Ok(()),
    }
}

fn limit(raw: Option<&RawValue>, bounds: &Bounds) -> Result<NonZeroU32, Fault> {
    let Some(raw) = raw else { return Ok(bounds.page_default) };
    positive_integer("limit", raw).map(|limit| {
        let limit = u32::try_from(limit).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MAX);
        limit.min(bounds.page_cap)
    })
}

fn deadline(raw: Option<&RawValue>, bounds: &Bounds) -> Result<Duration, Fault> {
    let Some(raw) = raw else { return Ok(bounds.deadline_default) };
    let deadline = Duration::from_millis(positive_integer("deadline_ms", raw)?);
    if deadline > bounds.deadline_max {
        let max = bounds.deadline_max.as_millis();
        return Err(Fault::invalid(format!("'deadline_ms' is {}; at most {max} are allowed", deadline.as_millis())));
    }
    Ok(deadline)
}

/// A JSON integer above zero: no fraction, no exponent, no string. One that does not fit 64 bits counts as the largest.
fn positive_integer(field: &str, raw: &RawValue) -> Result<u64, Fault> {
    let text = raw.get();
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let value = if digits { text.parse().unwrap_or(u64::MAX) } else { 0 };
    if value == 0 {
        return Err(Fault::invalid(format!("'{field}' must be a positive integer")));
    }
    Ok(value)
}

fn source(text: Option<String>) -> Result<SourceSelector, Fault> {
    match text.as_deref() {
        None | Some("all") => Ok(SourceSelector::All),
        Some("local") => Ok(SourceSelector::Local),
        Some(text) => match text.strip_prefix("federated:") {
            Some(peer) => peer_name(peer).map(SourceSelector::Peer),
            None => Err(Fault::invalid(format!(
                "'source' is '{}'; write 'local', 'all' or 'federated:<peer>'",
                shown(text)
            ))),
        },
    }
}

fn require(names: Vec<String>) -> Result<Vec<SourceName>, Fault> {
    if names.len() > REQUIRE_MAX {
        return Err(Fault::invalid(format!("'require' names more than {REQUIRE_MAX} sources")));
    }
    let mut required = Vec::with_capacity(names.len());
    for name in names {
        let name = if name == "local" { SourceName::Local } else { SourceName::Peer(peer_name(&name)?) };
        if !required.contains(&name) {
            required.push(name);
        }
    }
    Ok(required)
}

/// A name that no site can have is a source that this user does not have.
fn peer_name(text: &str) -> Result<SiteName, Fault> {
    SiteName::parse(text).map_err(|_| {
        Fault::new(FaultKind::UnknownSource, Stage::Plan)
            .with_message(format!("there is no source '{}'; GET /api/v1/status lists yours", shown(text)))
    })
}

fn optional<T: DeserializeOwned>(field: &str, wanted: &str, raw: Option<&RawValue>) -> Result<Option<T>, Fault> {
    raw.map(|raw| serde_json::from_str(raw.get()).map_err(|_| Fault::invalid(format!("'{field}' must be {wanted}"))))
        .transpose()
}

fn required<T: DeserializeOwned>(field: &str, wanted: &str, raw: Option<&RawValue>) -> Result<T, Fault> {
    optional(field, wanted, raw)?.ok_or_else(|| Fault::invalid(format!("'{field}' is missing; it must be {wanted}")))
}

fn not_this_object(error: &serde_json::Error) -> Fault {
    if error.is_data() {
        // Serde's words for these name the field and the ones that exist: unknown, double, or not an object at all.
        let text = error.to_string();
        return Fault::invalid(text.split(" at line ").next().unwrap_or("the body is not a query").to_owned());
    }
    Fault::invalid(format!("the body is not JSON (line {}, column {})", error.line(), error.column()))
}

/// A client's own text inside a message to that client: short, and without control characters.
fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(64).flat_map(char::escape_debug).collect();
    if text.chars().nth(64).is_some() {
        shown.push('…');
    }
    shown
}
