//! Certificates: who signs them, what they must look like, and how they are asked for.

// What a certificate of this federation is.
pub mod extension_arc;
pub mod profile;
pub mod public_key;

// The authority.
pub mod authority;
pub mod ca_material;
pub mod ca_store;
pub mod crl;
pub mod embedded_ca;
pub mod outboxed_ca;
pub mod revocation_outbox;
pub mod step_ca;

// Asking for a certificate, and checking what came.
pub mod csr;
pub mod invite;
pub mod issued;
pub mod link_key;

pub mod pem;

#[cfg(test)]
pub(crate) mod testing;
