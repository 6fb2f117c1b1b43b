//! `grants/{grant}/preview`: what a grant opens, asked the way its holder would ask, without a certificate and without audit.

use std::num::NonZeroU32;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use mosaic_actors::domain::answer::{Page, RowIndex};
use mosaic_actors::domain::catalog::ResourceName;
use mosaic_actors::domain::fault::{Fault, FaultKind, Stage};
use mosaic_actors::domain::grant::{Grant, GrantStatus};
use mosaic_actors::domain::query::{Filter, ReadRight};
use mosaic_actors::ports::grant_store::GrantStore;
use mosaic_actors::ports::local_rows::ListRows;
use mosaic_actors::scope_evaluator::{DenyReason, egress, preview_right};
use tokio::time::Instant;

use super::Services;
use super::lookup::{grant_in_path, no_such_grant};
use crate::http::{ApiError, CurrentRequest, json};
use crate::postgres::grants::GrantRecord;
use crate::wire::admin_v1::{ClosedResourceV1, NamedV1, PreviewResourceV1, PreviewRowV1, PreviewV1};

/// Rows of one reading while counting.
const COUNT_PAGE: NonZeroU32 = NonZeroU32::new(1_000).expect("not zero");

/// A dry run: per resource the rows that the holder could read, and the first few of them. Works for a grant of any status.
#[utoipa::path(get, path = "/api/admin/v1/grants/{grant}/preview", tag = "admin: grants",
    params(("grant" = uuid::Uuid, Path)), responses((status = 200, body = PreviewV1), (status = 404)),
    security(("admin_token" = [])))]
pub async fn preview(services: web::Data<Services>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let id = grant_in_path(&request)?;
    let record = services.grants.get(id).await?.ok_or_else(no_such_grant)?;
    let grant = services.grants.load(id).await?.ok_or_else(no_such_grant)?;
    let deadline = CurrentRequest::of(&request).started + services.limits.request_deadline_max;
    let (mut resources, mut closed) = (Vec::new(), Vec::new());
    for resource in services.catalog.iter() {
        match preview_right(&grant, &services.catalog, resource.name.as_str()) {
            Ok(right) => resources.push(services.count(&resource.name, right, deadline).await?),
            Err(reason) => closed.push(ClosedResourceV1 {
                resource: resource.name.to_string(),
                reason: closed_because(reason).to_owned(),
            }),
        }
    }
    let warnings = warnings(&grant, &record, &resources);
    let body = PreviewV1 {
        grant_id: id.0,
        status: record.status.as_str().to_owned(),
        user: NamedV1::user(record.subject, record.subject_name),
        max_rows_per_query: grant.scope.max_rows_per_query,
        resources,
        closed,
        warnings,
    };
    Ok(json(StatusCode::OK, &body)?)
}

impl Services {
    /// Reads page after page, through both walls, up to the limit.
    async fn count(
        &self,
        resource: &ResourceName,
        right: ReadRight,
        deadline: Instant,
    ) -> Result<PreviewResourceV1, Fault> {
        let most = self.limits.preview_rows;
        let mut preview =
            PreviewResourceV1 { resource: resource.to_string(), rows: 0, at_least: false, first: Vec::new() };
        let mut after = None;
        loop {
            let query = ListRows { limit: COUNT_PAGE, after: after.take(), filter: Filter::default() };
            let page = self.rows.list(right.clone(), query, deadline).await?;
            let page = egress::check(&right, page).map_err(|_| leak(resource))?.into_page();
            let room = self.limits.preview_first.saturating_sub(preview.first.len());
            preview.first.extend(page.rows.iter().take(room).map(preview_row));
            preview.rows += page.rows.len() as u64;
            match next_position(&page) {
                None => return Ok(preview),
                Some(_) if preview.rows >= most as u64 => {
                    preview.at_least = true;
                    return Ok(preview);
                }
                position => after = position,
            }
        }
    }
}

fn next_position(page: &Page) -> Option<mosaic_actors::domain::query::Position> {
    page.rows.last().filter(|_| page.more).map(|row| row.position.clone())
}

fn preview_row(row: &RowIndex) -> PreviewRowV1 {
    PreviewRowV1 {
        id: row.position.id.to_string(),
        created_at: row.position.created_at,
        team_id: row.team.map(|team| team.0),
    }
}

fn leak(resource: &ResourceName) -> Fault {
    tracing::error!(%resource, "a preview read a row that its right does not cover");
    Fault::new(FaultKind::Internal, Stage::Egress)
}

fn closed_because(reason: DenyReason) -> &'static str {
    match reason {
        DenyReason::Sensitive => "sensitive",
        DenyReason::Excluded => "excluded",
        _ => "not_in_scope",
    }
}

fn warnings(grant: &Grant, record: &GrantRecord, resources: &[PreviewResourceV1]) -> Vec<String> {
    let mut warnings = Vec::new();
    if !grant.subject_active {
        warnings.push(format!("the user '{}' is disabled: the grant opens nothing", record.subject_name));
    }
    if matches!(record.status, GrantStatus::Revoked | GrantStatus::Expired | GrantStatus::Suspended) {
        warnings.push(format!("the grant is {}: its holder is refused", record.status.as_str()));
    }
    for preview in resources.iter().filter(|preview| preview.rows == 0) {
        warnings.push(format!("'{}' shows no row now", preview.resource));
    }
    for (resource, filter) in &grant.scope.filters {
        let foreign = filter.include_teams.iter().flatten().filter(|team| !grant.subject_teams.contains(team)).count();
        if foreign > 0 {
            warnings.push(format!(
                "the filter of '{resource}' includes {foreign} team(s) that '{}' is not in: of those only own rows show",
                record.subject_name
            ));
        }
    }
    warnings
}
