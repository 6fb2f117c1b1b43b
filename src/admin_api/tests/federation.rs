use super::*;

#[actix_rt::test]
async fn a_grant_is_made_with_defaults_and_an_invite_that_leads_to_this_site() {
    let node = Node::start().await;
    let ada = node.ada().await;
    let created = node.grant().await;
    let grant = &created["grant"];
    assert_eq!(grant["status"], "pending");
    assert_eq!(grant["user"], json!({"id": ada["id"], "name": "ada"}));
    assert_eq!(grant["limits"], json!({"requests_per_second": 10, "burst": 50, "concurrent": 8}));
    let scope = json!({"resources": ["tasks"], "excluded_resources": [], "filters": {}, "max_rows_per_query": 100,
                       "cache_max_age": 30});
    assert_eq!(grant["scope"], scope);
    let invite = Invite::parse(created["invite"]["invite"].as_str().unwrap()).unwrap();
    assert_eq!(invite.site.as_str(), SITE);
    assert_eq!(invite.ca_sha256, crate::secrets::sha256(&node.services.authority.root()));
    assert_eq!(created["invite"]["expires_at"], grant["invite_expires_at"]);
    assert_eq!(names(&node.get("/peers").await), ["home"]);
    assert_eq!(node.get(&path_of(grant, "")).await, *grant);
    assert!(node.services.grant_cache.snapshot().grants.len() == 1, "this replica knows it when the answer leaves");

    let second = node.post(&path_of(grant, "/invite"), json!({"lifetime_seconds": 60})).await;
    let old = Token::hash(invite.token.expose());
    assert_eq!(node.services.enrollments.claim(&old).await.unwrap_err().reason(), "token_voided");
    assert!(second["invite"].as_str().unwrap().starts_with("mosaic-invite:"));
}

fn path_of(grant: &Value, rest: &str) -> String {
    format!("/grants/{}{rest}", grant["id"].as_str().unwrap())
}

#[actix_rt::test]
async fn a_revoked_grant_is_refused_by_this_replica_when_the_receipt_arrives() {
    let node = Node::start().await;
    node.ada().await;
    let created = node.grant().await;
    node.redeem(&created, 7).await;
    let (grant, path) = (&created["grant"], |rest| path_of(&created["grant"], rest));
    let status_here = || node.services.grant_cache.snapshot().grants.values().next().unwrap().status.as_str();

    let suspended = node.post(&path("/suspend"), json!({})).await;
    assert_eq!(
        (&suspended["grant"]["status"], &suspended["receipt"]["effective"]),
        (&json!("suspended"), &json!(true))
    );
    assert_eq!(status_here(), "suspended");
    let refused = node.refused("POST", &path("/suspend"), None).await;
    assert_eq!(refused, (409, "conflict".into(), "a grant that is suspended cannot be suspended".into()));
    node.post(&path("/resume"), json!({})).await;
    assert_eq!(status_here(), "active");

    let revoked = node.post(&path("/revoke"), json!({})).await;
    let receipt = &revoked["receipt"];
    assert_eq!((&receipt["change"], &receipt["effective"]), (&json!("revoke"), &json!(true)));
    assert_eq!((&receipt["certificates_revoked"], &receipt["crl_published"]), (&json!(1), &json!(true)));
    assert_eq!(receipt["authority_version"], json!(node.services.grant_cache.snapshot().version));
    assert_eq!(status_here(), "revoked");
    for rest in ["/resume", "/suspend", "/revoke", "/invite"] {
        assert_eq!(node.refused("POST", &path(rest), None).await.0, 409, "{rest}");
    }
    let patch = node.refused("PATCH", &path(""), Some(json!({"scope": {"resources": ["notes"]}}))).await;
    assert_eq!(patch, (409, "conflict".into(), "a grant that is revoked cannot be changed".into()));

    let events = node.get(&format!("/audit?grant={}", grant["id"].as_str().unwrap())).await;
    let actions: Vec<_> = events["items"].as_array().unwrap().iter().map(|event| &event["action"]).collect();
    assert!(actions.contains(&&json!("revoke")) && actions.contains(&&json!("create")), "{actions:?}");
    let event = events["items"].as_array().unwrap().iter().find(|event| event["action"] == "revoke").unwrap();
    assert_eq!(event["request_id"], receipt["request_id"]);
}

