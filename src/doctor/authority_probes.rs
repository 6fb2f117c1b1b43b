//! The step-ca of the site, part by part: reachable with a certificate of the pinned root, the provisioner, its template by a dry
//! issue, the revocation list.

use std::sync::Arc;

use mosaic_actors::ports::clock::Clock;

use super::Probe;
use crate::config::Config;
use crate::pki::authority::{CaError, CertificateAuthority, Crl};
use crate::pki::step_ca::config::StepCaConfig;
use crate::pki::step_ca::error::StepCaError;
use crate::pki::step_ca::{Examination, StepCa};

const NAME: &str = "certificate authority";

/// What was seen, and the root if it could be had.
pub(super) async fn probes(
    config: &Config,
    step_ca: &StepCaConfig,
    clock: &Arc<dyn Clock>,
) -> (Vec<Probe>, Option<Vec<u8>>) {
    let opened = StepCa::open(step_ca.clone(), config.ca.extension_arc.clone(), Arc::clone(clock)).await;
    let ca = match opened {
        Ok(ca) => ca,
        Err(error) => return (vec![red(NAME, &error)], None),
    };
    let Examination { reachable, provisioner, template, crl } = ca.examine().await;
    let mut probes =
        vec![told(NAME, reachable, |()| format!("step-ca at {}, its root is the pinned one", step_ca.url))];
    probes.extend(provisioner.map(|found| {
        let good = |()| {
            format!("{}: its key opens with the password, and step-ca does not renew by itself", step_ca.provisioner)
        };
        match found {
            // It signs all the same; what it must not do is sign without asking the node.
            Err(error @ StepCaError::RenewalAllowed(_)) => {
                Probe::yellow("ca provisioner", error.to_string(), error.remedy())
            }
            found => told("ca provisioner", found, good),
        }
    }));
    probes.extend(template.map(|found| {
        let good = |()| "a certificate that was signed to see it is exactly what was asked for".to_owned();
        told("ca template", found, good)
    }));
    let root = ca.root();
    probes.extend(crl.map(|found| match found {
        Ok(crl) => list(&crl, clock.as_ref()),
        Err(error) => Probe::red("ca revocation list", error.to_string(), error.remedy()),
    }));
    if !probes.iter().any(|probe| probe.status == super::Status::Red) {
        probes.extend(validity(&ca.issuers(), clock.as_ref()));
    }
    (probes, Some(root))
}

fn list(crl: &Crl, clock: &dyn Clock) -> Probe {
    const LIST: &str = "ca revocation list";
    let now = clock.now();
    let (age, left) = ((now - crl.this_update).whole_minutes(), (crl.next_update - now).whole_minutes());
    let detail = format!("number {}, {age} min old, holds for another {left} min", crl.number);
    let remedy = StepCaError::CrlStale.remedy();
    if crl.next_update <= now {
        Probe::red(LIST, format!("number {} is past its end", crl.number), remedy)
    } else if crl.this_update > now + time::Duration::minutes(1) {
        Probe::yellow(LIST, format!("{detail}: made in the future"), remedy)
    } else if now > crl.this_update + (crl.next_update - crl.this_update) * 2 / 3 {
        Probe::yellow(LIST, format!("{detail}: it should have been made anew by now"), remedy)
    } else {
        Probe::green(LIST, detail)
    }
}

/// Only when something of the chain ends soon: certificates last no longer than what signed them.
fn validity(issuers: &[Vec<u8>], clock: &dyn Clock) -> Option<Probe> {
    const SOON_DAYS: i64 = 90;
    let ends = issuers.iter().filter_map(|der| {
        let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
        Some(certificate.validity().not_after.to_datetime())
    });
    let days = (ends.min()? - clock.now()).whole_days();
    (days <= SOON_DAYS).then(|| {
        let remedy =
            "renew the intermediate in time; a root that ends means enrolling every peer again. See docs/SETUP.md";
        Probe::yellow("ca validity", format!("a certificate of the authority ends in {days} days"), remedy)
    })
}

fn told<T>(name: &'static str, found: Result<T, StepCaError>, good: impl FnOnce(T) -> String) -> Probe {
    match found {
        Ok(found) => Probe::green(name, good(found)),
        Err(error) => Probe::red(name, error.to_string(), error.remedy()),
    }
}

fn red(name: &'static str, error: &CaError) -> Probe {
    Probe::red(name, error.to_string(), error.remedy())
}
