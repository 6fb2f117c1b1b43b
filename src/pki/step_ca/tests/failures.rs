use std::os::unix::fs::PermissionsExt;

use mosaic_actors::domain::fault::FaultKind;
use serde_json::json;

use super::*;
use crate::pki::step_ca::jwe::JweError;
use crate::pki::step_ca::provisioner_key::KeyError;

const TINY_TIMEOUT: std::time::Duration = std::time::Duration::from_millis(300);

fn provisioner(settings: &mut serde_json::Value) -> &mut serde_json::Value {
    &mut settings["authority"]["provisioners"][0]
}

struct Shifted(Duration);

impl Clock for Shifted {
    fn now(&self) -> OffsetDateTime {
        SystemClock.now() + self.0
    }
}

async fn open_error(config: StepCaConfig) -> StepCaError {
    typed(StepCa::open(config, arc(), Arc::new(SystemClock)).await.map(|_| ()))
}

#[tokio::test]
async fn without_the_template_nothing_is_handed_out_and_what_was_signed_is_revoked() {
    let server = TestStepCa::start_with("work", |settings| provisioner(settings)["options"] = json!({}));
    let ca = open(server.config()).await;
    let refused = refusal(&ca).await;
    assert_eq!(refused, StepCaError::TemplateMissing(Mismatch::Profile(ProfileError::Missing("grant"))));
    assert!(refused.remedy().contains("compose/step-ca/mosaic.tpl"));
    assert_eq!(CaError::from(refused).fault().kind, FaultKind::Internal);
    assert_eq!(revoked_serials(&ca.crl().await.unwrap().der).unwrap().len(), 1);

    let server = typed(ca.issue_server(vec!["work.example".to_owned()], now(), Duration::hours(1)).await);
    assert!(matches!(server, StepCaError::WrongCertificate(_)), "{server:?}");
    let found = ca.examine().await;
    assert!(matches!(found.template, Some(Err(StepCaError::TemplateMissing(_)))), "{found:?}");
}

#[tokio::test]
async fn a_template_for_another_arc_is_noticed() {
    let other = ExtensionArc::parse("1.3.6.1.4.1.4711").unwrap();
    let ca = StepCa::open(SHARED.config(), other, Arc::new(SystemClock)).await.unwrap();
    assert!(matches!(refusal(&ca).await, StepCaError::TemplateMissing(_)));
}

#[tokio::test]
async fn a_template_that_is_broken_is_told_from_one_that_is_missing() {
    let server = TestStepCa::start_with("work", |settings| {
        provisioner(settings)["options"]["x509"]["template"] = json!("{\"subject\": {{ toJson .Subject }} ");
    });
    let refused = refusal(&open(server.config()).await).await;
    assert!(matches!(refused, StepCaError::Template(_)), "{refused:?}");
}

/// Each claim that the template needs, taken out or altered.
#[tokio::test]
async fn a_token_without_a_needed_claim_fails_loudly() {
    let ca = open(SHARED.config()).await;
    let (_, request) = new_request();
    let TemplateClaims::Client { grant, subject } = TemplateClaims::client(&request) else { panic!() };
    let claims = |grant: &str, subject: &str| TemplateClaims::Client { grant: grant.into(), subject: subject.into() };
    let printable =
        base64::Engine::encode(&base64::engine::general_purpose::STANDARD, [b"\x13\x24", &[b'a'; 36][..]].concat());
    for (template, said) in [
        (None, "mosaic-template: the token has no claim mosaic."),
        (Some(claims("", &subject)), "mosaic-template: the claim mosaic.grant is not the DER of a UUID."),
        (Some(claims(&grant, "")), "mosaic-template: the claim mosaic.subject is not the DER of a UUID."),
        (Some(claims(&grant, &printable)), "mosaic-template: the claim mosaic.subject is not the DER of a UUID."),
        (
            Some(claims(&format!("{grant}AA=="), &subject)),
            "mosaic-template: the claim mosaic.grant is not the DER of a UUID.",
        ),
    ] {
        assert_eq!(sign_with(&ca, &request, template.as_ref()).await, StepCaError::Template(said.into()));
    }
}

