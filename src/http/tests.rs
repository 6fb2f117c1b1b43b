use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header;
use actix_web::middleware::from_fn;
use actix_web::test::{TestRequest, call_service, init_service, read_body as read_answer};
use actix_web::{App, HttpRequest, HttpResponse, web};
use mosaic_actors::domain::fault::{Fault, FaultKind, Stage};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::*;

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Sample {
    limit: Option<u32>,
    name: String,
}

async fn echo(request: HttpRequest, payload: web::Payload) -> Result<HttpResponse, ApiError> {
    let body = read_body(&request, payload, 16, Instant::now() + Duration::from_secs(5)).await?;
    Ok(json_bytes(StatusCode::OK, body))
}

async fn revoked() -> Result<HttpResponse, ApiError> {
    Err(ApiError::new(Fault::new(FaultKind::GrantRevoked, Stage::Authorize)).closing())
}

async fn limited() -> Result<HttpResponse, ApiError> {
    Err(Fault::new(FaultKind::RateLimited, Stage::Admission).after(Duration::from_millis(1_200)).into())
}

async fn panics() -> actix_web::Result<HttpResponse> {
    Err(actix_web::error::ErrorInternalServerError("SELECT secret FROM /etc/passwd"))
}

async fn answer_of(request: TestRequest) -> (StatusCode, header::HeaderMap, Value) {
    let app = init_service(
        App::new()
            .wrap(from_fn(identify))
            .service(web::resource("/echo").route(web::post().to(echo)))
            .service(web::resource("/revoked").route(web::get().to(revoked)))
            .service(web::resource("/limited").route(web::get().to(limited)))
            .service(web::resource("/broken").route(web::get().to(panics)))
            .default_service(web::to(no_such_path)),
    )
    .await;
    let response = call_service(&app, request.to_request()).await;
    let (status, headers) = (response.status(), response.headers().clone());
    let body = read_answer(response).await;
    let value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let mut map = header::HeaderMap::new();
    for (name, value) in &headers {
        map.append(name.clone(), value.clone());
    }
    (status, map, value)
}

fn error_of(mut body: Value, headers: &header::HeaderMap) -> Value {
    let id = headers.get("x-request-id").unwrap().to_str().unwrap();
    assert_eq!(body["error"]["request_id"], id, "the body and the header name the same request");
    body["error"].as_object_mut().unwrap().remove("request_id");
    body["error"].take()
}

#[actix_web::test]
async fn every_error_has_the_error_shape_and_the_request_id() {
    let cases = [
        (TestRequest::get().uri("/nowhere"), 404, json!({"code": "not_found", "message": "no such path"})),
        (
            TestRequest::get().uri("/echo"),
            405,
            json!({"code": "invalid_request", "message": "this path does not answer this method"}),
        ),
        (
            TestRequest::post().uri("/echo").set_payload("x".repeat(17)),
            413,
            json!({"code": "too_large", "message": "the request body is over 16 bytes"}),
        ),
        (
            TestRequest::get().uri("/revoked"),
            403,
            json!({"code": "forbidden", "message": "this grant was revoked", "reason": "grant_revoked"}),
        ),
        (
            TestRequest::get().uri("/limited"),
            429,
            json!({"code": "rate_limited", "message": "too many requests; retry later", "retry_after_ms": 1200}),
        ),
    ];
    for (request, status, error) in cases {
        let (got, headers, body) = answer_of(request).await;
        assert_eq!(got.as_u16(), status);
        assert_eq!(error_of(body, &headers), error);
    }
}

#[actix_web::test]
async fn an_error_of_the_framework_shows_nothing_of_its_text() {
    let (status, headers, body) = answer_of(TestRequest::get().uri("/broken")).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    let error = error_of(body, &headers);
    assert_eq!(error["code"], "internal");
    assert!(!error.to_string().contains("SELECT"), "{error}");
}

#[actix_web::test]
async fn retry_after_is_rounded_up_to_whole_seconds() {
    let (_, headers, _) = answer_of(TestRequest::get().uri("/limited")).await;
    assert_eq!(headers.get(header::RETRY_AFTER).unwrap(), "2");
}

