//! Finding installed server binaries.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::EmbeddedError;

/// Oldest server that the node's SQL is written for.
pub const OLDEST_MAJOR: u32 = 14;

/// Where packages put server binaries without adding them to the path: Debian and Ubuntu, then the PGDG packages for
/// Fedora and its relatives. Each is `<parent>/<something with the major version>/bin`.
const PACKAGE_DIRECTORIES: [(&str, &str); 2] = [("/usr/lib/postgresql", ""), ("/usr", "pgsql-")];

/// A directory with `postgres` and `initdb` of one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerBinaries {
    directory: PathBuf,
    major: u32,
}

impl ServerBinaries {
    /// The binaries to use: those of `configured`, or else the first on `search_path`, or else the newest package. When
    /// `wanted` is given (an existing data directory's version), only that version will do.
    pub fn find(
        configured: Option<&Path>,
        search_path: Option<&OsStr>,
        wanted: Option<u32>,
    ) -> Result<Self, EmbeddedError> {
        let candidates = match configured {
            Some(directory) => {
                vec![Self::at(directory).ok_or_else(|| EmbeddedError::NoBinariesIn(directory.to_owned()))?]
            }
            None => installed(search_path),
        };
        if candidates.is_empty() {
            return Err(EmbeddedError::NoBinaries);
        }
        let newest = candidates[0].major;
        match wanted {
            Some(data) => candidates
                .into_iter()
                .find(|binaries| binaries.major == data)
                .ok_or(EmbeddedError::OtherMajor { data, binaries: newest }),
            None => candidates
                .into_iter()
                .find(|binaries| binaries.major >= OLDEST_MAJOR)
                .ok_or(EmbeddedError::TooOld { found: newest }),
        }
    }

    /// `None` when the directory lacks one of the binaries, or they do not run.
    fn at(directory: &Path) -> Option<Self> {
        let directory = directory.canonicalize().ok()?;
        if !directory.join("initdb").is_file() {
            return None;
        }
        let output = Command::new(directory.join("postgres")).arg("--version").output().ok()?;
        let major = parse_major(&String::from_utf8_lossy(&output.stdout))?;
        Some(Self { directory, major })
    }

    #[must_use]
    pub fn major(&self) -> u32 {
        self.major
    }

    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

/// Every installation, in order of preference.
fn installed(search_path: Option<&OsStr>) -> Vec<ServerBinaries> {
    let mut found: Vec<ServerBinaries> = search_path
        .map(std::env::split_paths)
        .into_iter()
        .flatten()
        .filter_map(|dir| ServerBinaries::at(&dir))
        .collect();
    let mut packaged: Vec<ServerBinaries> = PACKAGE_DIRECTORIES
        .into_iter()
        .flat_map(|(parent, prefix)| children(Path::new(parent), prefix))
        .filter_map(|directory| ServerBinaries::at(&directory.join("bin")))
        .collect();
    packaged.sort_by_key(|binaries| std::cmp::Reverse(binaries.major));
    found.extend(packaged);
    found
}

fn children(parent: &Path, prefix: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(parent) else { return Vec::new() };
    let has_version =
        |name: &str| name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    entries.flatten().filter(|entry| entry.file_name().to_str().is_some_and(has_version)).map(|e| e.path()).collect()
}

/// `postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)` → 15.
fn parse_major(version: &str) -> Option<u32> {
    let number = version.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    number.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_read_from_every_spelling() {
        assert_eq!(parse_major("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)"), Some(15));
        assert_eq!(parse_major("postgres (PostgreSQL) 17beta2"), Some(17));
        assert_eq!(parse_major("postgres (EnterpriseDB) nothing"), None);
    }

    #[test]
    fn a_configured_directory_without_binaries_is_named_and_nothing_else_is_tried() {
        let empty = tempfile::tempdir().unwrap();
        let error = ServerBinaries::find(Some(empty.path()), None, None).unwrap_err();
        assert!(matches!(error, EmbeddedError::NoBinariesIn(directory) if directory == empty.path()));
    }

    #[test]
    fn a_data_directory_of_another_version_is_refused_with_both_versions() {
        let installed = ServerBinaries::find(None, None, None).unwrap();
        let error = ServerBinaries::find(Some(installed.directory()), None, Some(9)).unwrap_err();
        assert!(matches!(error, EmbeddedError::OtherMajor { data: 9, binaries } if binaries == installed.major()));
    }
}
