//! Looking for what must not be there.

/// Whether the needle is in the haystack. Skips by the last byte that cannot match (Horspool): a WAL of 16 MiB times a hundred
/// needles is a lot for the naive way.
pub(crate) fn holds(haystack: &[u8], needle: &[u8]) -> bool {
    let Some(last) = needle.len().checked_sub(1) else { return true };
    let mut skip = [needle.len(); 256];
    needle[..last].iter().enumerate().for_each(|(at, byte)| skip[usize::from(*byte)] = last - at);
    let mut at = 0;
    while at + needle.len() <= haystack.len() {
        if haystack[at..at + needle.len()] == *needle {
            return true;
        }
        at += skip[usize::from(haystack[at + last])];
    }
    false
}
