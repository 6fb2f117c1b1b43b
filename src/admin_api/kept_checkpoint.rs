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

    /// What is kept; `None` when there is no file. One that says nothing, or not all, is an error: something was kept.
    pub fn read(&self) -> std::io::Result<Option<Checkpoint>> {
        let size = match std::fs::metadata(&self.file) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let invalid = |what: &str| std::io::Error::new(std::io::ErrorKind::InvalidData, what);
        if size > MAX_BYTES {
            return Err(invalid("it is too long for a checkpoint"));
        }
        let text = std::fs::read_to_string(&self.file)?;
        let kept = serde_json::from_str::<CheckpointV1>(&text).ok().and_then(|kept| checkpoint_of(&kept).ok());
        kept.map(Some).ok_or_else(|| invalid("it is not a checkpoint"))
    }

    /// Replaces what is kept. Only for a checkpoint whose chain goes through the one that is kept.
    pub fn keep(&self, checkpoint: &Checkpoint) -> std::io::Result<()> {
        let text = serde_json::to_string_pretty(&checkpoint_v1(checkpoint)).map_err(std::io::Error::other)?;
        let beside = self.file.with_extension("checkpoint.new");
        let mut out = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        out.write_all(text.as_bytes())?;
        out.write_all(b"\n")?;
        // On the disk before it has the name: after a power cut there is the old one or the new one, never half of one.
        out.sync_all()?;
        std::fs::rename(&beside, &self.file)?;
        match self.file.parent() {
            Some(directory) => std::fs::File::open(directory)?.sync_all(),
            None => Ok(()),
        }
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
    fn what_is_kept_is_read_back_and_half_of_it_is_an_error_and_not_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("audit.checkpoint");
        let kept = KeptCheckpoint::at(file.clone());
        assert_eq!(kept.read().unwrap(), None);
        kept.keep(&checkpoint(4)).unwrap();
        kept.keep(&checkpoint(7)).unwrap();
        assert_eq!(kept.read().unwrap(), Some(checkpoint(7)));
        let whole = std::fs::read_to_string(&file).unwrap();
        for broken in ["", "{}", &whole[..whole.len() / 2], &" ".repeat(10_000)] {
            std::fs::write(&file, broken).unwrap();
            assert_eq!(kept.read().unwrap_err().kind(), std::io::ErrorKind::InvalidData, "{broken}");
        }
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
