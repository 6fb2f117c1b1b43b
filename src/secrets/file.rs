//! Files that only their owner may read.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::OFlags;
use zeroize::Zeroizing;

use super::SecretError;

/// Longest file of secrets, in bytes: eight lines and room for comments.
pub(super) const FILE_BYTES_LIMIT: u64 = 16 * 1024;

/// Reads a text file after checking, on the open file, that nobody else may read or change it.
pub(super) fn read_private(path: &Path) -> Result<Zeroizing<String>, SecretError> {
    let file = File::open(path).map_err(SecretError::Read)?;
    let mode = file.metadata().map_err(SecretError::Read)?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(SecretError::Permissions { mode });
    }
    let mut text = Zeroizing::new(String::new());
    file.take(FILE_BYTES_LIMIT + 1).read_to_string(&mut text).map_err(SecretError::Read)?;
    if text.len() as u64 > FILE_BYTES_LIMIT {
        return Err(SecretError::TooLong);
    }
    Ok(text)
}

/// Writes a new file with mode 0600 and waits until it and its directory entry are on disk.
pub(super) fn write_private(path: &Path, bytes: &[u8]) -> Result<(), SecretError> {
    let mut file = create_private(path)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(SecretError::Write)?;
    sync_directory(path)
}

/// Puts new content in the place of a file: beside it first, then by renaming, so that a crash leaves the old or the new one.
///
/// Root may do this in a directory of the node's user, who may put links there at any moment: no name is followed, and what is
/// changed is changed on the open file.
pub(super) fn replace_private(path: &Path, bytes: &[u8]) -> Result<(), SecretError> {
    let owner = std::fs::symlink_metadata(path).map_err(SecretError::Read)?;
    // Renaming would cut the link off, and leave the old secret where it leads to.
    if !owner.file_type().is_file() {
        return Err(SecretError::NoFile);
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = Path::new(&beside);
    // What a crash left half written; its content was never in use.
    match std::fs::remove_file(beside) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(SecretError::Write(error)),
        _ => {}
    }
    let mut new = create_private(beside)?;
    let replaced = fill(&mut new, &owner, bytes).and_then(|()| put_in_place(&new, beside, path));
    if replaced.is_err() {
        // Whatever else stands there now was never in use either.
        let _gone = std::fs::remove_file(beside);
    }
    replaced?;
    sync_directory(path)
}

/// Whoever may read the old file may read the new one: the node's user, also when root rotates.
fn fill(new: &mut File, owner: &Metadata, bytes: &[u8]) -> Result<(), SecretError> {
    let made = new.metadata().map_err(SecretError::Write)?;
    if (made.uid(), made.gid()) != (owner.uid(), owner.gid()) {
        std::os::unix::fs::fchown(&*new, Some(owner.uid()), Some(owner.gid())).map_err(SecretError::Write)?;
    }
    new.write_all(bytes).and_then(|()| new.sync_all()).map_err(SecretError::Write)
}

/// Renames `beside`, as long as that is still the file which was written.
pub(super) fn put_in_place(new: &File, beside: &Path, path: &Path) -> Result<(), SecretError> {
    let (here, written) = (std::fs::symlink_metadata(beside), new.metadata());
    let (here, written) = (here.map_err(SecretError::Write)?, written.map_err(SecretError::Write)?);
    if (here.dev(), here.ino()) != (written.dev(), written.ino()) {
        return Err(SecretError::Swapped);
    }
    std::fs::rename(beside, path).map_err(SecretError::Write)
}

/// A file with mode 0600 that was not there before, under this very name.
pub(super) fn create_private(path: &Path) -> Result<File, SecretError> {
    let no_link = OFlags::NOFOLLOW.bits().cast_signed();
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).custom_flags(no_link);
    options.open(path).map_err(SecretError::Write)
}

fn sync_directory(path: &Path) -> Result<(), SecretError> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(SecretError::Write)
}
