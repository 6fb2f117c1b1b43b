//! JSON written straight into a buffer: the few shapes that an answer needs.

use bytes::{BufMut, BytesMut};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Writes members of one object; commas are its own matter.
pub(super) struct ObjectWriter<'a> {
    out: &'a mut BytesMut,
    first: bool,
}

impl<'a> ObjectWriter<'a> {
    pub(super) fn open(out: &'a mut BytesMut) -> Self {
        out.put_u8(b'{');
        Self { out, first: true }
    }

    pub(super) fn close(self) {
        self.out.put_u8(b'}');
    }

    /// Writes the name; the value is written by the caller.
    pub(super) fn name(&mut self, name: &str) -> &mut BytesMut {
        if !self.first {
            self.out.put_u8(b',');
        }
        self.first = false;
        put_str(self.out, name);
        self.out.put_u8(b':');
        self.out
    }

    pub(super) fn str(&mut self, name: &str, value: &str) {
        put_str(self.name(name), value);
    }

    pub(super) fn bool(&mut self, name: &str, value: bool) {
        self.name(name).put_slice(if value { b"true" } else { b"false" });
    }

    pub(super) fn number(&mut self, name: &str, value: u64) {
        self.name(name).put_slice(itoa::Buffer::new().format(value).as_bytes());
    }

    pub(super) fn time(&mut self, name: &str, value: OffsetDateTime) {
        // A date beyond what RFC 3339 can say is no date that anybody could use.
        if let Ok(text) = value.to_offset(time::UtcOffset::UTC).format(&Rfc3339) {
            self.str(name, &text);
        }
    }

    pub(super) fn object(&mut self, name: &str, write: impl FnOnce(&mut ObjectWriter<'_>)) {
        let mut inner = ObjectWriter::open(self.name(name));
        write(&mut inner);
        inner.close();
    }

    /// A list whose elements `write` puts down one by one.
    pub(super) fn list<T>(
        &mut self,
        name: &str,
        values: impl IntoIterator<Item = T>,
        mut write: impl FnMut(&mut BytesMut, T),
    ) {
        let out = self.name(name);
        out.put_u8(b'[');
        for (position, value) in values.into_iter().enumerate() {
            if position > 0 {
                out.put_u8(b',');
            }
            write(out, value);
        }
        out.put_u8(b']');
    }
}

pub(super) fn put_str(out: &mut BytesMut, text: &str) {
    serde_json::to_writer(out.writer(), text).expect("a string is written to memory without an error");
}