async fn sign_with(ca: &StepCa, request: &ClientRequest, template: Option<&TemplateClaims>) -> StepCaError {
    let (inner, csr) = (&ca.inner, csr_from_pem(&request.csr_pem).unwrap());
    let url = inner.api.url("/1.0/sign");
    let permission = Permission { audience: url.as_str(), subject: "home", names: &[], csr: Some(&csr), template };
    let token = inner.token(&inner.key().await.unwrap(), now(), permission).unwrap();
    sign_once(ca, request, &token).await.unwrap_err()
}

async fn sign_once(ca: &StepCa, request: &ClientRequest, token: &str) -> Result<(), StepCaError> {
    let (not_before, not_after) = (whole_second(request.not_before), whole_second(request.not_after));
    let body = SignBody { csr: &request.csr_pem, ott: token, not_before, not_after };
    ca.inner.api.sign(&body).await.unwrap().map(|_| ()).map_err(|refusal| refusal.of_token(now()))
}

#[tokio::test]
async fn a_token_is_good_once_and_for_its_request_only() {
    let ca = open(SHARED.config()).await;
    let (_, request) = new_request();
    let csr = csr_from_pem(&request.csr_pem).unwrap();
    let url = ca.inner.api.url("/1.0/sign");
    let template = TemplateClaims::client(&request);
    let permission =
        Permission { audience: url.as_str(), subject: "home", names: &[], csr: Some(&csr), template: Some(&template) };
    let key = ca.inner.key().await.unwrap();
    let token = || ca.inner.token(&key, now(), permission).unwrap();

    let once = token();
    assert_eq!(sign_once(&ca, &request, &once).await, Ok(()));
    assert!(matches!(sign_once(&ca, &request, &once).await, Err(StepCaError::TokenRefused(_))));

    let stolen = sign_once(&ca, &new_request().1, &token()).await;
    assert!(matches!(stolen, Err(StepCaError::Policy(_))), "{stolen:?}");
    let mut forged = token();
    forged.replace_range(forged.len() - 8..forged.len() - 4, "AAAA");
    assert!(matches!(sign_once(&ca, &request, &forged).await, Err(StepCaError::TokenRefused(_))));
    let elsewhere = Permission { audience: "https://elsewhere.example/1.0/sign", ..permission };
    let elsewhere = ca.inner.token(&key, now(), elsewhere).unwrap();
    assert!(matches!(sign_once(&ca, &request, &elsewhere).await, Err(StepCaError::TokenRefused(_))));
}

#[tokio::test]
async fn clocks_that_differ_are_named() {
    for ahead in [Duration::minutes(10), Duration::minutes(-10)] {
        let ca = StepCa::open(SHARED.config(), arc(), Arc::new(Shifted(ahead))).await.unwrap();
        let StepCaError::ClockSkew(seconds) = refusal(&ca).await else { panic!("no skew at {ahead}") };
        assert!((seconds - ahead.whole_seconds()).abs() <= 10, "{seconds}");
    }
}

#[tokio::test]
async fn an_authority_that_is_down_is_told_and_found_again() {
    let mut server = TestStepCa::start("work");
    let config = StepCaConfig { root_file: Some(server.directory().join("root_ca.crt")), ..server.config() };
    server.kill();
    assert!(matches!(open_error(server.config()).await, StepCaError::Unreachable(_)), "the root cannot be fetched");
    let ca = open(config).await;
    let refused = refusal(&ca).await;
    assert!(matches!(refused, StepCaError::Unreachable(_)), "{refused:?}");
    assert_eq!(CaError::from(refused).fault().kind, FaultKind::Unavailable);
    assert!(matches!(typed(ca.crl().await), StepCaError::Unreachable(_)));
    assert_eq!(ca.examine().await.provisioner, None);
    server.run();
    issue(&ca).await.unwrap();
}

#[tokio::test]
async fn an_authority_that_stays_silent_costs_its_timeout() {
    let server = TestStepCa::start("work");
    let ca = open(StepCaConfig { timeout: TINY_TIMEOUT, ..server.config() }).await;
    server.freeze();
    let refused = refusal(&ca).await;
    assert_eq!(refused, StepCaError::TimedOut(TINY_TIMEOUT));
    assert!(refused.is_retryable());
    server.thaw();
}

