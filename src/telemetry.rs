//! What operators see: logs for people or machines, and metrics for Prometheus.

pub mod logs;
pub mod metrics;
