//! The only SQL of the node.

// From nothing to a migrated database.
pub mod database;
pub mod embedded;
pub mod migrations;
pub mod pool;
pub mod site;

// Rows of the catalog.
pub mod catalog;
pub mod read_sql;
pub mod row_json;
pub mod row_writer;
pub mod rows;

// People and their tokens.
pub mod people;
pub mod sessions;

// Federation.
pub mod audit;
pub mod authority_feed;
pub mod ca_store;
pub mod enrollment;
pub mod grants;
pub mod links;
pub mod master_secrets;
pub mod renewal;
pub mod revocation_outbox;

#[doc(hidden)]
pub mod testing;
