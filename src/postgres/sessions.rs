//! Tokens: who a bearer is. Only SHA-256 hashes of tokens reach the database.

use std::time::Duration;

use deadpool_postgres::Pool;
use mosaic_actors::domain::fault::Fault;
use mosaic_actors::domain::identity::{Session, SessionTokenId, TeamId, UserId};
use time::OffsetDateTime;
use tokio_postgres::Row;
use uuid::Uuid;

use super::pool::OrFault;

/// Tokens of sessions and admins.
#[derive(Clone)]
pub struct Sessions {
    pool: Pool,
}

/// A token as admins see it: everything but the token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRecord {
    pub id: Uuid,
    /// The user of a session token; none for an admin token.
    pub user: Option<(UserId, String)>,
    pub label: String,
    /// None: an admin token that does not end by itself.
    pub expires_at: Option<OffsetDateTime>,
    pub revoked_at: Option<OffsetDateTime>,
    pub created_at: OffsetDateTime,
}

/// Which tokens to list: newest first, behind `after`.
#[derive(Debug, Clone, Copy, Default)]
pub struct TokenPage {
    pub user: Option<UserId>,
    pub after: Option<(OffsetDateTime, Uuid)>,
    pub limit: i64,
}

/// One round trip: the token, its user and the user's teams. Inactive and deleted users have no sessions.
const AUTHENTICATE_SESSION: &str = "
    SELECT t.id, t.user_id, ARRAY(SELECT m.team_id FROM team_members m WHERE m.user_id = t.user_id ORDER BY 1) AS teams
    FROM session_tokens t JOIN users u ON u.id = t.user_id
    WHERE t.token_sha256 = $1 AND t.revoked_at IS NULL AND t.expires_at > now() AND u.active AND u.deleted_at IS NULL";

const AUTHENTICATE_ADMIN: &str = "
    SELECT id FROM admin_tokens
    WHERE token_sha256 = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())";

/// Both kinds in one list; `$1` narrows to one user's, `$2`/`$3` is the position behind which the page starts.
const LIST: &str = "
    SELECT * FROM (
        SELECT t.id, t.user_id, u.name AS user_name, t.label, t.expires_at, t.revoked_at, t.created_at
        FROM session_tokens t JOIN users u ON u.id = t.user_id
        UNION ALL
        SELECT id, NULL, NULL, label, expires_at, revoked_at, created_at FROM admin_tokens
    ) AS tokens
    WHERE ($1::uuid IS NULL OR user_id = $1) AND ($2::timestamptz IS NULL OR (created_at, id) < ($2, $3::uuid))
    ORDER BY created_at DESC, id DESC LIMIT $4";

impl Sessions {
    #[must_use]
    pub fn new(pool: Pool) -> Self {
        Self { pool }
    }

    /// The session of a token's hash; `None` when there is none that is valid now (database clock).
    pub async fn authenticate_session(&self, token_sha256: &[u8; 32]) -> Result<Option<Session>, Fault> {
        let client = self.pool.get().await.or_fault("authenticate a session")?;
        let statement = client.prepare_cached(AUTHENTICATE_SESSION).await.or_fault("authenticate a session")?;
        let row = client.query_opt(&statement, &[&token_sha256.as_slice()]).await.or_fault("authenticate a session")?;
        Ok(row.map(|row| Session {
            token: SessionTokenId(row.get("id")),
            user: UserId(row.get("user_id")),
            teams: row.get::<_, Vec<Uuid>>("teams").into_iter().map(TeamId).collect(),
        }))
    }

    /// The id of a valid admin token's record.
    pub async fn authenticate_admin(&self, token_sha256: &[u8; 32]) -> Result<Option<Uuid>, Fault> {
        let client = self.pool.get().await.or_fault("authenticate an admin")?;
        let statement = client.prepare_cached(AUTHENTICATE_ADMIN).await.or_fault("authenticate an admin")?;
        let row = client.query_opt(&statement, &[&token_sha256.as_slice()]).await.or_fault("authenticate an admin")?;
        Ok(row.map(|row| row.get("id")))
    }

