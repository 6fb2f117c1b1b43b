//! Rows of a peer: parsed as what they claim to be, or refused as a whole.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use bytes::Bytes;
use mosaic_actors::domain::answer::{Page, RowIndex};
use mosaic_actors::domain::identity::SiteName;
use mosaic_actors::domain::query::{Position, RowId};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::scan::{ScanError, scan};
use crate::wire::federation_v1::parse_time;

/// Most fields of one row; our widest resource has a dozen.
const FIELDS_MAX: usize = 256;
/// Longest cursor that a session's own cursor will carry on.
const CURSOR_MAX_BYTES: usize = 2_048;

/// Why an answer is not used. Never holds anything of the answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowsError {
    #[error("the answer {0}")]
    Scan(#[from] ScanError),
    #[error("the answer is not the JSON of this verb")]
    Shape,
    #[error("the answer holds more rows than were asked for")]
    TooManyRows,
    #[error("a row names a field twice")]
    DuplicateField,
    #[error("a row has no usable id")]
    Id,
    #[error("a row has no usable created_at")]
    CreatedAt,
    #[error("a row comes twice")]
    DuplicateRow,
    #[error("the rows are not in order")]
    Order,
    #[error("a row is of another resource")]
    Resource,
    #[error("the row is not the one that was asked for")]
    OtherRow,
    #[error("the answer promises more rows but gives none")]
    NoProgress,
}

/// What rows must look like to be the answer of this question.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// The pinned name: the only `_source` that the rows will carry.
    pub peer: &'a SiteName,
    pub resource: &'a str,
    /// Deepest nesting: rows lie two levels deep, JSON columns may hold some more.
    pub depth: usize,
}

/// Parses `{"items":[…],"next_cursor"?,"_truncated"}` of at most `limit` rows.
pub fn parse_list(body: &[u8], expected: Expected<'_>, limit: usize) -> Result<(Page, Option<Box<str>>), RowsError> {
    let text = scan(body, expected.depth)?;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let answer = ListSeed { limit }.deserialize(&mut deserializer).map_err(|_| RowsError::Shape)?;
    deserializer.end().map_err(|_| RowsError::Shape)?;
    if answer.overflow {
        return Err(RowsError::TooManyRows);
    }
    let next_cursor: Option<Box<str>> = answer.next_cursor.map(|cursor| cursor.into());
    if next_cursor.as_ref().is_some_and(|cursor| cursor.is_empty() || cursor.len() > CURSOR_MAX_BYTES) {
        return Err(RowsError::Shape);
    }
    let more = answer.truncated || next_cursor.is_some();
    if more && answer.items.is_empty() {
        return Err(RowsError::NoProgress);
    }
    let mut page = rewrite(&answer.items, expected, body.len())?;
    page.more = more;
    Ok((page, next_cursor.filter(|_| more)))
}

/// Parses `{"item":{…}}`, which must be the row `id`.
pub fn parse_item(body: &[u8], expected: Expected<'_>, id: &RowId) -> Result<Page, RowsError> {
    #[derive(Deserialize)]
    struct Item<'a> {
        #[serde(borrow)]
        item: &'a RawValue,
    }
    let text = scan(body, expected.depth)?;
    if !text.trim_start().starts_with('{') {
        return Err(RowsError::Shape);
    }
    let answer: Item<'_> = serde_json::from_str(text).map_err(|_| RowsError::Shape)?;
    let page = rewrite(&[answer.item], expected, body.len())?;
    // A UUID in upper case asks for the row that the owner writes in lower case.
    if page.rows.iter().all(|row| row.position.id.as_str().eq_ignore_ascii_case(id.as_str())) {
        Ok(page)
    } else {
        Err(RowsError::OtherRow)
    }
}

/// Writes the rows anew, each with our `_source` last, and notes where they stand.
fn rewrite(items: &[&RawValue], expected: Expected<'_>, size_hint: usize) -> Result<Page, RowsError> {
    let source = serde_json::to_string(expected.peer.as_str()).map_err(|_| RowsError::Shape)?;
    let mut json = Vec::with_capacity(size_hint + items.len() * (source.len() + 16));
    let mut rows: Vec<RowIndex> = Vec::with_capacity(items.len());
    for item in items {
        let row = Row::parse(item, expected.resource)?;
        if rows.last().is_some_and(|earlier| earlier.position.created_at < row.position.created_at) {
            return Err(RowsError::Order);
        }
        if !json.is_empty() {
            json.push(b',');
        }
        let start = json.len();
        row.write(&mut json, &source).map_err(|_| RowsError::Shape)?;
        rows.push(RowIndex { position: row.position, range: start..json.len(), owner: None, team: None });
    }
    let mut seen = HashSet::with_capacity(rows.len());
    if !rows.iter().all(|row| seen.insert(row.position.id.as_str())) {
        return Err(RowsError::DuplicateRow);
    }
    Ok(Page { json: Bytes::from(json), rows, more: false })
}

