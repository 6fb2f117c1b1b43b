//! A JSON object taken apart one level deep, without building a tree and without letting a name stand twice.

use std::borrow::Cow;
use std::fmt;

use serde::Deserializer as _;
use serde::de::{Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Names and values in the order in which they stood.
pub type Members<'a> = Vec<(Cow<'a, str>, &'a RawValue)>;

/// Why a text is not an object of distinct names.
#[derive(Debug, PartialEq, Eq)]
pub enum MembersError {
    NoObject,
    Doubled(String),
}

/// Takes one JSON object apart.
pub fn parse(json: &str) -> Result<Members<'_>, MembersError> {
    let mut reader = serde_json::Deserializer::from_str(json);
    let members = reader.deserialize_map(TakeApart).map_err(|_| MembersError::NoObject)?;
    reader.end().map_err(|_| MembersError::NoObject)?;
    let mut names: Vec<&str> = members.iter().map(|(name, _)| name.as_ref()).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(MembersError::Doubled(pair[0].to_owned())),
        None => Ok(members),
    }
}

struct TakeApart;

impl<'de> Visitor<'de> for TakeApart {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(Name(name)) = map.next_key()? {
            members.push((name, map.next_value()?));
        }
        Ok(members)
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, _: A) -> Result<Self::Value, A::Error> {
        Err(A::Error::custom("an array is no object"))
    }
}

/// A name borrowed where it has no escapes.
struct Name<'a>(Cow<'a, str>);

impl<'de> serde::Deserialize<'de> for Name<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameVisitor;
        impl<'de> Visitor<'de> for NameVisitor {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Borrowed(name)))
            }

            fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Owned(name.to_owned())))
            }
        }
        deserializer.deserialize_str(NameVisitor)
    }
}
