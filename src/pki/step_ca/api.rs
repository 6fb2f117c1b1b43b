//! Requests to a step-ca over TLS that trusts one root only.

use std::error::Error;
use std::time::Duration;

use reqwest::{Client, RequestBuilder, Response, StatusCode};
use rustls::ClientConfig;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;
use url::Url;

use super::error::StepCaError;
use crate::pki::pem::{certificate_from_pem, certificates_from_pem};

/// Most bytes of an answer in JSON: a hundred provisioners, or a chain.
const ANSWER_BYTES_LIMIT: usize = 1024 * 1024;
/// Most bytes of a revocation list: about 400,000 revoked certificates.
const CRL_BYTES_LIMIT: usize = 16 * 1024 * 1024;
/// Most pages of provisioners, of a hundred each.
const PROVISIONER_PAGES_LIMIT: usize = 20;
/// Most characters of an error's message that are kept.
const MESSAGE_CHARS_LIMIT: usize = 300;

/// In every message that `compose/step-ca/mosaic.tpl` fails with.
const TEMPLATE_FAILED: &str = "mosaic-template: ";
/// What step-ca says when a template gives no JSON.
const TEMPLATE_BROKEN: &str = "error applying certificate template";
/// What step-ca puts before the messages of others.
const MESSAGE_PREFIX: &str = "The request could not be completed: ";

pub(super) struct Api {
    client: Client,
    base: Url,
    timeout: Duration,
}

/// An answer that is not a success, with the authority's clock.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) message: Box<str>,
    pub(super) date: Option<OffsetDateTime>,
}

#[derive(Serialize)]
pub(super) struct SignBody<'a> {
    pub(super) csr: &'a str,
    pub(super) ott: &'a str,
    #[serde(rename = "notBefore", with = "time::serde::rfc3339")]
    pub(super) not_before: OffsetDateTime,
    #[serde(rename = "notAfter", with = "time::serde::rfc3339")]
    pub(super) not_after: OffsetDateTime,
}

#[derive(Serialize)]
pub(super) struct RevokeBody<'a> {
    pub(super) serial: &'a str,
    pub(super) ott: &'a str,
    #[serde(rename = "reasonCode")]
    pub(super) reason_code: u8,
    pub(super) reason: &'a str,
    pub(super) passive: bool,
}

#[derive(Deserialize)]
pub(super) struct Provisioner {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) name: String,
    #[serde(default)]
    pub(super) key: Option<PublicKey>,
    #[serde(rename = "encryptedKey", default)]
    pub(super) encrypted_key: String,
    #[serde(default)]
    pub(super) claims: Option<ProvisionerClaims>,
}

#[derive(Deserialize)]
pub(super) struct PublicKey {
    #[serde(default)]
    pub(super) kid: String,
}

#[derive(Deserialize)]
pub(super) struct ProvisionerClaims {
    #[serde(rename = "disableRenewal", default)]
    pub(super) disable_renewal: bool,
}

#[derive(Deserialize)]
struct ProvisionersAnswer {
    #[serde(default)]
    provisioners: Vec<Provisioner>,
    #[serde(rename = "nextCursor", default)]
    next: String,
}

#[derive(Deserialize)]
struct RootAnswer {
    ca: String,
}

#[derive(Deserialize)]
struct SignAnswer {
    #[serde(rename = "certChain")]
    chain: Vec<String>,
}

#[derive(Deserialize)]
struct CertificatesAnswer {
    crts: Vec<String>,
}

#[derive(Deserialize)]
struct ErrorAnswer {
    message: String,
}

impl Api {
    pub(super) fn new(base: Url, tls: ClientConfig, timeout: Duration) -> Result<Self, StepCaError> {
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            .https_only(true)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(timeout)
            // Requests are rare, and one on a connection that a restart has cut would spend its token in vain.
            .pool_max_idle_per_host(0)
            .build()
            .map_err(|error| StepCaError::Config(error.to_string().into()))?;
        Ok(Self { client, base, timeout })
    }

