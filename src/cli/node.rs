//! The node as the command line sees it: its API, asked with an admin's or a session's token.

use std::time::Duration;

use reqwest::{Method, RequestBuilder};
use serde::Serialize;
use serde::de::DeserializeOwned;
use url::Url;

use super::outcome::{Failure, Refusal};

/// A connection to a local node either works at once or not at all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Longest wait for an answer: longer than the longest query (30 s), enrolment and imports included.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);
/// Longest answer that is read: 200 rows of 64 KiB, and some.
const ANSWER_MAX_BYTES: usize = 32 * 1024 * 1024;

/// The media type of an answer line by line.
const LINES: &str = "application/x-ndjson";

/// The API under one base address with one bearer token.
#[derive(Clone)]
pub(crate) struct Node {
    http: reqwest::Client,
    base: Url,
    token: String,
    kind: TokenKind,
    patience: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenKind {
    Admin,
    Session,
}

/// An answer whose status the caller judges.
pub(crate) struct RawAnswer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Node {
    /// A client of the node at `base` (scheme, host and port). `roots`: certificates in PEM to trust beside the system's.
    pub(crate) fn new(base: Url, kind: TokenKind, token: String, roots: &[u8]) -> Result<Self, Failure> {
        let mut builder = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(ANSWER_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .user_agent(concat!("mosaic-cli/", env!("CARGO_PKG_VERSION")));
        if base.scheme() == "https" {
            let roots = reqwest::Certificate::from_pem_bundle(roots)
                .map_err(|e| Failure::failed(format!("api.tls_certificate: {}", whole(&e))))?;
            builder = builder.tls_certs_merge(roots);
        }
        let http = builder.build().map_err(|e| Failure::failed(format!("cannot set up a client: {}", whole(&e))))?;
        Ok(Self { http, base, token, kind, patience: None })
    }

    /// The same, for answers that take longer than others do.
    #[must_use]
    pub(crate) fn patient(mut self, patience: Duration) -> Self {
        self.patience = Some(patience);
        self
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &Path) -> Result<T, Failure> {
        self.answer(self.request(Method::GET, path)?).await
    }

    pub(crate) async fn post<B: Serialize, T: DeserializeOwned>(&self, path: &Path, body: &B) -> Result<T, Failure> {
        self.answer(self.request(Method::POST, path)?.json(body)).await
    }

    pub(crate) async fn patch<B: Serialize, T: DeserializeOwned>(&self, path: &Path, body: &B) -> Result<T, Failure> {
        self.answer(self.request(Method::PATCH, path)?.json(body)).await
    }

    pub(crate) async fn delete<T: DeserializeOwned>(&self, path: &Path) -> Result<T, Failure> {
        self.answer(self.request(Method::DELETE, path)?).await
    }

    /// A request without a body whose answer, if any, does not matter.
    pub(crate) async fn call(&self, method: Method, path: &Path) -> Result<(), Failure> {
        self.checked(self.request(method, path)?).await.map(|_| ())
    }

    /// Sends JSON and gives back whatever came, also a refusal.
    pub(crate) async fn post_raw<B: Serialize>(&self, path: &Path, body: &B) -> Result<RawAnswer, Failure> {
        self.send(self.request(Method::POST, path)?.json(body)).await
    }

    /// Sends JSON and hands on each line of the answer as it comes. An answer that is not lines, such as a refusal, is given back whole.
    pub(crate) async fn post_for_lines<B: Serialize>(
        &self,
        path: &Path,
        body: &B,
        mut line: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<Option<RawAnswer>, Failure> {
        let request = self.request(Method::POST, path)?.header("accept", LINES).json(body);
        let mut response = request.send().await.map_err(|e| self.no_answer(&e))?;
        let status = response.status().as_u16();
        let lines = response.headers().get("content-type").is_some_and(|kind| kind == LINES);
        let mut rest = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|e| self.no_answer(&e))? {
            if rest.len() + chunk.len() > ANSWER_MAX_BYTES {
                return Err(Failure::failed("the answer is larger than 32 MiB").remedy("ask for fewer rows: --limit"));
            }
            rest.extend_from_slice(&chunk);
            if lines && let Some(end) = rest.iter().rposition(|byte| *byte == b'\n') {
                let whole: Vec<u8> = rest.drain(..=end).collect();
                whole.split_inclusive(|byte| *byte == b'\n').try_for_each(&mut line)?;
            }
        }
        Ok((!lines).then_some(RawAnswer { status, body: rest }))
    }

    /// Sends lines of JSON.
    pub(crate) async fn post_lines<T: DeserializeOwned>(&self, path: &Path, lines: Vec<u8>) -> Result<T, Failure> {
        let request = self.request(Method::POST, path)?.header("content-type", LINES).body(lines);
        self.answer(request).await
    }

    /// The refusal in an error answer.
    pub(crate) fn refusal(&self, answer: &RawAnswer) -> Failure {
        refusal_of(answer, self.kind)
    }

    fn request(&self, method: Method, path: &Path) -> Result<RequestBuilder, Failure> {
        let url = path.on(&self.base)?;
        let request = self.http.request(method, url).bearer_auth(&self.token);
        Ok(match self.patience {
            Some(patience) => request.timeout(patience),
            None => request,
        })
    }

    async fn answer<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, Failure> {
        let answer = self.checked(request).await?;
        serde_json::from_slice(&answer.body)
            .map_err(|e| Failure::failed(format!("the node's answer is not what this version understands: {e}")))
    }

    async fn checked(&self, request: RequestBuilder) -> Result<RawAnswer, Failure> {
        let answer = self.send(request).await?;
        if (200..300).contains(&answer.status) { Ok(answer) } else { Err(self.refusal(&answer)) }
    }

    async fn send(&self, request: RequestBuilder) -> Result<RawAnswer, Failure> {
        let mut response = request.send().await.map_err(|e| self.no_answer(&e))?;
        let status = response.status().as_u16();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|e| self.no_answer(&e))? {
            if body.len() + chunk.len() > ANSWER_MAX_BYTES {
                return Err(Failure::failed("the answer is larger than 32 MiB").remedy("ask for fewer rows: --limit"));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(RawAnswer { status, body })
    }

    fn no_answer(&self, error: &reqwest::Error) -> Failure {
        let base = self.base.as_str().trim_end_matches('/');
        if error.is_connect() {
            return Failure::failed(format!("no node answers at {base}: {}", innermost(error)))
                .remedy(if self.base.scheme() == "https" {
                    "is the node running? Is api.tls_certificate a server's certificate for this address? --api names another"
                } else {
                    "is the node running? mosaic gateway serve --config <mosaic.toml>"
                });
        }
        if error.is_timeout() {
            return Failure::failed(format!("the node at {base} did not answer in time"))
                .remedy("'mosaic gateway doctor' tells whether a dependency is missing");
        }
        Failure::failed(format!("the connection to {base} broke: {}", whole(error)))
    }
}

/// A path of the API with its segments and parameters percent-encoded.
#[derive(Debug, Clone)]
pub(crate) struct Path {
    segments: Vec<String>,
    query: Vec<(String, String)>,
}

impl Path {
    /// Below `/api/admin/v1/`.
    #[must_use]
    pub(crate) fn admin<const N: usize>(segments: [&str; N]) -> Self {
        Self::below(["api", "admin", "v1"], segments)
    }

    /// Below `/api/v1/`.
    #[must_use]
    pub(crate) fn session<const N: usize>(segments: [&str; N]) -> Self {
        Self::below(["api", "v1"], segments)
    }

    fn below<const M: usize, const N: usize>(root: [&str; M], segments: [&str; N]) -> Self {
        let segments = root.into_iter().chain(segments).map(str::to_owned).collect();
        Self { segments, query: Vec::new() }
    }

    /// Adds a parameter when there is a value.
    #[must_use]
    pub(crate) fn with(mut self, name: &str, value: Option<impl ToString>) -> Self {
        self.query.extend(value.map(|value| (name.to_owned(), value.to_string())));
        self
    }

    fn on(&self, base: &Url) -> Result<Url, Failure> {
        let mut url = base.clone();
        url.path_segments_mut()
            .map_err(|()| Failure::misused(format!("'{base}' is not the address of an API")))?
            .clear()
            .extend(&self.segments);
        if !self.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&self.query);
        }
        Ok(url)
    }
}

fn refusal_of(answer: &RawAnswer, kind: TokenKind) -> Failure {
    #[derive(serde::Deserialize)]
    struct Body {
        error: Error,
    }
    #[derive(serde::Deserialize)]
    struct Error {
        code: String,
        message: String,
        reason: Option<String>,
        request_id: Option<String>,
        retry_after_ms: Option<u64>,
    }
    let as_admin = kind == TokenKind::Admin;
    let status = answer.status;
    match serde_json::from_slice::<Body>(&answer.body) {
        Ok(Body { error: Error { code, message, reason, request_id, retry_after_ms } }) => {
            Failure::Refused(Box::new(Refusal {
                status,
                code,
                message,
                reason,
                request_id,
                retry_after_ms,
                as_admin,
                advice: None,
            }))
        }
        Err(_) => Failure::failed(format!("HTTP {status} without an explanation"))
            .remedy("is this the address of a Mosaic node's API? see 'listen' in mosaic.toml, or give --api"),
    }
}

/// An error with its causes: the outermost text alone rarely says why.
fn whole(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    text
}

/// What lies at the bottom of an error: the outer texts repeat the address.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_person_types_stays_one_segment_of_the_path() {
        let base = Url::parse("http://127.0.0.1:8640").unwrap();
        let path = Path::admin(["users", "a/../b?x#y"]).with("cursor", Some("a&b=c")).with("none", None::<&str>);
        assert_eq!(
            path.on(&base).unwrap().as_str(),
            "http://127.0.0.1:8640/api/admin/v1/users/a%2F..%2Fb%3Fx%23y?cursor=a%26b%3Dc"
        );
    }

    #[test]
    fn an_error_that_is_not_of_a_node_is_told_apart() {
        let html = RawAnswer { status: 502, body: b"<html>".to_vec() };
        let Failure::Failed { message, .. } = refusal_of(&html, TokenKind::Admin) else { panic!("is a failure") };
        assert_eq!(message, "HTTP 502 without an explanation");
        let body = br#"{"error":{"code":"conflict","message":"no","request_id":"r"}}"#.to_vec();
        let Failure::Refused(refusal) = refusal_of(&RawAnswer { status: 409, body }, TokenKind::Session) else {
            panic!("is a refusal")
        };
        assert_eq!((refusal.code.as_str(), refusal.status, refusal.as_admin), ("conflict", 409, false));
    }
}
