//! The command line's part of the configuration.

use std::path::PathBuf;

/// Flags of every command that needs the configuration. They win over the environment and the file.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ConfigArgs {
    /// The configuration file [default: ./mosaic.toml, if it exists]
    #[arg(long, value_name = "FILE", env = "MOSAIC_CONFIG", global = true, help_heading = "Configuration")]
    pub config: Option<PathBuf>,
    /// Any configuration key, as in mosaic.toml: --set limits.page_cap=100
    #[arg(long, value_name = "KEY=VALUE", global = true, help_heading = "Configuration")]
    pub set: Vec<String>,
    /// What this site calls itself
    #[arg(long, value_name = "NAME", global = true, help_heading = "Configuration")]
    pub site: Option<String>,
    /// local, standalone or federated
    #[arg(long, value_name = "TIER", global = true, help_heading = "Configuration")]
    pub tier: Option<String>,
    /// Keys, tokens and the database of tier local
    #[arg(long, value_name = "DIR", global = true, help_heading = "Configuration")]
    pub state_dir: Option<String>,
    /// Where sessions and admins connect [default: 127.0.0.1:8640]
    #[arg(long, value_name = "ADDRESS", global = true, help_heading = "Configuration")]
    pub api_listen: Option<String>,
    /// Where other sites ask [default: 0.0.0.0:8643]
    #[arg(long, value_name = "ADDRESS", global = true, help_heading = "Configuration")]
    pub federation_listen: Option<String>,
    /// Where other sites enrol [default: 0.0.0.0:8644]
    #[arg(long, value_name = "ADDRESS", global = true, help_heading = "Configuration")]
    pub enrollment_listen: Option<String>,
    /// human or json
    #[arg(long, value_name = "FORMAT", global = true, help_heading = "Configuration")]
    pub log_format: Option<String>,
    /// Log levels, such as 'info' or 'mosaic=debug,warn'
    #[arg(long, value_name = "FILTER", global = true, help_heading = "Configuration")]
    pub log_filter: Option<String>,
}

impl ConfigArgs {
    /// Key, value and the flag as typed, in the order in which later ones win.
    pub(super) fn values(&self) -> Vec<(String, String, String)> {
        let named = [
            ("site", "--site", &self.site),
            ("tier", "--tier", &self.tier),
            ("state_dir", "--state-dir", &self.state_dir),
            ("api.listen", "--api-listen", &self.api_listen),
            ("federation.listen", "--federation-listen", &self.federation_listen),
            ("enrollment.listen", "--enrollment-listen", &self.enrollment_listen),
            ("log.format", "--log-format", &self.log_format),
            ("log.filter", "--log-filter", &self.log_filter),
        ];
        let set = self.set.iter().map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (key.trim().to_owned(), value.to_owned(), format!("--set {}", key.trim()))
        });
        let named = named.into_iter().filter_map(|(key, flag, value)| {
            value.as_ref().map(|value| (key.to_owned(), value.clone(), flag.to_owned()))
        });
        set.chain(named).collect()
    }
}
