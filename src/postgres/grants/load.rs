//! What the authorisation decision reads.

use std::time::Instant;

use super::*;

/// The subject's rights are the database's rows of this moment; the certificates are those that still bring their holder to
/// this grant. When the grant itself was revoked, the certificates that ended with it stay, so that their holder learns
/// `grant_revoked`; one that was revoked alone does not, nor one that a newer certificate took over from.
const LOAD: &str = "
    SELECT g.id, g.version, p.name AS peer, g.subject_user_id, g.scope, g.status, g.expires_at,
           g.requests_per_second, g.burst, g.concurrent,
           u.active AND u.deleted_at IS NULL AS subject_active,
           ARRAY(SELECT m.team_id FROM team_members m WHERE m.user_id = g.subject_user_id ORDER BY 1) AS subject_teams,
           c.serials, c.ends, c.superseded
    FROM grants g
    JOIN peers p ON p.id = g.peer_id
    JOIN users u ON u.id = g.subject_user_id
    CROSS JOIN LATERAL (
        SELECT COALESCE(array_agg(serial ORDER BY serial), '{}') AS serials,
               COALESCE(array_agg(not_after ORDER BY serial), '{}') AS ends,
               COALESCE(array_agg(superseded_until ORDER BY serial), '{}') AS superseded
        FROM grant_certificates
        WHERE grant_id = g.id AND not_after > now() AND (superseded_until IS NULL OR superseded_until > now())
              AND (revoked_at IS NULL OR (g.status = 'revoked' AND revoked_at = g.ended_at))
    ) AS c";

/// Grants that can still answer something else than `forbidden`: the open ones, and ended ones while a holder may ask why.
const STILL_ASKED: &str = " WHERE g.status IN ('pending', 'active', 'suspended') OR cardinality(c.serials) > 0";

/// All grants, the change counter and the database's clock, as of one moment.
pub(in crate::postgres) async fn load_all_with(
    client: &mut tokio_postgres::Client,
) -> Result<LoadedGrants, tokio_postgres::Error> {
    let transaction = client
        .build_transaction()
        .isolation_level(tokio_postgres::IsolationLevel::RepeatableRead)
        .read_only(true)
        .start()
        .await?;
    let asked = Instant::now();
    let head = transaction.query_one("SELECT version, clock_timestamp() FROM authority_version", &[]).await?;
    let rows = transaction.query(&format!("{LOAD}{STILL_ASKED}"), &[]).await?;
    transaction.commit().await?;
    let grants = rows.iter().map(grant).collect();
    Ok(LoadedGrants { grants, version: head.get(0), database_now: database_now(head.get(1), asked) })
}

/// The change counter, and what the database's clock shows by the time of returning.
pub(in crate::postgres) async fn beat_with(
    client: &tokio_postgres::Client,
) -> Result<(i64, OffsetDateTime), tokio_postgres::Error> {
    let asked = Instant::now();
    let row = client.query_one("SELECT version, clock_timestamp() FROM authority_version", &[]).await?;
    Ok((row.get(0), database_now(row.get(1), asked)))
}

/// A reading of the database's clock, as old as its question at most: a grant may end a moment early by it, never late.
fn database_now(read: OffsetDateTime, asked: Instant) -> OffsetDateTime {
    read + asked.elapsed()
}

/// Those of `grants` that exist, whatever their status.
pub(in crate::postgres) async fn load_with(
    client: &impl GenericClient,
    grants: &[GrantId],
) -> Result<Vec<Grant>, tokio_postgres::Error> {
    let ids: Vec<Uuid> = grants.iter().map(|grant| grant.0).collect();
    let rows = client.query(&format!("{LOAD} WHERE g.id = ANY($1)"), &[&ids]).await?;
    Ok(rows.iter().map(grant).collect())
}

/// The grants of these subjects that can still be asked for.
pub(in crate::postgres) async fn load_of_subject_with(
    client: &impl GenericClient,
    subjects: &[UserId],
) -> Result<Vec<Grant>, tokio_postgres::Error> {
    let ids: Vec<Uuid> = subjects.iter().map(|subject| subject.0).collect();
    let rows = client
        .query(
            &format!(
                "{LOAD} WHERE g.subject_user_id = ANY($1)
                       AND (g.status IN ('pending', 'active', 'suspended') OR cardinality(c.serials) > 0)"
            ),
            &[&ids],
        )
        .await?;
    Ok(rows.iter().map(grant).collect())
}

fn grant(row: &Row) -> Grant {
    let id = GrantId(row.get("id"));
    Grant {
        id,
        version: row.get("version"),
        peer: SiteName::parse(row.get("peer"))
            .expect("invariant: the table's check is the domain's rule, and inserts parse"),
        subject: UserId(row.get("subject_user_id")),
        subject_active: row.get("subject_active"),
        subject_teams: row.get::<_, Vec<Uuid>>("subject_teams").into_iter().map(TeamId).collect(),
        scope: scope_or_nothing(id, row.get("scope")),
        status: status_or_revoked(id, row.get("status")),
        expires_at: row.get("expires_at"),
        limits: limits(row),
        certificates: certificates(row),
    }
}

/// A scope that cannot be read opens nothing.
pub(super) fn scope_or_nothing(grant: GrantId, stored: serde_json::Value) -> Scope {
    let scope = serde_json::from_value::<ScopeV1>(stored).ok().and_then(|scope| scope.to_scope());
    scope.unwrap_or_else(|| {
        tracing::error!(%grant, "a stored scope cannot be read; the grant opens nothing until it is written again");
        Scope {
            resources: Default::default(),
            excluded_resources: Default::default(),
            filters: Default::default(),
            max_rows_per_query: 1,
            cache_max_age_seconds: 0,
        }
    })
}

pub(super) fn status_or_revoked(grant: GrantId, stored: &str) -> GrantStatus {
    GrantStatus::parse(stored).unwrap_or_else(|| {
        tracing::error!(%grant, "a stored status cannot be read; the grant is treated as revoked");
        GrantStatus::Revoked
    })
}

pub(super) fn limits(row: &Row) -> InboundLimits {
    let positive = |column: &str| u32::try_from(row.get::<_, i32>(column)).unwrap_or(1);
    InboundLimits {
        requests_per_second: positive("requests_per_second"),
        burst: positive("burst"),
        concurrent: positive("concurrent"),
    }
}

fn certificates(row: &Row) -> Vec<CertificateOnRecord> {
    let serials: Vec<Vec<u8>> = row.get("serials");
    let ends: Vec<OffsetDateTime> = row.get("ends");
    let superseded: Vec<Option<OffsetDateTime>> = row.get("superseded");
    serials
        .into_iter()
        .zip(ends)
        .zip(superseded)
        .filter_map(|((serial, not_after), accepted_until)| {
            Some(CertificateOnRecord { serial: Serial::from_bytes(&serial)?, not_after, accepted_until })
        })
        .collect()
}
