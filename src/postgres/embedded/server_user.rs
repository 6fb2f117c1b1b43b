//! As whom the server runs. Postgres refuses to run as root, so a node that is root drops to the user `postgres`.

use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::EmbeddedError;

/// The user and group of the server, when it is not our own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerUser {
    pub uid: u32,
    pub gid: u32,
}

const NAME: &str = "postgres";

impl ServerUser {
    /// `None` when this process is not root: then the server runs as we do.
    pub fn needed() -> Result<Option<Self>, EmbeddedError> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let accounts = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        parse_account(&accounts, NAME).map(Some).ok_or(EmbeddedError::NoServerUser)
    }

    /// Hands a file or directory over.
    pub fn own(self, path: &Path) -> std::io::Result<()> {
        std::os::unix::fs::chown(path, Some(self.uid), Some(self.gid))
    }

    /// The first directory on the way to `path` that this user may not enter.
    #[must_use]
    pub fn barred_from(self, path: &Path) -> Option<PathBuf> {
        let mut ancestors: Vec<&Path> = path.ancestors().filter(|ancestor| !ancestor.as_os_str().is_empty()).collect();
        ancestors.reverse();
        ancestors.into_iter().find(|ancestor| !self.may_enter(ancestor)).map(Path::to_owned)
    }

    fn may_enter(self, directory: &Path) -> bool {
        // What does not exist yet is made by us, with the right mode.
        let Ok(metadata) = std::fs::metadata(directory) else { return true };
        let bit = match (metadata.uid() == self.uid, metadata.gid() == self.gid) {
            (true, _) => 0o100,
            (false, true) => 0o010,
            (false, false) => 0o001,
        };
        metadata.mode() & bit != 0
    }
}

fn parse_account(accounts: &str, name: &str) -> Option<ServerUser> {
    let line = accounts.lines().find(|line| line.split(':').next() == Some(name))?;
    let mut fields = line.split(':').skip(2);
    Some(ServerUser { uid: fields.next()?.parse().ok()?, gid: fields.next()?.parse().ok()? })
}

/// A command that runs as `user` in an empty environment, away from our terminal's signals. With `ends_with_us` the
/// kernel sends it SIGINT (a fast shutdown) when the thread that spawned it dies, so also on `kill -9` of this process.
pub(super) fn command(program: &Path, user: Option<ServerUser>, ends_with_us: bool) -> Command {
    let mut command = match setpriv().filter(|_| ends_with_us) {
        Some(setpriv) => through_setpriv(setpriv, program, user),
        None => {
            let mut command = Command::new(program);
            if let Some(user) = user {
                command.uid(user.uid).gid(user.gid);
            }
            command
        }
    };
    command.env_clear().env("TZ", "UTC").env("LC_ALL", "C").current_dir("/").process_group(0);
    command
}

fn through_setpriv(setpriv: &Path, program: &Path, user: Option<ServerUser>) -> Command {
    let mut command = Command::new(setpriv);
    command.args(["--pdeathsig", "INT"]);
    if let Some(user) = user {
        command.arg(format!("--reuid={}", user.uid)).arg(format!("--regid={}", user.gid)).arg("--clear-groups");
    }
    command.arg("--").arg(program);
    command
}

/// util-linux's `setpriv`; busybox has one that lacks the option.
fn setpriv() -> Option<&'static Path> {
    static FOUND: std::sync::OnceLock<Option<PathBuf>> = std::sync::OnceLock::new();
    let able = |path: &PathBuf| {
        let help = Command::new(path).arg("--help").output();
        help.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("--pdeathsig"))
    };
    FOUND.get_or_init(|| ["/usr/bin/setpriv", "/bin/setpriv"].into_iter().map(PathBuf::from).find(able)).as_deref()
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn an_account_is_found_by_its_whole_name() {
        let accounts =
            "root:x:0:0:root:/root:/bin/sh\npostgresql:x:7:7::/:\npostgres:x:101:104:admin:/var/lib:/bin/sh\n";
        assert_eq!(parse_account(accounts, "postgres"), Some(ServerUser { uid: 101, gid: 104 }));
        assert_eq!(parse_account(accounts, "nobody"), None);
    }

    #[test]
    fn the_first_closed_directory_on_the_way_is_named() {
        let top = tempfile::tempdir().unwrap();
        std::fs::set_permissions(top.path(), Permissions::from_mode(0o711)).unwrap();
        let closed = top.path().join("closed");
        std::fs::create_dir(&closed).unwrap();
        std::fs::set_permissions(&closed, Permissions::from_mode(0o700)).unwrap();
        let stranger = ServerUser { uid: 4_000_001, gid: 4_000_001 };
        assert_eq!(stranger.barred_from(&closed.join("state")), Some(closed));
        assert_eq!(stranger.barred_from(&top.path().join("new")), None);
    }
}