/// One row: its fields as raw JSON, without those that start with `_`, which are the node's own to say.
struct Row<'a> {
    fields: Vec<(Cow<'a, str>, &'a RawValue)>,
    position: Position,
}

impl<'a> Row<'a> {
    fn parse(item: &'a RawValue, resource: &str) -> Result<Self, RowsError> {
        let Fields(mut fields) = serde_json::from_str(item.get()).map_err(|_| RowsError::Shape)?;
        let mut names = HashSet::with_capacity(fields.len());
        if !fields.iter().all(|(name, _)| names.insert(name.as_ref())) {
            return Err(RowsError::DuplicateField);
        }
        let foreign = text_of(&fields, "_resource").is_some_and(|claimed| claimed != resource);
        if foreign {
            return Err(RowsError::Resource);
        }
        let id = text_of(&fields, "id").and_then(|id| RowId::parse(&id).ok()).ok_or(RowsError::Id)?;
        let created_at =
            text_of(&fields, "created_at").and_then(|text| parse_time(&text)).ok_or(RowsError::CreatedAt)?;
        fields.retain(|(name, _)| !name.starts_with('_'));
        Ok(Self { fields, position: Position { created_at, id } })
    }

    fn write(&self, json: &mut Vec<u8>, source: &str) -> serde_json::Result<()> {
        json.push(b'{');
        for (name, value) in &self.fields {
            serde_json::to_writer(&mut *json, name)?;
            json.push(b':');
            json.extend_from_slice(value.get().as_bytes());
            json.push(b',');
        }
        json.extend_from_slice(b"\"_source\":");
        json.extend_from_slice(source.as_bytes());
        json.push(b'}');
        Ok(())
    }
}

/// The value of a field that is a JSON string. A field of another kind is no text, and so is an absent one.
fn text_of<'a>(fields: &[(Cow<'a, str>, &'a RawValue)], name: &str) -> Option<Cow<'a, str>> {
    let (_, value) = fields.iter().find(|(field, _)| field == name)?;
    serde_json::from_str::<Text<'a>>(value.get()).ok().map(|text| text.0)
}

#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// The fields of an object in the order in which they came, doubles included; stops reading past the cap.
struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some((name, value)) = map.next_entry::<Text<'de>, &'de RawValue>()? {
                    fields.push((name.0, value));
                    if fields.len() > FIELDS_MAX {
                        return Err(A::Error::custom("too many fields"));
                    }
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// A list answer whose rows were not looked into yet.
struct ListAnswer<'a> {
    items: Vec<&'a RawValue>,
    /// There are more items than asked; they were not kept.
    overflow: bool,
    next_cursor: Option<Cow<'a, str>>,
    truncated: bool,
}

struct ListSeed {
    limit: usize,
}

impl<'de> DeserializeSeed<'de> for ListSeed {
    type Value = ListAnswer<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for ListSeed {
    type Value = ListAnswer<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list answer")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut items, mut next_cursor, mut truncated) = (None, None, None);
        while let Some(name) = map.next_key::<Text<'de>>()? {
            match name.0.as_ref() {
                "items" if items.is_none() => items = Some(map.next_value_seed(ItemsSeed { limit: self.limit })?),
                "next_cursor" if next_cursor.is_none() => next_cursor = Some(map.next_value::<Option<Text<'de>>>()?),
                "_truncated" if truncated.is_none() => truncated = Some(map.next_value::<bool>()?),
                "items" | "next_cursor" | "_truncated" => return Err(A::Error::custom("a field twice")),
                _ => {
                    map.next_value::<serde::de::IgnoredAny>()?;
                }
            }
        }
        let (items, overflow) = items.ok_or_else(|| A::Error::custom("no items"))?;
        let truncated = truncated.ok_or_else(|| A::Error::custom("no _truncated"))?;
        Ok(ListAnswer { items, overflow, next_cursor: next_cursor.flatten().map(|text| text.0), truncated })
    }
}

/// At most `limit` raw items, and whether there were more: the memory for what nobody asked for is never taken.
struct ItemsSeed {
    limit: usize,
}

impl<'de> DeserializeSeed<'de> for ItemsSeed {
    type Value = (Vec<&'de RawValue>, bool);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for ItemsSeed {
    type Value = (Vec<&'de RawValue>, bool);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of rows")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let (mut items, mut overflow) = (Vec::new(), false);
        while let Some(item) = seq.next_element::<&'de RawValue>()? {
            if items.len() == self.limit {
                overflow = true;
            } else {
                items.push(item);
            }
        }
        Ok((items, overflow))
    }
}

#[cfg(test)]
mod tests;