#[actix_rt::test]
async fn a_changed_scope_counts_from_the_answer_on_and_raises_the_version() {
    let node = Node::start().await;
    node.ada().await;
    let created = node.grant().await;
    let body = json!({"scope": {"resources": ["notes", "tasks"], "max_rows_per_query": 5},
                      "limits": {"requests_per_second": 1, "burst": 2, "concurrent": 3}});
    let (status, changed) = node.ask("PATCH", &path_of(&created["grant"], ""), Some(body)).await;
    assert_eq!((status, &changed["receipt"]["effective"]), (200, &json!(true)));
    assert_eq!(changed["grant"]["version"], 2);
    let snapshot = node.services.grant_cache.snapshot();
    let here = snapshot.grants.values().next().unwrap();
    assert_eq!((here.scope.max_rows_per_query, here.limits.burst), (5, 2));
}

#[actix_rt::test]
async fn grants_are_listed_in_pages_by_peer_and_status() {
    let node = Node::start().await;
    node.ada().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.insert(0, node.grant().await["grant"]["id"].clone());
    }
    let first = node.get("/grants?limit=2&peer=home&status=pending").await;
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = node.get(&format!("/grants?limit=2&peer=home&status=pending&cursor={cursor}")).await;
    let listed: Vec<_> = [&first, &second]
        .iter()
        .flat_map(|page| page["items"].as_array().unwrap())
        .map(|grant| grant["id"].clone())
        .collect();
    assert_eq!(listed, ids);
    assert_eq!(node.get("/grants?status=active").await, json!({"items": []}));
    assert_eq!(node.get("/grants?peer=other").await, json!({"items": []}));
}

#[actix_rt::test]
async fn a_preview_counts_exactly_what_the_holder_could_read() {
    let node = Node::start().await;
    let ada = node.ada().await;
    let bob = node.post("/users", json!({"name": "bob"})).await;
    let team = node.post("/teams", json!({"name": "platform"})).await;
    node.post("/teams/platform/members", json!({"user": "ada"})).await;
    let (ada, bob, team) = (&ada["id"], &bob["id"], &team["id"]);
    let text = |id: &Value| format!("'{}'", id.as_str().unwrap());
    node.sql(&format!(
        "INSERT INTO tasks (id, owner_id, team_id, title) SELECT gen_random_uuid(), {0}, NULL, 'own' FROM generate_series(1, 150);
         INSERT INTO tasks (id, owner_id, team_id, title) SELECT gen_random_uuid(), {1}, {2}, 'team' FROM generate_series(1, 7);
         INSERT INTO tasks (id, owner_id, team_id, title) SELECT gen_random_uuid(), {1}, NULL, 'foreign' FROM generate_series(1, 9)",
        text(ada), text(bob), text(team)
    ))
    .await;
    let created = node.grant().await;
    let preview = node.get(&path_of(&created["grant"], "/preview")).await;
    let tasks = &preview["resources"][0];
    assert_eq!((&tasks["resource"], &tasks["rows"], &tasks["at_least"]), (&json!("tasks"), &json!(157), &json!(false)));
    assert_eq!(tasks["first"].as_array().unwrap().len(), 5);
    let closed = |resource: &str, reason: &str| json!({"resource": resource, "reason": reason});
    assert_eq!(
        preview["closed"],
        json!([
            closed("api_keys", "sensitive"),
            closed("credentials", "sensitive"),
            closed("memory", "not_in_scope"),
            closed("notes", "not_in_scope")
        ])
    );
    assert_eq!(node.get(&path_of(&created["grant"], "")).await["status"], "pending", "a dry run changes nothing");

    let filter = json!({"scope": {"resources": ["tasks"], "filters": {"tasks": {"include_personal": false}}}});
    node.ask("PATCH", &path_of(&created["grant"], ""), Some(filter)).await;
    assert_eq!(node.get(&path_of(&created["grant"], "/preview")).await["resources"][0]["rows"], 7);
}

