//! What admins do: people, tokens, grants, links, audit. One endpoint per file; every route stands in [`ROUTES`].
//!
//! A handler extracts, parses, asks a store, and maps. Changes of rights answer only when this replica decides by them, or say
//! that it does not yet.

use actix_web::middleware::from_fn;
use actix_web::{Route, web};

mod authenticate;
mod kept_checkpoint;
mod lookup;
mod paging;
mod receipt;
mod services;
mod views;

pub mod audit;
pub mod audit_checkpoint;
pub mod audit_verify;
pub mod grant;
pub mod grant_invite;
pub mod grant_preview;
pub mod grant_resume;
pub mod grant_revoke;
pub mod grant_suspend;
pub mod grants;
pub mod link;
pub mod link_faults;
pub mod link_renew;
pub mod link_reset_breaker;
pub mod links;
pub mod peers;
pub mod status;
pub mod team;
pub mod team_member;
pub mod team_members;
pub mod teams;
pub mod token;
pub mod tokens;
pub mod user;
pub mod users;

pub use kept_checkpoint::KeptCheckpoint;
pub use services::Services;
pub use views::link_status;

/// Where the admin API lives.
pub const BASE_PATH: &str = "/api/admin/v1";

/// One route: method and path below [`BASE_PATH`], and what answers.
pub struct Endpoint {
    pub method: &'static str,
    pub path: &'static str,
    route: fn() -> Route,
}

macro_rules! endpoints {
    ($($method:ident $path:literal => $handler:path),* $(,)?) => {
        &[$(Endpoint { method: stringify!($method), path: $path, route: || web::$method().to($handler) }),*]
    };
}

/// Every route of the admin API; the documentation is compared with it.
pub const ROUTES: &[Endpoint] = endpoints![
    get "/users" => users::list,
    post "/users" => users::create,
    get "/users/{user}" => user::get,
    patch "/users/{user}" => user::update,
    delete "/users/{user}" => user::delete,
    get "/teams" => teams::list,
    post "/teams" => teams::create,
    get "/teams/{team}" => team::get,
    get "/teams/{team}/members" => team_members::list,
    post "/teams/{team}/members" => team_members::add,
    delete "/teams/{team}/members/{user}" => team_member::remove,
    get "/tokens" => tokens::list,
    post "/tokens" => tokens::create,
    delete "/tokens/{token}" => token::revoke,
    get "/peers" => peers::list,
    get "/grants" => grants::list,
    post "/grants" => grants::create,
    get "/grants/{grant}" => grant::get,
    patch "/grants/{grant}" => grant::update,
    post "/grants/{grant}/invite" => grant_invite::create,
    get "/grants/{grant}/preview" => grant_preview::preview,
    post "/grants/{grant}/revoke" => grant_revoke::revoke,
    post "/grants/{grant}/suspend" => grant_suspend::suspend,
    post "/grants/{grant}/resume" => grant_resume::resume,
    get "/links" => links::list,
    post "/links" => links::create,
    get "/links/{link}" => link::get,
    delete "/links/{link}" => link::remove,
    post "/links/{link}/faults" => link_faults::inject,
    delete "/links/{link}/faults" => link_faults::clear,
    post "/links/{link}/renew" => link_renew::renew,
    post "/links/{link}/reset-breaker" => link_reset_breaker::reset,
    get "/audit" => audit::list,
    get "/audit/verify" => audit_verify::verify,
    post "/audit/verify" => audit_verify::verify_against,
    get "/audit/checkpoint" => audit_checkpoint::get,
    get "/status" => status::get,
];

/// Adds the admin API to the `api` listener.
pub fn configure(services: web::Data<Services>) -> impl FnOnce(&mut web::ServiceConfig) {
    move |app| {
        let mut scope = web::scope(BASE_PATH).app_data(services).wrap(from_fn(authenticate::admin));
        let mut paths: Vec<&str> = ROUTES.iter().map(|endpoint| endpoint.path).collect();
        paths.dedup();
        for path in paths {
            let routes = ROUTES.iter().filter(|endpoint| endpoint.path == path);
            let resource = routes.fold(web::resource(path), |resource, endpoint| resource.route((endpoint.route)()));
            scope = scope.service(resource);
        }
        app.service(scope.default_service(web::to(crate::http::no_such_path)));
    }
}

#[cfg(test)]
mod tests;
