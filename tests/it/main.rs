//! Black-box tests: the real binary, real Postgres, real certificates, real TLS.
//!
//! Every test starts the nodes that it needs as processes of their own, on free ports, each with a database of its own in one private
//! cluster per test run, and stops them when it ends.

mod harness;

mod admin;
mod audit;
mod cancellation;
mod demo;
mod failure_modes;
mod failures;
mod federated;
mod game_day;
mod golden;
mod handshakes;
mod honesty;
mod hostile;
mod main_job;
mod network;
mod paging;
mod readme;
mod refusals;
mod renewal;
mod scale;
mod sessions;
mod step_ca;
mod streaming;
mod trust_certificates;
mod trust_crashes;
mod trust_enrolment;
mod trust_greedy;
mod trust_isolation;
mod trust_life_cycle;
mod trust_no_persistence;
mod trust_rights;
mod trust_rotation;
mod trust_secrets;
mod watch;
