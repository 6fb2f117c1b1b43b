//! The DTOs and encodings of every interface: the only serde of the protocol, shared by servers, clients and the CLI.

pub mod admin_v1;
pub mod cursor_v1;
pub mod federation_v1;
pub mod link_v1;
pub mod session_v1;
pub mod where_v1;