#[tokio::test]
async fn a_replaced_provisioner_key_is_picked_up() {
    let mut server = TestStepCa::start("work");
    let ca = open(server.config()).await;
    issue(&ca).await.unwrap();
    server.kill();
    let replaced = setup::provisioner("mosaic", testing::PASSWORD.as_bytes(), &arc()).unwrap();
    server.edit(|settings| *provisioner(settings) = replaced);
    server.run();
    issue(&ca).await.unwrap();
}

#[tokio::test]
async fn the_wrong_password_is_told_from_the_wrong_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("password");
    let config = StepCaConfig { password_file: path.clone(), ..SHARED.config() };
    assert!(matches!(open_error(config.clone()).await, StepCaError::PasswordFile { .. }));
    std::fs::write(&path, "another").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let refused = refusal(&open(config).await).await;
    assert_eq!(refused, StepCaError::ProvisionerKey(KeyError::Jwe(JweError::Password)));
    assert!(refused.remedy().contains("ca.password_file"));
}

#[tokio::test]
async fn a_missing_provisioner_is_told_with_those_that_are_there() {
    let config = StepCaConfig { provisioner: "elsewhere".into(), ..SHARED.config() };
    let refused = refusal(&open(config).await).await;
    let found = "mosaic (JWK)".into();
    assert_eq!(refused, StepCaError::ProvisionerMissing { wanted: "elsewhere".into(), found });
}

#[tokio::test]
async fn a_key_that_is_not_handed_out_comes_from_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key.jwe");
    let server = TestStepCa::start_with("work", |settings| {
        let key = provisioner(settings).as_object_mut().unwrap().remove("encryptedKey").unwrap();
        std::fs::write(&path, key.as_str().unwrap()).unwrap();
    });
    assert_eq!(refusal(&open(server.config()).await).await, StepCaError::ProvisionerKeyHidden("mosaic".into()));
    issue(&open(StepCaConfig { provisioner_key_file: Some(path), ..server.config() }).await).await.unwrap();
}

#[tokio::test]
async fn another_root_is_refused_before_and_after_it_is_known() {
    let other = TestStepCa::start("home");
    let unknown = StepCaConfig { root_sha256: other.config().root_sha256, ..SHARED.config() };
    assert!(matches!(open_error(unknown.clone()).await, StepCaError::RootUnknown(_)));
    let foreign = StepCaConfig { root_file: Some(other.directory().join("root_ca.crt")), ..unknown };
    let ca = open(foreign).await;
    assert_eq!(refusal(&ca).await, StepCaError::NotTrusted);
    assert_eq!(ca.examine().await.reachable, Err(StepCaError::NotTrusted));
}

#[tokio::test]
async fn a_life_that_the_provisioner_does_not_allow_is_told() {
    let ca = open(SHARED.config()).await;
    let (_, request) = new_request();
    let longer = ClientRequest { not_after: request.not_before + Duration::days(91), ..request.clone() };
    let refused = typed(ca.issue(longer).await);
    assert!(matches!(&refused, StepCaError::Policy(_)), "{refused:?}");
    assert!(refused.remedy().contains("maxTLSCertDuration"));
    let backwards = ClientRequest { not_after: request.not_before, ..request.clone() };
    assert!(matches!(ca.issue(backwards).await, Err(CaError::Refused(_))));
    let outliving = ClientRequest { not_after: request.not_before + Duration::days(4000), ..request };
    assert!(matches!(ca.issue(outliving).await, Err(CaError::Refused(_))));
}

#[tokio::test]
async fn renewal_at_step_ca_is_a_finding() {
    let server = TestStepCa::start_with("work", |settings| {
        provisioner(settings)["claims"]["disableRenewal"] = json!(false);
    });
    let found = open(server.config()).await.examine().await;
    assert_eq!(found.provisioner, Some(Err(StepCaError::RenewalAllowed("mosaic".into()))));
    assert_eq!(found.template, Some(Ok(())));
}
