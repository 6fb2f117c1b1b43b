use super::*;

#[actix_web::test]
async fn a_row_is_written_changed_and_deleted_by_its_owner_only() {
    let node = Node::start().await;
    let row = node.task(&node.ada, json!({"title": "Order cables", "team_id": node.team.to_string()})).await;
    assert_eq!((&row["title"], &row["status"]), (&json!("Order cables"), &json!("open")));
    assert_eq!((&row["owner_id"], &row["_source"]), (&json!(node.ada.id.to_string()), &json!("local")));
    let path = format!("/data/tasks/{}", row["id"].as_str().unwrap());
    let (status, answer) = node.ask(&node.bo, "PATCH", &path, json!({"status": "done"})).await;
    assert_eq!((status, &answer["error"]["code"]), (404, &json!("not_found")));
    let (status, answer) = node.ask(&node.ada, "PATCH", &path, json!({"status": "done"})).await;
    assert_eq!((status, &answer["status"], &answer["title"]), (200, &json!("done"), &json!("Order cables")));
    let (status, _) = node.ask(&node.bo, "DELETE", &path, "").await;
    assert_eq!(status, 404);
    let (status, body) = node.ask(&node.ada, "DELETE", &path, "").await;
    assert_eq!((status, body), (204, Value::Null));
    let (status, _) = node.ask(&node.ada, "DELETE", &path, "").await;
    assert_eq!(status, 404);
}

#[actix_web::test]
async fn a_wrong_row_is_refused_with_the_name_of_its_field() {
    let node = Node::start().await;
    for (path, body, expected, part) in [
        ("/data/tasks", json!({"title": 5}), 400, "title"),
        ("/data/tasks", json!({"title": "x", "colour": "red"}), 400, "colour"),
        ("/data/tasks", json!({"title": "x", "team_id": TeamId::new().to_string()}), 403, "team_id"),
        ("/data/nothing", json!({"title": "x"}), 404, "no such resource"),
        ("/data/No%20Name", json!({"title": "x"}), 404, "no such resource"),
    ] {
        let (status, answer) = node.ask(&node.ada, "POST", path, body.clone()).await;
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(status == expected && message.contains(part), "{path} {body}: {status} {message}");
    }
}

#[actix_web::test]
async fn an_import_writes_all_lines_or_none() {
    let node = Node::start().await;
    node.tasks_at(&node.ada, &[(minute(3), "three"), (minute(2), "two")]).await;
    let lines = "{\"title\":\"four\"}\n{\"title\":\"five\",\"status\":\"unheard of\"}\n";
    let (status, answer) = node.ask(&node.ada, "POST", "/data/tasks:import", lines).await;
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(status == 400 && message.starts_with("line 2: "), "{status} {message}");
    assert_eq!(titles(&node.list(json!({})).await), ["three", "two"]);
    let (status, answer) = node.ask(&node.ada, "POST", "/data/nothing:import", lines).await;
    assert_eq!((status, &answer["error"]["code"]), (404, &json!("not_found")));
}
