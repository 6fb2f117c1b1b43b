//! The README is the contract with a newcomer: its commands are run here as printed, by a shell, with the real binary.

use std::process::{Command, Stdio};

use crate::harness::free_ports;
use crate::harness::node::search_path;

/// The commands of the `console` blocks: site and line.
fn commands(readme: &str) -> Vec<(String, String)> {
    let mut inside = false;
    let mut found = Vec::new();
    for line in readme.lines() {
        if let Some(language) = line.strip_prefix("```") {
            inside = !inside && language == "console";
        } else if inside {
            let (site, command) = line.split_once("$ ").unwrap_or_else(|| panic!("not a prompt and a command: {line}"));
            found.push((site.to_owned(), command.to_owned()));
        }
    }
    found
}

/// One shell per site, as one terminal each: so that `&` leaves the node running and ends with the shell.
fn script(readme: &str) -> String {
    // The script ends with the first command that fails, and takes both nodes with it. A node is waited for as a person
    // does: until it says that it is up.
    let mut script =
        String::from("set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null; wait' EXIT\nmkdir work home\nroot=$PWD\n");
    for (site, command) in commands(readme) {
        script.push_str(&format!("cd \"$root/{site}\"\necho '{site}$ ' >&2\n"));
        match command.strip_suffix(" &") {
            Some(server) => script.push_str(&format!(
                "{server} > serve.out 2> serve.err &\n\
                 for _ in $(seq 600); do grep -q 'is up' serve.out && break; kill -0 $! || {{ cat serve.err >&2; exit 1; }}; sleep 0.1; done\n"
            )),
            None => script.push_str(&format!("{command}\n")),
        }
    }
    script
}

#[test]
fn the_steps_of_the_readme_work_as_printed() {
    let mut readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).expect("the README");
    for (printed, free) in ["8640", "8643", "8644", "8650", "8653", "8654"].into_iter().zip(free_ports::<6>()) {
        readme = readme.replace(&format!("127.0.0.1:{printed}"), &format!("127.0.0.1:{free}"));
    }
    let directory = tempfile::Builder::new().prefix("mosaic-readme-").tempdir().expect("a directory");
    let binary = std::path::Path::new(env!("CARGO_BIN_EXE_mosaic")).parent().expect("the binary's directory");
    let output = Command::new("bash")
        .args(["-c", &script(&readme)])
        .current_dir(directory.path())
        .env_clear()
        .env("PATH", format!("{}:{}", binary.display(), search_path().display()))
        .stdin(Stdio::null())
        .output()
        .expect("bash runs");
    let (told, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{told}\n---- errors\n{errors}");

    let (before, after) = told.split_once("is revoked").unwrap_or_else(|| panic!("nothing was revoked:\n{told}"));
    assert!(before.contains("2 rows, complete"), "{told}");
    assert!(before.contains("Water the tomatoes") && before.contains("Rotate the staging certificates"), "{told}");
    assert!(after.contains("Water the tomatoes") && !after.contains("Rotate the staging"), "{told}");
    assert!(after.contains("grant_revoked") && after.contains("incomplete"), "{told}");
    assert!(after.contains("0 red"), "{told}");
}
