//! Against the real server: `scripts/step-ca` installs it.

use std::sync::{Arc, LazyLock};

use super::testing::TestStepCa;
use super::*;
use crate::clock::SystemClock;
use crate::pki::csr::NewKey;
use crate::pki::testing::{now, request_for};

mod failures;
mod golden;
mod handshakes;
mod interop;
mod issuing;
mod revocation;

/// For tests that leave it as it is.
static SHARED: LazyLock<TestStepCa> = LazyLock::new(|| TestStepCa::start("work"));

fn arc() -> ExtensionArc {
    ExtensionArc::default()
}

async fn open(config: StepCaConfig) -> StepCa {
    StepCa::open(config, arc(), Arc::new(SystemClock)).await.unwrap()
}

fn new_request() -> (NewKey, ClientRequest) {
    let key = new_key_and_csr().unwrap();
    let request = request_for(&key);
    (key, request)
}

async fn issue(ca: &StepCa) -> Result<IssuedCertificate, CaError> {
    ca.issue(new_request().1).await
}

/// The typed error of an issue that must fail.
async fn refusal(ca: &StepCa) -> StepCaError {
    typed(issue(ca).await)
}

fn typed<T: std::fmt::Debug>(result: Result<T, CaError>) -> StepCaError {
    match result {
        Err(CaError::StepCa(error)) => error,
        other => panic!("{other:?}"),
    }
}
