use super::*;

#[actix_rt::test]
async fn users_are_made_found_listed_in_pages_and_changed() {
    let node = Node::start().await;
    let ada = node.ada().await;
    assert_eq!((&ada["name"], &ada["display_name"], &ada["active"]), (&json!("ada"), &json!("Ada L."), &json!(true)));
    for name in ["bob", "eve"] {
        node.post("/users", json!({"name": name})).await;
    }
    assert_eq!(node.get("/users/ada").await, ada);
    assert_eq!(node.get(&format!("/users/{}", ada["id"].as_str().unwrap())).await, ada);
    let first = node.get("/users?limit=2").await;
    assert_eq!(names(&first), ["ada", "bob"]);
    let next = node.get(&format!("/users?limit=2&cursor={}", first["next_cursor"].as_str().unwrap())).await;
    assert_eq!((names(&next), next.get("next_cursor")), (vec!["eve"], None));
    let (status, changed) = node.ask("PATCH", "/users/ada", Some(json!({"display_name": "Ada"}))).await;
    assert_eq!((status, &changed["user"]["display_name"], &changed["effective"]), (200, &json!("Ada"), &json!(true)));
}

#[actix_rt::test]
async fn deleting_a_user_ends_sessions_and_revokes_grants_before_the_answer_leaves() {
    let node = Node::start().await;
    node.ada().await;
    let token = node.post("/tokens", json!({"kind": "session", "user": "ada"})).await;
    let hash = Token::hash(token["token"].as_str().unwrap());
    assert!(node.services.sessions.authenticate_session(&hash).await.unwrap().is_some());
    let created = node.grant().await;
    node.redeem(&created, 7).await;
    let list = node.services.authority.crl().await.unwrap().number;
    let (status, changed) = node.ask("DELETE", "/users/ada", None).await;
    assert_eq!(status, 200, "{changed}");
    assert_eq!((&changed["revoked_grants"], &changed["effective"]), (&json!([created["grant"]["id"]]), &json!(true)));
    assert!(node.services.sessions.authenticate_session(&hash).await.unwrap().is_none());
    assert_eq!(node.get("/status").await["grants"], json!({"revoked": 1}));
    assert_eq!(node.services.authority.crl().await.unwrap().number, list + 1, "a new list names the certificate");
    assert_eq!(names(&node.get("/users").await), Vec::<&str>::new());
    assert_eq!(names(&node.get("/users?deleted=true").await), ["ada"]);
    assert_eq!(node.refused("DELETE", "/users/ada", None).await.0, 404);
}

#[actix_rt::test]
async fn members_join_and_leave_and_the_users_page_shows_the_teams() {
    let node = Node::start().await;
    node.ada().await;
    let team = node.post("/teams", json!({"name": "platform"})).await;
    let member = node.post("/teams/platform/members", json!({"user": "ada"})).await;
    assert_eq!(member["user"]["name"], "ada");
    assert_eq!(node.get("/users/ada").await["teams"], json!([{"id": team["id"], "name": "platform"}]));
    assert_eq!(node.get("/teams/platform").await["members"], 1);
    assert_eq!(node.get("/teams/platform/members").await["items"][0]["user"]["name"], "ada");
    assert_eq!(node.ask("DELETE", "/teams/platform/members/ada", None).await, (204, Value::Null));
    let refused = node.refused("DELETE", "/teams/platform/members/ada", None).await;
    assert_eq!(refused, (404, "not_found".into(), "'ada' is not in the team 'platform'".into()));
    assert_eq!(names(&node.get("/teams").await), ["platform"]);
}

#[actix_rt::test]
async fn a_tokens_text_is_shown_once_and_revoking_ends_it() {
    let node = Node::start().await;
    node.ada().await;
    let body = json!({"kind": "session", "user": "ada", "label": "laptop", "lifetime_seconds": 3600});
    let session = node.post("/tokens", body).await;
    let admin = node.post("/tokens", json!({"kind": "admin", "label": "ops"})).await;
    assert!(session["token"].as_str().unwrap().starts_with("mosaic_session_"));
    assert_eq!(admin["record"].get("expires_at"), None);
    let listed = node.get("/tokens?user=ada").await;
    assert_eq!(listed["items"], json!([session["record"]]));
    assert!(!node.get("/tokens").await.to_string().contains(session["token"].as_str().unwrap()));

    let as_admin = |token: &Value| {
        TestRequest::get()
            .uri("/api/admin/v1/status")
            .insert_header(("authorization", format!("Bearer {}", token["token"].as_str().unwrap())))
    };
    assert_eq!(node.send(as_admin(&admin)).await.0, 200);
    assert_eq!(node.send(as_admin(&session)).await.0, 401, "a session is no admin");
    let path = format!("/tokens/{}", admin["record"]["id"].as_str().unwrap());
    assert_eq!(node.ask("DELETE", &path, None).await.0, 204);
    assert_eq!(node.send(as_admin(&admin)).await.0, 401);
}
