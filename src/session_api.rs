//! What sessions ask of their node: `/api/v1/*`. One endpoint per file; a handler extracts, parses, asks and maps.
//!
//! Every request is authenticated on its own: the token's hash is looked up in the database, and with it the user and teams
//! whose rights the request has. A session sees its own user's rows and links, and nothing that hints at others'.

use std::sync::Arc;

use actix_web::web::{self, Data, ServiceConfig};
use mosaic_actors::domain::catalog::Catalog;
use mosaic_actors::domain::identity::SiteName;
use mosaic_actors::fan_out::FanOutHandle;
use mosaic_actors::peer_registry::PeerRegistryHandle;
use tokio::time::Instant;

use crate::config::Limits;
use crate::http::no_such_path;
use crate::postgres::people::People;
use crate::postgres::row_writer::RowWriter;
use crate::postgres::sessions::Sessions;
use crate::secrets::MacKey;
use crate::telemetry::metrics::Metrics;

pub mod data;
pub mod query;
pub mod status;
pub mod whoami;

mod authenticate;
mod explain;
mod question;
mod stream;
mod trace;

#[cfg(test)]
mod tests;

/// Where the session API lives.
pub const BASE_PATH: &str = "/api/v1";

/// What the endpoints need. `run.rs` builds one per node.
pub struct Services {
    pub site: SiteName,
    pub catalog: Arc<Catalog>,
    pub sessions: Sessions,
    pub people: People,
    pub rows: RowWriter,
    /// A place per import that may run.
    pub imports: tokio::sync::Semaphore,
    pub fan_out: FanOutHandle,
    pub registry: PeerRegistryHandle,
    /// `MasterSecret::mac_key("session cursor")`.
    pub cursor_key: MacKey,
    pub limits: Limits,
    pub metrics: Arc<Metrics>,
}

impl Services {
    /// When a write of one row is given up.
    fn write_deadline(&self) -> Instant {
        Instant::now() + self.limits.request_deadline
    }
}

/// Adds the session API to an app that is wrapped in `http::identify`.
pub fn configure(services: Data<Services>) -> impl FnOnce(&mut ServiceConfig) {
    move |config| {
        let row = web::resource("/data/{resource}/{id}")
            .route(web::patch().to(data::update::update))
            .route(web::delete().to(data::delete::delete));
        config.service(
            web::scope(BASE_PATH)
                .app_data(services)
                .service(web::resource("/query").route(web::post().to(query::query)))
                .service(web::resource("/status").route(web::get().to(status::status)))
                .service(web::resource("/whoami").route(web::get().to(whoami::whoami)))
                .service(web::resource("/data/{resource}:import").route(web::post().to(data::import::import)))
                .service(web::resource("/data/{resource}").route(web::post().to(data::insert::insert)))
                .service(row)
                .default_service(web::to(no_such_path)),
        );
    }
}
