//! The asking site's links: whom this site may ask, over which certificate, on whose behalf.

use std::sync::Arc;

use deadpool_postgres::Pool;
use mosaic_actors::domain::fault::{Fault, FaultKind, Stage};
use mosaic_actors::domain::identity::{GrantId, LinkId, Serial, SiteName, TeamId, UserId};
use mosaic_actors::domain::link::{Link, LinkCredentials, LinkState};
use mosaic_actors::ports::PortFuture;
use mosaic_actors::ports::link_store::{LinkStore, Renewed};
use time::OffsetDateTime;
use tokio::sync::Semaphore;
use tokio_postgres::error::SqlState;
use tokio_postgres::{GenericClient, Row};
use uuid::Uuid;

use super::pool::{OrFault, sql_fault};
use crate::crash_points;
use crate::secrets::sha256;

/// The links in Postgres.
#[derive(Clone)]
pub struct Links {
    pool: Pool,
    /// Each renewal holds a connection while it asks the other site: sessions must not wait for those.
    renewals: Arc<Semaphore>,
}

/// Renewals at the same moment.
const RENEWALS_MAX: usize = 2;

/// A link that enrolment produced, with what only the database keeps.
pub struct NewLink {
    pub link: Link,
    /// What the owner site calls itself.
    pub site: String,
    /// The owner site's user whose rights bound the grant, as the owner told.
    pub subject: UserId,
    pub enroll_url: String,
}

/// A link as admins see it: no key, no certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkRecord {
    pub id: LinkId,
    pub peer: String,
    pub site: String,
    pub owner: UserId,
    pub owner_name: String,
    pub shared_with: Vec<TeamId>,
    pub state: LinkState,
    pub grant: GrantId,
    pub subject: UserId,
    pub federation_url: String,
    pub allow_private: bool,
    pub serial: Vec<u8>,
    pub not_before: OffsetDateTime,
    pub not_after: OffsetDateTime,
    pub created_at: OffsetDateTime,
    pub updated_at: OffsetDateTime,
}

/// Which links to list: newest first, behind `after`.
#[derive(Debug, Clone, Default)]
pub struct LinkPage {
    pub owner: Option<UserId>,
    pub peer: Option<SiteName>,
    pub after: Option<(OffsetDateTime, Uuid)>,
    pub limit: i64,
}

/// How a link that is already there stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    pub link: LinkId,
    /// Over it nothing will ever be asked again: the grant has ended, or the certificate with which it could be renewed.
    pub ended: bool,
    /// With at least one team.
    pub shared: bool,
    /// SHA-256 of the root that its peer is known by.
    pub root_sha256: [u8; 32],
}

const ENDED: &str = "(state IN ('revoked', 'expired') OR not_after <= now())";

const TEAMS_OF_SAME_PEER: &str = "
    SELECT t.team_id FROM link_teams t JOIN links l ON l.id = t.link_id WHERE l.id = $1 AND l.pinned_root = $2";

const LOAD: &str = "
    SELECT l.*, ARRAY(SELECT t.team_id FROM link_teams t WHERE t.link_id = l.id ORDER BY 1) AS teams
    FROM links l JOIN users u ON u.id = l.owner_user_id";

const RECORD: &str = "
    SELECT l.*, u.name AS owner_name,
           ARRAY(SELECT t.team_id FROM link_teams t WHERE t.link_id = l.id ORDER BY 1) AS teams
    FROM links l JOIN users u ON u.id = l.owner_user_id";

impl Links {
    #[must_use]
    pub fn new(pool: Pool) -> Self {
        Self { pool, renewals: Arc::new(Semaphore::new(RENEWALS_MAX)) }
    }

    /// Stores a link with the teams it is shared with. A second link of the same user under the same peer name is a conflict;
    /// an unknown user or team an invalid request.
    pub async fn insert(&self, new: &NewLink) -> Result<(), Fault> {
        let mut client = self.pool.get().await.or_fault("store a link")?;
        let transaction = client.transaction().await.or_fault("store a link")?;
        insert(&*transaction, new).await?;
        transaction.commit().await.or_fault("store a link")
    }

