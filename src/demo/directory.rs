//! Where the demo keeps its two sites.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::report::Report;
use crate::cli::context::write_private;
use crate::cli::outcome::Failure;

/// Written when everything is set up: what a second demo in the same directory needs to know.
const REPORT: &str = "demo.json";

/// A directory with a subdirectory per site. A temporary one is removed when this value is dropped.
pub(super) struct DemoDirectory {
    path: PathBuf,
    temporary: bool,
}

impl DemoDirectory {
    pub(super) fn open(kept: Option<PathBuf>) -> Result<Self, Failure> {
        let temporary = kept.is_none();
        let path = match kept {
            Some(path) => std::path::absolute(&path).map_err(|e| failed(&path, &e))?,
            None => {
                std::env::temp_dir().join(format!("mosaic-demo-{}", &uuid::Uuid::new_v4().simple().to_string()[..12]))
            }
        };
        if temporary {
            std::fs::create_dir(&path).map_err(|e| failed(&path, &e))?;
        } else {
            std::fs::create_dir_all(&path).map_err(|e| failed(&path, &e))?;
        }
        let directory = Self { path, temporary };
        // As root the databases run as another user, who must be able to pass through; nobody can list it.
        std::fs::set_permissions(&directory.path, Permissions::from_mode(0o711))
            .map_err(|e| failed(&directory.path, &e))?;
        Ok(directory)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn is_temporary(&self) -> bool {
        self.temporary
    }

    pub(super) fn site(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// What an earlier demo set up here; a half-finished one cannot be used again.
    pub(super) fn earlier_report(&self) -> Result<Option<Report>, Failure> {
        let file = self.path.join(REPORT);
        match std::fs::read(&file) {
            Ok(json) => serde_json::from_slice(&json).map(Some).map_err(|e| {
                Failure::failed(format!("{}: {e}", file.display()))
                    .remedy("remove the directory, or choose another --dir")
            }),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(failed(&file, &e)),
        }
    }

    pub(super) fn keep_report(&self, report: &Report) -> Result<(), Failure> {
        let file = self.path.join(REPORT);
        let json = serde_json::to_string_pretty(report).expect("invariant: a report is JSON");
        write_private(&file, &json).map_err(|e| failed(&file, &e))
    }
}

impl Drop for DemoDirectory {
    fn drop(&mut self) {
        if self.temporary {
            // Best effort: a node that is still ending may hold a file; the system clears its temporary directory.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

fn failed(path: &Path, error: &std::io::Error) -> Failure {
    Failure::failed(format!("{}: {error}", path.display()))
}
