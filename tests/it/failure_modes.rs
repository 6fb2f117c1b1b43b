//! `docs/FAILURE-MODES.md` names the tests that show what it says.

use std::path::{Path, PathBuf};

#[test]
fn every_test_that_the_failure_modes_name_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("docs/FAILURE-MODES.md")).expect("the document");
    let named: Vec<(&str, &str)> = text.split('`').filter_map(|word| word.split_once("::")).collect();
    assert!(named.len() > 20, "{named:?}");
    let mut files = Vec::new();
    for directory in ["src", "actors/src", "tests/it"] {
        collect(&root.join(directory), &mut files);
    }
    for (module, test) in named {
        let found = files.iter().any(|(path, source)| {
            path.components().any(|part| part.as_os_str().to_string_lossy().trim_end_matches(".rs") == module)
                && source.contains(&format!("fn {test}("))
        });
        assert!(found, "docs/FAILURE-MODES.md names {module}::{test}, which is nowhere");
    }
}

fn collect(directory: &Path, files: &mut Vec<(PathBuf, String)>) {
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let source = std::fs::read_to_string(&path).expect("a source file");
            files.push((path, source));
        }
    }
}
