//! A peer's answer: what is accepted is JSON again, with our `_source` and nothing twice.
#![no_main]

use std::collections::HashSet;

use libfuzzer_sys::fuzz_target;
use mosaic::peer_http::rows::{Expected, parse_list};
use mosaic_actors::domain::identity::SiteName;

fuzz_target!(|bytes: &[u8]| {
    let peer = SiteName::parse("work").expect("a name");
    let expected = Expected { peer: &peer, resource: "tasks", depth: 32 };
    let Ok((page, _)) = parse_list(bytes, expected, 200) else { return };
    assert!(page.rows.len() <= 200);
    let mut ids = HashSet::new();
    for row in &page.rows {
        let json: serde_json::Value = serde_json::from_slice(&page.row_json(row)).expect("a row is JSON");
        assert_eq!(json["_source"], "work");
        assert_eq!(json["id"], row.position.id.as_str());
        assert!(ids.insert(row.position.id.clone()), "an id twice");
    }
});
