//! What the door costs before any row is read: TLS, HTTP, the certificate's grant, the audit event.

use crate::Effort;
use crate::case::{Row, Target as Promise};
use crate::driver::{Crowd, Load, Pace, Target};
use crate::ground::{CAPABILITIES, Ground, Holder, Nginx, revocation_list};
use crate::rounds::{Compared, Round, alternate};

/// Connections of the closed loop, as in the other cases.
const CONNECTIONS: usize = 64;
/// So many that dozens of events share a commit: what a busy owner has.
const MANY_CONNECTIONS: usize = 256;

/// The same bytes under the same certificates.
pub(crate) async fn capabilities(effort: Effort) -> Vec<Row> {
    let ground = Ground::with_rows(1_000).await;
    let ours = ground.capabilities();
    let body = ground.body_of(&ours).await;
    let bytes = body.len();
    let nginx = Nginx::start(&ground.ca, &revocation_list(&ground.node).await, &[(CAPABILITIES, body)]);
    let theirs = Target::new(nginx.address, &ground.tls(), CAPABILITIES, None);
    let mut rows = Vec::new();
    for (name, connections) in [("capabilities", CONNECTIONS), ("capabilities_many", MANY_CONNECTIONS)] {
        let compared = compare(effort, &ground, &nginx, (&ours, &theirs), (connections, Pace::Closed)).await;
        let limits = compared.limits("nginx");
        let note = format!("{connections} connections, {bytes} bytes, strict audit; then ≥ 1×; {limits}");
        rows.push(row(name, &compared, "requests/s", Promise::RatioAtLeast(0.8)).with_note(note));
    }
    rows
}

/// A new connection, a verified client, one answer, for lists of several lengths.
pub(crate) async fn handshakes(effort: Effort) -> Vec<Row> {
    let ground = Ground::with_rows(1_000).await;
    let ours = ground.capabilities();
    let body = ground.body_of(&ours).await;
    let mut rows = Vec::new();
    for entries in [0, 1_000, 100_000] {
        let list = list_with(&ground, entries).await;
        let nginx = Nginx::start(&ground.ca, &list, &[(CAPABILITIES, body.clone())]);
        let theirs = Target::new(nginx.address, &ground.tls(), CAPABILITIES, None);
        let compared = compare(effort, &ground, &nginx, (&ours, &theirs), (CONNECTIONS, Pace::Handshakes)).await;
        let name = format!("handshakes_crl_{entries}");
        let (kib, limits) = (list.len() / 1024, compared.limits("nginx"));
        let note = format!("each with one capabilities; list of {kib} KiB; {limits}");
        rows.push(row(&name, &compared, "handshakes/s", Promise::RatioAtLeast(1.0)).with_note(note));
    }
    rows
}

/// Puts so many certificates on record as revoked and has the CA sign a list that names them.
async fn list_with(ground: &Ground, entries: u32) -> Vec<u8> {
    if entries == 0 {
        return revocation_list(&ground.node).await;
    }
    let client = ground.cluster.connect("work").await;
    client
        .batch_execute(&format!(
            "INSERT INTO revoked_certificates (serial, not_after)
             SELECT '\\x40'::bytea || substr(sha256(n::text::bytea), 1, 15), now() + interval '90 days'
             FROM generate_series(1, {entries}) AS n ON CONFLICT DO NOTHING"
        ))
        .await
        .expect("revocations");
    // A revocation by the ordinary way makes the node sign the next list.
    let spent = Holder::enroll(&ground.node, "spent", "ada", serde_json::json!({ "resources": ["tasks"] })).await;
    let path = format!("/api/admin/v1/grants/{}/revoke", spent.grant);
    ground.node.admin().post(&path, &serde_json::json!({})).await;
    loop {
        let list = revocation_list(&ground.node).await;
        // An entry takes more bytes than its serial has.
        if list.len() > entries as usize * 16 {
            return list;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

async fn compare(
    effort: Effort,
    ground: &Ground,
    nginx: &Nginx,
    (ours, theirs): (&Target, &Target),
    (connections, pace): (usize, Pace),
) -> Compared {
    let (pairs, length) = effort.rounds();
    let load = Load { connections, length, pace };
    let (ours, theirs) = (Crowd::gather(ours, load).await, Crowd::gather(theirs, load).await);
    let round = async |crowd: &Crowd| {
        let measured = crowd.drive().await;
        Round { value: measured.per_second(), requests: measured.answers as f64 }
    };
    let processes = [ground.node.family(), ground.cluster.family()];
    let settle = async || ground.settle().await;
    alternate(pairs, (|| round(&ours), &processes), (|| round(&theirs), &[nginx.family()]), settle).await
}

fn row(name: &str, compared: &Compared, unit: &str, promise: Promise) -> Row {
    Row::beside(name, compared.ours.value(), (&Nginx::version(), compared.theirs.value()), unit, promise)
        .with_ratio(compared.ratio, promise)
        .with_cpu(Some(compared.ours.cpu_us()), Some(compared.theirs.cpu_us()))
}
