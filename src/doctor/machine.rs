//! What the machine gives: directory, secret, server binaries, limits of the process.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};
use secrecy::ExposeSecret;

use super::Probe;
use crate::config::{Config, MasterSecretSource};
use crate::postgres::database::embedded_options;
use crate::postgres::embedded;
use crate::secrets::MasterSecret;

/// Less room than this, and the database of tier `local` soon stops writing.
const SPACE_YELLOW_BYTES: u64 = 1 << 30;
const SPACE_RED_BYTES: u64 = 64 << 20;

/// Connections are files. Below this a busy node runs out of them before it runs out of anything else.
const OPEN_FILES: u64 = 4_096;

pub(super) fn configuration(config: &Config) -> Probe {
    let from = config.file.as_ref().map_or("environment and flags only".to_owned(), |file| file.display().to_string());
    Probe::green("configuration", format!("site {}, tier {}, from {from}", config.site, config.tier.as_str()))
}

/// In the order in which a start needs them.
pub(super) fn probes(config: &Config) -> Vec<Probe> {
    let mut probes = vec![state_directory(&config.state_dir)];
    if config.state_dir.is_dir() {
        probes.extend(space(&config.state_dir));
    }
    probes.push(master_secret(config));
    probes.extend(server_binaries(config));
    probes.push(open_files());
    probes.push(core_dumps());
    probes
}

fn state_directory(directory: &Path) -> Probe {
    const NAME: &str = "state directory";
    let shown = directory.display();
    let metadata = match fs::metadata(directory) {
        Ok(metadata) if metadata.is_dir() => metadata,
        Ok(_) => {
            return Probe::red(
                NAME,
                format!("{shown} is not a directory"),
                "choose another state_dir, or move it away",
            );
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Probe::red(NAME, format!("{shown} does not exist"), "make it, with its keys: mosaic gateway init");
        }
        Err(error) => {
            return Probe::red(NAME, format!("{shown}: {error}"), "let this user enter the directories above it");
        }
    };
    if metadata.mode() & 0o022 != 0 {
        let detail = format!("others may write to {shown} (mode {:04o})", metadata.mode() & 0o7777);
        return Probe::red(NAME, detail, format!("chmod go-w {shown}"));
    }
    if let Err(error) = try_write(directory) {
        let remedy = format!("give it to the node's user: chown -R <user> {shown}");
        return Probe::red(NAME, format!("{shown} cannot be written to: {error}"), remedy);
    }
    Probe::green(NAME, shown.to_string())
}

fn try_write(directory: &Path) -> std::io::Result<()> {
    let file = directory.join(format!(".doctor-{}", std::process::id()));
    fs::write(&file, b"")?;
    fs::remove_file(&file)
}

fn space(directory: &Path) -> Option<Probe> {
    let volume = rustix::fs::statvfs(directory).ok()?;
    let free = volume.f_bavail.saturating_mul(volume.f_frsize);
    let detail = format!("{} MiB free", free >> 20);
    let remedy = format!("make room on the volume of {}", directory.display());
    Some(if free < SPACE_RED_BYTES {
        Probe::red("disk", detail, remedy)
    } else if free < SPACE_YELLOW_BYTES {
        Probe::yellow("disk", detail, remedy)
    } else {
        Probe::green("disk", detail)
    })
}

fn master_secret(config: &Config) -> Probe {
    const NAME: &str = "master secret";
    match &config.master_secret {
        MasterSecretSource::Given(text) => match MasterSecret::parse(text.expose_secret()) {
            Ok(_) => Probe::green(NAME, "from the environment"),
            Err(error) => Probe::red(NAME, error.to_string(), "set MOSAIC_MASTER_SECRET to: openssl rand -base64 32"),
        },
        MasterSecretSource::File(file) => match MasterSecret::load(file) {
            Ok(_) => Probe::green(NAME, file.display().to_string()),
            Err(error) if !file.exists() => {
                let remedy = "make it: mosaic gateway init; if this site existed before, restore it from a backup";
                Probe::red(NAME, format!("{}: {error}", file.display()), remedy)
            }
            Err(error) => {
                let remedy =
                    format!("chmod 600 {0}, owned by the node's user; or restore it from a backup", file.display());
                Probe::red(NAME, format!("{}: {error}", file.display()), remedy)
            }
        },
    }
}

fn server_binaries(config: &Config) -> Option<Probe> {
    const NAME: &str = "server binaries";
    let options = embedded_options(config)?;
    Some(match embedded::check_installation(&options) {
        Ok(found) => Probe::green(NAME, format!("PostgreSQL {} in {}", found.major(), found.directory().display())),
        Err(error) => {
            let remedy = error.remedy();
            Probe::red(NAME, error.to_string(), remedy)
        }
    })
}

fn open_files() -> Probe {
    const NAME: &str = "open files";
    match getrlimit(Resource::Nofile).current {
        Some(limit) if limit < OPEN_FILES => {
            let remedy = format!("ulimit -n {OPEN_FILES}, or LimitNOFILE={OPEN_FILES} in the systemd unit");
            Probe::yellow(NAME, format!("at most {limit}: every connection is one"), remedy)
        }
        Some(limit) => Probe::green(NAME, format!("at most {limit}")),
        None => Probe::green(NAME, "no limit"),
    }
}

/// A note only: the node turns them off for itself, whatever the shell allows.
fn core_dumps() -> Probe {
    let detail = match getrlimit(Resource::Core).current {
        Some(0) => "off",
        _ => "allowed here; the node turns them off for itself, so that no key lands on disk",
    };
    Probe::green("core dumps", detail)
}

/// As many open files as the hard limit allows: shells set a low soft one for programs that use select(2), which this one does not.
pub fn open_files_up() -> std::io::Result<()> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return Ok(());
    }
    Ok(setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?)
}

/// Turns core dumps off for this process and its children: they would hold keys and foreign rows. Nor may other processes of
/// the same user attach to this one or read its memory and environment (`PR_SET_DUMPABLE`, which also a crash handler that
/// `core_pattern` pipes to respects; the limit alone it ignores).
pub fn core_dumps_off() -> std::io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_turned_core_dumps_off_has_no_limit_to_raise_and_cannot_be_attached_to() {
        core_dumps_off().unwrap();
        let limit = getrlimit(Resource::Core);
        assert_eq!((limit.current, limit.maximum), (Some(0), Some(0)));
        assert_eq!(rustix::process::dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
    }
}
