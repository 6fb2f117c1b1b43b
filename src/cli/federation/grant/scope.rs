//! A scope as arguments: a document, or the few words that most grants need.

use clap::Args;
use serde_json::{Map, Value, json};

use crate::cli::names;
use crate::cli::node::Node;
use crate::cli::outcome::Failure;

#[derive(Debug, Args)]
pub(crate) struct ScopeArguments {
    /// The scope document: a file, '-' for standard input, or the JSON itself; team names may stand for ids
    #[arg(long, value_name = "FILE", conflicts_with_all = ["resources", "excluded", "teams", "no_personal", "max_rows"])]
    scope: Option<String>,
    /// A resource to open; repeat for more
    #[arg(long = "resource", value_name = "NAME")]
    resources: Vec<String>,
    /// A resource that stays closed; repeat for more
    #[arg(long = "exclude", value_name = "NAME", requires = "resources")]
    excluded: Vec<String>,
    /// Only rows of this team (name or id), for every opened resource; repeat for more
    #[arg(long = "only-team", value_name = "TEAM", requires = "resources")]
    teams: Vec<String>,
    /// No rows without a team
    #[arg(long, requires = "resources")]
    no_personal: bool,
    /// Most rows of one answer, 1 to 10000
    #[arg(long, value_name = "N", requires = "resources")]
    max_rows: Option<u32>,
}

impl ScopeArguments {
    /// The document, its team names resolved; `None` when nothing was said about the scope.
    pub(crate) async fn document(&self, node: &Node) -> Result<Option<Value>, Failure> {
        let mut document = match &self.scope {
            Some(text) => read(text)?,
            None if self.resources.is_empty() => return Ok(None),
            None => self.in_words(),
        };
        names::scope_teams(node, &mut document).await?;
        Ok(Some(document))
    }

    fn in_words(&self) -> Value {
        let mut filters = Map::new();
        if self.no_personal || !self.teams.is_empty() {
            for resource in &self.resources {
                let mut filter = Map::from_iter([("include_personal".to_owned(), json!(!self.no_personal))]);
                if !self.teams.is_empty() {
                    filter.insert("include_teams".to_owned(), json!(self.teams));
                }
                filters.insert(resource.clone(), Value::Object(filter));
            }
        }
        let mut scope = Map::from_iter([("resources".to_owned(), json!(self.resources))]);
        if !self.excluded.is_empty() {
            scope.insert("excluded_resources".to_owned(), json!(self.excluded));
        }
        if !filters.is_empty() {
            scope.insert("filters".to_owned(), Value::Object(filters));
        }
        if let Some(rows) = self.max_rows {
            scope.insert("max_rows_per_query".to_owned(), json!(rows));
        }
        Value::Object(scope)
    }
}

fn read(text: &str) -> Result<Value, Failure> {
    let (source, document) = if text.trim_start().starts_with('{') {
        ("--scope".to_owned(), text.to_owned())
    } else if text == "-" {
        let document = std::io::read_to_string(std::io::stdin());
        ("standard input".to_owned(), document.map_err(|e| Failure::misused(format!("standard input: {e}")))?)
    } else {
        let document = std::fs::read_to_string(text);
        (text.to_owned(), document.map_err(|e| Failure::misused(format!("--scope {text}: {e}")))?)
    };
    serde_json::from_str(&document).map_err(|e| {
        Failure::misused(format!("{source} is not JSON: {e}"))
            .remedy(r#"a scope is at least {"resources":["tasks"]}; --resource tasks says the same"#)
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        scope: ScopeArguments,
    }

    #[test]
    fn words_become_a_scope_document() {
        let line =
            "x --resource tasks --resource notes --exclude credentials --only-team platform --no-personal --max-rows 7";
        let scope = Line::parse_from(line.split(' ')).scope;
        let filter = json!({"include_teams": ["platform"], "include_personal": false});
        assert_eq!(
            scope.in_words(),
            json!({"resources": ["tasks", "notes"], "excluded_resources": ["credentials"],
                   "filters": {"tasks": filter, "notes": filter}, "max_rows_per_query": 7})
        );
        let plain = Line::parse_from(["x", "--resource", "tasks"]).scope;
        assert_eq!(plain.in_words(), json!({"resources": ["tasks"]}));
    }

    #[test]
    fn a_document_and_words_exclude_each_other() {
        assert!(Line::try_parse_from(["x", "--scope", "a.json", "--resource", "tasks"]).is_err());
        assert!(Line::try_parse_from(["x", "--max-rows", "7"]).is_err());
        assert_eq!(read(r#"{"resources":[]}"#), Ok(json!({"resources": []})));
        assert_eq!(read("/no/such/file").map_err(|failure| failure.exit_code()), Err(2));
    }
}
