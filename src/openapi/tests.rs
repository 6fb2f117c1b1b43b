use std::collections::BTreeSet;

use actix_web::App;
use actix_web::test::{TestRequest, call_and_read_body_json, init_service};
use serde_json::Value;

use super::*;

type Routes = BTreeSet<(String, String)>;

/// The routes that a module's source registers: each `web::resource("path")` with the `.route(web::method()` behind it, and
/// each `#[method("path")]`. A scope of actix cannot be asked what it holds, its source can.
fn routes_in(source: &str, base: &str) -> Routes {
    let source = source.split("mod tests {").next().unwrap_or_default();
    let mut routes = Routes::new();
    for part in source.split("web::resource(").skip(1) {
        let path = part.split('"').nth(1).expect("a path").replace("{BASE_PATH}", "");
        let path = format!("{base}{}", path.replace("{{", "{").replace("}}", "}"));
        for method in part.split(".route(web::").skip(1) {
            routes.insert((method.split('(').next().unwrap().to_owned(), path.clone()));
        }
    }
    for method in ["get", "post"] {
        for part in source.split(&format!("#[{method}(\"")).skip(1) {
            routes.insert((method.to_owned(), format!("{base}{}", part.split('"').next().unwrap())));
        }
    }
    routes
}

fn registered() -> Routes {
    let admin = admin_api::ROUTES
        .iter()
        .map(|endpoint| (endpoint.method.to_owned(), format!("{}{}", admin_api::BASE_PATH, endpoint.path)));
    let mut routes: Routes = admin.collect();
    routes.extend(routes_in(include_str!("../session_api.rs"), session_api::BASE_PATH));
    routes.extend(routes_in(include_str!("../federation_api.rs"), crate::wire::federation_v1::BASE_PATH));
    routes.extend(routes_in(include_str!("../enrollment_api.rs"), crate::wire::federation_v1::BASE_PATH));
    routes.extend(routes_in(include_str!("../health.rs"), ""));
    routes.extend(routes_in(include_str!("../openapi.rs"), ""));
    routes
}

fn documented() -> Routes {
    let document = serde_json::to_value(openapi()).unwrap();
    let paths = document["paths"].as_object().unwrap();
    let operations = paths
        .iter()
        .flat_map(|(path, item)| item.as_object().unwrap().keys().map(move |method| (method.clone(), path.clone())));
    operations.collect()
}

#[test]
fn every_registered_route_is_documented_and_nothing_else() {
    let (registered, documented) = (registered(), documented());
    let missing: Vec<_> = registered.difference(&documented).collect();
    let invented: Vec<_> = documented.difference(&registered).collect();
    assert!(missing.is_empty() && invented.is_empty(), "not documented: {missing:?}; documented in vain: {invented:?}");
    assert!(registered.len() > 40, "{}", registered.len());
}

#[test]
fn every_operation_says_who_may_ask_and_how_it_refuses() {
    let document = serde_json::to_value(openapi()).unwrap();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let scheme = match path.as_str() {
                path if path.starts_with("/api/admin/") => Some("admin_token"),
                path if path.ends_with("/v1/enroll") => Some("enrollment_token"),
                path if path.ends_with("/v1/crl") => None,
                path if path.starts_with("/api/federation/") => Some("client_certificate"),
                path if path.starts_with("/api/v1/") => Some("session_token"),
                _ => None,
            };
            let named = operation["security"][0].as_object().and_then(|scheme| scheme.keys().next());
            assert_eq!(named.map(String::as_str), scheme, "{method} {path}");
            for (status, response) in operation["responses"].as_object().unwrap() {
                assert!(!response["description"].as_str().unwrap().is_empty(), "{method} {path} {status}");
                let refusal = status.starts_with(['4', '5']);
                assert!(!refusal || response["content"].is_object(), "{method} {path} {status}");
            }
        }
    }
}

/// Every `$ref` must lead somewhere, or generated clients break.
#[test]
fn every_reference_leads_to_a_schema() {
    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(object) => {
                found.extend(object.get("$ref").and_then(Value::as_str).map(str::to_owned));
                object.values().for_each(|value| references(value, found));
            }
            Value::Array(list) => list.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    let document = serde_json::to_value(openapi()).unwrap();
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    for reference in &found {
        let pointer = reference.strip_prefix('#').expect("a reference into this document");
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
    assert!(found.contains("#/components/schemas/ErrorBody"));
}

#[actix_rt::test]
async fn the_document_is_served() {
    let app = init_service(App::new().configure(configure)).await;
    let request = TestRequest::get().uri("/openapi.json").to_request();
    let served: Value = call_and_read_body_json(&app, request).await;
    assert_eq!(served["openapi"], "3.1.0");
    assert_eq!(served["info"]["version"], env!("CARGO_PKG_VERSION"));
}
