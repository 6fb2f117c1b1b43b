//! Grants and peers as admins see them.

use super::*;

/// A grant's row, with the names that people use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantRecord {
    pub id: GrantId,
    pub peer: String,
    pub subject: UserId,
    pub subject_name: String,
    pub scope: Scope,
    pub status: GrantStatus,
    pub version: i64,
    pub limits: InboundLimits,
    pub expires_at: OffsetDateTime,
    pub created_at: OffsetDateTime,
    pub activated_at: Option<OffsetDateTime>,
    pub ended_at: Option<OffsetDateTime>,
    /// Until when an invite can be redeemed.
    pub invite_expires_at: Option<OffsetDateTime>,
    pub certificates: Vec<CertificateRecord>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateRecord {
    pub serial: Serial,
    pub not_before: OffsetDateTime,
    pub not_after: OffsetDateTime,
    pub superseded_until: Option<OffsetDateTime>,
    pub revoked_at: Option<OffsetDateTime>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerRecord {
    pub id: Uuid,
    pub name: String,
    /// Pending, active and suspended ones.
    pub open_grants: i64,
    pub created_at: OffsetDateTime,
}

/// Which grants to list: newest first, behind `after`.
#[derive(Debug, Clone, Default)]
pub struct GrantPage {
    pub peer: Option<SiteName>,
    pub status: Option<GrantStatus>,
    pub after: Option<(OffsetDateTime, Uuid)>,
    pub limit: i64,
}

const RECORD: &str = "
    SELECT g.*, p.name AS peer, u.name AS subject_name,
           (SELECT max(t.expires_at) FROM enrollment_tokens t
            WHERE t.grant_id = g.id AND t.used_at IS NULL AND t.voided_at IS NULL AND t.expires_at > now()
                  AND g.status = 'pending') AS invite_expires_at
    FROM grants g JOIN peers p ON p.id = g.peer_id JOIN users u ON u.id = g.subject_user_id";

const CERTIFICATES: &str = "
    SELECT grant_id, serial, not_before, not_after, superseded_until, revoked_at
    FROM grant_certificates WHERE grant_id = ANY($1) ORDER BY created_at DESC, serial";

impl Grants {
    /// One grant; `None` when there is none of that id.
    pub async fn get(&self, grant: GrantId) -> Result<Option<GrantRecord>, Fault> {
        self.expire_overdue().await?;
        let client = self.pool.get().await.or_fault("read a grant")?;
        get_with(&**client, grant).await.or_fault("read a grant")
    }

    /// A page of grants, newest first.
    pub async fn list(&self, page: &GrantPage) -> Result<Vec<GrantRecord>, Fault> {
        self.expire_overdue().await?;
        let client = self.pool.get().await.or_fault("list grants")?;
        let sql = format!(
            "{RECORD} WHERE ($1::text IS NULL OR p.name = $1) AND ($2::text IS NULL OR g.status = $2)
                        AND ($3::timestamptz IS NULL OR (g.created_at, g.id) < ($3, $4::uuid))
             ORDER BY g.created_at DESC, g.id DESC LIMIT $5"
        );
        let (at, id) = page.after.unzip();
        let peer = page.peer.as_ref().map(SiteName::as_str);
        let status = page.status.map(GrantStatus::as_str);
        let rows = client.query(&sql, &[&peer, &status, &at, &id, &page.limit]).await.or_fault("list grants")?;
        with_certificates(&**client, &rows).await.or_fault("list grants")
    }

    /// Peers by name, behind `after`.
    pub async fn list_peers(&self, after: Option<&str>, limit: i64) -> Result<Vec<PeerRecord>, Fault> {
        let client = self.pool.get().await.or_fault("list peers")?;
        let rows = client
            .query(
                "SELECT p.id, p.name, p.created_at,
                        (SELECT count(*) FROM grants g
                         WHERE g.peer_id = p.id AND g.status IN ('pending', 'active', 'suspended')) AS open_grants
                 FROM peers p WHERE ($1::text IS NULL OR p.name > $1) ORDER BY p.name LIMIT $2",
                &[&after, &limit],
            )
            .await
            .or_fault("list peers")?;
        Ok(rows.iter().map(peer_record).collect())
    }

    /// Whether a peer of this name is known.
    pub async fn peer_exists(&self, peer: &SiteName) -> Result<bool, Fault> {
        let client = self.pool.get().await.or_fault("look for a peer")?;
        let row = client
            .query_one("SELECT EXISTS (SELECT FROM peers WHERE name = $1)", &[&peer.as_str()])
            .await
            .or_fault("look for a peer")?;
        Ok(row.get(0))
    }

    /// Grants by status, for an overview.
    pub async fn count_by_status(&self) -> Result<Vec<(GrantStatus, i64)>, Fault> {
        let client = self.pool.get().await.or_fault("count grants")?;
        let rows = client
            .query("SELECT status, count(*) FROM grants GROUP BY status ORDER BY status", &[])
            .await
            .or_fault("count grants")?;
        Ok(rows.iter().filter_map(|row| Some((GrantStatus::parse(row.get(0))?, row.get(1)))).collect())
    }
}

pub(in crate::postgres) async fn get_with(
    client: &impl GenericClient,
    grant: GrantId,
) -> Result<Option<GrantRecord>, tokio_postgres::Error> {
    let rows = client.query(&format!("{RECORD} WHERE g.id = $1"), &[&grant.0]).await?;
    Ok(with_certificates(client, &rows).await?.into_iter().next())
}

async fn with_certificates(
    client: &impl GenericClient,
    rows: &[Row],
) -> Result<Vec<GrantRecord>, tokio_postgres::Error> {
    let mut records: Vec<GrantRecord> = rows.iter().map(grant_record).collect();
    let ids: Vec<Uuid> = records.iter().map(|record| record.id.0).collect();
    for row in client.query(CERTIFICATES, &[&ids]).await? {
        let grant = GrantId(row.get("grant_id"));
        let record = records.iter_mut().find(|record| record.id == grant);
        if let (Some(record), Some(certificate)) = (record, certificate_record(&row)) {
            record.certificates.push(certificate);
        }
    }
    Ok(records)
}

fn grant_record(row: &Row) -> GrantRecord {
    let id = GrantId(row.get("id"));
    GrantRecord {
        id,
        peer: row.get("peer"),
        subject: UserId(row.get("subject_user_id")),
        subject_name: row.get("subject_name"),
        scope: load::scope_or_nothing(id, row.get("scope")),
        status: load::status_or_revoked(id, row.get("status")),
        version: row.get("version"),
        limits: load::limits(row),
        expires_at: row.get("expires_at"),
        created_at: row.get("created_at"),
        activated_at: row.get("activated_at"),
        ended_at: row.get("ended_at"),
        invite_expires_at: row.get("invite_expires_at"),
        certificates: Vec::new(),
    }
}

fn certificate_record(row: &Row) -> Option<CertificateRecord> {
    Some(CertificateRecord {
        serial: Serial::from_bytes(row.get("serial"))?,
        not_before: row.get("not_before"),
        not_after: row.get("not_after"),
        superseded_until: row.get("superseded_until"),
        revoked_at: row.get("revoked_at"),
    })
}

fn peer_record(row: &Row) -> PeerRecord {
    PeerRecord {
        id: row.get("id"),
        name: row.get("name"),
        open_grants: row.get("open_grants"),
        created_at: row.get("created_at"),
    }
}
