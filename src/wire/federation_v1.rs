//! Bodies of `/api/federation/v1/*`. Requests are strict; of a peer's answer, unknown fields are ignored.
//!
//! Rows never pass through these types: the owner writes its page between [`LIST_ANSWER_HEAD`] and [`list_answer_tail`], and the
//! asker reads rows with `peer_http::rows`.

use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU32;

use mosaic_actors::domain::answer::Capabilities;
use serde::de::{Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The version of the protocol that this node speaks.
pub const PROTOCOL: u32 = 1;

/// The path under which every verb lives.
pub const BASE_PATH: &str = "/api/federation/v1";

/// What is left of the asker's patience, in milliseconds: bounds the owner's database query.
pub const DEADLINE_HEADER: &str = "x-mosaic-deadline-ms";

/// Answer of `GET capabilities`.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CapabilitiesAnswer {
    pub protocol: u32,
    /// How the owner site calls itself.
    pub site: String,
    pub resources: Vec<String>,
    #[serde(default)]
    pub excluded_resources: Vec<String>,
    pub max_rows_per_query: u32,
    pub supported_verbs: Vec<String>,
    #[serde(with = "time::serde::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub grant_expires_at: OffsetDateTime,
    /// Seconds.
    #[serde(default)]
    pub cache_max_age: u32,
}

impl From<CapabilitiesAnswer> for Capabilities {
    fn from(answer: CapabilitiesAnswer) -> Self {
        Self {
            protocol: answer.protocol,
            site: answer.site,
            resources: answer.resources,
            excluded_resources: answer.excluded_resources,
            max_rows_per_query: answer.max_rows_per_query,
            supported_verbs: answer.supported_verbs,
            grant_expires_at: answer.grant_expires_at,
            cache_max_age: answer.cache_max_age,
        }
    }
}

/// Body of `POST list/{resource}`.
#[derive(Debug, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ListRequest {
    /// Rows wanted; above the grant's cap it is capped. Default 50.
    #[serde(default, deserialize_with = "limit", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u32>, minimum = 1)]
    pub limit: Option<NonZeroU32>,
    /// `next_cursor` of an earlier answer to the same question.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// The typed filter.
    #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub filter: Option<Box<RawValue>>,
}

/// Body of `POST get/{resource}/{id}`: an object without fields.
#[derive(Debug, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GetRequest {}

/// Body of `POST enroll`.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EnrollRequest {
    /// PKCS#10 in PEM. Only its public key counts.
    pub csr: String,
}

/// Answer of `POST enroll`.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EnrollAnswer {
    /// PEM.
    pub certificate: String,
    /// PEM, the leaf excluded, the root last.
    pub chain: Vec<String>,
    pub grant_id: String,
    pub subject_user_id: String,
    /// How the owner site calls itself.
    pub site: String,
}

/// Body of `POST renew`.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RenewRequest {
    /// PKCS#10 in PEM, for a new key. Only its public key counts.
    pub csr: String,
}

/// Answer of `POST renew`.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RenewAnswer {
    /// PEM.
    pub certificate: String,
    /// PEM, the leaf excluded, the root last.
    pub chain: Vec<String>,
}

/// The media type of a watch, in both directions: a JSON object per line.
pub const WATCH_MEDIA_TYPE: &str = "application/x-ndjson";

/// One line of the answer of `POST watch`. Events that an asker does not know are signs of life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct WatchLine {
    /// `grant_active`, `grant_changed`, `grant_suspended`, `grant_revoked`, `grant_expired`: how the grant stands, first as it is and
    /// then whenever that changes; `heartbeat`; `rights_unknown`: the owner cannot tell now; `closing`: its node stops;
    /// `superseded`: newer watches of this grant took the place of this one; `ended`: the certificate counts no more.
    pub event: String,
    /// To be acknowledged, where the event is about the grant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u64>,
    /// Of the grant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<i64>,
}

/// One line of the body of `POST watch`: the holder acted on the event of this number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WatchAcknowledgement {
    pub acknowledged: u64,
}

/// An error as a peer sends it, as far as this node believes it. Its message is for the peer's own people.
#[derive(Debug, Default, Deserialize)]
pub struct ErrorAnswer<'a> {
    #[serde(borrow)]
    pub error: ErrorAnswerDetail<'a>,
}