#[actix_web::test]
async fn a_request_id_sent_by_the_client_is_ignored() {
    let theirs = "11111111-1111-4111-8111-111111111111";
    let request = TestRequest::post().uri("/echo").insert_header(("x-request-id", theirs)).set_payload("{}");
    let (status, headers, _) = answer_of(request).await;
    assert_eq!(status, StatusCode::OK);
    assert_ne!(headers.get("x-request-id").unwrap(), theirs);
}

#[actix_web::test]
async fn an_encoded_body_is_refused_rather_than_inflated() {
    let request = TestRequest::post().uri("/echo").insert_header(("content-encoding", "gzip")).set_payload("{}");
    let (status, ..) = answer_of(request).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

fn message(body: &str) -> String {
    let fault = parse_json::<Sample>(body.as_bytes()).unwrap_err();
    assert_eq!(fault.kind, FaultKind::InvalidRequest);
    fault.message.unwrap().into()
}

#[test]
fn a_refused_body_names_the_field_and_shows_no_value() {
    assert_eq!(message(r#"{"name":"x","limit":"hunter2"}"#), "limit: expected u32, not a string");
    assert_eq!(message(r#"{"name":"x","limit":-1}"#), "limit: expected u32");
    assert_eq!(message(r#"{"name":"x","limt":1}"#), "limt: unknown field `limt`, expected `limit` or `name`");
    assert_eq!(message("{}"), "missing field `name`");
    assert_eq!(message(r#"{"name":"x","name":"y"}"#), "duplicate field `name`");
    assert_eq!(message(""), "the request body is empty; send a JSON object");
    assert_eq!(message("{\"name\":"), "the request body is not JSON: see line 1 column 8");
    assert_eq!(message(r#"{"name":"x"} {}"#), "the request body goes on after the JSON object");
    assert_eq!(message("[1]"), "the request body is not a JSON object");
    assert!(message(&format!("{{\"{}\":1}}", "f".repeat(5_000))).len() <= 300);
}

#[test]
fn a_query_string_is_strict_and_names_the_field() {
    let request = TestRequest::get().uri("/x?name=a%20b&limit=3").to_http_request();
    assert_eq!(parse_query::<Sample>(&request), Ok(Sample { limit: Some(3), name: "a b".into() }));
    let request = TestRequest::get().uri("/x?name=a&colour=red").to_http_request();
    let fault = parse_query::<Sample>(&request).unwrap_err();
    assert!(fault.message.unwrap().contains("unknown field `colour`"));
}

#[test]
fn a_bearer_token_is_one_header_of_one_scheme() {
    let with = |values: &[&str]| {
        let mut request = TestRequest::get();
        for value in values {
            request = request.append_header(("authorization", *value));
        }
        bearer_token(&request.to_http_request()).map(str::to_owned).map_err(|fault| fault.kind)
    };
    assert_eq!(with(&["Bearer abc_-1"]), Ok("abc_-1".to_owned()));
    assert_eq!(with(&["bearer abc"]), Ok("abc".to_owned()));
    for bad in [&[][..], &["Basic abc"], &["Bearer"], &["Bearer "], &["Bearer a b"], &["Bearer a", "Bearer b"]] {
        assert_eq!(with(bad), Err(FaultKind::Unauthorized), "{bad:?}");
    }
}

#[test]
fn a_path_segment_is_decoded_once() {
    let of = |raw: &'static str| {
        let request = TestRequest::get().param("id", raw).to_http_request();
        path_text(&request, "id").map_err(|fault| fault.kind)
    };
    assert_eq!(of("a%2Fb%252F"), Ok("a/b%2F".to_owned()));
    assert_eq!(of("%"), Err(FaultKind::InvalidRequest));
    assert_eq!(of("%ff"), Err(FaultKind::InvalidRequest));
}

#[test]
fn only_a_well_formed_traceparent_travels_on() {
    let of =
        |text: &'static str| traceparent(&TestRequest::get().insert_header(("traceparent", text)).to_http_request());
    let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    assert_eq!(of(good).as_deref(), Some(good));
    assert_eq!(of("00-00000000000000000000000000000000-00f067aa0ba902b7-01"), None);
    assert_eq!(of("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7"), None);
    assert_eq!(of("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"), None);
}
