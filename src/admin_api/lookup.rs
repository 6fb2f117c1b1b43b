//! What people name in paths and bodies: 404 when the path names nothing, 400 with a remedy when a body does.

use actix_web::HttpRequest;
use mosaic_actors::domain::fault::{Fault, FaultKind, Stage};
use mosaic_actors::domain::identity::{GrantId, LinkId, SiteName, TeamId};

use super::Services;
use crate::http::{path_text, path_value};
use crate::postgres::people::{IdOrName, TeamRecord, UserRecord};

/// Longest name or id that is looked up.
const TEXT_MAX_CHARS: usize = 100;

pub(super) fn not_found(message: impl Into<Box<str>>) -> Fault {
    Fault::new(FaultKind::NotFound, Stage::Request).with_message(message)
}

pub(super) fn grant_in_path(request: &HttpRequest) -> Result<GrantId, Fault> {
    path_value(request, "grant")
}

pub(super) fn no_such_grant() -> Fault {
    not_found("no such grant on this site; 'mosaic federation grant list' shows those there are")
}

pub(super) fn link_in_path(request: &HttpRequest) -> Result<LinkId, Fault> {
    path_value(request, "link")
}

pub(super) fn no_such_link() -> Fault {
    not_found("no such link on this site; 'mosaic federation peer list' shows those there are")
}

impl Services {
    /// The user whom the path names by id or name, deleted ones too.
    pub(super) async fn user_in_path(&self, request: &HttpRequest) -> Result<UserRecord, Fault> {
        let text = path_text(request, "user")?;
        self.user(&text).await?.ok_or_else(|| not_found(format!("no user '{}' on this site", shown(&text))))
    }

    /// The team that the path names by id or name.
    pub(super) async fn team_in_path(&self, request: &HttpRequest) -> Result<TeamRecord, Fault> {
        let text = path_text(request, "team")?;
        self.team(&text).await?.ok_or_else(|| not_found(format!("no team '{}' on this site", shown(&text))))
    }

    /// The active user whom a body's field names.
    pub(super) async fn user_in_body(&self, field: &str, text: &str) -> Result<UserRecord, Fault> {
        let user = self.user(text).await?.filter(|user| user.deleted_at.is_none()).ok_or_else(|| {
            let text = shown(text);
            Fault::invalid(format!("{field}: no user '{text}' on this site; create one with 'mosaic user add {text}'"))
        })?;
        if !user.active {
            return Err(Fault::invalid(format!(
                "{field}: the user '{}' is disabled; enable the user first",
                user.name
            )));
        }
        Ok(user)
    }

    /// The teams that a body's field names.
    pub(super) async fn teams_in_body(&self, field: &str, texts: &[String]) -> Result<Vec<TeamId>, Fault> {
        let mut teams = Vec::with_capacity(texts.len());
        for text in texts {
            let team = self.team(text).await?.ok_or_else(|| {
                let text = shown(text);
                Fault::invalid(format!(
                    "{field}: no team '{text}' on this site; create one with 'mosaic team add {text}'"
                ))
            })?;
            teams.push(team.id);
        }
        teams.sort();
        teams.dedup();
        Ok(teams)
    }

    async fn user(&self, text: &str) -> Result<Option<UserRecord>, Fault> {
        if !is_plausible(text) {
            return Ok(None);
        }
        self.people.user(&IdOrName::parse(text)).await
    }

    async fn team(&self, text: &str) -> Result<Option<TeamRecord>, Fault> {
        if !is_plausible(text) {
            return Ok(None);
        }
        self.people.team(&IdOrName::parse(text)).await
    }
}

/// A peer's name in a body or a query.
pub(super) fn peer_name(text: &str) -> Result<SiteName, Fault> {
    SiteName::parse(text).map_err(|error| Fault::invalid(format!("peer: {error}")))
}

/// Whether the database can hold such a name at all; it would refuse a NUL.
fn is_plausible(text: &str) -> bool {
    !text.is_empty() && text.len() <= TEXT_MAX_CHARS && !text.chars().any(char::is_control)
}

/// A text of the request as a message may show it.
fn shown(text: &str) -> String {
    text.chars().take(TEXT_MAX_CHARS).collect::<String>().escape_debug().to_string()
}
