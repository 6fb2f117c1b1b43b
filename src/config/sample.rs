//! The commented `mosaic.toml` that `mosaic gateway init` writes: every key with its meaning, every limit with its reason.

use std::fmt::Write as _;

use super::Config;
use super::keys::{KEYS, KeySpec, Place, WITHOUT_FIXED_DEFAULT};
use super::limits::Limits;

/// What the sample sets, instead of showing it in a comment: key and plain value, in any order.
pub type SampleValues<'a> = [(&'a str, &'a str)];

/// Columns of the file's comments.
const WIDTH: usize = 110;

impl Config {
    /// A complete file in which `values` are set and everything else stands in comments with its default.
    #[must_use]
    pub fn sample(values: &SampleValues<'_>) -> String {
        let mut text = String::from(
            "# A Mosaic node. What stands behind '#' is the default or, where marked so, an example.\n\
             # Everything can also be set by environment (api.listen: MOSAIC_API_LISTEN) or flag (--set api.listen=…);\n\
             # flags win over the environment, the environment over this file.\n",
        );
        let mut table = "";
        for spec in KEYS.iter().filter(|spec| spec.place != Place::EnvironmentOnly) {
            let (head, name) = spec.key.split_once('.').unwrap_or(("", spec.key));
            if head != table {
                table = head;
                push(&mut text, format_args!("\n[{head}]\n"));
            }
            key(&mut text, spec, name, values);
        }
        limits(&mut text, values);
        text.push_str(RESOURCES);
        text
    }
}

fn key(text: &mut String, spec: &KeySpec, name: &str, values: &SampleValues<'_>) {
    comment(text, spec.about);
    match values.iter().find(|(key, _)| *key == spec.key) {
        Some((_, value)) if !spec.sample.starts_with('"') => push(text, format_args!("{name} = {value}\n")),
        Some((_, value)) => push(text, format_args!("{name} = {}\n", quoted(value))),
        None if WITHOUT_FIXED_DEFAULT.contains(&spec.key) => {
            push(text, format_args!("# example: {name} = {}\n", spec.sample))
        }
        None => push(text, format_args!("#{name} = {}\n", spec.sample)),
    }
}

fn limits(text: &mut String, values: &SampleValues<'_>) {
    push(text, format_args!("\n[limits]\n"));
    let mut group = "";
    for spec in Limits::TABLE {
        if spec.group != group {
            group = spec.group;
            push(text, format_args!("# ---- {group}\n"));
        }
        comment(text, &format!("{} ({} to {})", spec.reason, spec.least, spec.most));
        let path = format!("limits.{}", spec.key);
        match values.iter().find(|(key, _)| *key == path) {
            Some((_, value)) => push(text, format_args!("{} = {value}\n", spec.key)),
            None => push(text, format_args!("#{} = {}\n", spec.key, spec.default)),
        }
    }
}

const RESOURCES: &str = r#"
# Your own tables as resources, beside the built-in tasks, notes, memory, credentials and api_keys. Their columns are
# checked against the database at boot. An index on (owner, order desc, id desc) and one on (team, order desc, id desc)
# keep pages fast.
# example:
#   [[resource]]
#   name = "tickets"             # in queries and scopes
#   table = "helpdesk.tickets"   # a table or view
#   id = "id"                    # the key
#   owner = "assignee_id"        # uuid of the owning user
#   team = "group_id"            # uuid of the team; leave out if rows have none
#   order = "opened_at"          # timestamptz that never changes; newest first
#   columns = ["subject", "state", "body"]
#   filterable = ["state"]
#   searchable = ["subject", "body"]
#   sensitive = false            # true: no grant can open it
#   writable = false             # true: sessions may write their own rows
"#;

fn comment(text: &mut String, about: &str) {
    let mut line = String::from("#");
    for word in about.split_whitespace() {
        if line.len() + 1 + word.len() > WIDTH {
            push(text, format_args!("{line}\n"));
            line = String::from("#");
        }
        push(&mut line, format_args!(" {word}"));
    }
    push(text, format_args!("{line}\n"));
}

/// A TOML basic string: `\uXXXX` for what may not stand in one as it is.
fn quoted(value: &str) -> String {
    let mut text = String::from("\"");
    for c in value.chars() {
        match c {
            '"' | '\\' => push(&mut text, format_args!("\\{c}")),
            c if c.is_control() => push(&mut text, format_args!("\\u{:04X}", u32::from(c))),
            c => text.push(c),
        }
    }
    text.push('"');
    text
}

fn push(text: &mut String, piece: std::fmt::Arguments<'_>) {
    text.write_fmt(piece).expect("invariant: writing to a String cannot fail");
}