    /// Puts a session token on record. `None` when the user does not exist, is disabled or deleted.
    pub async fn create_session_token(
        &self,
        user: UserId,
        token_sha256: &[u8; 32],
        label: &str,
        lifetime: Duration,
    ) -> Result<Option<TokenRecord>, Fault> {
        let client = self.pool.get().await.or_fault("create a session token")?;
        let row = client
            .query_opt(
                "INSERT INTO session_tokens (id, user_id, token_sha256, label, expires_at)
                 SELECT $1, u.id, $3, $4, now() + $5::double precision * interval '1 second'
                 FROM users u WHERE u.id = $2 AND u.active AND u.deleted_at IS NULL
                 RETURNING id, user_id, (SELECT name FROM users WHERE id = user_id) AS user_name,
                           label, expires_at, revoked_at, created_at",
                &[&Uuid::now_v7(), &user.0, &token_sha256.as_slice(), &label, &lifetime.as_secs_f64()],
            )
            .await
            .or_fault("create a session token")?;
        Ok(row.as_ref().map(token_record))
    }

    /// Puts an admin token on record. Without a lifetime it lasts until it is revoked.
    pub async fn create_admin_token(
        &self,
        token_sha256: &[u8; 32],
        label: &str,
        lifetime: Option<Duration>,
    ) -> Result<TokenRecord, Fault> {
        let client = self.pool.get().await.or_fault("create an admin token")?;
        let seconds = lifetime.map(|lifetime| lifetime.as_secs_f64());
        let row = client
            .query_one(
                "INSERT INTO admin_tokens (id, token_sha256, label, expires_at)
                 VALUES ($1, $2, $3, now() + $4::double precision * interval '1 second')
                 RETURNING id, NULL::uuid AS user_id, NULL::text AS user_name, label, expires_at, revoked_at, created_at",
                &[&Uuid::now_v7(), &token_sha256.as_slice(), &label, &seconds],
            )
            .await
            .or_fault("create an admin token")?;
        Ok(token_record(&row))
    }

    /// Session and admin tokens, newest first.
    pub async fn list(&self, page: &TokenPage) -> Result<Vec<TokenRecord>, Fault> {
        let client = self.pool.get().await.or_fault("list tokens")?;
        let (at, id) = page.after.unzip();
        let rows = client
            .query(LIST, &[&page.user.map(|user| user.0), &at, &id, &page.limit])
            .await
            .or_fault("list tokens")?;
        Ok(rows.iter().map(token_record).collect())
    }

    /// Revokes a token of either kind. `false` when no such token exists; revoking twice is no error, the first time counts.
    pub async fn revoke(&self, token: Uuid) -> Result<bool, Fault> {
        let client = self.pool.get().await.or_fault("revoke a token")?;
        let row = client
            .query_one(
                "WITH session AS (
                     UPDATE session_tokens SET revoked_at = COALESCE(revoked_at, now()) WHERE id = $1 RETURNING 1
                 ), admin AS (
                     UPDATE admin_tokens SET revoked_at = COALESCE(revoked_at, now()) WHERE id = $1 RETURNING 1
                 )
                 SELECT EXISTS (SELECT FROM session) OR EXISTS (SELECT FROM admin) AS found",
                &[&token],
            )
            .await
            .or_fault("revoke a token")?;
        Ok(row.get("found"))
    }
}

fn token_record(row: &Row) -> TokenRecord {
    let user: Option<Uuid> = row.get("user_id");
    let name: Option<String> = row.get("user_name");
    TokenRecord {
        id: row.get("id"),
        user: user.map(UserId).zip(name),
        label: row.get("label"),
        expires_at: row.get("expires_at"),
        revoked_at: row.get("revoked_at"),
        created_at: row.get("created_at"),
    }
}

#[cfg(test)]
mod tests;
