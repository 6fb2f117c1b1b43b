//! Pages of lists: one row more than asked for tells whether there is a next page.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use mosaic_actors::domain::fault::Fault;
use serde::Serialize;

use crate::config::Limits;
use crate::http::json;
use crate::wire::admin_v1::PageV1;

/// How many entries a page may have.
pub(super) struct PageSize(usize);

impl PageSize {
    /// The asked limit, cut to the cap; zero is refused.
    pub(super) fn of(limit: Option<u32>, limits: &Limits) -> Result<Self, Fault> {
        let cap = limits.admin_page_cap.get();
        match limit {
            Some(0) => Err(Fault::invalid("limit: is 0; give a positive number")),
            limit => Ok(Self(limit.unwrap_or(limits.admin_page.get()).min(cap) as usize)),
        }
    }

    /// What to ask the database for.
    pub(super) fn rows(&self) -> i64 {
        self.0 as i64 + 1
    }

    /// The page of `records`, with a cursor behind the last entry when there are more.
    pub(super) fn page<R, T>(
        &self,
        mut records: Vec<R>,
        cursor: impl FnOnce(&R) -> String,
        view: impl FnMut(R) -> T,
    ) -> PageV1<T> {
        let more = records.len() > self.0;
        records.truncate(self.0);
        let next_cursor = records.last().filter(|_| more).map(cursor);
        PageV1 { items: records.into_iter().map(view).collect(), next_cursor }
    }
}

pub(super) fn answer<T: Serialize>(page: &PageV1<T>) -> Result<HttpResponse, Fault> {
    json(StatusCode::OK, page)
}
