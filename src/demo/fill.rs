//! People, tokens and rows of one site, through the admin API and the import that everybody else uses.

use std::collections::BTreeMap;

use mosaic_actors::ports::clock::Clock;
use uuid::Uuid;

use super::process::NodeProcess;
use super::report::{NodeReport, PersonReport};
use super::rows::{TeamOfWriter, Writer, write_rows};
use super::sites::{Person, Site};
use crate::cli::context::write_private;
use crate::cli::node::{Node, Path};
use crate::cli::outcome::Failure;
use crate::clock::SystemClock;
use crate::wire::admin_v1::{
    AddMemberV1, CreateTeamV1, CreateTokenV1, CreateUserV1, CreatedTokenV1, MemberV1, TeamV1, TokenKindV1, UserV1,
};
use crate::wire::session_v1::ImportedBody;

/// Adds the site's people and lets each of them write.
pub(super) async fn fill(site: &'static Site, node: &NodeProcess, seed: u64) -> Result<NodeReport, Failure> {
    let admin = node.admin()?;
    let mut teams = BTreeMap::new();
    for team in site.teams {
        let made: TeamV1 = admin.post(&Path::admin(["teams"]), &CreateTeamV1 { name: team.name.to_owned() }).await?;
        teams.insert(team.name.to_owned(), made.id);
    }
    let mut people = BTreeMap::new();
    for person in site.people {
        people.insert(person.name.to_owned(), add(&admin, person, &teams).await?);
    }
    let rows = import(site, node, &teams, &people, seed).await?;
    keep_session(node, &people)?;
    Ok(NodeReport::new(node, teams, people, rows))
}

async fn add(admin: &Node, person: &Person, teams: &BTreeMap<String, Uuid>) -> Result<PersonReport, Failure> {
    let body = CreateUserV1 { name: person.name.to_owned(), display_name: Some(person.display_name.to_owned()) };
    let user: UserV1 = admin.post(&Path::admin(["users"]), &body).await?;
    for team in person.teams {
        let id = teams[*team].to_string();
        let member = AddMemberV1 { user: user.id.to_string() };
        let _: MemberV1 = admin.post(&Path::admin(["teams", &id, "members"]), &member).await?;
    }
    let token = CreateTokenV1 {
        kind: TokenKindV1::Session,
        user: Some(user.id.to_string()),
        label: Some("demo".to_owned()),
        lifetime_seconds: None,
    };
    let token: CreatedTokenV1 = admin.post(&Path::admin(["tokens"]), &token).await?;
    let teams = person.teams.iter().map(|team| (*team).to_owned()).collect();
    Ok(PersonReport { id: user.id, display_name: user.display_name, teams, session_token: token.token })
}

async fn import(
    site: &'static Site,
    node: &NodeProcess,
    teams: &BTreeMap<String, Uuid>,
    people: &BTreeMap<String, PersonReport>,
    seed: u64,
) -> Result<u64, Failure> {
    let writers: Vec<Writer> = site.people.iter().map(|person| writer(site, person, teams)).collect();
    // Both sites start from the same seed: the name makes them differ.
    let seed = site.name.bytes().fold(seed, |seed, byte| seed.wrapping_mul(31).wrapping_add(byte.into()));
    let written = write_rows(&writers, site.amounts, seed, SystemClock.now());
    let mut rows = 0;
    for (person, written) in site.people.iter().zip(written) {
        let session = node.session(&people[person.name].session_token)?;
        for (resource, lines) in [("tasks", written.tasks), ("notes", written.notes), ("memory", written.memory)] {
            let path = Path::session(["data", &format!("{resource}:import")]);
            let imported: ImportedBody = session.post_lines(&path, lines).await?;
            rows += imported.rows;
        }
    }
    Ok(rows)
}

fn writer(site: &Site, person: &Person, teams: &BTreeMap<String, Uuid>) -> Writer {
    let themes = person.teams.iter().map(|name| {
        let team = site.teams.iter().find(|team| team.name == *name).expect("invariant: a team of the site");
        TeamOfWriter { id: teams[*name], theme: team.theme }
    });
    Writer { weight: person.weight, personal: person.personal, teams: themes.collect() }
}

/// So that `mosaic --config <site>/mosaic.toml query …` works at once, as Ada.
fn keep_session(node: &NodeProcess, people: &BTreeMap<String, PersonReport>) -> Result<(), Failure> {
    let file = node.config.session_token_file();
    write_private(&file, &format!("{}\n", people["ada"].session_token))
        .map_err(|e| Failure::failed(format!("{}: {e}", file.display())))
}
