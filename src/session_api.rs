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

use crate::config::Limits;
use crate::postgres::people::People;
use crate::postgres::sessions::Sessions;
use crate::secrets::MacKey;
use crate::telemetry::metrics::Metrics;

pub mod query;
pub mod status;
pub mod whoami;

mod authenticate;
mod explain;
mod question;
mod trace;

/// What the endpoints need. `run.rs` builds one per node.
pub struct Services {
    pub site: SiteName,
    pub catalog: Arc<Catalog>,
    pub sessions: Sessions,
    pub people: People,
    pub fan_out: FanOutHandle,
    pub registry: PeerRegistryHandle,
    /// `MasterSecret::mac_key("session cursor")`.
    pub cursor_key: MacKey,
    pub limits: Limits,
    pub metrics: Arc<Metrics>,
}

/// Adds the session API to an app that is wrapped in `http::identify`.
pub fn configure(services: Data<Services>) -> impl FnOnce(&mut ServiceConfig) {
    move |config| {
        config.service(
            web::scope("/api/v1")
                .app_data(services)
                .route("/query", web::post().to(query::query))
                .route("/status", web::get().to(status::status))
                .route("/whoami", web::get().to(whoami::whoami)),
        );
    }
}
