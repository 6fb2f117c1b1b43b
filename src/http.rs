//! What every listener does alike: request ids, error bodies, body reading with cap and deadline, strict JSON, bearer tokens.
//!
//! Handlers return `Result<HttpResponse, ApiError>` and use `?` on a `Fault`. [`identify`] is the outermost middleware of
//! every listener's `App`; it gives each request its id and turns every error, whoever made it, into the error shape.

pub mod answer;
pub mod bearer;
pub mod body;
pub mod error;
pub mod identify;
pub mod path;
pub mod stall;
mod unread;

pub use answer::{json, json_bytes};
pub use bearer::bearer_token;
pub use body::{parse_json, parse_query, read_body};
pub use error::{ApiError, no_such_path};
pub use identify::{CurrentRequest, identify, remote_ip, traceparent};
pub use path::{path_text, path_value};
pub use stall::limit_write_stall;

#[cfg(test)]
mod tests;