    /// Stores a link in the place of one that has ended, in one step: the ended one goes with its key, and the teams it was shared with
    /// stay when the new one names none and its peer is known by the same root: a name is whatever an invite says. A conflict when it has
    /// not ended.
    pub async fn replace(&self, ended: LinkId, new: &NewLink) -> Result<(), Fault> {
        let mut client = self.pool.get().await.or_fault("replace a link")?;
        let transaction = client.transaction().await.or_fault("replace a link")?;
        let teams = transaction
            .query(TEAMS_OF_SAME_PEER, &[&ended.0, &new.link.credentials.pinned_root])
            .await
            .or_fault("replace a link")?;
        let sql = format!("DELETE FROM links WHERE id = $1 AND {ENDED}");
        if transaction.execute(&sql, &[&ended.0]).await.or_fault("replace a link")? == 0 {
            let fault = Fault::new(FaultKind::Conflict, Stage::Request);
            return Err(fault.with_message("the link was changed at the same moment; look at it and try again"));
        }
        insert(&*transaction, new).await?;
        if new.link.shared_with.is_empty() {
            let teams: Vec<Uuid> = teams.iter().map(|row| row.get(0)).collect();
            share(&*transaction, new, &teams).await?;
        }
        transaction.commit().await.or_fault("replace a link")
    }

    /// The link of this user under this name, and whether it has ended. Asked before a token is spent on one that cannot be stored.
    pub async fn standing(&self, owner: UserId, peer: &SiteName) -> Result<Option<Standing>, Fault> {
        let client = self.pool.get().await.or_fault("look for a link")?;
        let sql = format!(
            "SELECT id, {ENDED} AS ended, pinned_root, EXISTS (SELECT FROM link_teams t WHERE t.link_id = links.id) AS shared
             FROM links WHERE owner_user_id = $1 AND peer = $2"
        );
        let row = client.query_opt(&sql, &[&owner.0, &peer.as_str()]).await.or_fault("look for a link")?;
        Ok(row.map(|row| Standing {
            link: LinkId(row.get("id")),
            ended: row.get("ended"),
            shared: row.get("shared"),
            root_sha256: sha256(row.get("pinned_root")),
        }))
    }

    /// Removes a link and its sealed key. `false` when there is none of that id.
    pub async fn delete(&self, link: LinkId) -> Result<bool, Fault> {
        let client = self.pool.get().await.or_fault("remove a link")?;
        let removed = client.execute("DELETE FROM links WHERE id = $1", &[&link.0]).await.or_fault("remove a link")?;
        Ok(removed > 0)
    }

    /// A page of links, newest first.
    pub async fn list(&self, page: &LinkPage) -> Result<Vec<LinkRecord>, Fault> {
        let client = self.pool.get().await.or_fault("list links")?;
        let sql = format!(
            "{RECORD} WHERE ($1::uuid IS NULL OR l.owner_user_id = $1) AND ($2::text IS NULL OR l.peer = $2)
                        AND ($3::timestamptz IS NULL OR (l.created_at, l.id) < ($3, $4::uuid))
             ORDER BY l.created_at DESC, l.id DESC LIMIT $5"
        );
        let (at, id) = page.after.unzip();
        let peer = page.peer.as_ref().map(SiteName::as_str);
        let rows = client
            .query(&sql, &[&page.owner.map(|owner| owner.0), &peer, &at, &id, &page.limit])
            .await
            .or_fault("list links")?;
        rows.iter().map(link_record).collect()
    }

    /// One link as admins see it.
    pub async fn get(&self, link: LinkId) -> Result<Option<LinkRecord>, Fault> {
        let client = self.pool.get().await.or_fault("read a link")?;
        let row = client.query_opt(&format!("{RECORD} WHERE l.id = $1"), &[&link.0]).await.or_fault("read a link")?;
        row.as_ref().map(link_record).transpose()
    }
}

impl LinkStore for Links {
    fn load_all(&self) -> PortFuture<Result<Vec<Link>, Fault>> {
        let pool = self.pool.clone();
        Box::pin(async move {
            let client = pool.get().await.or_fault("load the links")?;
            // A disabled user asks nothing, neither do those he shared his links with.
            let sql = format!("{LOAD} WHERE u.active AND u.deleted_at IS NULL ORDER BY l.created_at, l.id");
            let rows = client.query(&sql, &[]).await.or_fault("load the links")?;
            // One unreadable link must not keep the others from starting.
            Ok(rows.iter().filter_map(|row| link(row).ok()).collect())
        })
    }

