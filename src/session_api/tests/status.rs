use super::*;

#[actix_web::test]
async fn whoami_names_the_user_the_teams_and_the_resources() {
    let node = Node::start().await;
    let (status, answer) = node.ask(&node.ada, "GET", "/whoami", "").await;
    assert_eq!(status, 200);
    assert_eq!(
        answer,
        json!({"site": "home", "user": {"id": node.ada.id.to_string(), "name": "ada"},
               "teams": [{"id": node.team.to_string(), "name": "platform"}],
               "resources": ["api_keys", "credentials", "memory", "notes", "tasks"]})
    );
    let (_, answer) = node.ask(&node.bo, "GET", "/whoami", "").await;
    assert_eq!((&answer["user"]["name"], &answer["teams"]), (&json!("bo"), &json!([])));
}

#[actix_web::test]
async fn status_shows_a_users_own_links_and_nobody_elses() {
    let node = Node::start().await;
    node.link("work", Script::Fails(FaultKind::Unreachable)).await;
    let (_, before) = node.ask(&node.ada, "GET", "/status", "").await;
    let link = &before["links"][0];
    assert_eq!((&link["peer"], &link["own"], &link["state"]), (&json!("work"), &json!(true), &json!("active")));
    assert_eq!((&link["resources"], &link["breaker"]), (&json!(["tasks", "elsewhere"]), &json!("closed")));
    assert_eq!(link["certificate_not_after"], "2099-01-01T00:00:00Z");
    let asked = node.peers.asked.lock().unwrap().len();
    node.list(json!({})).await;
    let (_, after) = node.ask(&node.ada, "GET", "/status", "").await;
    let fault = &after["links"][0]["last_failure"];
    assert_eq!((&fault["code"], &fault["stage"]), (&json!("peer_unreachable"), &json!("connect")));
    // Status itself asked nobody.
    assert_eq!(node.peers.asked.lock().unwrap().len(), asked + 1);
    let (_, answer) = node.ask(&node.bo, "GET", "/status", "").await;
    assert_eq!(answer, json!({"site": "home", "links": []}));
}
