//! Request bodies and query strings: capped, timed, strict, and refused with a text that names the field.

use actix_web::HttpRequest;
use actix_web::error::PayloadError;
use actix_web::http::header;
use actix_web::web::Payload;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use mosaic_actors::domain::fault::{Fault, FaultKind, Stage};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout_at};

/// Longest message about a field that a client gets back.
const MESSAGE_MAX_CHARS: usize = 300;

/// Reads a whole body of at most `cap` bytes before `deadline`: actix itself bounds neither. Over the cap 413, too slow,
/// broken or encoded 400. Authorise first: reading is work done for the client.
pub async fn read_body(
    request: &HttpRequest,
    mut payload: Payload,
    cap: usize,
    deadline: Instant,
) -> Result<Bytes, Fault> {
    if request.headers().get(header::CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
        return Err(Fault::invalid("a content-encoding is not supported; send the body as it is"));
    }
    if declared_length(request).is_some_and(|length| length > cap as u64) {
        return Err(too_large(cap));
    }
    let mut body = BytesMut::new();
    loop {
        let chunk = timeout_at(deadline, payload.next()).await.map_err(|_| too_slow())?;
        match chunk {
            None => return Ok(body.freeze()),
            Some(Ok(chunk)) if body.len() + chunk.len() > cap => {
                drop(chunk);
                return Err(too_large(cap));
            }
            Some(Ok(chunk)) => body.extend_from_slice(&chunk),
            Some(Err(error)) => return Err(broken(&error, cap)),
        }
    }
}

fn declared_length(request: &HttpRequest) -> Option<u64> {
    request.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn too_large(cap: usize) -> Fault {
    Fault::new(FaultKind::TooLarge, Stage::Request).with_message(format!("the request body is over {cap} bytes"))
}

fn too_slow() -> Fault {
    Fault::invalid("the request body did not arrive in time")
}

fn broken(error: &PayloadError, cap: usize) -> Fault {
    match error {
        PayloadError::Overflow => too_large(cap),
        _ => Fault::invalid("the request body ended early or is not well framed"),
    }
}

/// Parses a JSON body strictly. DTOs carry `#[serde(deny_unknown_fields)]`; the message names the field, never a value.
pub fn parse_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Fault> {
    match body.iter().find(|byte| !byte.is_ascii_whitespace()) {
        None => return Err(Fault::invalid("the request body is empty; send a JSON object")),
        Some(b'{') => {}
        // serde would take a list as a struct's fields in order.
        Some(_) => return Err(Fault::invalid("the request body is not a JSON object")),
    }
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        json_fault(&path, error.inner())
    })?;
    deserializer.end().map_err(|_| Fault::invalid("the request body goes on after the JSON object"))?;
    Ok(value)
}

fn json_fault(path: &str, error: &serde_json::Error) -> Fault {
    if !error.is_data() {
        return Fault::invalid(format!(
            "the request body is not JSON: see line {} column {}",
            error.line(),
            error.column()
        ));
    }
    let text = error.to_string();
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(message, _)| message);
    field_fault(path, text)
}

/// Parses a query string strictly; absent is empty.
pub fn parse_query<T: DeserializeOwned>(request: &HttpRequest) -> Result<T, Fault> {
    let pairs = serde_urlencoded::Deserializer::new(url::form_urlencoded::parse(request.query_string().as_bytes()));
    serde_path_to_error::deserialize(pairs)
        .map_err(|error| field_fault(&error.path().to_string(), &error.inner().to_string()))
}

fn field_fault(path: &str, serde_text: &str) -> Fault {
    let text = without_value(serde_text);
    let message = if path.is_empty() || path == "." || text.contains('`') && !text.contains("expected") {
        text
    } else {
        format!("{path}: {text}")
    };
    Fault::invalid(message.chars().take(MESSAGE_MAX_CHARS).collect::<String>())
}

/// serde's texts hold the value that was sent, which may be a secret in the wrong place: keep only what kind it is.
fn without_value(text: &str) -> String {
    for (prefix, verb) in [("invalid type: ", "is"), ("invalid value: ", "has a value that is")] {
        let Some(rest) = text.strip_prefix(prefix) else { continue };
        let Some((given, expected)) = rest.rsplit_once(", expected ") else { continue };
        let expected = if expected.starts_with("struct ") { "an object" } else { expected };
        let kind = given.split([' ', '`', '"']).next().unwrap_or("something");
        return if verb == "is" {
            format!("expected {expected}, not {}", kind_word(kind))
        } else {
            format!("expected {expected}")
        };
    }
    text.to_owned()
}

fn kind_word(kind: &str) -> &str {
    match kind {
        "string" | "character" => "a string",
        "integer" | "floating" => "a number",
        "boolean" => "true or false",
        "map" => "an object",
        "sequence" => "a list",
        "null" => "null",
        _ => "something else",
    }
}
