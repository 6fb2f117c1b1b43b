//! The edges of a Mosaic node, in the order in which a query meets them. The domain is the crate `mosaic_actors`.

// What a node is told at boot.
pub mod clock;
pub mod config;
pub mod crash_points;
pub mod secrets;

// The doors.
pub mod admin_api;
pub mod enrollment_api;
pub mod federation_api;
pub mod session_api;

// What the doors share.
pub mod faults;
pub mod health;
pub mod http;
pub mod link_health;
pub mod openapi;
pub mod wire;

// What lies behind the ports of the domain.
pub mod peer_http;
pub mod pki;
pub mod postgres;
pub mod shared_limits;
pub mod tls;

// The process.
pub mod cli;
pub mod demo;
pub mod doctor;
pub mod rotation;
pub mod run;
pub mod telemetry;
