//! The checkpoint that a replica keeps in its state directory: whoever can write to the database only cannot take it back.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use mosaic_actors::domain::fault::Fault;
use mosaic_actors::domain::identity::SiteName;

use crate::pki::pem::to_hex;
use crate::postgres::audit::Checkpoint;
use crate::secrets::KeyId;
use crate::wire::admin_v1::CheckpointV1;

/// Longest file that is read; ours has half a kilobyte.
const MAX_BYTES: u64 = 8_192;

/// A file with the newest checkpoint that this replica has seen.
#[derive(Debug, Clone)]
pub struct KeptCheckpoint {
    file: PathBuf,
}

impl KeptCheckpoint {
    #[must_use]
    pub fn at(file: PathBuf) -> Self {
        Self { file }
    }

    /// What is kept; `None` when there is nothing, or nothing that can be read.
    #[must_use]
    pub fn read(&self) -> Option<Checkpoint> {
        let size = std::fs::metadata(&self.file).ok()?.len();
        let text = (size <= MAX_BYTES).then(|| std::fs::read_to_string(&self.file).ok()).flatten()?;
        let kept = serde_json::from_str::<CheckpointV1>(&text).ok().and_then(|kept| checkpoint_of(&kept).ok());
        if kept.is_none() {
            tracing::warn!(file = %self.file.display(), "the kept checkpoint of the audit log cannot be read");
        }
        kept
    }

    /// Keeps `checkpoint`, unless what is kept is further on: then the database's log was cut, and `false` says so.
    pub fn keep(&self, checkpoint: &Checkpoint) -> std::io::Result<bool> {
        match self.read() {
            Some(kept) if kept == *checkpoint => return Ok(true),
            Some(kept) if kept.position > checkpoint.position => return Ok(false),
            _ => {}
        }
        let text = serde_json::to_string_pretty(&checkpoint_v1(checkpoint)).map_err(std::io::Error::other)?;
        let beside = self.file.with_extension("checkpoint.new");
        let mut out = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        out.write_all(text.as_bytes())?;
        out.write_all(b"\n")?;
        std::fs::rename(&beside, &self.file)?;
        Ok(true)
    }
}

pub(super) fn checkpoint_v1(checkpoint: &Checkpoint) -> CheckpointV1 {
    CheckpointV1 {
        site: checkpoint.site.to_string(),
        position: checkpoint.position,
        events: checkpoint.events,
        at: checkpoint.at,
        seal: to_hex(&checkpoint.seal),
        key: checkpoint.key.to_string(),
        public_key: to_hex(&checkpoint.public_key),
        signature: to_hex(&checkpoint.signature),
    }
}

pub(super) fn checkpoint_of(document: &CheckpointV1) -> Result<Checkpoint, Fault> {
    Ok(Checkpoint {
        site: SiteName::parse(&document.site).map_err(|_| Fault::invalid("checkpoint.site: is not a site's name"))?,
        position: document.position,
        events: document.events,
        at: document.at,
        seal: bytes("seal", &document.seal)?,
        key: KeyId::from_bytes(&bytes::<{ KeyId::BYTES }>("key", &document.key)?)
            .ok_or_else(|| Fault::invalid("checkpoint.key: is not a key's id"))?,
        public_key: bytes("public_key", &document.public_key)?,
        signature: bytes("signature", &document.signature)?,
    })
}

fn bytes<const N: usize>(field: &str, hex: &str) -> Result<[u8; N], Fault> {
    let wrong = || Fault::invalid(format!("checkpoint.{field}: is not {N} bytes in hexadecimal"));
    if hex.len() != 2 * N || !hex.is_ascii() {
        return Err(wrong());
    }
    let mut bytes = [0; N];
    for (byte, digits) in bytes.iter_mut().zip(hex.as_bytes().chunks(2)) {
        let digits = std::str::from_utf8(digits).map_err(|_| wrong())?;
        *byte = u8::from_str_radix(digits, 16).map_err(|_| wrong())?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint(position: i64) -> Checkpoint {
        Checkpoint {
            site: SiteName::parse("work").unwrap(),
            position,
            events: 9,
            at: time::macros::datetime!(2026-11-28 01:02:03.456_789 UTC),
            seal: [1; 32],
            key: KeyId::from_bytes(&[2; 8]).unwrap(),
            public_key: [3; 32],
            signature: [4; 64],
        }
    }

    #[test]
    fn the_newest_checkpoint_is_kept_and_never_taken_back() {
        let directory = tempfile::tempdir().unwrap();
        let kept = KeptCheckpoint::at(directory.path().join("audit.checkpoint"));
        assert_eq!(kept.read(), None);
        assert!(kept.keep(&checkpoint(4)).unwrap());
        assert!(kept.keep(&checkpoint(7)).unwrap());
        assert!(!kept.keep(&checkpoint(6)).unwrap());
        assert_eq!(kept.read(), Some(checkpoint(7)));
        std::fs::write(directory.path().join("audit.checkpoint"), "{}").unwrap();
        assert_eq!(kept.read(), None);
    }

    #[test]
    fn a_checkpoint_that_is_none_names_its_field() {
        let good = checkpoint_v1(&checkpoint(4));
        assert_eq!(checkpoint_of(&good).unwrap(), checkpoint(4));
        let told = |bad: CheckpointV1| checkpoint_of(&bad).unwrap_err().message.unwrap();
        assert!(told(CheckpointV1 { seal: "é".repeat(32), ..good.clone() }).contains("seal"));
        assert!(told(CheckpointV1 { signature: "00".to_owned(), ..good.clone() }).contains("signature"));
        assert!(told(CheckpointV1 { site: "../x".to_owned(), ..good }).contains("site"));
    }
}
