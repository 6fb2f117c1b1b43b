use super::*;

#[actix_rt::test]
async fn nothing_answers_without_an_admin_token() {
    let node = Node::start().await;
    let other = Token::generate(Token::ADMIN);
    let headers = [
        None,
        Some("Bearer".to_owned()),
        Some(format!("Basic {}", node.token)),
        Some(format!("Bearer {}", other.expose())),
        Some(format!("Bearer {}x", node.token)),
    ];
    for header in headers {
        for endpoint in ROUTES.iter().map(|endpoint| (endpoint.method, endpoint.path)).chain([("get", "/nowhere")]) {
            let mut request = TestRequest::default()
                .method(endpoint.0.to_uppercase().parse().unwrap())
                .uri(&format!("{BASE_PATH}{}", endpoint.1.replace(['{', '}'], "x")));
            if let Some(header) = &header {
                request = request.insert_header(("authorization", header.as_str()));
            }
            let (status, body) = node.send(request).await;
            assert_eq!((status, &body["error"]["code"]), (401, &json!("unauthorized")), "{endpoint:?} {header:?}");
            assert!(body["error"]["request_id"].is_string());
        }
    }
}

#[actix_rt::test]
async fn a_bad_body_is_refused_with_the_field_that_is_wrong() {
    let node = Node::start().await;
    node.ada().await;
    let grant = |more: Value| {
        let mut body = json!({"peer": "home", "user": "ada", "scope": {"resources": ["tasks"]}});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let scope = |document: Value| grant(json!({"scope": document}));
    let team = "00000000-0000-4000-8000-000000000000";
    let cases = [
        ("/users", json!({"name": "Ada"}), "name: "),
        ("/users", json!({"name": "bob", "admin": true}), "admin: unknown field"),
        ("/users", json!({}), "missing field `name`"),
        ("/users", json!({"name": "bob", "display_name": "x".repeat(201)}), "display_name: "),
        ("/teams", json!({"name": "a b"}), "name: "),
        ("/tokens", json!({"kind": "session"}), "user: is missing"),
        ("/tokens", json!({"kind": "session", "user": "bob"}), "user: no user 'bob' on this site; create one with"),
        ("/tokens", json!({"kind": "admin", "user": "ada"}), "user: leave it out"),
        ("/tokens", json!({"kind": "session", "user": "ada", "lifetime_seconds": 1}), "lifetime_seconds: "),
        ("/tokens", json!({"kind": "root"}), "kind: "),
        ("/grants", grant(json!({"peer": "Home"})), "peer: "),
        ("/grants", grant(json!({"user": "bob"})), "user: no user 'bob'"),
        ("/grants", grant(json!({"expires_at": "2020-01-01T00:00:00Z"})), "expires_at: is in the past"),
        ("/grants", grant(json!({"expires_at": "2199-01-01T00:00:00Z"})), "expires_at: is more than 1825 days away"),
        ("/grants", grant(json!({"expires_at": "tomorrow"})), "expires_at: "),
        (
            "/grants",
            grant(json!({"limits": {"requests_per_second": 0, "burst": 1, "concurrent": 1}})),
            "limits.requests_per_second: ",
        ),
        ("/grants", grant(json!({"invite_lifetime_seconds": 86_401})), "invite_lifetime_seconds: "),
        ("/grants", scope(json!([])), "scope: is not an object"),
        ("/grants", scope(json!({"resources": []})), "scope.resources: names no resource"),
        ("/grants", scope(json!({"resources": ["credentials"]})), "scope.resources: 'credentials'"),
        (
            "/grants",
            scope(json!({"resources": ["tasks"], "excluded_resources": ["tasks"]})),
            "scope.excluded_resources: ",
        ),
        ("/grants", scope(json!({"resources": ["tasks"], "max_rows_per_query": 0})), "scope.max_rows_per_query: "),
        ("/grants", scope(json!({"resources": ["tasks"], "cache_max_age": 301})), "scope.cache_max_age: "),
        ("/grants", scope(json!({"resources": ["tasks"], "rows": 1})), "scope.rows: "),
        ("/grants", scope(json!({"resources": ["tasks"], "filters": {"notes": {}}})), "scope.filters.notes: "),
        (
            "/grants",
            scope(json!({"resources": ["tasks"], "filters": {"tasks": {"include_teams": [team]}}})),
            "scope.filters.tasks.include_teams: team 00000000-0000-4000-8000-000000000000 does not exist",
        ),
    ];
    for (path, body, message) in cases {
        let refused = node.refused("POST", path, Some(body.clone())).await;
        assert_eq!((refused.0, refused.1.as_str()), (400, "invalid_request"), "{path} {body}");
        assert!(refused.2.starts_with(message), "{path} {body}: {}", refused.2);
    }
    assert_eq!(node.get("/grants").await, json!({"items": []}), "nothing of it was stored");
    assert_eq!(node.get("/peers").await, json!({"items": []}));
}

#[actix_rt::test]
async fn unknown_things_in_a_path_are_404_and_malformed_ids_400() {
    let node = Node::start().await;
    let id = "00000000-0000-4000-8000-000000000000";
    for endpoint in ROUTES.iter().filter(|endpoint| endpoint.path.contains('{')) {
        let method = endpoint.method.to_uppercase();
        let body = match endpoint.path {
            "/teams/{team}/members" => Some(json!({"user": "ada"})),
            "/users/{user}" => Some(json!({"active": true})),
            "/grants/{grant}" => Some(json!({"limits": {"requests_per_second": 1, "burst": 1, "concurrent": 1}})),
            _ => None,
        };
        let path = ["user", "team", "token", "grant", "link"]
            .iter()
            .fold(endpoint.path.to_owned(), |path, name| path.replace(&format!("{{{name}}}"), id));
        let refused = node.refused(&method, &path, body.clone()).await;
        assert_eq!((refused.0, refused.1.as_str()), (404, "not_found"), "{method} {path}: {}", refused.2);
        if ["{grant}", "{link}", "{token}"].iter().any(|name| endpoint.path.contains(name)) {
            let refused = node.refused(&method, &path.replace(id, "7"), body).await;
            assert_eq!(refused.0, 400, "{method} {path}: {}", refused.2);
        }
    }
    assert_eq!(node.refused("GET", "/nowhere", None).await.0, 404);
    assert_eq!(node.refused("PUT", "/users", None).await.0, 405);
}

#[actix_rt::test]
async fn bad_queries_cursors_and_oversized_bodies_are_refused() {
    let node = Node::start().await;
    for path in [
        "/users?limit=0",
        "/users?limit=many",
        "/users?cursor=!",
        "/users?page=2",
        "/grants?status=open",
        "/grants?peer=A%20B",
        "/grants?cursor=YQ",
        "/audit?outcome=maybe",
        "/audit?from=yesterday",
        "/audit?cursor=YQ",
        "/audit?action=DROP%20TABLE",
    ] {
        let refused = node.refused("GET", path, None).await;
        assert_eq!((refused.0, refused.1.as_str()), (400, "invalid_request"), "{path}: {}", refused.2);
    }
    let big = node.refused("POST", "/users", Some(json!({"name": "x".repeat(300_000)}))).await;
    assert_eq!((big.0, big.1.as_str()), (413, "too_large"));
}

#[actix_rt::test]
async fn names_that_are_taken_are_conflicts() {
    let node = Node::start().await;
    node.ada().await;
    node.post("/teams", json!({"name": "platform"})).await;
    for path in ["/users", "/teams"] {
        let name = if path == "/users" { "ada" } else { "platform" };
        let refused = node.refused("POST", path, Some(json!({"name": name}))).await;
        assert_eq!((refused.0, refused.1.as_str()), (409, "conflict"));
    }
}

#[actix_rt::test]
async fn without_its_database_the_node_says_503_and_heals() {
    let node = Node::start().await;
    node.sql("ALTER TABLE admin_tokens RENAME TO hidden").await;
    let refused = node.refused("GET", "/users", None).await;
    assert_eq!((refused.0, refused.1.as_str()), (500, "internal"));
    assert!(!refused.2.contains("admin_tokens"), "{}", refused.2);
    node.sql("ALTER TABLE hidden RENAME TO admin_tokens").await;
    node.database.cut_connections().await;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        let (status, _) = node.ask("GET", "/users", None).await;
        if status == 200 {
            break;
        }
        assert_eq!(status, 503);
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
