//! A first look at foreign JSON, in one pass without recursion and without memory: what the parser would let through and
//! clients of the blended answer could not read.

/// Why foreign bytes are not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ScanError {
    #[error("is not UTF-8")]
    NotUtf8,
    #[error("is nested too deeply")]
    TooDeep,
    #[error("holds half of a UTF-16 surrogate pair")]
    LoneSurrogate,
    #[error("holds a number that is out of range")]
    NumberOutOfRange,
}

/// A number of this length or longer, or with an exponent, is converted to see whether it is finite.
const PLAIN_NUMBER_MAX_BYTES: usize = 300;

/// Checks UTF-8, nesting of at most `depth_max`, surrogate pairs in escapes, and that numbers are finite. Syntax is the
/// parser's matter; on bytes that are not JSON this may say anything but never fails to end.
pub fn scan(bytes: &[u8], depth_max: usize) -> Result<&str, ScanError> {
    let text = std::str::from_utf8(bytes).map_err(|_| ScanError::NotUtf8)?;
    let (mut at, mut depth) = (0, 0_usize);
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => at = end_of_string(bytes, at + 1)?,
            b'{' | b'[' => {
                depth += 1;
                if depth > depth_max {
                    return Err(ScanError::TooDeep);
                }
                at += 1;
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                at += 1;
            }
            b'-' | b'0'..=b'9' => at = end_of_number(text, at)?,
            _ => at += 1,
        }
    }
    Ok(text)
}

/// The index behind the closing quote of the string whose content starts at `at`.
fn end_of_string(bytes: &[u8], mut at: usize) -> Result<usize, ScanError> {
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => return Ok(at + 1),
            b'\\' if bytes.get(at + 1) == Some(&b'u') => at = end_of_escape(bytes, at)?,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    Ok(at)
}

/// The index behind a `\uXXXX` at `at`, or behind the two of a surrogate pair.
fn end_of_escape(bytes: &[u8], at: usize) -> Result<usize, ScanError> {
    match code_unit(bytes, at) {
        Some(0xD800..=0xDBFF) => match code_unit(bytes, at + 6) {
            Some(0xDC00..=0xDFFF) => Ok(at + 12),
            _ => Err(ScanError::LoneSurrogate),
        },
        Some(0xDC00..=0xDFFF) => Err(ScanError::LoneSurrogate),
        _ => Ok(at + 2),
    }
}

fn code_unit(bytes: &[u8], at: usize) -> Option<u16> {
    let escape = bytes.get(at..at + 6)?;
    let digits = escape.strip_prefix(b"\\u")?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

fn end_of_number(text: &str, at: usize) -> Result<usize, ScanError> {
    let rest = &text[at..];
    let length = rest.bytes().position(|b| !(b.is_ascii_digit() || b"+-.eE".contains(&b))).unwrap_or(rest.len());
    let number = &rest[..length];
    let plain = length < PLAIN_NUMBER_MAX_BYTES && !number.bytes().any(|b| b.eq_ignore_ascii_case(&b'e'));
    if !plain && number.parse::<f64>().is_ok_and(|value| !value.is_finite()) {
        return Err(ScanError::NumberOutOfRange);
    }
    Ok(at + length)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_clients_cannot_read_is_refused() {
        assert_eq!(scan(b"{\"a\":\"\xff\"}", 8), Err(ScanError::NotUtf8));
        assert_eq!(scan(br#"{"a":"\ud800"}"#, 8), Err(ScanError::LoneSurrogate));
        assert_eq!(scan(br#"{"a":"\udc00\ud800"}"#, 8), Err(ScanError::LoneSurrogate));
        assert_eq!(scan(br#"{"a":1e999}"#, 8), Err(ScanError::NumberOutOfRange));
        assert_eq!(scan(format!("{{\"a\":{}}}", "9".repeat(400)).as_bytes(), 8), Err(ScanError::NumberOutOfRange));
        assert_eq!(scan(br#"[[[1]]]"#, 2), Err(ScanError::TooDeep));
    }

    #[test]
    fn brackets_and_digits_in_strings_do_not_count() {
        let text = r#"{"a":"[[[[ 1e999 \" \\","b":"\ud83d\ude00 \u00e4","c":-1.5e3}"#;
        assert_eq!(scan(text.as_bytes(), 1), Ok(text));
    }

    #[test]
    fn a_depth_bomb_is_refused_without_recursion() {
        assert_eq!(scan(&vec![b'['; 4 * 1024 * 1024], 32), Err(ScanError::TooDeep));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_end_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = scan(&bytes, 4);
        }

        #[test]
        fn whatever_serde_accepts_as_a_value_passes_when_it_is_flat_enough(text in "\\PC{0,60}", number in any::<f64>()) {
            let value = serde_json::json!({"text": text, "number": number, "list": [text]});
            let json = value.to_string();
            prop_assert_eq!(scan(json.as_bytes(), 2), Ok(json.as_str()));
        }
    }
}
