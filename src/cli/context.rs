//! What every command shares: where the node is, and with which token to ask.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use url::Url;

use super::node::{Node, TokenKind};
use super::outcome::Failure;
use crate::config::{Config, ConfigArgs, Surroundings};
use crate::wire::admin_v1::TokenKindV1;

/// Stands behind a command's own options in its help.
const EVERYWHERE: &str = "Everywhere";

/// Options of every command.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Global {
    /// Answer with one JSON document
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    pub(crate) json: bool,
    /// The node's API [default: api.listen of the configuration]
    #[arg(long, global = true, help_heading = EVERYWHERE, env = "MOSAIC_API_URL", value_name = "URL", value_parser = parse_api)]
    pub(crate) api: Option<Url>,
    /// Admin token [default: admin.token in the state directory]
    #[arg(long, global = true, help_heading = EVERYWHERE, env = "MOSAIC_ADMIN_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub(crate) admin_token: Option<String>,
    /// Session token [default: session.token in the state directory]
    #[arg(long, global = true, help_heading = EVERYWHERE, env = "MOSAIC_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub(crate) token: Option<String>,
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
}

pub(crate) struct Context {
    global: Global,
    around: Surroundings,
}

impl Context {
    #[must_use]
    pub(crate) fn new(global: Global) -> Self {
        Self { global, around: Surroundings::of_this_process() }
    }

    #[must_use]
    pub(crate) fn json(&self) -> bool {
        self.global.json
    }

    /// Columns to fit tables into.
    #[must_use]
    pub(crate) fn terminal(&self) -> Option<usize> {
        super::terminal::width()
    }

    #[must_use]
    pub(crate) fn around(&self) -> &Surroundings {
        &self.around
    }

    #[must_use]
    pub(crate) fn config_args(&self) -> &ConfigArgs {
        &self.global.config
    }

    /// The configuration, complete and checked.
    pub(crate) fn config(&self) -> Result<Config, Failure> {
        Config::load_in(&self.global.config, &self.around).map_err(|errors| Failure::failed(errors.to_string()))
    }

    /// The node, asked as an admin.
    pub(crate) fn admin(&self) -> Result<Node, Failure> {
        let token = match &self.global.admin_token {
            Some(token) => token.clone(),
            None => read_token(
                &self.reachable_config()?.admin_token_file(),
                "an admin",
                "--admin-token",
                "MOSAIC_ADMIN_TOKEN",
            )?,
        };
        Node::new(self.api()?, TokenKind::Admin, token, &self.api_roots())
    }

    /// The node, asked as a session.
    pub(crate) fn session(&self) -> Result<Node, Failure> {
        let token = match &self.global.token {
            Some(token) => token.clone(),
            None => read_token(&self.reachable_config()?.session_token_file(), "a session", "--token", "MOSAIC_TOKEN")
                .map_err(|failure| failure.remedy("make one with: mosaic token create --user <name> --save"))?,
        };
        Node::new(self.api()?, TokenKind::Session, token, &self.api_roots())
    }

    /// Keeps a token for the commands that follow.
    pub(crate) fn save_token(&self, kind: TokenKindV1, token: &str) -> Result<PathBuf, Failure> {
        let config = self.reachable_config()?;
        let file = match kind {
            TokenKindV1::Admin => config.admin_token_file(),
            TokenKindV1::Session => config.session_token_file(),
        };
        write_private(&file, &format!("{token}\n"))
            .map_err(|e| Failure::failed(format!("{}: cannot write it: {e}", file.display())))?;
        Ok(file)
    }

    fn api(&self) -> Result<Url, Failure> {
        if let Some(url) = &self.global.api {
            return Ok(url.clone());
        }
        let config = self.reachable_config()?;
        parse_api(&config.api_url(config.api.listen)).map_err(Failure::failed)
    }

    /// The node's own certificate counts beside the system's roots: whoever can read its configuration need not be told twice.
    fn api_roots(&self) -> Vec<u8> {
        let tls = self.config().ok().and_then(|config| config.api.tls);
        tls.and_then(|tls| std::fs::read(tls.certificate).ok()).unwrap_or_default()
    }

    /// The configuration of a node that commands want to reach; when there is none, other ways to say where it is.
    fn reachable_config(&self) -> Result<Config, Failure> {
        self.config().map_err(|failure| {
            failure.remedy("name the configuration with --config or MOSAIC_CONFIG, or give --api with a token")
        })
    }
}

/// `http://host:port`; a bare `host:port` means plain HTTP.
fn parse_api(text: &str) -> Result<Url, String> {
    let full = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let url = Url::parse(&full).map_err(|e| format!("'{text}' is not the address of an API: {e}"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() || !url.username().is_empty() {
        return Err(format!("'{text}' is not the address of an API; write http://127.0.0.1:8640"));
    }
    Ok(url)
}

fn read_token(file: &Path, whose: &str, flag: &str, variable: &str) -> Result<String, Failure> {
    let text = std::fs::read_to_string(file).map_err(|e| {
        Failure::misused(format!("{whose}'s token is needed: {}: {e}", file.display()))
            .remedy(format!("give one with {flag} or {variable}"))
    })?;
    let token = text.trim();
    if token.is_empty() {
        return Err(Failure::misused(format!("{} holds no token", file.display())));
    }
    Ok(token.to_owned())
}

/// Writes a file that only its owner can read, whole or not at all.
pub(crate) fn write_private(file: &Path, text: &str) -> std::io::Result<()> {
    let beside = file.with_extension("new");
    let _ = std::fs::remove_file(&beside);
    let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    out.write_all(text.as_bytes())?;
    out.sync_all()?;
    std::fs::rename(&beside, file)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn an_api_address_has_a_scheme_or_means_plain_http() {
        assert_eq!(parse_api("127.0.0.1:8640").unwrap().as_str(), "http://127.0.0.1:8640/");
        assert_eq!(parse_api("https://node.example").unwrap().as_str(), "https://node.example/");
        for bad in ["", "ftp://x", "http://user@x", "unix:///x"] {
            assert!(parse_api(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_token_is_kept_where_only_its_owner_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("session.token");
        write_private(&file, "one\n").unwrap();
        write_private(&file, "two\n").unwrap();
        assert_eq!(read_token(&file, "a session", "--token", "MOSAIC_TOKEN"), Ok("two".to_owned()));
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let missing = read_token(&dir.path().join("none"), "a session", "--token", "MOSAIC_TOKEN").unwrap_err();
        assert_eq!(missing.exit_code(), 2);
    }
}
