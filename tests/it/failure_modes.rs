//! `docs/FAILURE-MODES.md` and `docs/SECURITY.md` name the tests that show what they say.

use std::path::{Path, PathBuf};

#[test]
fn every_test_that_the_failure_modes_name_exists() {
    let named = names("FAILURE-MODES.md");
    assert!(named.len() > 20, "{named:?}");
    for (module, test) in named {
        assert!(is_there(&module, &test), "docs/FAILURE-MODES.md names {module}::{test}, which is nowhere");
    }
}

#[test]
fn every_test_that_the_security_document_names_exists() {
    let named = names("SECURITY.md");
    assert!(named.len() > 30, "{named:?}");
    for (module, test) in named {
        // `…` stands for the module before, or for the rest of a long name.
        let module = if module == "…" { "" } else { &module };
        let (test, whole) = test.strip_suffix('…').map_or((test.as_str(), true), |test| (test, false));
        // A module as a whole is a promise that it is there.
        let there = if test == "tests" { is_there_as_module(module) } else { is_there_from(module, test, whole) };
        assert!(there, "docs/SECURITY.md names {module}::{test}, which is nowhere");
    }
}

/// Module and test of every `a::b` in code letters; of a longer path the last two, modules named `tests` left out.
fn names(document: &str) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("docs").join(document)).expect("the document");
    let words = text.split('`').filter(|word| !word.contains(char::is_whitespace));
    words
        .filter_map(|word| {
            let (path, test) = word.rsplit_once("::")?;
            let path = path.strip_suffix("::tests").unwrap_or(path);
            Some((path.rsplit("::").next().unwrap_or(path).to_owned(), test.to_owned()))
        })
        // Where the document says how tests are named.
        .filter(|(module, test)| (module.as_str(), test.as_str()) != ("file", "test"))
        .collect()
}

fn is_there(module: &str, test: &str) -> bool {
    is_there_from(module, test, true)
}

fn is_there_from(module: &str, test: &str, whole: bool) -> bool {
    let function = if whole { format!("fn {test}(") } else { format!("fn {test}") };
    sources().iter().any(|(path, source)| (module.is_empty() || is_of(path, module)) && source.contains(&function))
}

fn is_there_as_module(module: &str) -> bool {
    let has_tests = |source: &str| source.contains("#[test]") || source.contains("::test]");
    sources().iter().any(|(path, source)| is_of(path, module) && has_tests(source))
}

fn is_of(path: &Path, module: &str) -> bool {
    path.components().any(|part| part.as_os_str().to_string_lossy().trim_end_matches(".rs") == module)
}

fn sources() -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    for directory in ["src", "actors/src", "tests/it"] {
        collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join(directory), &mut files);
    }
    files
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
