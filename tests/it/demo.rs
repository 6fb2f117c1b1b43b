//! `mosaic demo`: two complete nodes, from nothing to one answer.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::Value;

use crate::harness::node::mosaic;
use crate::harness::sites::items;
use crate::harness::wait::until;

#[test]
fn the_demo_answers_once_from_both_sites_and_leaves_nothing_behind() {
    let output = mosaic().args(["demo", "--once", "--json"]).stdin(Stdio::null()).output().expect("the demo runs");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    let answer: Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
    let rows = items(&answer);
    let from = |source: &str| rows.iter().filter(|row| row["_source"] == source).count();
    assert!(from("local") > 0 && from("work") > 0, "{answer}");
    assert_eq!(answer["_partial"], false);
}

#[tokio::test]
async fn a_demo_that_is_killed_takes_its_nodes_and_databases_with_it() {
    let directory = tempfile::Builder::new().prefix("mosaic-demo-test-").tempdir().expect("a directory");
    let mut demo = mosaic()
        .args(["demo", "--json", "--dir"])
        .arg(directory.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the demo starts");
    let mut line = String::new();
    BufReader::new(demo.stdout.take().expect("its output")).read_line(&mut line).expect("a line");
    let ready: Value = serde_json::from_str(&line).expect("one JSON object");
    let text = ready.to_string();
    for part in ["home", "work", "admin_token", "database_url", "ca_certificate", "state_dir", "users"] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
    demo.kill().expect("killed");
    demo.wait().expect("gone");
    let name = directory.path().display().to_string();
    until("every process of the demo is gone", || async {
        let running = std::process::Command::new("pgrep").args(["-f", &name]).output().expect("pgrep runs");
        running.stdout.is_empty().then_some(())
    })
    .await;
}
