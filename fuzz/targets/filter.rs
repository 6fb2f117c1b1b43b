//! `where`: the canonical form of what is accepted is accepted again, and is its own canonical form.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mosaic::wire::where_v1::{canonical_where, parse_where};
use mosaic_actors::domain::catalog::{Column, ColumnKind, Resource, ResourceName};
use serde_json::value::RawValue;

fuzz_target!(|bytes: &[u8]| {
    let Ok(raw) = serde_json::from_slice::<Box<RawValue>>(bytes) else { return };
    let kinds = [
        ("t", ColumnKind::Text),
        ("u", ColumnKind::Uuid),
        ("b", ColumnKind::Bool),
        ("i", ColumnKind::Integer),
        ("f", ColumnKind::Float),
        ("s", ColumnKind::Timestamp),
        ("d", ColumnKind::Date),
    ];
    let resource = Resource {
        name: ResourceName::parse("tasks").expect("a name"),
        id_kind: ColumnKind::Uuid,
        columns: kinds.map(|(name, kind)| Column { name: name.into(), kind, filterable: true }).to_vec(),
        searchable: Vec::new(),
        sensitive: false,
        writable: false,
    };
    let Ok(filter) = parse_where(&raw, &resource) else { return };
    let Ok(canonical) = canonical_where(&raw) else { return };
    let again: Box<RawValue> = serde_json::from_slice(&canonical).expect("canonical JSON is JSON");
    assert_eq!(parse_where(&again, &resource), Ok(filter));
    assert_eq!(canonical_where(&again), Ok(canonical));
});
