//! `/openapi.json`: what every listener answers, generated from the handlers' own annotations.

use std::sync::OnceLock;

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use bytes::Bytes;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Content, Ref, RefOr, Response};
use utoipa::{Modify, OpenApi};

use crate::http::json_bytes;
use crate::{admin_api, enrollment_api, federation_api, health, session_api};

#[derive(OpenApi)]
#[openapi(
    info(title = "Mosaic Federation", description = "One node per site. Sessions ask it, admins run it, peers read what they were granted."),
    tags(
        (name = "session", description = "Listener `api`: what a session asks and writes"),
        (name = "admin: people", description = "Listener `api`: users, teams and tokens"),
        (name = "admin: grants", description = "Listener `api`: what other sites may read here"),
        (name = "admin: links", description = "Listener `api`: what this site may read elsewhere"),
        (name = "admin: audit", description = "Listener `api`: who read and changed what"),
        (name = "admin: node", description = "Listener `api`: this replica"),
        (name = "federation", description = "Listener `federation`: mutual TLS, for holders of a grant"),
        (name = "enrollment", description = "Listener `enrollment`: server TLS, for holders of an invite"),
        (name = "node", description = "Listener `api`: health, metrics and this document"),
    ),
    paths(
        session_api::query::query,
        session_api::status::status,
        session_api::whoami::whoami,
        session_api::data::insert::insert,
        session_api::data::update::update,
        session_api::data::delete::delete,
        session_api::data::import::import,
        admin_api::users::list,
        admin_api::users::create,
        admin_api::user::get,
        admin_api::user::update,
        admin_api::user::delete,
        admin_api::teams::list,
        admin_api::teams::create,
        admin_api::team::get,
        admin_api::team_members::list,
        admin_api::team_members::add,
        admin_api::team_member::remove,
        admin_api::tokens::list,
        admin_api::tokens::create,
        admin_api::token::revoke,
        admin_api::peers::list,
        admin_api::grants::list,
        admin_api::grants::create,
        admin_api::grant::get,
        admin_api::grant::update,
        admin_api::grant_invite::create,
        admin_api::grant_preview::preview,
        admin_api::grant_revoke::revoke,
        admin_api::grant_suspend::suspend,
        admin_api::grant_resume::resume,
        admin_api::links::list,
        admin_api::links::create,
        admin_api::link::get,
        admin_api::link::remove,
        admin_api::link_faults::inject,
        admin_api::link_faults::clear,
        admin_api::link_renew::renew,
        admin_api::link_reset_breaker::reset,
        admin_api::audit::list,
        admin_api::audit_verify::verify,
        admin_api::audit_verify::verify_against,
        admin_api::audit_checkpoint::get,
        admin_api::status::get,
        federation_api::capabilities::capabilities,
        federation_api::list::list,
        federation_api::get::get,
        federation_api::renew::renew,
        federation_api::watch::watch,
        enrollment_api::enroll::enroll,
        enrollment_api::crl::crl,
        health::healthz,
        health::readyz,
        health::metrics,
        document,
    ),
    components(schemas(crate::http::error::ErrorBody)),
    modifiers(&Credentials, &Errors)
)]
struct Document;

/// Who may ask: how each kind of caller proves itself.
struct Credentials;

impl Modify for Credentials {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        let bearer = |text| {
            SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(text)).build())
        };
        components.add_security_scheme("session_token", bearer("A session's token, bound to one user of this site"));
        components.add_security_scheme("admin_token", bearer("An admin's token"));
        components.add_security_scheme("enrollment_token", bearer("The one-time token of an invite"));
        let certificate = SecurityScheme::MutualTls {
            description: Some("A client certificate that this site issued for a grant".to_owned()),
            deprecated: None,
            extensions: None,
        };
        components.add_security_scheme("client_certificate", certificate);
    }
}

/// Every refusal has the one error shape, and whatever needs credentials can refuse them or lack a dependency.
struct Errors;

impl Modify for Errors {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        for item in document.paths.paths.values_mut() {
            let operations = [&mut item.get, &mut item.post, &mut item.patch, &mut item.delete];
            operations.into_iter().flatten().for_each(shape_errors);
        }
    }
}

fn shape_errors(operation: &mut Operation) {
    if operation.security.is_some() {
        let absent = [
            ("400", "The request is malformed; the message names the field"),
            ("401", "No valid credentials"),
            (
                "503",
                "A dependency of the node cannot be reached; whether a change was done before that, reading it tells",
            ),
        ];
        for (status, text) in absent {
            let entry = operation.responses.responses.entry(status.to_owned());
            entry.or_insert_with(|| RefOr::T(Response::new(text)));
        }
    }
    for (status, response) in &mut operation.responses.responses {
        let RefOr::T(response) = response else { continue };
        if response.description.is_empty() {
            response.description = reason(status).to_owned();
        }
        if status.starts_with(['4', '5']) && response.content.is_empty() {
            let shape = Content::new(Some(Ref::from_schema_name("ErrorBody")));
            response.content.insert("application/json".to_owned(), RefOr::T(shape));
        }
    }
}

fn reason(status: &str) -> &'static str {
    StatusCode::from_bytes(status.as_bytes())
        .ok()
        .and_then(|status| status.canonical_reason())
        .unwrap_or("See the body")
}

/// The document as it is served.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "node", responses((status = 200, description = "OpenAPI 3.1", body = Object)))]
pub async fn document() -> HttpResponse {
    json_bytes(StatusCode::OK, bytes())
}

/// Made when somebody asks for the first time: it takes some megabytes for a moment, which most nodes never need.
fn bytes() -> Bytes {
    static BYTES: OnceLock<Bytes> = OnceLock::new();
    let made = || serde_json::to_vec(&openapi()).expect("invariant: the document is texts, lists and objects");
    BYTES.get_or_init(|| made().into()).clone()
}

/// Adds `/openapi.json` to the `api` listener.
pub fn configure(config: &mut web::ServiceConfig) {
    config.service(web::resource("/openapi.json").route(web::get().to(document)));
}

#[cfg(test)]
mod tests;
