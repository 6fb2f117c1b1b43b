//! Changes of grants. Each is one transaction with its audit event.

use super::*;

/// A grant to be.
#[derive(Debug, Clone)]
pub struct NewGrant {
    pub peer: SiteName,
    pub subject: UserId,
    pub scope: Scope,
    pub limits: InboundLimits,
    pub expires_at: OffsetDateTime,
}

/// What to change; absent fields stay.
#[derive(Debug, Clone, Default)]
pub struct GrantUpdate {
    pub scope: Option<Scope>,
    pub limits: Option<InboundLimits>,
    pub expires_at: Option<OffsetDateTime>,
}

/// A committed change.
#[derive(Debug, Clone)]
pub struct Changed {
    pub grant: GrantRecord,
    /// The site-wide counter that includes this change: what a replica must have reached to decide by it.
    pub authority_version: i64,
    /// Certificates that this change ended, for the certificate authority.
    pub revoked: Vec<RevokedCertificate>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevokedCertificate {
    pub serial: Serial,
    pub not_after: OffsetDateTime,
}

const REVOKE_ROWS: &str = "
    UPDATE grants SET status = 'revoked', ended_at = now()
    WHERE id = ANY($1) AND status IN ('pending', 'active', 'suspended')
    RETURNING id, version, subject_user_id, (SELECT name FROM peers WHERE peers.id = peer_id) AS peer";

/// What ends with a grant: its certificates, with an entry for the revocation list in the same transaction, so that no crash
/// can leave one without the other; and its invites.
const REVOKE_CERTIFICATES: &str = "
    WITH ended AS (
        UPDATE grant_certificates SET revoked_at = now() WHERE grant_id = ANY($1) AND revoked_at IS NULL
        RETURNING serial, not_after
    ), listed AS (
        INSERT INTO revoked_certificates (serial, revoked_at, not_after)
        SELECT serial, now(), not_after FROM ended WHERE not_after > now() ON CONFLICT (serial) DO NOTHING
    ), voided AS (
        UPDATE enrollment_tokens SET voided_at = now()
        WHERE grant_id = ANY($1) AND used_at IS NULL AND voided_at IS NULL
    )
    SELECT serial, not_after FROM ended WHERE not_after > now()";

impl Grants {
    /// Creates a pending grant, and its peer when the name is new. A subject that is unknown, disabled or deleted is refused.
    pub async fn create(&self, new: &NewGrant, by: &ChangedBy) -> Result<Changed, Fault> {
        let mut client = self.pool.get().await.or_fault("create a grant")?;
        let transaction = client.transaction().await.or_fault("create a grant")?;
        lock_authority(&*transaction).await.or_fault("create a grant")?;
        let id = GrantId::new();
        if !insert_grant(&*transaction, id, new).await.or_fault("create a grant")? {
            return Err(Fault::invalid("user: is not an active user of this site; create or enable the user first"));
        }
        let changed = finish(&*transaction, &self.keys, id, "create", by, Vec::new()).await?;
        transaction.commit().await.or_fault("create a grant")?;
        Ok(changed)
    }

    /// Changes scope, limits or expiry of a grant that has not ended. `None` when there is none of that id.
    pub async fn update(&self, grant: GrantId, update: &GrantUpdate, by: &ChangedBy) -> Result<Option<Changed>, Fault> {
        self.expire_overdue().await?;
        let mut client = self.pool.get().await.or_fault("change a grant")?;
        let transaction = client.transaction().await.or_fault("change a grant")?;
        lock_authority(&*transaction).await.or_fault("change a grant")?;
        let Some(status) = status_of(&*transaction, grant).await? else { return Ok(None) };
        if !update_row(&*transaction, grant, update).await.or_fault("change a grant")? {
            return Err(conflict(format!("a grant that is {} cannot be changed", status.as_str())));
        }
        let changed = finish(&*transaction, &self.keys, grant, "update", by, Vec::new()).await?;
        transaction.commit().await.or_fault("change a grant")?;
        Ok(Some(changed))
    }

