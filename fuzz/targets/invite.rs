//! An invite that somebody pasted: what is accepted encodes to an invite that means the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mosaic::pki::invite::Invite;

fuzz_target!(|text: &str| {
    if let Ok(invite) = Invite::parse(text) {
        let again = Invite::parse(&invite.encode()).expect("what we encode we accept");
        assert_eq!(again.site, invite.site);
        assert_eq!(again.federation_url, invite.federation_url);
        assert_eq!(again.ca_sha256, invite.ca_sha256);
    }
});
