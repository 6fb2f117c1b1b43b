//! One-time tokens (RFC 7519, signed with ES256): each authorises one request to step-ca.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::Serialize;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::provisioner_key::{KeyError, ProvisionerKey};
use crate::pki::authority::ClientRequest;
use crate::pki::extension_arc::encode_identity;
use crate::secrets::sha256;

/// How long a token is good. step-ca takes each one only once, and logs it.
const LIFETIME: Duration = Duration::minutes(5);

/// What every token of one node says alike.
pub(super) struct Issuer<'a> {
    pub(super) key: &'a ProvisionerKey,
    /// The provisioner's name.
    pub(super) provisioner: &'a str,
    /// SHA-256 of the root, in lower-case hex.
    pub(super) root: &'a str,
    pub(super) now: OffsetDateTime,
}

/// What a token allows.
#[derive(Clone, Copy)]
pub(super) struct Permission<'a> {
    /// The URL that it is for.
    pub(super) audience: &'a str,
    /// The certificate's common name, or the decimal serial number to revoke.
    pub(super) subject: &'a str,
    pub(super) names: &'a [String],
    /// DER of the only request that it may be used with.
    pub(super) csr: Option<&'a [u8]>,
    pub(super) template: Option<&'a TemplateClaims>,
}

/// What the provisioner's template reads, under `mosaic`.
#[derive(Serialize)]
#[serde(tag = "use", rename_all = "lowercase")]
pub(super) enum TemplateClaims {
    Client {
        /// Base64 of the extension's value.
        grant: String,
        subject: String,
    },
    Server,
}

impl TemplateClaims {
    pub(super) fn client(request: &ClientRequest) -> Self {
        let der = |id| STANDARD.encode(encode_identity(id));
        Self::Client { grant: der(request.grant.0), subject: der(request.subject.0) }
    }
}

#[derive(Serialize)]
struct Header<'a> {
    alg: &'static str,
    kid: &'a str,
    typ: &'static str,
}

#[derive(Serialize)]
struct Claims<'a> {
    aud: &'a str,
    iss: &'a str,
    sub: &'a str,
    jti: String,
    iat: i64,
    nbf: i64,
    exp: i64,
    sha: &'a str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    sans: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    cnf: Option<Confirmation>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mosaic: Option<&'a TemplateClaims>,
}

/// Binds the token to one request (step-ca 0.25 and later check it; earlier ones ignore it).
#[derive(Serialize)]
struct Confirmation {
    #[serde(rename = "x5rt#S256")]
    csr_sha256: String,
}

impl Issuer<'_> {
    /// A token that is good once, for a few minutes.
    pub(super) fn sign(&self, permission: Permission<'_>) -> Result<String, KeyError> {
        let now = self.now.unix_timestamp();
        let confirmation = |csr: &[u8]| Confirmation { csr_sha256: URL_SAFE_NO_PAD.encode(sha256(csr)) };
        let claims = Claims {
            aud: permission.audience,
            iss: self.provisioner,
            sub: permission.subject,
            jti: Uuid::new_v4().simple().to_string(),
            iat: now,
            nbf: now,
            exp: now + LIFETIME.whole_seconds(),
            sha: self.root,
            sans: permission.names,
            cnf: permission.csr.map(confirmation),
            mosaic: permission.template,
        };
        let header = Header { alg: "ES256", kid: self.key.id(), typ: "JWT" };
        let signed = format!("{}.{}", encode(&header)?, encode(&claims)?);
        let signature = URL_SAFE_NO_PAD.encode(self.key.sign(signed.as_bytes())?);
        Ok(format!("{signed}.{signature}"))
    }
}

fn encode(part: &impl Serialize) -> Result<String, KeyError> {
    serde_json::to_vec(part).map(|json| URL_SAFE_NO_PAD.encode(json)).map_err(|_| KeyError::Library)
}