    /// The URL of an endpoint: also what a token for it names.
    pub(super) fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(path);
        url
    }

    pub(super) async fn health(&self) -> Result<(), StepCaError> {
        self.get("/health", ANSWER_BYTES_LIMIT).await?.map(|_| ()).map_err(Refusal::unexpected)
    }

    /// DER of the root with this fingerprint (lower-case hex). The caller compares it.
    pub(super) async fn root(&self, sha256: &str) -> Result<Vec<u8>, StepCaError> {
        match self.get(&format!("/root/{sha256}"), ANSWER_BYTES_LIMIT).await? {
            Ok(body) => one_certificate(&parse::<RootAnswer>(&body, "a root")?.ca),
            Err(refusal) if refusal.status == StatusCode::NOT_FOUND => Err(StepCaError::RootUnknown(sha256.into())),
            Err(refusal) => Err(refusal.unexpected()),
        }
    }

    /// DER of the certificates that sign below the root.
    pub(super) async fn intermediates(&self) -> Result<Vec<Vec<u8>>, StepCaError> {
        let body = self.get("/1.0/intermediates", ANSWER_BYTES_LIMIT).await?.map_err(Refusal::unexpected)?;
        certificates(&parse::<CertificatesAnswer>(&body, "intermediates")?.crts)
    }

    pub(super) async fn provisioners(&self) -> Result<Vec<Provisioner>, StepCaError> {
        let mut found = Vec::new();
        let mut cursor = String::new();
        for _ in 0..PROVISIONER_PAGES_LIMIT {
            let mut url = self.url("/provisioners");
            url.query_pairs_mut().append_pair("limit", "100").append_pair("cursor", &cursor);
            let body = self.send(self.client.get(url), ANSWER_BYTES_LIMIT).await?.map_err(Refusal::unexpected)?;
            let page: ProvisionersAnswer = parse(&body, "provisioners")?;
            found.extend(page.provisioners);
            if page.next.is_empty() {
                break;
            }
            cursor = page.next;
        }
        Ok(found)
    }

    /// DER of the certificate and of what leads from it to below the root.
    pub(super) async fn sign(&self, body: &SignBody<'_>) -> Result<Result<Vec<Vec<u8>>, Refusal>, StepCaError> {
        match self.send(self.client.post(self.url("/1.0/sign")).json(body), ANSWER_BYTES_LIMIT).await? {
            Ok(body) => certificates(&parse::<SignAnswer>(&body, "a certificate")?.chain).map(Ok),
            Err(refusal) => Ok(Err(refusal)),
        }
    }

    pub(super) async fn revoke(&self, body: &RevokeBody<'_>) -> Result<Result<(), Refusal>, StepCaError> {
        let answer = self.send(self.client.post(self.url("/1.0/revoke")).json(body), ANSWER_BYTES_LIMIT).await?;
        Ok(answer.map(|_| ()))
    }

    /// DER of the revocation list.
    pub(super) async fn crl(&self) -> Result<Vec<u8>, StepCaError> {
        self.get("/1.0/crl", CRL_BYTES_LIMIT).await?.map_err(|refusal| match refusal.status {
            StatusCode::NOT_FOUND | StatusCode::NOT_IMPLEMENTED => StepCaError::CrlDisabled,
            _ => refusal.unexpected(),
        })
    }

    async fn get(&self, path: &str, limit: usize) -> Result<Result<Vec<u8>, Refusal>, StepCaError> {
        self.send(self.client.get(self.url(path)), limit).await
    }

    async fn send(&self, request: RequestBuilder, limit: usize) -> Result<Result<Vec<u8>, Refusal>, StepCaError> {
        let answer = request.send().await.map_err(|error| self.failed(&error))?;
        let (status, date) = (answer.status(), date(&answer));
        let body = self.read(answer, limit).await?;
        if status.is_success() {
            return Ok(Ok(body));
        }
        let message = serde_json::from_slice::<ErrorAnswer>(&body).map(|answer| answer.message).unwrap_or_default();
        let message = one_line(message.strip_prefix(MESSAGE_PREFIX).unwrap_or(&message));
        Ok(Err(Refusal { status, message, date }))
    }

    async fn read(&self, mut answer: Response, limit: usize) -> Result<Vec<u8>, StepCaError> {
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| self.failed(&error))? {
            if body.len() + chunk.len() > limit {
                return Err(StepCaError::Malformed("it is too long"));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    fn failed(&self, error: &reqwest::Error) -> StepCaError {
        if error.is_timeout() {
            return StepCaError::TimedOut(self.timeout);
        }
        match root_cause(error) {
            Cause::Certificate => StepCaError::NotTrusted,
            Cause::Other(reason) => StepCaError::Unreachable(one_line(&reason)),
        }
    }
}

impl Refusal {
    /// Of a request that carried a token. `now` is this machine's time when the token was made.
    pub(super) fn of_token(self, now: OffsetDateTime) -> StepCaError {
        match self.status {
            StatusCode::UNAUTHORIZED => match self.date.map(|date| (now - date).whole_seconds()) {
                // step-ca allows one minute (RFC 7519 says: a few); its date has whole seconds.
                Some(ahead) if ahead.abs() >= 58 => StepCaError::ClockSkew(ahead),
                _ => StepCaError::TokenRefused(self.message),
            },
            _ if [TEMPLATE_FAILED, TEMPLATE_BROKEN].iter().any(|said| self.message.contains(said)) => {
                StepCaError::Template(self.message)
            }
            StatusCode::BAD_REQUEST | StatusCode::FORBIDDEN => StepCaError::Policy(self.message),
            _ => self.unexpected(),
        }
    }

    pub(super) fn unexpected(self) -> StepCaError {
        StepCaError::Answer { status: self.status.as_u16(), message: self.message }
    }
}

enum Cause {
    /// The server's certificate was refused here.
    Certificate,
    Other(String),
}

/// The innermost error says what happened; those around it repeat the URL.
fn root_cause(error: &reqwest::Error) -> Cause {
    let mut cause: &(dyn Error + 'static) = error;
    loop {
        let inner = match cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(inner) => Some(inner as &(dyn Error + 'static)),
            None => cause.source(),
        };
        if let Some(rustls::Error::InvalidCertificate(_)) = cause.downcast_ref() {
            return Cause::Certificate;
        }
        match inner {
            Some(inner) => cause = inner,
            None => return Cause::Other(cause.to_string()),
        }
    }
}

fn date(answer: &Response) -> Option<OffsetDateTime> {
    let text = answer.headers().get(reqwest::header::DATE)?.to_str().ok()?;
    // RFC 9110 5.6.7 writes GMT where RFC 2822 wants a number.
    OffsetDateTime::parse(&text.replace("GMT", "+0000"), &Rfc2822).ok()
}

fn parse<'a, T: Deserialize<'a>>(body: &'a [u8], what: &'static str) -> Result<T, StepCaError> {
    serde_json::from_slice(body).map_err(|_| StepCaError::Malformed(what))
}

fn one_certificate(pem: &str) -> Result<Vec<u8>, StepCaError> {
    certificate_from_pem(pem).map_err(|_| StepCaError::Malformed("a certificate"))
}

fn certificates(pems: &[String]) -> Result<Vec<Vec<u8>>, StepCaError> {
    if pems.is_empty() {
        return Ok(Vec::new());
    }
    certificates_from_pem(&pems.concat()).map_err(|_| StepCaError::Malformed("a certificate"))
}

fn one_line(text: &str) -> Box<str> {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MESSAGE_CHARS_LIMIT).collect();
    line.trim().into()
}
