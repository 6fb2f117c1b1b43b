//! Cursors come back from outside: a forged one is never accepted.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use mosaic::secrets::{MacKey, MasterSecret};
use mosaic::wire::cursor_v1::{PeerCursorBinding, decode_peer_cursor};
use mosaic_actors::domain::catalog::ResourceName;
use mosaic_actors::domain::identity::GrantId;

static KEY: LazyLock<MacKey> = LazyLock::new(|| MasterSecret::generate().expect("randomness").mac_key("fuzz"));

fuzz_target!(|text: &str| {
    let resource = ResourceName::parse("tasks").expect("a name");
    let binding = PeerCursorBinding { grant: GrantId::new(), resource: &resource, filter: b"" };
    assert!(decode_peer_cursor(&KEY, binding, text).is_err());
});
