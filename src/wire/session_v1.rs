//! The session API's bodies: what a session asks (`POST /api/v1/query`), and the answer as bytes.
//!
//! A request is parsed field by field into types that cannot be wrong; every complaint names its field. An answer is
//! assembled from the rows' bytes as their sources wrote them: no row is ever parsed or printed again here.

mod answer;
mod json_bytes;
mod ordered;
mod request;
mod status;

#[cfg(test)]
mod tests;

pub use answer::{
    AnswerBody, AnswerError, AnswerParts, Explain, ExplainedSource, NoticeBody, SourceBody, SourceErrorBody,
    source_fault_code, write_answer, write_trailer,
};
pub use ordered::Ordered;
pub use request::{Asked, Bounds, QueryBody, QueryRequest, parse_query};
pub use status::{ImportedBody, LinkBody, NamedBody, StatusBody, WhoamiBody};
