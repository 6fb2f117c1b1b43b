//! Files that only their owner may read.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use zeroize::Zeroizing;

use super::SecretError;

/// Longest file of secrets, in bytes: eight lines and room for comments.
const FILE_BYTES_LIMIT: u64 = 16 * 1024;

/// Reads a text file after checking, on the open file, that nobody else may read or change it.
pub(super) fn read_private(path: &Path) -> Result<Zeroizing<String>, SecretError> {
    let file = File::open(path).map_err(SecretError::Read)?;
    let mode = file.metadata().map_err(SecretError::Read)?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(SecretError::Permissions { mode });
    }
    let mut text = Zeroizing::new(String::new());
    file.take(FILE_BYTES_LIMIT).read_to_string(&mut text).map_err(SecretError::Read)?;
    Ok(text)
}

/// Writes a new file with mode 0600 and waits until it and its directory entry are on disk.
pub(super) fn write_private(path: &Path, bytes: &[u8]) -> Result<(), SecretError> {
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(SecretError::Write)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(SecretError::Write)?;
    sync_directory(path)
}

/// Puts new content in the place of a file: beside it first, then by renaming, so that a crash leaves the old or the new one.
pub(super) fn replace_private(path: &Path, bytes: &[u8]) -> Result<(), SecretError> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = Path::new(&beside);
    // What a crash left half written; its content was never in use.
    match std::fs::remove_file(beside) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(SecretError::Write(error)),
        _ => {}
    }
    // Whoever may read the old file may read the new one: the node's user, also when root rotates.
    let owner = std::fs::metadata(path).map_err(SecretError::Read)?;
    write_private(beside, bytes)?;
    let written = std::fs::metadata(beside).map_err(SecretError::Read)?;
    if (written.uid(), written.gid()) != (owner.uid(), owner.gid()) {
        std::os::unix::fs::chown(beside, Some(owner.uid()), Some(owner.gid())).map_err(SecretError::Write)?;
    }
    std::fs::rename(beside, path).map_err(SecretError::Write)?;
    sync_directory(path)
}

fn sync_directory(path: &Path) -> Result<(), SecretError> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(SecretError::Write)
}
