//! The invite: one string that a person copies from the owner's terminal to the asker's.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mosaic_actors::domain::identity::SiteName;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use url::Url;
use zeroize::Zeroizing;

use super::pem::to_hex;
use crate::secrets::Token;

/// What every invite starts with.
pub const INVITE_PREFIX: &str = "mosaic-invite:";

/// The version that this program writes and reads.
const VERSION: u32 = 1;

/// Longest invite, in bytes: two URLs and a few short fields.
const INVITE_BYTES_LIMIT: usize = 4096;

/// Where to enrol, whom to trust, and the right to do it once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invite {
    /// What the owner's site calls itself.
    pub site: SiteName,
    /// `https://host:port` of the enrolment listener, without a path.
    pub enroll_url: Url,
    /// `https://host:port` of the federation listener, without a path.
    pub federation_url: Url,
    /// SHA-256 of the DER of the owner's CA root.
    pub ca_sha256: [u8; 32],
    /// Opens the enrolment once.
    pub token: Token,
    pub expires_at: OffsetDateTime,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InviteError {
    #[error("this is not an invite: it does not start with '{INVITE_PREFIX}'")]
    Prefix,
    #[error("the invite is longer than {INVITE_BYTES_LIMIT} bytes")]
    TooLong,
    #[error("the invite is cut or altered; copy it again, whole")]
    Damaged,
    #[error("the invite has version {0}, which this program does not know; update it")]
    Version(u32),
    #[error("the invite's '{0}' is not usable")]
    Field(&'static str),
}

/// `v` alone, read first so that a newer invite is told apart from a damaged one.
#[derive(Deserialize)]
struct Versioned {
    v: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document<'a> {
    v: u32,
    site: &'a str,
    enroll_url: String,
    federation_url: String,
    ca_sha256: String,
    token: &'a str,
    expires_at: String,
}

impl Invite {
    /// The string to hand over. It holds the token: show it once, and never log it.
    #[must_use]
    pub fn encode(&self) -> Zeroizing<String> {
        let document = Document {
            v: VERSION,
            site: self.site.as_str(),
            enroll_url: origin(&self.enroll_url),
            federation_url: origin(&self.federation_url),
            ca_sha256: to_hex(&self.ca_sha256),
            token: self.token.expose(),
            expires_at: whole_seconds(self.expires_at),
        };
        let json = Zeroizing::new(serde_json::to_vec(&document).expect("invariant: texts and a number are JSON"));
        let mut text = Zeroizing::new(INVITE_PREFIX.to_owned());
        URL_SAFE_NO_PAD.encode_string(json.as_slice(), &mut text);
        text
    }

    /// Parses what a person pasted: white space, also inside where a terminal wrapped it, and quotes around it are forgiven.
    pub fn parse(text: &str) -> Result<Self, InviteError> {
        if text.len() > INVITE_BYTES_LIMIT {
            return Err(InviteError::TooLong);
        }
        let text: Zeroizing<String> =
            Zeroizing::new(text.chars().filter(|c| !c.is_whitespace() && !matches!(c, '\'' | '"')).collect());
        let encoded = text.strip_prefix(INVITE_PREFIX).ok_or(InviteError::Prefix)?;
        let json = Zeroizing::new(URL_SAFE_NO_PAD.decode(encoded).map_err(|_| InviteError::Damaged)?);
        let version: Versioned = serde_json::from_slice(&json).map_err(|_| InviteError::Damaged)?;
        if version.v != VERSION {
            return Err(InviteError::Version(version.v));
        }
        let document: Document<'_> = serde_json::from_slice(&json).map_err(|_| InviteError::Damaged)?;
        document.check()
    }

    /// Whether the invite can still be used at `now`.
    #[must_use]
    pub fn is_expired(&self, now: OffsetDateTime) -> bool {
        now >= self.expires_at
    }
}

impl Document<'_> {
    fn check(&self) -> Result<Invite, InviteError> {
        Ok(Invite {
            site: SiteName::parse(self.site).map_err(|_| InviteError::Field("site"))?,
            enroll_url: parse_origin(&self.enroll_url).ok_or(InviteError::Field("enroll_url"))?,
            federation_url: parse_origin(&self.federation_url).ok_or(InviteError::Field("federation_url"))?,
            ca_sha256: parse_fingerprint(&self.ca_sha256).ok_or(InviteError::Field("ca_sha256"))?,
            token: Token::parse(Token::ENROLL, self.token).ok_or(InviteError::Field("token"))?,
            expires_at: OffsetDateTime::parse(&self.expires_at, &Rfc3339)
                .map_err(|_| InviteError::Field("expires_at"))?,
        })
    }
}

