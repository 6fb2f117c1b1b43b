//! What a node needs, looked at one by one: `mosaic gateway doctor`, and the same at boot.
//!
//! A probe changes nothing and shows no secret. Green: there. Yellow: the node works, but somebody should know. Red: the node
//! cannot work; the remedy says what to do. At boot the first red one ends the start.

use std::fmt;
use std::sync::Arc;

use mosaic_actors::ports::clock::Clock;
use serde::Serialize;

use crate::config::{CaKind, Config, ConfigErrors, Tier};
use crate::postgres::database;
use crate::postgres::pool::DatabaseUrl;

mod authority_probes;
mod database_probes;
mod listeners;
mod machine;
mod redis_probes;
mod rotation_probe;
#[cfg(test)]
mod tests;

pub use machine::{core_dumps_off, open_files_up};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Green,
    Yellow,
    Red,
}

impl Status {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Green => "green",
            Self::Yellow => "yellow",
            Self::Red => "red",
        }
    }
}

/// One dependency, looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Probe {
    pub name: &'static str,
    pub status: Status,
    /// What was seen.
    pub detail: String,
    /// What to do, for yellow and red.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Probe {
    fn green(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, status: Status::Green, detail: detail.into(), remedy: None }
    }

    fn yellow(name: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, status: Status::Yellow, detail: detail.into(), remedy: Some(remedy.into()) }
    }

    fn red(name: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, status: Status::Red, detail: detail.into(), remedy: Some(remedy.into()) }
    }
}

/// Everything that doctor saw. As JSON: `{"site","tier","ok","serving","probes":[{"name","status","detail","remedy"?}]}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Absent when the configuration cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<&'static str>,
    /// Nothing is red.
    pub ok: bool,
    /// This very node serves at the moment.
    pub serving: bool,
    pub probes: Vec<Probe>,
}

impl Report {
    /// A configuration that cannot be read, as a report: one red probe per problem, and nothing else can be looked at.
    #[must_use]
    pub fn of_bad_configuration(errors: &ConfigErrors) -> Self {
        let probes = errors.problems.iter().map(|problem| {
            let detail = format!("{}: {} {}", problem.origin, problem.key, problem.what);
            Probe::red("configuration", detail, &*problem.remedy)
        });
        Self { site: None, tier: None, ok: false, serving: false, probes: probes.collect() }
    }
}

/// The table for people.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.probes.iter().map(|probe| probe.name.len()).max().unwrap_or(0);
        for probe in &self.probes {
            writeln!(f, "{:<6}  {:<width$}  {}", probe.status.as_str(), probe.name, probe.detail)?;
            if let Some(remedy) = &probe.remedy {
                writeln!(f, "{:<6}  {:<width$}  remedy: {remedy}", "", "")?;
            }
        }
        let count = |status| self.probes.iter().filter(|probe| probe.status == status).count();
        let serving = if self.serving { "; this node is serving" } else { "" };
        write!(f, "{} red, {} yellow{serving}", count(Status::Red), count(Status::Yellow))
    }
}

/// Looks at everything that the tier needs, whether the node serves or not. Starts nothing.
pub async fn examine(config: &Config, clock: &Arc<dyn Clock>) -> Report {
    let mut probes = vec![machine::configuration(config)];
    probes.extend(machine::probes(config));
    let mut root = None;
    match database::reachable_url(config) {
        Ok(Some(url)) => {
            let seen = database_probes::probes(config, &url, clock).await;
            root = seen.root;
            probes.extend(seen.probes);
        }
        Ok(None) => probes.push(database_probes::embedded_at_rest(config)),
        Err(error) => probes.push(Probe::red("database", error.to_string(), "correct postgres.url")),
    }
    if let CaKind::StepCa(step_ca) = &config.ca.kind {
        let (seen, found) = authority_probes::probes(config, step_ca, clock).await;
        root = found;
        probes.extend(seen);
    }
    probes.extend(redis_probes::probes(config).await);
    let state = listeners::is_serving(config, root.as_deref()).await;
    probes.extend(listeners::probes(config, state));
    probes.extend(listeners::exposure(config));
    let ok = probes.iter().all(|probe| probe.status != Status::Red);
    let (site, tier) = (Some(config.site.to_string()), Some(Tier::as_str(config.tier)));
    Report { site, tier, ok, serving: state == listeners::Serving::Yes, probes }
}

/// The probe that ended a start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {}", .0.name, .0.detail)]
pub struct FailedProbe(pub Probe);

impl FailedProbe {
    #[must_use]
    pub fn remedy(&self) -> &str {
        self.0.remedy.as_deref().unwrap_or_default()
    }
}

/// At boot, before anything is started: the machine and the ports. Yellow ones are logged.
pub fn check_machine(config: &Config) -> Result<(), FailedProbe> {
    let mut probes = machine::probes(config);
    probes.extend(listeners::probes(config, listeners::Serving::No));
    probes.extend(listeners::exposure(config));
    passed(probes)
}

/// At boot, when the database server runs and before the schema is touched. Yellow ones are logged.
pub async fn check_database(config: &Config, url: &DatabaseUrl, clock: &Arc<dyn Clock>) -> Result<(), FailedProbe> {
    passed(database_probes::probes(config, url, clock).await.probes)
}

fn passed(probes: Vec<Probe>) -> Result<(), FailedProbe> {
    for probe in probes {
        match probe.status {
            Status::Green => tracing::debug!(probe = probe.name, detail = probe.detail, "green"),
            Status::Yellow => {
                tracing::warn!(probe = probe.name, detail = probe.detail, remedy = probe.remedy, "yellow")
            }
            Status::Red => return Err(FailedProbe(probe)),
        }
    }
    Ok(())
}
