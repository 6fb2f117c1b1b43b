//! One spelling for equal filters: names sorted, no white space, texts escaped one way. Numbers stand as they were written.

use std::borrow::Cow;

use bytes::Bytes;
use mosaic_actors::domain::fault::Fault;
use serde_json::value::RawValue;

use super::members::{self, MembersError};
use super::{WHERE_DEPTH_MAX, WhereLimits, shown};

/// The canonical bytes of a `where`, within the default limit. It needs no catalog, so that a resource which only peers know
/// can be filtered too.
pub fn canonical_where(raw: &RawValue) -> Result<Bytes, Fault> {
    canonical_where_within(raw, &WhereLimits::default())
}

/// [`canonical_where`] within limits of the configuration.
pub fn canonical_where_within(raw: &RawValue, limits: &WhereLimits) -> Result<Bytes, Fault> {
    let too_large = || Fault::invalid(format!("where: is larger than {} bytes", limits.bytes));
    if raw.get().len() > limits.bytes {
        return Err(too_large());
    }
    if !raw.get().starts_with('{') {
        return Err(Fault::invalid("where: must be an object such as {\"status\":\"open\"}"));
    }
    let mut out = String::with_capacity(raw.get().len());
    write(raw.get(), WHERE_DEPTH_MAX, &mut out)?;
    if out.len() > limits.bytes { Err(too_large()) } else { Ok(Bytes::from(out)) }
}

fn write(json: &str, depth: usize, out: &mut String) -> Result<(), Fault> {
    match json.as_bytes().first() {
        Some(b'{' | b'[') if depth == 0 => {
            Err(Fault::invalid(format!("where: is nested deeper than {WHERE_DEPTH_MAX} levels")))
        }
        Some(b'{') => write_object(json, depth - 1, out),
        Some(b'[') => write_array(json, depth - 1, out),
        Some(b'"') => {
            let text: Cow<'_, str> = serde_json::from_str(json).map_err(|_| malformed())?;
            write_text(&text, out)
        }
        _ => {
            out.push_str(json);
            Ok(())
        }
    }
}

fn write_object(json: &str, depth: usize, out: &mut String) -> Result<(), Fault> {
    let mut members = members::parse(json).map_err(|error| match error {
        MembersError::Doubled(name) => Fault::invalid(format!("where: '{}' is given twice", shown(&name))),
        MembersError::NoObject => malformed(),
    })?;
    members.sort_by(|a, b| a.0.cmp(&b.0));
    out.push('{');
    for (index, (name, value)) in members.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        write_text(name, out)?;
        out.push(':');
        write(value.get(), depth, out)?;
    }
    out.push('}');
    Ok(())
}

fn write_array(json: &str, depth: usize, out: &mut String) -> Result<(), Fault> {
    let items: Vec<&RawValue> = serde_json::from_str(json).map_err(|_| malformed())?;
    out.push('[');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        write(item.get(), depth, out)?;
    }
    out.push(']');
    Ok(())
}

fn write_text(text: &str, out: &mut String) -> Result<(), Fault> {
    out.push_str(&serde_json::to_string(text).map_err(|_| malformed())?);
    Ok(())
}

fn malformed() -> Fault {
    Fault::invalid("where: is not valid JSON")
}
