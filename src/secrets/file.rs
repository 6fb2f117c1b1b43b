//! Files that only their owner may read.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
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
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(SecretError::Write)
}
