//! `/api/v1/data/*`: a session writes its own user's rows. Peers never reach these.

use actix_web::HttpRequest;
use mosaic_actors::domain::catalog::ResourceName;
use mosaic_actors::domain::fault::{Fault, FaultKind, Stage};
use mosaic_actors::domain::query::RowId;

use crate::http::{ApiError, path_text};

pub mod delete;
pub mod import;
pub mod insert;
pub mod update;

/// The resource in the path. A name that no resource can have is one that this site does not have.
fn resource(request: &HttpRequest) -> Result<ResourceName, Fault> {
    ResourceName::parse(&path_text(request, "resource")?)
        .map_err(|_| Fault::new(FaultKind::NotFound, Stage::Request).with_message("no such resource"))
}

/// The row in the path. An id that no row can have is one that is not there.
fn row_id(request: &HttpRequest) -> Result<RowId, Fault> {
    RowId::parse(&path_text(request, "id")?).map_err(|_| Fault::new(FaultKind::NotFound, Stage::Request))
}

/// A refused write. What a user may not write of his own is no secret to him, so he is told which field it is.
///
/// An internal error keeps its fixed text: its message is not made for clients.
fn refused(fault: Fault) -> ApiError {
    let may_be_told = fault.kind == FaultKind::Forbidden;
    let error = ApiError::new(fault);
    if may_be_told { error.in_own_words() } else { error }
}
