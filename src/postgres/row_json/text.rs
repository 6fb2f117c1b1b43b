//! Strings and ready-made JSON inside of a row.

use std::borrow::Cow;

/// What the database calls text. Its own encoding is UTF-8, so that nothing is ever replaced.
pub(super) fn text_of(bytes: &[u8]) -> Cow<'_, str> {
    // Checks many bytes at a time, which replacing does not.
    std::str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed)
}

/// Bytes at which a string may have to be interrupted.
const INTERRUPTS: [bool; 256] = {
    let mut interrupts = [false; 256];
    let mut control = 0;
    while control < 0x20 {
        interrupts[control] = true;
        control += 1;
    }
    interrupts[b'"' as usize] = true;
    interrupts[b'\\' as usize] = true;
    interrupts[0xe2] = true;
    interrupts
};

/// Writes a JSON string (RFC 8259 section 7). U+2028 and U+2029 are escaped as well: they end a line to JavaScript and to
/// tools that split NDJSON by Unicode's line ends.
pub(crate) fn write_string(text: &str, out: &mut Vec<u8>) {
    out.reserve(text.len() + 2);
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut written = 0;
    for (index, byte) in bytes.iter().enumerate().filter(|(_, byte)| INTERRUPTS[usize::from(**byte)]) {
        let (escape, length): (&[u8], usize) = match byte {
            b'"' => (b"\\\"", 1),
            b'\\' => (b"\\\\", 1),
            b'\n' => (b"\\n", 1),
            b'\r' => (b"\\r", 1),
            b'\t' => (b"\\t", 1),
            0x08 => (b"\\b", 1),
            0x0c => (b"\\f", 1),
            0x00..=0x1f => (b"", 1),
            _ if bytes[index..].starts_with(b"\xe2\x80\xa8") => (b"\\u2028", 3),
            _ if bytes[index..].starts_with(b"\xe2\x80\xa9") => (b"\\u2029", 3),
            _ => continue,
        };
        out.extend_from_slice(&bytes[written..index]);
        written = index + length;
        if escape.is_empty() { write_control(*byte, out) } else { out.extend_from_slice(escape) }
    }
    out.extend_from_slice(&bytes[written..]);
    out.push(b'"');
}

fn write_control(byte: u8, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.extend_from_slice(b"\\u00");
    out.extend([HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
}

/// Writes JSON that the database holds, as it stands but on one line: `json` keeps the writer's line ends, and raw control
/// characters are white space there, because a string has none.
pub(super) fn write_json(json: &[u8], out: &mut Vec<u8>) {
    let text = text_of(json);
    out.extend(text.bytes().map(|byte| if byte < 0x20 { b' ' } else { byte }));
}
