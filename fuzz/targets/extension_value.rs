//! The value of an identity extension: whatever is accepted is byte-exact, that is, encodes to itself.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mosaic::pki::extension_arc::{decode_identity, encode_identity};

fuzz_target!(|value: &[u8]| {
    if let Some(id) = decode_identity(value) {
        assert_eq!(encode_identity(id), value);
    }
});