    fn load(&self, id: LinkId) -> PortFuture<Result<Option<Link>, Fault>> {
        let pool = self.pool.clone();
        Box::pin(async move {
            let client = pool.get().await.or_fault("load a link")?;
            let sql = format!("{LOAD} WHERE l.id = $1 AND u.active AND u.deleted_at IS NULL");
            let row = client.query_opt(&sql, &[&id.0]).await.or_fault("load a link")?;
            row.as_ref().map(link).transpose()
        })
    }

    fn renew(
        &self,
        link: LinkId,
        current: Serial,
        renewal: PortFuture<Result<LinkCredentials, Fault>>,
    ) -> PortFuture<Result<Renewed, Fault>> {
        let (pool, turns) = (self.pool.clone(), Arc::clone(&self.renewals));
        Box::pin(async move {
            let _turn = turns.acquire().await.map_err(|_| Fault::new(FaultKind::Internal, Stage::Database))?;
            renew(&pool, link, &current, renewal).await
        })
    }

    fn record_state(&self, link: LinkId, state: LinkState) -> PortFuture<Result<(), Fault>> {
        let pool = self.pool.clone();
        Box::pin(async move {
            let client = pool.get().await.or_fault("record a link's state")?;
            // Only a real change is written: every write tells every replica to read the link again.
            client
                .execute(
                    "UPDATE links SET state = $2, updated_at = now() WHERE id = $1 AND state <> $2",
                    &[&link.0, &state.as_str()],
                )
                .await
                .or_fault("record a link's state")?;
            Ok(())
        })
    }
}

/// Only one replica renews a link at a time; the lock goes with the transaction, however that ends.
const TAKE_TURN: &str = "SELECT pg_try_advisory_xact_lock(hashtextextended('mosaic: renewal of link ' || $1::text, 0))";

const STORE_RENEWED: &str = "
    UPDATE links SET certificate_chain = $3, serial = $4, not_before = $5, not_after = $6, sealed_key = $7, key_version = $8,
           state = CASE WHEN state = 'degraded' THEN 'active' ELSE state END, updated_at = now()
    WHERE id = $1 AND serial = $2";

async fn renew(
    pool: &Pool,
    id: LinkId,
    current: &Serial,
    renewal: PortFuture<Result<LinkCredentials, Fault>>,
) -> Result<Renewed, Fault> {
    let mut client = pool.get().await.or_fault("renew a link")?;
    let transaction = client.transaction().await.or_fault("renew a link")?;
    let turn = transaction.query_one(TAKE_TURN, &[&id.to_string()]).await.or_fault("renew a link")?;
    if !turn.get::<_, bool>(0) {
        return Ok(Renewed::UnderWay);
    }
    let row = transaction.query_opt(&format!("{LOAD} WHERE l.id = $1"), &[&id.0]).await.or_fault("renew a link")?;
    let gone = || Fault::new(FaultKind::NotFound, Stage::Database).with_message("no such link");
    let stored = link(&row.ok_or_else(gone)?)?;
    if stored.credentials.serial != *current {
        return Ok(Renewed::Elsewhere(Box::new(stored)));
    }
    let new = renewal.await?;
    crash_points::reach("renewal.received");
    let updated = transaction
        .execute(
            STORE_RENEWED,
            &[
                &id.0,
                &current.as_bytes(),
                &new.certificate_chain,
                &new.serial.as_bytes(),
                &new.not_before,
                &new.not_after,
                &new.sealed_key,
                &new.key_version,
            ],
        )
        .await
        .or_fault("store a renewed certificate")?;
    if updated == 0 {
        return Err(gone());
    }
    transaction.commit().await.or_fault("store a renewed certificate")?;
    Ok(Renewed::Here(Box::new(new)))
}

