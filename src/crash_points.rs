//! Named steps at which a test makes the process kill itself, to see what a restart finds. See ADR 19.
//!
//! Only in debug builds, and only when `test.crash_at` of the configuration names the step. A release build has neither the
//! setting (naming it is a mistake in the configuration, and nothing starts) nor anything behind [`reach`].

/// Every step. A test goes through all of them, so that one that is listed is also reached.
pub const POINTS: &[&str] = &[
    "enrolment.claimed",
    "enrolment.key_checked",
    "enrolment.issued",
    "enrolment.compared",
    "enrolment.uncommitted",
    "enrolment.recorded",
    "renewal.read",
    "renewal.issued",
    "renewal.recorded",
    "renewal.received",
    "rotation.file_listed",
    "rotation.switched",
    "rotation.one_resealed",
    "rotation.resealed",
    "rotation.audit_sealed",
    "rotation.retired",
    "rotation.file_cleaned",
];

#[cfg(debug_assertions)]
static ARMED: std::sync::OnceLock<String> = std::sync::OnceLock::new();

/// Makes the process die when it reaches `point`.
#[cfg(debug_assertions)]
pub fn arm(point: &str) {
    // The first one stays: a process has one configuration.
    let _armed_before = ARMED.set(point.to_owned());
}

/// Dies here by SIGKILL, as a power cut would have it, if this step is armed.
#[cfg(debug_assertions)]
pub(crate) fn reach(point: &'static str) {
    debug_assert!(POINTS.contains(&point), "'{point}' is not listed");
    if ARMED.get().is_some_and(|armed| armed == point) {
        let _dead_before_it_returns =
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}

#[cfg(not(debug_assertions))]
#[inline(always)]
pub(crate) fn reach(_point: &'static str) {}
