//! Lines out of a stream of bytes, each and all of them bounded.

use bytes::{Bytes, BytesMut};
use mosaic_actors::domain::fault::{Fault, FaultKind, Stage};

pub(super) struct Lines {
    buffer: BytesMut,
    /// Up to here the buffer holds no line end.
    searched: usize,
    ended: bool,
    /// Of the next line, counted from 1.
    number: usize,
    line_max: usize,
    left: usize,
}

impl Lines {
    pub(super) fn new(line_max: usize, bytes_max: usize) -> Self {
        Self { buffer: BytesMut::new(), searched: 0, ended: false, number: 1, line_max, left: bytes_max }
    }

    pub(super) fn push(&mut self, chunk: &[u8]) -> Result<(), Fault> {
        self.left = self.left.checked_sub(chunk.len()).ok_or_else(|| {
            let message = format!("line {}: the import is too large; send it in parts", self.number);
            Fault::new(FaultKind::TooLarge, Stage::Request).with_message(message)
        })?;
        self.buffer.extend_from_slice(chunk);
        Ok(())
    }

    /// No more bytes come: what is left is the last line.
    pub(super) fn end(&mut self) {
        self.ended = true;
    }

    /// The next line that is not blank, with its number; `None` until more bytes come.
    pub(super) fn next_line(&mut self) -> Result<Option<(usize, Bytes)>, Fault> {
        loop {
            let end = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n');
            let Some(line) = self.take(end)? else { return Ok(None) };
            let number = self.number;
            self.number += 1;
            if !line.trim_ascii().is_empty() {
                return Ok(Some((number, line)));
            }
        }
    }

    fn take(&mut self, end: Option<usize>) -> Result<Option<Bytes>, Fault> {
        let length = end.map_or(self.buffer.len(), |end| self.searched + end);
        if length > self.line_max {
            let message = format!("line {}: is longer than {} bytes", self.number, self.line_max);
            return Err(Fault::new(FaultKind::TooLarge, Stage::Request).with_message(message));
        }
        if end.is_none() {
            self.searched = length;
            if !self.ended || length == 0 {
                return Ok(None);
            }
        }
        let line = self.buffer.split_to(length).freeze();
        if end.is_some() {
            drop(self.buffer.split_to(1));
        }
        self.searched = 0;
        Ok(Some(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(chunks: &[&str], line_max: usize, bytes_max: usize) -> Result<Vec<(usize, String)>, Box<str>> {
        let mut lines = Lines::new(line_max, bytes_max);
        let mut out = Vec::new();
        let mut drain = |lines: &mut Lines| -> Result<(), Fault> {
            while let Some((number, line)) = lines.next_line()? {
                out.push((number, String::from_utf8(line.to_vec()).unwrap()));
            }
            Ok(())
        };
        let read = (|| {
            for chunk in chunks {
                lines.push(chunk.as_bytes())?;
                drain(&mut lines)?;
            }
            lines.end();
            drain(&mut lines)
        })();
        read.map(|()| out).map_err(|fault: Fault| fault.message.unwrap())
    }

    #[test]
    fn lines_are_the_same_however_the_bytes_arrive() {
        let text = "{}\n\n  \r\n[1]\r\nlast";
        let expected = vec![(1, "{}".to_owned()), (4, "[1]\r".to_owned()), (5, "last".to_owned())];
        assert_eq!(all(&[text], 10, 100), Ok(expected.clone()));
        let bytes: Vec<String> = text.chars().map(String::from).collect();
        let bytes: Vec<&str> = bytes.iter().map(String::as_str).collect();
        assert_eq!(all(&bytes, 10, 100), Ok(expected));
        assert_eq!(all(&[], 10, 100), Ok(vec![]));
    }

    #[test]
    fn a_long_line_and_a_long_import_are_refused_by_name() {
        assert_eq!(all(&["a\n", "0123456789", "\n"], 10, 100).unwrap().len(), 2);
        assert_eq!(all(&["a\n", "01234567890"], 10, 100), Err("line 2: is longer than 10 bytes".into()));
        assert_eq!(all(&["a\nb\n", "c\n"], 10, 5), Err("line 3: the import is too large; send it in parts".into()));
    }
}
