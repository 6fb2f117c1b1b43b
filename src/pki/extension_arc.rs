//! The two extensions that tie a client certificate to a grant: their names and their exact bytes.

use std::fmt;

use uuid::Uuid;
use x509_parser::der_parser::oid::Oid;

/// The arc under which the extensions are named when nothing else is configured. 99999 is a placeholder: an operator who
/// exchanges certificates with others registers an arc of his own (IANA private enterprise number).
pub const DEFAULT_ARC: &str = "1.3.6.1.4.1.99999";

/// Most numbers in an arc; longer ones do not occur, and bound the certificate.
const ARC_NUMBERS_LIMIT: usize = 20;

/// DER: UTF8String (tag 12) of 36 bytes.
const VALUE_HEADER: [u8; 2] = [0x0c, 36];
const UUID_CHARS: usize = 36;

/// Names of the identity extensions: `<arc>.1` holds the grant's id, `<arc>.2` the subject's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtensionArc {
    grant: IdentityExtension,
    subject: IdentityExtension,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IdentityExtension {
    pub(crate) numbers: Box<[u64]>,
    pub(crate) oid: Oid<'static>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an arc is 3 to {ARC_NUMBERS_LIMIT} numbers joined by dots, starting with 0, 1 or 2, like {DEFAULT_ARC}")]
pub struct ArcError;

impl ExtensionArc {
    /// Parses a dotted arc.
    pub fn parse(text: &str) -> Result<Self, ArcError> {
        let numbers = text.split('.').map(parse_number).collect::<Option<Vec<u64>>>().ok_or(ArcError)?;
        // X.660: under 0 and 1 the second number is below 40.
        let rooted = matches!(numbers.as_slice(), [0 | 1, 0..=39, _, ..] | [2, _, _, ..]);
        if !rooted || numbers.len() > ARC_NUMBERS_LIMIT {
            return Err(ArcError);
        }
        Ok(Self { grant: IdentityExtension::under(&numbers, 1)?, subject: IdentityExtension::under(&numbers, 2)? })
    }

    pub(crate) fn grant(&self) -> &IdentityExtension {
        &self.grant
    }

    pub(crate) fn subject(&self) -> &IdentityExtension {
        &self.subject
    }
}

/// Dotted, as it was given.
impl fmt::Display for ExtensionArc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let grant = self.grant.oid.to_id_string();
        f.write_str(grant.rsplit_once('.').map_or(grant.as_str(), |(arc, _)| arc))
    }
}

impl Default for ExtensionArc {
    fn default() -> Self {
        Self::parse(DEFAULT_ARC).expect("invariant: the default arc is an arc")
    }
}

impl IdentityExtension {
    fn under(arc: &[u64], last: u64) -> Result<Self, ArcError> {
        let numbers: Box<[u64]> = arc.iter().copied().chain([last]).collect();
        let oid = Oid::from(&numbers).map_err(|_| ArcError)?;
        Ok(Self { numbers, oid })
    }
}

fn parse_number(text: &str) -> Option<u64> {
    let canonical =
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    canonical.then(|| text.parse::<u32>().ok().map(u64::from)).flatten()
}

/// The value of an identity extension: DER UTF8String of the canonical lower-case UUID.
#[must_use]
pub fn encode_identity(id: Uuid) -> Vec<u8> {
    let mut value = VALUE_HEADER.to_vec();
    value.extend_from_slice(id.as_hyphenated().encode_lower(&mut Uuid::encode_buffer()).as_bytes());
    value
}

/// Parses the value of an identity extension. Exactly one encoding is taken per id: no other tag or length form, no
/// trailing byte, no upper case, no other way to write a UUID.
#[must_use]
pub fn decode_identity(value: &[u8]) -> Option<Uuid> {
    let text = value.strip_prefix(&VALUE_HEADER)?;
    if text.len() != UUID_CHARS {
        return None;
    }
    let id = Uuid::try_parse_ascii(text).ok()?;
    (encode_identity(id) == value).then_some(id)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_arc_names_two_extensions() {
        let arc = ExtensionArc::default();
        assert_eq!(arc.grant().oid.to_id_string(), "1.3.6.1.4.1.99999.1");
        assert_eq!(arc.subject().oid.to_id_string(), "1.3.6.1.4.1.99999.2");
        for bad in ["", "1", "1.3", "1.40.1", "3.1.1", "1..3", "1.3.06", "1.3.x", "1.3.-1", "1.3.99999999999"] {
            assert_eq!(ExtensionArc::parse(bad), Err(ArcError), "{bad:?}");
        }
        assert_eq!(ExtensionArc::parse(&["1"; 21].join(".")), Err(ArcError));
        assert!(ExtensionArc::parse("2.25.4294967295").is_ok());
    }

    #[test]
    fn other_ways_to_write_the_same_id_are_refused() {
        let id = Uuid::now_v7();
        let text = id.to_string();
        let with = |tag: u8, text: &str| {
            let mut value = vec![tag, u8::try_from(text.len()).unwrap()];
            value.extend_from_slice(text.as_bytes());
            value
        };
        assert_eq!(decode_identity(&with(0x0c, &text)), Some(id));
        for (tag, text) in [
            (0x13, text.clone()),
            (0x16, text.clone()),
            (0x04, text.clone()),
            (0x2c, text.clone()),
            (0x0c, text.to_uppercase()),
            (0x0c, id.simple().to_string()),
            (0x0c, id.braced().to_string()),
            (0x0c, format!("{text}\0")),
            (0x0c, format!(" {text}")),
            (0x0c, String::new()),
        ] {
            assert_eq!(decode_identity(&with(tag, &text)), None, "{tag} {text:?}");
        }
        let mut long_form = vec![0x0c, 0x81, 36];
        long_form.extend_from_slice(text.as_bytes());
        assert_eq!(decode_identity(&long_form), None);
    }

    proptest! {
        #[test]
        fn every_id_survives(bits in any::<u128>()) {
            let id = Uuid::from_u128(bits);
            prop_assert_eq!(decode_identity(&encode_identity(id)), Some(id));
        }

        /// Any change either is refused or names another id by its one canonical encoding: never the same id twice.
        #[test]
        fn no_mutation_of_a_value_is_taken_for_the_same_id(
            bits in any::<u128>(),
            at in 0usize..38,
            byte in any::<u8>(),
            kind in 0u8..4,
        ) {
            let value = encode_identity(Uuid::from_u128(bits));
            let mut mutated = value.clone();
            match kind {
                0 => mutated[at] = byte,
                1 => mutated.insert(at, byte),
                2 => { mutated.remove(at); }
                _ => mutated.truncate(at),
            }
            prop_assume!(mutated != value);
            let decoded = decode_identity(&mutated);
            prop_assert_ne!(decoded, Some(Uuid::from_u128(bits)));
            // Only replacing one hex digit by another can give an id at all.
            let digit = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
            let still_an_id = kind == 0 && at >= 2 && digit(value[at]) && digit(byte);
            prop_assert_eq!(decoded.is_some(), still_an_id);
        }

        #[test]
        fn arbitrary_bytes_never_panic_and_decode_only_canonically(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Some(id) = decode_identity(&bytes) {
                prop_assert_eq!(encode_identity(id), bytes);
            }
        }
    }
}
