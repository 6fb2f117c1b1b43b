//! A client certificate as the profile check reads it: never a panic, whatever the bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mosaic::clock::SystemClock;
use mosaic::pki::profile::{ExtensionArc, check_client_certificate};
use mosaic_actors::ports::clock::Clock;

fuzz_target!(|bytes: &[u8]| {
    let _refused = check_client_certificate(bytes, bytes, SystemClock.now(), &ExtensionArc::default());
});