/// Parses the address of a peer's listener: https, a host, nothing but an optional port behind it.
#[must_use]
pub fn parse_origin(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let bare = url.scheme() == "https"
        && url.has_host()
        && url.username().is_empty()
        && url.password().is_none()
        && url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none();
    bare.then_some(url)
}

/// `https://host:port` without the slash that a URL ends with.
fn origin(url: &Url) -> String {
    url.as_str().trim_end_matches('/').to_owned()
}

/// Parses 64 lower-case hex digits.
fn parse_fingerprint(text: &str) -> Option<[u8; 32]> {
    let digit = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f').then(|| (b as char).to_digit(16)).flatten();
    let bytes = text.as_bytes();
    if bytes.len() != 64 {
        return None;
    }
    let mut fingerprint = [0; 32];
    for (byte, pair) in fingerprint.iter_mut().zip(bytes.chunks_exact(2)) {
        *byte = u8::try_from(digit(pair[0])? << 4 | digit(pair[1])?).ok()?;
    }
    Some(fingerprint)
}

fn whole_seconds(time: OffsetDateTime) -> String {
    time.to_offset(time::UtcOffset::UTC)
        .replace_nanosecond(0)
        .unwrap_or(time)
        .format(&Rfc3339)
        .expect("invariant: a time of our own clock has a four-digit year")
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    fn invite() -> Invite {
        Invite {
            site: SiteName::parse("work").unwrap(),
            enroll_url: Url::parse("https://work.example:8644").unwrap(),
            federation_url: Url::parse("https://[2001:db8::1]:8643").unwrap(),
            ca_sha256: [0xab; 32],
            token: Token::generate(Token::ENROLL),
            expires_at: datetime!(2026-11-23 12:00 UTC),
        }
    }

    fn encoded(json: &str) -> String {
        format!("{INVITE_PREFIX}{}", URL_SAFE_NO_PAD.encode(json))
    }

    fn json_of(invite: &Invite) -> serde_json::Value {
        let text = invite.encode();
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text.strip_prefix(INVITE_PREFIX).unwrap()).unwrap()).unwrap()
    }

    #[test]
    fn an_invite_survives_being_pasted_with_wraps_and_quotes() {
        let invite = invite();
        let text = invite.encode();
        assert_eq!(Invite::parse(&text), Ok(invite.clone()));
        let (first, second) = text.split_at(80);
        assert_eq!(Invite::parse(&format!("  '{first}\n    {second}'\n")), Ok(invite));
    }

    #[test]
    fn the_json_has_the_fields_of_the_protocol() {
        let invite = invite();
        assert_eq!(
            json_of(&invite),
            serde_json::json!({
                "v": 1,
                "site": "work",
                "enroll_url": "https://work.example:8644",
                "federation_url": "https://[2001:db8::1]:8643",
                "ca_sha256": "ab".repeat(32),
                "token": invite.token.expose(),
                "expires_at": "2026-11-23T12:00:00Z",
            })
        );
    }

    #[test]
    fn every_unusable_field_is_named() {
        let good = json_of(&invite());
        for (field, value) in [
            ("site", "Work"),
            ("enroll_url", "http://work.example:8644"),
            ("enroll_url", "https://user@work.example:8644"),
            ("federation_url", "https://work.example:8643/path"),
            ("federation_url", "https://work.example:8643/?q"),
            ("ca_sha256", "AB"),
            ("ca_sha256", &"AB".repeat(32)),
            ("token", "mosaic_admin_x"),
            ("expires_at", "tomorrow"),
        ] {
            let mut bad = good.clone();
            bad[field] = value.into();
            assert_eq!(Invite::parse(&encoded(&bad.to_string())), Err(InviteError::Field(field)), "{value}");
        }
    }

    #[test]
    fn a_newer_version_is_told_apart_from_damage() {
        assert_eq!(Invite::parse(&encoded(r#"{"v":2,"anything":true}"#)), Err(InviteError::Version(2)));
        assert_eq!(Invite::parse(&encoded(r#"{"v":1}"#)), Err(InviteError::Damaged));
        assert_eq!(Invite::parse("mosaic-invite:%%%"), Err(InviteError::Damaged));
        assert_eq!(Invite::parse("hello"), Err(InviteError::Prefix));
        assert_eq!(Invite::parse(&"x".repeat(INVITE_BYTES_LIMIT + 1)), Err(InviteError::TooLong));
        let text = invite().encode();
        assert_eq!(Invite::parse(&text[..text.len() - 5]), Err(InviteError::Damaged));
        let mut extra = json_of(&invite());
        extra["extra"] = 1.into();
        assert_eq!(Invite::parse(&encoded(&extra.to_string())), Err(InviteError::Damaged));
    }

    #[test]
    fn debug_shows_no_token() {
        let invite = invite();
        assert!(!format!("{invite:?}").contains(&invite.token.expose()[14..]));
    }
}