#[actix_rt::test]
async fn links_are_listed_shown_probed_and_removed() {
    let node = Node::start().await;
    let ada = node.ada().await;
    let new = new_link(UserId(ada["id"].as_str().unwrap().parse().unwrap()), Vec::new());
    node.services.links.insert(&new).await.unwrap();
    let soon = tokio::time::Instant::now() + Duration::from_secs(20);
    assert!(node.services.registry.wait_for(new.link.id, soon).await);
    let path = format!("/links/{}", new.link.id);
    let link = node.get(&path).await;
    assert_eq!((&link["peer"], &link["user"]["name"], &link["serial"]), (&json!("work"), &json!("ada"), &json!("07")));
    assert_eq!(link["status"]["breaker"], "closed");
    assert_eq!(node.get("/links?user=ada&peer=work").await["items"][0]["id"], link["id"]);
    assert_eq!(node.get("/links?peer=other").await, json!({"items": []}));
    assert_eq!(node.get("/status").await["links"][0]["link_id"], link["id"]);
    assert_eq!(node.post(&format!("{path}/reset-breaker"), json!({})).await["link_id"], link["id"]);
    assert_eq!(node.ask("DELETE", &path, None).await, (204, Value::Null));
    assert!(node.services.registry.status(new.link.id).is_none());
    for (method, path) in [("GET", path.clone()), ("DELETE", path.clone()), ("POST", format!("{path}/reset-breaker"))] {
        assert_eq!(node.refused(method, &path, None).await.0, 404, "{method} {path}");
    }
}

#[actix_rt::test]
async fn what_is_wrong_with_an_order_for_a_link_is_said_before_the_invite_is_spent() {
    let node = Node::start().await;
    let ada = node.ada().await;
    // An invite of this node itself, to an enrolment listener that nobody runs.
    let created = node.grant().await;
    let text = created["invite"]["invite"].as_str().unwrap();
    let order = |user: &str, more: Value| {
        let mut body = json!({"invite": text, "user": user});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Some(body)
    };
    let unknown = node.refused("POST", "/links", order("bob", json!({}))).await;
    assert_eq!((unknown.0, unknown.1.as_str()), (400, "invalid_request"));
    assert!(unknown.2.starts_with("user: no user 'bob' on this site"), "{}", unknown.2);
    let team = node.refused("POST", "/links", order("ada", json!({"share_with": ["nobody"]}))).await;
    assert!(team.2.starts_with("share_with: no team 'nobody'"), "{}", team.2);
    let name = node.refused("POST", "/links", order("ada", json!({"peer": "local"}))).await;
    assert!(name.2.starts_with("peer: "), "{}", name.2);
    let cut = node.refused("POST", "/links", Some(json!({"invite": &text[..60], "user": "ada"}))).await;
    assert_eq!((cut.0, cut.2.as_str()), (400, "invite: the invite is cut or altered; copy it again, whole"));
    let mut new = new_link(UserId(ada["id"].as_str().unwrap().parse().unwrap()), Vec::new());
    new.link.credentials.not_after = time::macros::datetime!(2126-01-01 0:00 UTC);
    node.services.links.insert(&new).await.unwrap();
    let taken = node.refused("POST", "/links", order("ada", json!({}))).await;
    assert_eq!((taken.0, taken.1.as_str()), (409, "conflict"));
    let unreachable = node.refused("POST", "/links", order("ada", json!({"peer": "other"}))).await;
    assert_eq!((unreachable.0, unreachable.1.as_str()), (503, "unavailable"), "{}", unreachable.2);
    let invite = Invite::parse(text).unwrap();
    assert!(node.services.enrollments.claim(&Token::hash(invite.token.expose())).await.is_ok(), "still unspent");
}
