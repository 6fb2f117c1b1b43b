use super::*;

fn tasks(rows: &[(u8, &str)]) -> Script {
    Script::Tasks(rows.iter().map(|(at, id)| (minute(*at), (*id).to_owned())).collect())
}

#[actix_web::test]
async fn rows_of_all_sources_come_in_one_order_with_an_account_of_each() {
    let node = Node::start().await;
    node.tasks_at(&node.ada, &[(minute(9), "nine"), (minute(5), "five"), (minute(1), "one")]).await;
    node.tasks_at(&node.bo, &[(minute(8), "not Ada's")]).await;
    node.link("work", tasks(&[(7, "w7"), (3, "w3")])).await;
    let answer = node.list(json!({})).await;
    assert_eq!(titles(&answer), ["nine", "work w7", "five", "work w3", "one"]);
    let sources: Vec<&str> =
        answer["items"].as_array().unwrap().iter().map(|item| item["_source"].as_str().unwrap()).collect();
    assert_eq!(sources, ["local", "work", "local", "work", "local"]);
    assert_eq!((&answer["_partial"], &answer["_truncated"]), (&json!(false), &json!(false)));
    assert_eq!(answer["_sources"]["local"]["status"], "ok");
    assert_eq!((&answer["_sources"]["work"]["status"], &answer["_sources"]["work"]["rows"]), (&json!("ok"), &json!(2)));
    assert_eq!(answer.get("next_cursor"), None);
    assert_eq!(answer["trace_id"].as_str().unwrap().len(), 32);
}

#[actix_web::test]
async fn paging_by_the_cursor_gives_every_row_of_every_source_once() {
    let node = Node::start().await;
    let local: Vec<String> = (0..9).map(|n| format!("l{n}")).collect();
    let rows: Vec<(OffsetDateTime, &str)> =
        local.iter().enumerate().map(|(n, t)| (minute(50 - 3 * n as u8), t.as_str())).collect();
    node.tasks_at(&node.ada, &rows).await;
    node.link("work", Script::Tasks((0..11).map(|n| (minute(49 - 2 * n), format!("w{n}"))).collect())).await;
    let (mut seen, mut cursor) = (Vec::new(), Value::Null);
    for _ in 0..20 {
        let answer = node.list(json!({"limit": 3, "cursor": cursor})).await;
        seen.extend(titles(&answer).into_iter().map(str::to_owned));
        match answer.get("next_cursor") {
            Some(next) => cursor = next.clone(),
            None => break,
        }
    }
    let mut expected: Vec<(u8, String)> = (0..9).map(|n| (50 - 3 * n, format!("l{n}"))).collect();
    expected.extend((0..11).map(|n| (49 - 2 * n, format!("work w{n}"))));
    // At the same minute local stands before work.
    expected.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
    assert_eq!(seen, expected.into_iter().map(|(_, title)| title).collect::<Vec<_>>());
}

