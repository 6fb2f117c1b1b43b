//! A scope document: never a panic, and an error names a field.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mosaic::wire::admin_v1::scope::parse_scope;
use mosaic_actors::domain::catalog::Catalog;
use mosaic_actors::domain::scope::Scope;

fuzz_target!(|bytes: &[u8]| {
    let Ok(document) = serde_json::from_slice::<serde_json::Value>(bytes) else { return };
    if let Ok(draft) = parse_scope(&document) {
        // Nothing is grantable in an empty catalog.
        assert!(Scope::check(&draft, &Catalog::default(), |_| true).is_err());
    }
});