async fn insert(client: &impl GenericClient, new: &NewLink) -> Result<(), Fault> {
    let (link, credentials) = (&new.link, &new.link.credentials);
    client
        .execute(
            "INSERT INTO links (id, peer, owner_user_id, state, site, grant_id, subject_user_id, federation_url, enroll_url,
                                allow_private, pinned_root, certificate_chain, serial, not_before, not_after, sealed_key,
                                key_version, created_at, updated_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $18)",
            &[
                &link.id.0,
                &link.peer.as_str(),
                &link.owner.0,
                &link.state.as_str(),
                &new.site,
                &link.grant.0,
                &new.subject.0,
                &&*link.federation_url,
                &new.enroll_url,
                &link.allow_private,
                &credentials.pinned_root,
                &credentials.certificate_chain,
                &credentials.serial.as_bytes(),
                &credentials.not_before,
                &credentials.not_after,
                &credentials.sealed_key,
                &credentials.key_version,
                &link.created_at,
            ],
        )
        .await
        .map_err(|error| insert_fault(error, &link.peer))?;
    let teams: Vec<Uuid> = link.shared_with.iter().map(|team| team.0).collect();
    share(client, new, &teams).await
}

async fn share(client: &impl GenericClient, new: &NewLink, teams: &[Uuid]) -> Result<(), Fault> {
    client
        .execute(
            "INSERT INTO link_teams (link_id, team_id) SELECT $1, team FROM unnest($2::uuid[]) AS team ON CONFLICT DO NOTHING",
            &[&new.link.id.0, &teams],
        )
        .await
        .map(drop)
        .map_err(|error| insert_fault(error, &new.link.peer))
}

fn insert_fault(error: tokio_postgres::Error, peer: &SiteName) -> Fault {
    match error.code() {
        Some(&SqlState::UNIQUE_VIOLATION) => Fault::new(FaultKind::Conflict, Stage::Request).with_message(format!(
            "this user already has a link named '{peer}'; remove it first, or give the new one another name"
        )),
        Some(&SqlState::FOREIGN_KEY_VIOLATION) => {
            Fault::invalid("the link's user or one of its teams does not exist; create them first")
        }
        _ => sql_fault("store a link", &error),
    }
}

fn unreadable(id: LinkId) -> Fault {
    tracing::error!(link = %id, "a stored link cannot be read; remove it and add the peer again");
    Fault::new(FaultKind::Internal, Stage::Database)
}

fn link(row: &Row) -> Result<Link, Fault> {
    let id = LinkId(row.get("id"));
    Ok(Link {
        id,
        peer: SiteName::parse(row.get("peer")).map_err(|_| unreadable(id))?,
        owner: UserId(row.get("owner_user_id")),
        shared_with: row.get::<_, Vec<Uuid>>("teams").into_iter().map(TeamId).collect(),
        state: LinkState::parse(row.get("state")).ok_or_else(|| unreadable(id))?,
        grant: GrantId(row.get("grant_id")),
        federation_url: row.get::<_, &str>("federation_url").into(),
        allow_private: row.get("allow_private"),
        credentials: LinkCredentials {
            serial: Serial::from_bytes(row.get("serial")).ok_or_else(|| unreadable(id))?,
            not_before: row.get("not_before"),
            not_after: row.get("not_after"),
            certificate_chain: row.get("certificate_chain"),
            sealed_key: row.get("sealed_key"),
            key_version: row.get("key_version"),
            pinned_root: row.get("pinned_root"),
        },
        created_at: row.get("created_at"),
    })
}

fn link_record(row: &Row) -> Result<LinkRecord, Fault> {
    let id = LinkId(row.get("id"));
    Ok(LinkRecord {
        id,
        peer: row.get("peer"),
        site: row.get("site"),
        owner: UserId(row.get("owner_user_id")),
        owner_name: row.get("owner_name"),
        shared_with: row.get::<_, Vec<Uuid>>("teams").into_iter().map(TeamId).collect(),
        state: LinkState::parse(row.get("state")).ok_or_else(|| unreadable(id))?,
        grant: GrantId(row.get("grant_id")),
        subject: UserId(row.get("subject_user_id")),
        federation_url: row.get("federation_url"),
        allow_private: row.get("allow_private"),
        serial: row.get("serial"),
        not_before: row.get("not_before"),
        not_after: row.get("not_after"),
        created_at: row.get("created_at"),
        updated_at: row.get("updated_at"),
    })
}

#[cfg(test)]
pub(crate) mod tests;
