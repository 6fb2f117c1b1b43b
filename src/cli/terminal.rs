//! The terminal: how wide it is, and what may be written to it.

use std::io::{IsTerminal, stdout};

/// Columns of the terminal; `None` when the output goes to a file or a pipe, where nothing is cut.
#[must_use]
pub(crate) fn width() -> Option<usize> {
    let out = stdout();
    if !out.is_terminal() {
        return None;
    }
    rustix::termios::tcgetwinsize(&out).ok().map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

/// Text of other people as one harmless line: no control character (nothing that moves the cursor, colours, renames the
/// window or rings), no bidirectional override (nothing that shows in another order than it is written).
#[must_use]
pub(crate) fn harmless(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\r' | '\t' | '\u{2028}' | '\u{2029}' => ' ',
            c if c.is_control() || reorders(c) => '\u{fffd}',
            c => c,
        })
        .collect()
}

/// As [`harmless`], keeping line breaks: for text that is ours and only quotes others.
#[must_use]
pub(crate) fn harmless_lines(text: &str) -> String {
    text.split('\n').map(harmless).collect::<Vec<_>>().join("\n")
}

/// JSON as a terminal may see it: what JSON leaves unescaped but terminals obey (DEL, the C1 controls) or reorder by is
/// escaped. Such characters stand only inside strings, so the document means the same.
#[must_use]
pub(crate) fn harmless_json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if (c.is_control() && c != '\n') || reorders(c) {
            out.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            out.push(c);
        }
    }
    out
}

fn reorders(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_others_cannot_steer_the_terminal() {
        assert_eq!(harmless("a\u{1b}[31mred\u{7}\nb\u{9b}2J"), "a\u{fffd}[31mred\u{fffd} b\u{fffd}2J");
        assert_eq!(harmless("pay \u{202e}evil"), "pay \u{fffd}evil");
        assert_eq!(harmless("Grüße, 東京 ✓"), "Grüße, 東京 ✓");
    }

    #[test]
    fn json_means_the_same_after_its_controls_are_escaped() {
        let value = serde_json::json!({"title": "a\u{9b}2J\u{202e}\u{7f}b\u{1b}"});
        let shown = harmless_json(&value.to_string());
        assert!(shown.is_ascii(), "{shown}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
    }
}
