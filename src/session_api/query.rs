//! `POST /api/v1/query`: one question, answered from here and from every peer.

use actix_web::http::StatusCode;
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use mosaic_actors::domain::identity::{Session, UserId};
use mosaic_actors::fan_out::{Answer, Question, RunQuery, Verdict};

use super::Services;
use super::authenticate::authenticate;
use super::explain::explain;
use super::question::{Prepared, Questioner};
use super::stream;
use super::trace::Trace;
use crate::faults::NOT_FOUND_TEXT;
use crate::http::{ApiError, CurrentRequest, json_bytes, read_body, traceparent};
use crate::telemetry::metrics::InFlight;
use crate::wire::session_v1::{
    AnswerError, AnswerParts, Bounds, QueryRequest, parse_query, write_answer, write_trailer,
};

/// Lists or gets rows from the requested sources.
#[utoipa::path(
    post,
    path = "/api/v1/query",
    tag = "session",
    request_body = crate::wire::session_v1::QueryBody,
    security(("session_token" = [])),
    responses(
        (status = 200, description = "Rows, and an account of every requested source; with `Accept: application/x-ndjson` a row per line as they arrive, the account as the last line", body = crate::wire::session_v1::AnswerBody),
        (status = 400, description = "A field is wrong, or a source unknown", body = crate::http::error::ErrorBody),
        (status = 401, description = "No valid session token", body = crate::http::error::ErrorBody),
        (status = 404, description = "`get`: every source answered and none has the row; the same body with an error beside it"),
        (status = 502, description = "Every source, or a required one, failed; the same body with an error beside it"),
        (status = 504, description = "As 502, when all of them timed out"),
        (status = 503, description = "This node cannot answer now", body = crate::http::error::ErrorBody),
    )
)]
pub async fn query(
    request: HttpRequest,
    payload: Payload,
    current: CurrentRequest,
    services: Data<Services>,
) -> Result<HttpResponse, ApiError> {
    let session = authenticate(&services, &request).await?;
    let body = read_body(&request, payload, services.limits.query_body, current.started + services.limits.request_body);
    let asked = parse_query(&body.await?, &bounds(&services))?;
    let has_links = !services.registry.links_of(session.user, &session.teams).is_empty();
    let user = session.user;
    let prepared = questioner(&services, user, has_links).prepare(&asked)?;
    let trace = Trace::of(traceparent(&request).as_deref());
    let run = run_query(session, &asked, &prepared, &current, &trace);
    let asking = Asking { user, has_links, services: services.clone(), asked, prepared, current, trace };
    if stream::is_wanted(&request) {
        return stream::respond(asking, services.fan_out.stream(run).await?).await;
    }
    Ok(asking.respond(&services.fan_out.run(run).await?))
}

fn questioner(services: &Services, user: UserId, has_links: bool) -> Questioner<'_> {
    Questioner {
        catalog: &services.catalog,
        cursor_key: &services.cursor_key,
        cursor_max_bytes: services.limits.session_cursor,
        filter: (&services.limits).into(),
        user,
        has_links,
    }
}

pub(super) fn bounds(services: &Services) -> Bounds {
    let limits = &services.limits;
    Bounds {
        page_default: limits.page_default,
        page_cap: limits.page_cap,
        deadline_default: limits.request_deadline,
        deadline_max: limits.request_deadline_max,
    }
}

fn run_query(
    session: Session,
    asked: &QueryRequest,
    prepared: &Prepared,
    current: &CurrentRequest,
    trace: &Trace,
) -> RunQuery {
    RunQuery {
        session,
        question: prepared.question.clone(),
        sources: asked.source.clone(),
        require: asked.require.clone(),
        deadline: current.started + asked.deadline,
        request: current.id,
        traceparent: Some(trace.onwards.clone()),
    }
}

/// A question under way. It owns what its answer takes, because a streamed answer outlives its handler.
pub(super) struct Asking {
    user: UserId,
    has_links: bool,
    services: Data<Services>,
    asked: QueryRequest,
    prepared: Prepared,
    current: CurrentRequest,
    trace: Trace,
}

impl Asking {
    /// The whole answer at once.
    pub(super) fn respond(&self, answer: &Answer) -> HttpResponse {
        let bytes = self.written(answer, write_answer);
        json_bytes(self.failure(answer).map_or(StatusCode::OK, |(status, ..)| status), bytes)
    }

    /// The last line of an answer of which the rows were streamed.
    pub(super) fn trailer(&self, answer: &Answer) -> Bytes {
        self.written(answer, write_trailer)
    }

    pub(super) fn failure(&self, answer: &Answer) -> Option<(StatusCode, &'static str, &'static str)> {
        failure(answer, &self.prepared.question)
    }

    pub(super) fn under_way(&self) -> InFlight {
        self.services.metrics.under_way()
    }

    pub(super) fn request_id(&self) -> String {
        self.current.id.to_string()
    }

    fn written(&self, answer: &Answer, write: impl FnOnce(&AnswerParts<'_>) -> Bytes) -> Bytes {
        let Self { services, asked, prepared, .. } = self;
        for report in &answer.sources {
            services.metrics.source_answer(report.source.as_str(), report.status.as_str());
        }
        let questioner = questioner(services, self.user, self.has_links);
        let next_cursor = questioner.next_cursor(prepared, &asked.source, answer.next.as_ref());
        let request_id = self.request_id();
        let error =
            self.failure(answer).map(|(_, code, message)| AnswerError { code, message, request_id: &request_id });
        let explained = asked.explain.then(|| explain(prepared, answer, asked.deadline, services.limits.peer_budget));
        write(&AnswerParts {
            items: &answer.items,
            partial: answer.partial,
            truncated: answer.truncated,
            sources: &answer.sources,
            notices: &answer.notices,
            next_cursor: next_cursor.as_deref(),
            trace_id: &self.trace.id,
            explain: explained.as_ref(),
            error,
        })
    }
}

/// Whether the answer as a whole is a failure: an empty answer never looks healthy when it is not.
fn failure(answer: &Answer, question: &Question) -> Option<(StatusCode, &'static str, &'static str)> {
    let get = matches!(question, Question::Get { .. });
    match answer.verdict {
        Verdict::AllFailed => {
            Some((StatusCode::BAD_GATEWAY, "sources_failed", "no requested source answered; see _sources"))
        }
        Verdict::AllTimedOut => {
            Some((StatusCode::GATEWAY_TIMEOUT, "sources_timed_out", "no requested source answered in time"))
        }
        Verdict::RequiredFailed => {
            Some((StatusCode::BAD_GATEWAY, "sources_failed", "a required source did not answer; see _sources"))
        }
        Verdict::RequiredTimedOut => {
            Some((StatusCode::GATEWAY_TIMEOUT, "sources_timed_out", "a required source did not answer in time"))
        }
        Verdict::Answered if get && !answer.partial && answer.sources.iter().all(|report| report.rows == 0) => {
            Some((StatusCode::NOT_FOUND, "not_found", NOT_FOUND_TEXT))
        }
        Verdict::Answered => None,
    }
}
