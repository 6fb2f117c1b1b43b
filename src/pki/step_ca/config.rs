//! What a node is told about its step-ca.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use url::Url;
use zeroize::Zeroizing;

use super::error::StepCaError;

/// Longest password file, in bytes.
const PASSWORD_BYTES_LIMIT: u64 = 4 * 1024;

/// How long one request to the authority may take, unless told otherwise: it is on the same network, signing takes
/// milliseconds, and an asker waits meanwhile.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);

/// The name of the provisioner that `compose/step-ca/init` makes.
pub const DEFAULT_PROVISIONER: &str = "mosaic";

/// Section `[ca]` of the configuration with `kind = "step-ca"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepCaConfig {
    /// `ca.url`: where step-ca answers. `https`, a host that stands among the `dnsNames` of its ca.json, no path.
    pub url: Url,
    /// `ca.root_sha256`: SHA-256 of the root's DER, as `step certificate fingerprint root_ca.crt` prints it.
    pub root_sha256: [u8; 32],
    /// `ca.root_file`: PEM of the root. With it the node starts while the authority is down; without it the root is fetched
    /// at every start. Either way it must have the fingerprint above.
    pub root_file: Option<PathBuf>,
    /// `ca.provisioner`: name of the JWK provisioner whose template writes the identity extensions.
    pub provisioner: Box<str>,
    /// `ca.password_file`: password of the provisioner's key, readable by the node's user only. White space at its end
    /// does not count.
    pub password_file: PathBuf,
    /// `ca.provisioner_key_file`: the provisioner's encrypted key (a compact JWE), for an authority that does not hand it out at
    /// `/provisioners`.
    pub provisioner_key_file: Option<PathBuf>,
    /// `limits.ca_request_ms`: for each request to the authority.
    pub timeout: Duration,
}

impl StepCaConfig {
    /// Checks what can be checked without the network.
    pub fn check(&self) -> Result<(), StepCaError> {
        let wrong = |what: &str| Err(StepCaError::Config(what.into()));
        if self.url.scheme() != "https" {
            return wrong("ca.url must start with https://");
        }
        let bare = self.url.username().is_empty()
            && self.url.password().is_none()
            && self.url.path() == "/"
            && self.url.query().is_none()
            && self.url.fragment().is_none();
        if self.url.host_str().is_none() || !bare {
            return wrong("ca.url must be https://<host>[:<port>] and nothing else");
        }
        if self.provisioner.is_empty() {
            return wrong("ca.provisioner is empty");
        }
        Ok(())
    }

    /// Whether the files are there and private: for whoever sets a node up, before anything is started.
    pub fn check_files(&self) -> Result<(), StepCaError> {
        self.read_password().map(drop)?;
        match &self.root_file {
            Some(path) => super::root::read(path, &self.root_sha256).map(drop),
            None => Ok(()),
        }
    }

    pub(super) fn read_password(&self) -> Result<Password, StepCaError> {
        read_password(&self.password_file)
            .map_err(|reason| StepCaError::PasswordFile { path: self.password_file.clone(), reason })
    }
}

/// SHA-256 in hex, colons and upper case allowed.
#[must_use]
pub fn parse_fingerprint(text: &str) -> Option<[u8; 32]> {
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b':').collect();
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let bytes = digits.chunks(2).map(|pair| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    });
    bytes.collect::<Option<Vec<u8>>>()?.try_into().ok()
}

/// A password: wiped when dropped, never shown.
pub(super) struct Password(Zeroizing<Vec<u8>>);

impl Password {
    pub(super) fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password")
    }
}

fn read_password(path: &Path) -> Result<Password, Box<str>> {
    let cannot = |error: std::io::Error| Box::<str>::from(format!("cannot be read: {error}"));
    let file = File::open(path).map_err(cannot)?;
    let mode = file.metadata().map_err(cannot)?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(format!("can be read by others (mode {mode:04o})").into());
    }
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(PASSWORD_BYTES_LIMIT + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > PASSWORD_BYTES_LIMIT {
        return Err(format!("is longer than {PASSWORD_BYTES_LIMIT} bytes").into());
    }
    // As step reads its password files.
    let length = bytes.trim_ascii_end().len();
    bytes.truncate(length);
    if bytes.is_empty() { Err("is empty".into()) } else { Ok(Password(bytes)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(url: &str) -> StepCaConfig {
        StepCaConfig {
            url: Url::parse(url).unwrap(),
            root_sha256: [0; 32],
            root_file: None,
            provisioner: DEFAULT_PROVISIONER.into(),
            password_file: PathBuf::from("/nonexistent"),
            provisioner_key_file: None,
            timeout: DEFAULT_TIMEOUT,
        }
    }

    #[test]
    fn only_a_bare_https_address_is_taken() {
        assert_eq!(config("https://ca.example:9000").check(), Ok(()));
        assert_eq!(config("https://[::1]/").check(), Ok(()));
        for bad in ["http://ca.example", "https://u@ca.example", "https://ca.example/x", "https://ca.example/?q"] {
            assert!(matches!(config(bad).check(), Err(StepCaError::Config(_))), "{bad}");
        }
    }

    #[test]
    fn fingerprints_come_as_tools_print_them() {
        let plain = "ab".repeat(32);
        assert_eq!(parse_fingerprint(&plain), Some([0xab; 32]));
        assert_eq!(parse_fingerprint(&vec!["AB"; 32].join(":")), Some([0xab; 32]));
        for bad in ["", "ab", &"ab".repeat(33), &"ax".repeat(32), &plain[1..]] {
            assert_eq!(parse_fingerprint(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_password_file_is_private_and_its_last_newline_does_not_count() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("password");
        let with = |text: &str, mode: u32| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            read_password(&path).map(|password| password.expose().to_vec())
        };
        assert_eq!(with("s3cret \n", 0o600), Ok(b"s3cret".to_vec()));
        assert_eq!(with(" \n", 0o400), Err("is empty".into()));
        assert_eq!(with("s3cret", 0o640), Err("can be read by others (mode 0640)".into()));
        assert!(with(&"x".repeat(5000), 0o600).is_err());
        assert!(read_password(Path::new("/nonexistent")).is_err());
    }
}