#[derive(Debug, Default, Deserialize)]
pub struct ErrorAnswerDetail<'a> {
    #[serde(borrow)]
    pub code: Cow<'a, str>,
    #[serde(borrow, default)]
    pub reason: Option<Cow<'a, str>>,
    #[serde(default)]
    pub retry_after_ms: Option<u64>,
}

/// A JSON number that is a positive integer. One that is larger than any cap is a large limit, not a mistake.
fn limit<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<NonZeroU32>, D::Error> {
    struct Limit;
    impl<'de> Visitor<'de> for Limit {
        type Value = Option<NonZeroU32>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a positive integer")
        }

        fn visit_none<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
            deserializer.deserialize_any(self)
        }

        fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Self::Value, E> {
            NonZeroU32::new(u32::try_from(value).unwrap_or(u32::MAX))
                .map(Some)
                .ok_or_else(|| E::invalid_value(Unexpected::Unsigned(0), &self))
        }
    }
    deserializer.deserialize_option(Limit)
}

/// Everything of a list answer before its rows.
pub const LIST_ANSWER_HEAD: &[u8] = br#"{"items":["#;

/// Everything of a list answer behind its rows.
#[must_use]
pub fn list_answer_tail(next_cursor: Option<&str>, truncated: bool) -> Vec<u8> {
    let mut tail = b"]".to_vec();
    if let Some(cursor) = next_cursor {
        tail.extend_from_slice(br#","next_cursor":"#);
        serde_json::to_writer(&mut tail, cursor).expect("invariant: a string serialises into memory");
    }
    tail.extend_from_slice(if truncated { br#","_truncated":true}"# } else { br#","_truncated":false}"# });
    tail
}

/// The time of a row: RFC 3339, any offset.
#[must_use]
pub fn parse_time(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc3339).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::parse_json;

    fn limit_of(body: &str) -> Result<Option<u32>, String> {
        parse_json::<ListRequest>(body.as_bytes())
            .map(|request| request.limit.map(NonZeroU32::get))
            .map_err(|fault| fault.message.unwrap_or_default().into())
    }

    #[test]
    fn a_limit_is_a_positive_integer_and_large_ones_are_not_mistakes() {
        assert_eq!(limit_of("{}"), Ok(None));
        assert_eq!(limit_of(r#"{"limit":null}"#), Ok(None));
        assert_eq!(limit_of(r#"{"limit":7}"#), Ok(Some(7)));
        assert_eq!(limit_of(r#"{"limit":99999999999}"#), Ok(Some(u32::MAX)));
        for bad in ["0", "-1", "1.5", "\"7\"", "true", "[]", "1e2"] {
            let message = limit_of(&format!(r#"{{"limit":{bad}}}"#)).unwrap_err();
            assert!(message.starts_with("limit: expected a positive integer"), "{bad}: {message}");
        }
    }

    #[test]
    fn a_list_request_keeps_where_as_it_was_written() {
        let request: ListRequest = parse_json(br#"{"where": {"b":1, "a":2}, "cursor":"c"}"#).unwrap();
        assert_eq!(request.filter.unwrap().get(), r#"{"b":1, "a":2}"#);
        assert_eq!(request.cursor.as_deref(), Some("c"));
        assert!(parse_json::<ListRequest>(br#"{"sort":"x"}"#).is_err());
    }

    #[test]
    fn the_tail_of_a_list_answer_is_json_whatever_the_cursor_holds() {
        assert_eq!(list_answer_tail(None, false), br#"],"_truncated":false}"#);
        assert_eq!(list_answer_tail(Some("a\"b"), true), br#"],"next_cursor":"a\"b","_truncated":true}"#);
    }

    #[test]
    fn capabilities_of_a_newer_peer_are_understood() {
        let text = r#"{"protocol":1,"site":"work","resources":["tasks"],"max_rows_per_query":100,"supported_verbs":["list"],
            "grant_expires_at":"2027-01-01T00:00:00Z","novelty":{"a":[1]}}"#;
        let answer: CapabilitiesAnswer = serde_json::from_str(text).unwrap();
        assert_eq!((answer.cache_max_age, answer.excluded_resources.len()), (0, 0));
    }
}