    /// Suspends, resumes or revokes. `None` when there is none of that id; a change that the status forbids is a conflict that
    /// names both.
    pub async fn change(&self, grant: GrantId, change: GrantChange, by: &ChangedBy) -> Result<Option<Changed>, Fault> {
        self.expire_overdue().await?;
        let mut client = self.pool.get().await.or_fault("change a grant")?;
        let transaction = client.transaction().await.or_fault("change a grant")?;
        lock_authority(&*transaction).await.or_fault("change a grant")?;
        let Some(from) = status_of(&*transaction, grant).await? else { return Ok(None) };
        let to = from.after(change).map_err(|illegal| conflict(illegal.to_string()))?;
        let revoked = if change == GrantChange::Revoke {
            let ids = [grant.0];
            transaction.query(REVOKE_ROWS, &[&ids.as_slice()]).await.or_fault("change a grant")?;
            revoke_certificates(&*transaction, &ids).await.or_fault("change a grant")?
        } else {
            transition(&*transaction, grant, from, to).await?;
            Vec::new()
        };
        let changed = finish(&*transaction, &self.keys, grant, name_of(change), by, revoked).await?;
        transaction.commit().await.or_fault("change a grant")?;
        Ok(Some(changed))
    }

    /// Writes `expired` on rows past their end, by the database's clock, each with its audit event. Decisions do not wait for
    /// it: they compare the time themselves.
    pub async fn expire_overdue(&self) -> Result<(), Fault> {
        let mut client = self.pool.get().await.or_fault("expire grants")?;
        let overdue = client.query_one(ANY_OVERDUE, &[]).await.or_fault("expire grants")?;
        if !overdue.get::<_, bool>(0) {
            return Ok(());
        }
        let transaction = client.transaction().await.or_fault("expire grants")?;
        lock_authority(&*transaction).await.or_fault("expire grants")?;
        let rows = transaction.query(EXPIRE, &[]).await.or_fault("expire grants")?;
        let request = RequestId::new();
        let events: Vec<AuditEvent> = rows
            .iter()
            .map(|row| event_of(row, "expire", &ChangedBy { request, at: row.get("at"), remote: None }))
            .collect();
        audit::insert(&*transaction, &self.keys, &events).await.or_fault("expire grants")?;
        transaction.commit().await.or_fault("expire grants")
    }
}

const ANY_OVERDUE: &str = "
    SELECT EXISTS (SELECT FROM grants WHERE status IN ('pending', 'active', 'suspended') AND expires_at <= now())";

const EXPIRE: &str = "
    UPDATE grants SET status = 'expired', ended_at = now()
    WHERE status IN ('pending', 'active', 'suspended') AND expires_at <= now()
    RETURNING id, version, subject_user_id, (SELECT name FROM peers WHERE peers.id = peer_id) AS peer, now() AS at";

/// Revokes every open grant of a subject inside the caller's transaction, which holds the authority lock.
pub(in crate::postgres) async fn revoke_all_of_subject(
    client: &impl GenericClient,
    keys: &AuditKeys,
    subject: UserId,
    by: &ChangedBy,
) -> Result<(Vec<GrantId>, Vec<RevokedCertificate>), audit::NotWritten> {
    let open = client
        .query(
            "SELECT id FROM grants WHERE subject_user_id = $1 AND status IN ('pending', 'active', 'suspended')",
            &[&subject.0],
        )
        .await?;
    let ids: Vec<Uuid> = open.iter().map(|row| row.get("id")).collect();
    let rows = client.query(REVOKE_ROWS, &[&ids]).await?;
    let revoked = revoke_certificates(client, &ids).await?;
    let events: Vec<AuditEvent> = rows.iter().map(|row| event_of(row, "revoke", by)).collect();
    audit::insert(client, keys, &events).await?;
    Ok((rows.iter().map(|row| GrantId(row.get("id"))).collect(), revoked))
}

/// Makes changes of authority one after the other: each raises the same counter anyway, and taking it first means that two
/// changes which touch the same rows in another order cannot block each other.
pub(in crate::postgres) async fn lock_authority(client: &impl GenericClient) -> Result<(), tokio_postgres::Error> {
    client.query_one("SELECT version FROM authority_version FOR UPDATE", &[]).await.map(drop)
}

/// The counter as this transaction sees it; under the lock it is the one that this transaction made.
pub(in crate::postgres) async fn authority_version(client: &impl GenericClient) -> Result<i64, tokio_postgres::Error> {
    client.query_one("SELECT version FROM authority_version", &[]).await.map(|row| row.get(0))
}

async fn insert_grant(client: &impl GenericClient, id: GrantId, new: &NewGrant) -> Result<bool, tokio_postgres::Error> {
    client
        .execute(
            "INSERT INTO peers (id, name) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING",
            &[&Uuid::now_v7(), &new.peer.as_str()],
        )
        .await?;
    let scope = scope_document(&new.scope);
    let [rate, burst, concurrent] = limit_columns(&new.limits);
    let inserted = client
        .execute(
            "INSERT INTO grants (id, peer_id, subject_user_id, scope, requests_per_second, burst, concurrent, expires_at)
             SELECT $1, p.id, u.id, $4, $5, $6, $7, $8 FROM peers p, users u
             WHERE p.name = $2 AND u.id = $3 AND u.active AND u.deleted_at IS NULL",
            &[&id.0, &new.peer.as_str(), &new.subject.0, &scope, &rate, &burst, &concurrent, &new.expires_at],
        )
        .await?;
    Ok(inserted == 1)
}

async fn update_row(
    client: &impl GenericClient,
    grant: GrantId,
    update: &GrantUpdate,
) -> Result<bool, tokio_postgres::Error> {
    let scope = update.scope.as_ref().map(scope_document);
    let [rate, burst, concurrent] = match &update.limits {
        Some(limits) => limit_columns(limits).map(Some),
        None => [None; 3],
    };
    let updated = client
        .execute(
            "UPDATE grants SET scope = COALESCE($2, scope), requests_per_second = COALESCE($3, requests_per_second),
                    burst = COALESCE($4, burst), concurrent = COALESCE($5, concurrent), expires_at = COALESCE($6, expires_at)
             WHERE id = $1 AND status IN ('pending', 'active', 'suspended')",
            &[&grant.0, &scope, &rate, &burst, &concurrent, &update.expires_at],
        )
        .await?;
    Ok(updated == 1)
}

async fn status_of(client: &impl GenericClient, grant: GrantId) -> Result<Option<GrantStatus>, Fault> {
    let row =
        client.query_opt("SELECT status FROM grants WHERE id = $1", &[&grant.0]).await.or_fault("read a grant")?;
    Ok(row.map(|row| load::status_or_revoked(grant, row.get(0))))
}

async fn transition(
    client: &impl GenericClient,
    grant: GrantId,
    from: GrantStatus,
    to: GrantStatus,
) -> Result<(), Fault> {
    let updated = client
        .execute(
            "UPDATE grants SET status = $3 WHERE id = $1 AND status = $2",
            &[&grant.0, &from.as_str(), &to.as_str()],
        )
        .await
        .or_fault("change a grant")?;
    if updated == 1 {
        Ok(())
    } else {
        Err(conflict("the grant was changed at the same moment; look at it and try again"))
    }
}

async fn revoke_certificates(
    client: &impl GenericClient,
    grants: &[Uuid],
) -> Result<Vec<RevokedCertificate>, tokio_postgres::Error> {
    let rows = client.query(REVOKE_CERTIFICATES, &[&grants]).await?;
    let certificate = |row: &Row| {
        Some(RevokedCertificate { serial: Serial::from_bytes(row.get("serial"))?, not_after: row.get("not_after") })
    };
    Ok(rows.iter().filter_map(certificate).collect())
}

/// Reads the changed row back, writes the audit event, and takes the counter.
async fn finish(
    client: &impl GenericClient,
    keys: &AuditKeys,
    grant: GrantId,
    change: &'static str,
    by: &ChangedBy,
    revoked: Vec<RevokedCertificate>,
) -> Result<Changed, Fault> {
    let record = record::get_with(client, grant)
        .await
        .or_fault("write down a change")?
        .ok_or_else(|| Fault::new(FaultKind::Internal, Stage::Database))?;
    let event = change_event(by, change, grant, record.version, &record.peer, record.subject);
    audit::insert(client, keys, &[event]).await.or_fault("write down a change")?;
    let authority_version = authority_version(client).await.or_fault("write down a change")?;
    Ok(Changed { grant: record, authority_version, revoked })
}

fn event_of(row: &Row, change: &'static str, by: &ChangedBy) -> AuditEvent {
    let subject = UserId(row.get("subject_user_id"));
    change_event(by, change, GrantId(row.get("id")), row.get("version"), row.get("peer"), subject)
}

fn scope_document(scope: &Scope) -> serde_json::Value {
    serde_json::to_value(ScopeV1::from(scope)).expect("invariant: a scope is texts, numbers and lists")
}

fn limit_columns(limits: &InboundLimits) -> [i32; 3] {
    [limits.requests_per_second, limits.burst, limits.concurrent].map(|limit| i32::try_from(limit).unwrap_or(i32::MAX))
}

fn name_of(change: GrantChange) -> &'static str {
    match change {
        GrantChange::Activate => "activate",
        GrantChange::Suspend => "suspend",
        GrantChange::Resume => "resume",
        GrantChange::Revoke => "revoke",
        GrantChange::Expire => "expire",
    }
}

fn conflict(message: impl Into<Box<str>>) -> Fault {
    Fault::new(FaultKind::Conflict, Stage::Request).with_message(message)
}
