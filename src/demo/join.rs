//! Both directions: Ada at home reads a good part of what she may read at work, and at work a little of home.

use serde_json::{Value, json};
use uuid::Uuid;

use super::process::NodeProcess;
use super::report::{GrantReport, NodeReport};
use crate::cli::node::Path;
use crate::cli::outcome::Failure;
use crate::wire::admin_v1::{CreateGrantV1, CreateLinkV1, CreatedGrantV1, LinkV1};

/// Grants at each site, redeemed at the other.
pub(super) async fn join(nodes: &[NodeProcess], reports: &[NodeReport]) -> Result<Vec<GrantReport>, Failure> {
    let [home, work] = nodes else { return Err(Failure::failed("the demo has two sites")) };
    let [home_report, work_report] = reports else { return Err(Failure::failed("the demo has two sites")) };
    let of_work = scope_of_work(work_report.teams["platform"]);
    let of_home = scope_of_home(home_report.teams["garden"]);
    Ok(vec![let_read("work", work, "home", home, of_work).await?, let_read("home", home, "work", work, of_home).await?])
}

/// At work: tasks of the platform team and her own, all her notes, and no memory.
fn scope_of_work(platform: Uuid) -> Value {
    json!({
        "resources": ["tasks", "notes"],
        "excluded_resources": ["credentials", "api_keys"],
        "filters": { "tasks": { "include_teams": [platform], "include_personal": true } },
        "max_rows_per_query": 100
    })
}

/// At home: what the garden team writes, nothing personal.
fn scope_of_home(garden: Uuid) -> Value {
    let filter = json!({ "include_teams": [garden], "include_personal": false });
    json!({
        "resources": ["tasks", "notes", "memory"],
        "filters": { "tasks": filter, "notes": filter, "memory": filter },
        "max_rows_per_query": 50,
        "cache_max_age": 0
    })
}

async fn let_read(
    owner: &'static str,
    owner_node: &NodeProcess,
    peer: &'static str,
    peer_node: &NodeProcess,
    scope: Value,
) -> Result<GrantReport, Failure> {
    let grant = CreateGrantV1 {
        peer: peer.to_owned(),
        user: "ada".to_owned(),
        scope: scope.clone(),
        expires_at: None,
        limits: None,
        invite_lifetime_seconds: None,
    };
    let created: CreatedGrantV1 = owner_node.admin()?.post(&Path::admin(["grants"]), &grant).await?;
    let link = CreateLinkV1 {
        invite: created.invite.invite,
        user: "ada".to_owned(),
        peer: Some(owner.to_owned()),
        // Both sites are on this machine.
        allow_private: true,
        share_with: Vec::new(),
    };
    let link: LinkV1 = peer_node.admin()?.post(&Path::admin(["links"]), &link).await?;
    Ok(GrantReport { id: created.grant.id, owner: owner.to_owned(), peer: peer.to_owned(), link_id: link.id, scope })
}