#[actix_web::test]
async fn a_cursor_of_another_user_or_query_is_refused() {
    let node = Node::start().await;
    node.tasks_at(&node.ada, &[(minute(2), "two"), (minute(1), "one")]).await;
    let cursor = node.list(json!({"limit": 1})).await["next_cursor"].clone();
    let list = |more: Value| {
        let mut body = json!({"verb": "list", "resource": "tasks", "limit": 1, "cursor": cursor});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let (status, _) = node.query(list(json!({}))).await;
    assert_eq!(status, 200);
    for other in [
        json!({"where": {"status": "open"}}),
        json!({"resource": "notes"}),
        json!({"source": "local"}),
        json!({"cursor": "AAAA"}),
    ] {
        let (status, code, message) = node.refused(list(other.clone())).await;
        assert_eq!((status, code.as_str()), (400, "invalid_request"), "{other}: {message}");
        assert!(message.starts_with("cursor: "), "{message}");
    }
    let (status, _) = node.ask(&node.bo, "POST", "/query", list(json!({}))).await;
    assert_eq!(status, 400);
}

#[actix_web::test]
async fn a_peer_that_is_down_or_silent_costs_its_own_rows_only() {
    let node = Node::start().await;
    node.tasks_at(&node.ada, &[(minute(2), "two")]).await;
    node.link("down", Script::Fails(FaultKind::Unreachable)).await;
    node.link("silent", Script::Silent).await;
    let answer = node.list(json!({"deadline_ms": 300})).await;
    assert_eq!(titles(&answer), ["two"]);
    assert_eq!(answer["_partial"], true);
    assert_eq!(answer["_sources"]["local"]["status"], "ok");
    let down = &answer["_sources"]["down"];
    assert_eq!((&down["status"], &down["error"]["code"]), (&json!("unreachable"), &json!("peer_unreachable")));
    let silent = &answer["_sources"]["silent"];
    assert_eq!((&silent["status"], &silent["error"]["code"]), (&json!("timed_out"), &json!("peer_timeout")));
    let notices: Vec<&str> =
        answer["_notices"].as_array().unwrap().iter().map(|notice| notice["peer"].as_str().unwrap()).collect();
    assert_eq!(notices, ["down", "silent"]);
    // The missing ones may come back: the cursor remembers them.
    assert!(answer["next_cursor"].is_string());
}

#[actix_web::test]
async fn an_answer_of_nobody_is_a_failure_with_the_same_body() {
    let node = Node::start().await;
    node.tasks_at(&node.ada, &[(minute(2), "two")]).await;
    node.link("down", Script::Fails(FaultKind::Unreachable)).await;
    node.link("silent", Script::Silent).await;
    let list = |more: Value| {
        let mut body = json!({"verb": "list", "resource": "tasks", "deadline_ms": 300});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let (status, answer) = node.query(list(json!({"source": "federated:down"}))).await;
    assert_eq!((status, &answer["error"]["code"]), (502, &json!("sources_failed")));
    assert_eq!((&answer["items"], &answer["_partial"]), (&json!([]), &json!(true)));
    assert_eq!(answer["_sources"]["down"]["status"], "unreachable");
    let (status, answer) = node.query(list(json!({"source": "federated:silent"}))).await;
    assert_eq!((status, &answer["error"]["code"]), (504, &json!("sources_timed_out")));
    // Local rows are there, and yet the answer is of no use to whoever requires the peer.
    let (status, answer) = node.query(list(json!({"require": ["down"]}))).await;
    assert_eq!((status, titles(&answer)), (502, vec!["two"]));
    let (status, _) = node.query(list(json!({"require": ["local"]}))).await;
    assert_eq!(status, 200);
}

#[actix_web::test]
async fn a_row_is_found_wherever_it_is() {
    let node = Node::start().await;
    let local = node.task(&node.ada, json!({"title": "here"})).await;
    node.link("work", tasks(&[(1, "there")])).await;
    let get = |id: &str, source: &str| json!({"verb": "get", "resource": "tasks", "id": id, "source": source});
    let (status, answer) = node.query(get(local["id"].as_str().unwrap(), "all")).await;
    assert_eq!((status, titles(&answer)), (200, vec!["here"]));
    assert_eq!(answer["_sources"]["work"]["status"], "empty");
    let (status, answer) = node.query(get("there", "all")).await;
    assert_eq!((status, titles(&answer)), (200, vec!["work there"]));
    let (status, answer) = node.query(get("nowhere", "all")).await;
    assert_eq!((status, &answer["error"]["code"], &answer["items"]), (404, &json!("not_found"), &json!([])));
    assert_eq!(answer["_sources"]["local"]["status"], "empty");
    // When somebody did not answer, nobody can say that the row is nowhere.
    node.link("down", Script::Fails(FaultKind::Unreachable)).await;
    let (status, answer) = node.query(get("nowhere", "all")).await;
    assert_eq!((status, &answer["_partial"]), (200, &json!(true)));
    let (status, answer) = node.ask(&node.bo, "POST", "/query", get(local["id"].as_str().unwrap(), "local")).await;
    assert_eq!((status, &answer["items"]), (404, &json!([])));
}

#[actix_web::test]
async fn what_cannot_be_asked_is_refused_by_name() {
    let node = Node::start().await;
    node.link("work", tasks(&[])).await;
    for (body, code, part) in [
        (
            json!({"verb": "list", "resource": "nothing", "source": "local"}),
            "invalid_request",
            "'resource' is 'nothing'",
        ),
        (json!({"verb": "list", "resource": "tasks", "where": {"colour": 1}}), "invalid_request", "where.colour"),
        (json!({"verb": "list", "resource": "tasks", "where": {"body": "x"}}), "invalid_request", "where.body"),
        (json!({"verb": "list", "resource": "tasks", "source": "federated:nobody"}), "unknown_source", "nobody"),
        (json!({"verb": "list", "resource": "tasks", "require": ["nobody"]}), "unknown_source", "nobody"),
        (
            json!({"verb": "list", "resource": "tasks", "source": "local", "require": ["work"]}),
            "invalid_request",
            "require",
        ),
        (json!({"verb": "list", "resource": "tasks", "colour": 1}), "invalid_request", "colour"),
        (json!([1]), "invalid_request", "JSON object"),
    ] {
        let (status, got, message) = node.refused(body.clone()).await;
        assert_eq!((status, got.as_str()), (400, code), "{body}: {message}");
        assert!(message.contains(part), "{body}: {message}");
    }
    // Another user's link is unknown.
    let body = json!({"verb": "list", "resource": "tasks", "source": "federated:work"});
    let (status, answer) = node.ask(&node.bo, "POST", "/query", body).await;
    assert_eq!((status, &answer["error"]["code"]), (400, &json!("unknown_source")));
}

#[actix_web::test]
async fn a_resource_that_only_a_peer_has_is_asked_there_with_a_filter_that_it_checks() {
    let node = Node::start().await;
    node.link("work", tasks(&[(1, "w1")])).await;
    let body = json!({"verb": "list", "resource": "elsewhere", "where": {"b": {"lt": 2, "gte": 1}, "a": null}});
    let (status, answer) = node.query(body).await;
    assert_eq!((status, &answer["_sources"]["local"]["status"]), (200, &json!("denied")), "{answer}");
    assert_eq!(titles(&answer), ["work w1"]);
    let asked = node.peers.asked.lock().unwrap();
    let PeerQuestion::List { filter, resource, .. } = &asked[0].1.question else { panic!("a list was asked") };
    assert_eq!(resource.as_str(), "elsewhere");
    assert_eq!(filter.as_deref(), Some(br#"{"a":null,"b":{"gte":1,"lt":2}}"#.as_slice()));
}

#[actix_web::test]
async fn a_trace_goes_on_to_the_peers_under_a_span_of_this_node() {
    let node = Node::start().await;
    node.link("work", tasks(&[])).await;
    let inbound = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let request = TestRequest::post()
        .uri("/api/v1/query")
        .insert_header(("authorization", format!("Bearer {}", node.ada.token)))
        .insert_header(("traceparent", inbound))
        .insert_header(("baggage", "secret=1"))
        .set_payload(r#"{"verb":"list","resource":"tasks"}"#);
    let (status, bytes) = node.send(request).await;
    let answer: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!((status, answer["trace_id"].as_str()), (200, Some("0af7651916cd43dd8448eb211c80319c")));
    let asked = node.peers.asked.lock().unwrap();
    let onwards = asked[0].1.traceparent.clone().unwrap();
    assert!(onwards.starts_with("00-0af7651916cd43dd8448eb211c80319c-") && &*onwards != inbound, "{onwards}");
}

#[actix_web::test]
async fn explain_tells_the_plan_and_nothing_else() {
    let node = Node::start().await;
    node.tasks_at(&node.ada, &[(minute(2), "two"), (minute(1), "one")]).await;
    node.link("work", tasks(&[(1, "w1")])).await;
    let first = node.list(json!({"limit": 1, "explain": true, "deadline_ms": 9000})).await;
    assert_eq!(
        first["_explain"],
        json!({"verb": "list", "resource": "tasks", "deadline_ms": 9000, "order": ["created_at desc", "_source", "id desc"],
               "sources": [{"source": "local", "limit": 1, "position": "start", "deadline_ms": 9000},
                           {"source": "work", "limit": 1, "position": "start", "deadline_ms": 3000}]})
    );
    let second = node.list(json!({"limit": 1, "explain": true, "cursor": first["next_cursor"]})).await;
    assert_eq!(second["_explain"]["sources"][0]["position"], "after");
}

#[actix_web::test]
async fn only_a_valid_session_token_opens_the_api() {
    let node = Node::start().await;
    let stranger = |token: String| Person { id: UserId::new(), token };
    for token in [
        Token::generate(Token::SESSION).expose().to_owned(),
        Token::generate(Token::ADMIN).expose().to_owned(),
        "x".to_owned(),
    ] {
        for (method, path) in [
            ("POST", "/query"),
            ("GET", "/status"),
            ("GET", "/whoami"),
            ("POST", "/data/tasks"),
            ("POST", "/data/tasks:import"),
            ("PATCH", "/data/tasks/1"),
            ("DELETE", "/data/tasks/1"),
        ] {
            let (status, answer) = node.ask(&stranger(token.clone()), method, path, "{}").await;
            assert_eq!((status, &answer["error"]["code"]), (401, &json!("unauthorized")), "{method} {path}");
        }
    }
    let (status, bytes) = node.send(TestRequest::post().uri("/api/v1/query").set_payload("{}")).await;
    assert_eq!(status, 401, "{bytes:?}");
    // A disabled user is out at once.
    node.database.connect().await.batch_execute("UPDATE users SET active = false WHERE name = 'ada'").await.unwrap();
    let (status, _) = node.query(json!({"verb": "list", "resource": "tasks"})).await;
    assert_eq!(status, 401);
}

#[actix_web::test]
async fn other_methods_and_paths_are_told_apart() {
    let node = Node::start().await;
    let (status, _) = node.ask(&node.ada, "GET", "/query", "").await;
    assert_eq!(status, 405);
    let (status, answer) = node.ask(&node.ada, "GET", "/nothing", "").await;
    assert_eq!((status, &answer["error"]["code"]), (404, &json!("not_found")));
    let (status, answer) = node.ask(&node.ada, "POST", "/query", "x".repeat(70_000)).await;
    assert_eq!((status, &answer["error"]["code"]), (413, &json!("too_large")));
}
