//! Users and teams of this site: the native rights that every grant is bounded by.

use deadpool_postgres::Pool;
use mosaic_actors::domain::fault::{Fault, FaultKind, Stage};
use mosaic_actors::domain::identity::{GrantId, TeamId, UserId};
use time::OffsetDateTime;
use tokio_postgres::error::SqlState;
use tokio_postgres::{GenericClient, Row};
use uuid::Uuid;

use super::audit::AuditKeys;
use super::grants::{ChangedBy, RevokedCertificate, authority_version, lock_authority, revoke_all_of_subject};
use super::pool::{OrFault, sql_fault};

/// Users, teams and who belongs where, in Postgres.
#[derive(Clone)]
pub struct People {
    pool: Pool,
    keys: AuditKeys,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserRecord {
    pub id: UserId,
    pub name: String,
    pub display_name: String,
    pub active: bool,
    /// By name.
    pub teams: Vec<(TeamId, String)>,
    pub created_at: OffsetDateTime,
    pub deleted_at: Option<OffsetDateTime>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TeamRecord {
    pub id: TeamId,
    pub name: String,
    pub members: i64,
    pub created_at: OffsetDateTime,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberRecord {
    pub user: UserId,
    pub name: String,
    pub added_at: OffsetDateTime,
}

/// What to change of a user; absent fields stay.
#[derive(Debug, Clone, Default)]
pub struct UserUpdate {
    pub active: Option<bool>,
    pub display_name: Option<String>,
}

/// A committed change of a user.
#[derive(Debug, Clone)]
pub struct UserChanged {
    pub user: UserRecord,
    /// Grants with this subject that the change revoked, and their certificates.
    pub revoked_grants: Vec<GrantId>,
    pub revoked: Vec<RevokedCertificate>,
    /// The counter that a replica must have reached to decide by the change.
    pub authority_version: i64,
}

/// How somebody names a user or a team.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdOrName {
    Id(Uuid),
    Name(String),
}

impl IdOrName {
    /// A text that reads as a UUID is an id, anything else a name.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        text.parse().map_or_else(|_| Self::Name(text.to_owned()), Self::Id)
    }

    fn columns(&self) -> (Option<Uuid>, Option<&str>) {
        match self {
            Self::Id(id) => (Some(*id), None),
            Self::Name(name) => (None, Some(name)),
        }
    }
}

const USER: &str = "
    SELECT u.id, u.name, u.display_name, u.active, u.created_at, u.deleted_at, t.ids, t.names
    FROM users u CROSS JOIN LATERAL (
        SELECT COALESCE(array_agg(t.id ORDER BY t.name), '{}') AS ids,
               COALESCE(array_agg(t.name ORDER BY t.name), '{}') AS names
        FROM team_members m JOIN teams t ON t.id = m.team_id WHERE m.user_id = u.id
    ) AS t";

const TEAM: &str = "
    SELECT t.id, t.name, t.created_at, (SELECT count(*) FROM team_members m WHERE m.team_id = t.id) AS members FROM teams t";

impl People {
    #[must_use]
    pub fn new(pool: Pool, keys: AuditKeys) -> Self {
        Self { pool, keys }
    }

    /// Creates an active user. A name that is taken, also by a deleted user, is a conflict; a malformed one an invalid request.
    pub async fn create_user(&self, name: &str, display_name: &str) -> Result<UserRecord, Fault> {
        let client = self.pool.get().await.or_fault("create a user")?;
        let id = UserId::new();
        let created = client
            .execute("INSERT INTO users (id, name, display_name) VALUES ($1, $2, $3)", &[&id.0, &name, &display_name])
            .await;
        if let Err(error) = created {
            let fault = name_fault(error, "user", name);
            return Err(if fault.kind == FaultKind::Conflict {
                taken_by_whom(&**client, fault, name).await?
            } else {
                fault
            });
        }
        user_with(&**client, id).await
    }

    /// A user by id or name, deleted ones too.
    pub async fn user(&self, user: &IdOrName) -> Result<Option<UserRecord>, Fault> {
        let client = self.pool.get().await.or_fault("read a user")?;
        let (id, name) = user.columns();
        let row = client
            .query_opt(&format!("{USER} WHERE u.id = $1 OR u.name = $2"), &[&id, &name])
            .await
            .or_fault("read a user")?;
        Ok(row.as_ref().map(user_record))
    }

    /// Users by name, behind `after`; deleted ones only when asked for.
    pub async fn list_users(
        &self,
        after: Option<&str>,
        with_deleted: bool,
        limit: i64,
    ) -> Result<Vec<UserRecord>, Fault> {
        let client = self.pool.get().await.or_fault("list users")?;
        let sql = format!(
            "{USER} WHERE ($1::text IS NULL OR u.name > $1) AND ($2 OR u.deleted_at IS NULL) ORDER BY u.name LIMIT $3"
        );
        let rows = client.query(&sql, &[&after, &with_deleted, &limit]).await.or_fault("list users")?;
        Ok(rows.iter().map(user_record).collect())
    }

    /// Changes a user. Disabling revokes every grant with this subject. `None` when there is none, or it was deleted.
    pub async fn update_user(
        &self,
        user: UserId,
        update: &UserUpdate,
        by: &ChangedBy,
    ) -> Result<Option<UserChanged>, Fault> {
        let mut client = self.pool.get().await.or_fault("change a user")?;
        let transaction = client.transaction().await.or_fault("change a user")?;
        lock_authority(&*transaction).await.or_fault("change a user")?;
        let updated = transaction
            .execute(
                "UPDATE users SET active = COALESCE($2, active), display_name = COALESCE($3, display_name)
                 WHERE id = $1 AND deleted_at IS NULL",
                &[&user.0, &update.active, &update.display_name],
            )
            .await
            .map_err(display_name_fault)?;
        if updated == 0 {
            return Ok(None);
        }
        let changed = finish(&*transaction, &self.keys, user, update.active == Some(false), by).await?;
        transaction.commit().await.or_fault("change a user")?;
        Ok(Some(changed))
    }

    /// Ends a user: inactive and marked as deleted, tokens revoked, links with their keys removed, every grant with this subject
    /// revoked. Rows and audit stay. `None` when there is none, or it was deleted before.
    pub async fn delete_user(&self, user: UserId, by: &ChangedBy) -> Result<Option<UserChanged>, Fault> {
        let mut client = self.pool.get().await.or_fault("delete a user")?;
        let transaction = client.transaction().await.or_fault("delete a user")?;
        lock_authority(&*transaction).await.or_fault("delete a user")?;
        let deleted = transaction
            .execute(
                "UPDATE users SET active = false, deleted_at = now() WHERE id = $1 AND deleted_at IS NULL",
                &[&user.0],
            )
            .await
            .or_fault("delete a user")?;
        if deleted == 0 {
            return Ok(None);
        }
        for statement in [
            "UPDATE session_tokens SET revoked_at = now() WHERE user_id = $1 AND revoked_at IS NULL",
            "DELETE FROM links WHERE owner_user_id = $1",
            "DELETE FROM team_members WHERE user_id = $1",
        ] {
            transaction.execute(statement, &[&user.0]).await.or_fault("delete a user")?;
        }
        let changed = finish(&*transaction, &self.keys, user, true, by).await?;
        transaction.commit().await.or_fault("delete a user")?;
        Ok(Some(changed))
    }

    /// Creates a team. A name that is taken is a conflict; a malformed one an invalid request.
    pub async fn create_team(&self, name: &str) -> Result<TeamRecord, Fault> {
        let client = self.pool.get().await.or_fault("create a team")?;
        let row = client
            .query_one(
                "INSERT INTO teams (id, name) VALUES ($1, $2) RETURNING id, name, created_at, 0::bigint AS members",
                &[&Uuid::now_v7(), &name],
            )
            .await
            .map_err(|error| name_fault(error, "team", name))?;
        Ok(team_record(&row))
    }

    /// A team by id or name.
    pub async fn team(&self, team: &IdOrName) -> Result<Option<TeamRecord>, Fault> {
        let client = self.pool.get().await.or_fault("read a team")?;
        let (id, name) = team.columns();
        let row = client
            .query_opt(&format!("{TEAM} WHERE t.id = $1 OR t.name = $2"), &[&id, &name])
            .await
            .or_fault("read a team")?;
        Ok(row.as_ref().map(team_record))
    }

    /// Teams by name, behind `after`.
    pub async fn list_teams(&self, after: Option<&str>, limit: i64) -> Result<Vec<TeamRecord>, Fault> {
        let client = self.pool.get().await.or_fault("list teams")?;
        let sql = format!("{TEAM} WHERE ($1::text IS NULL OR t.name > $1) ORDER BY t.name LIMIT $2");
        let rows = client.query(&sql, &[&after, &limit]).await.or_fault("list teams")?;
        Ok(rows.iter().map(team_record).collect())
    }

    /// Those of `teams` that exist: what a scope's filters are checked against.
    pub async fn existing_teams(&self, teams: &[TeamId]) -> Result<Vec<TeamId>, Fault> {
        let client = self.pool.get().await.or_fault("read teams")?;
        let ids: Vec<Uuid> = teams.iter().map(|team| team.0).collect();
        let rows = client.query("SELECT id FROM teams WHERE id = ANY($1)", &[&ids]).await.or_fault("read teams")?;
        Ok(rows.iter().map(|row| TeamId(row.get(0))).collect())
    }

    /// A team's members by name, behind `after`.
    pub async fn list_members(
        &self,
        team: TeamId,
        after: Option<&str>,
        limit: i64,
    ) -> Result<Vec<MemberRecord>, Fault> {
        let client = self.pool.get().await.or_fault("list members")?;
        let rows = client
            .query(
                "SELECT u.id, u.name, m.added_at FROM team_members m JOIN users u ON u.id = m.user_id
                 WHERE m.team_id = $1 AND ($2::text IS NULL OR u.name > $2) ORDER BY u.name LIMIT $3",
                &[&team.0, &after, &limit],
            )
            .await
            .or_fault("list members")?;
        Ok(rows.iter().map(member_record).collect())
    }

    /// One member of a team.
    pub async fn member(&self, team: TeamId, user: UserId) -> Result<Option<MemberRecord>, Fault> {
        let client = self.pool.get().await.or_fault("read a member")?;
        let row = client
            .query_opt(
                "SELECT u.id, u.name, m.added_at FROM team_members m JOIN users u ON u.id = m.user_id
                 WHERE m.team_id = $1 AND m.user_id = $2",
                &[&team.0, &user.0],
            )
            .await
            .or_fault("read a member")?;
        Ok(row.as_ref().map(member_record))
    }

    /// Puts a user into a team; returns the counter that includes it. Twice is no error.
    pub async fn add_member(&self, team: TeamId, user: UserId) -> Result<i64, Fault> {
        self.change_member(
            "INSERT INTO team_members (team_id, user_id) VALUES ($1, $2) ON CONFLICT DO NOTHING",
            team,
            user,
        )
        .await
        .map(|(_, version)| version)
    }

    /// Takes a user out of a team; returns the counter that includes it. `None` when he is not in it.
    pub async fn remove_member(&self, team: TeamId, user: UserId) -> Result<Option<i64>, Fault> {
        let (changed, version) =
            self.change_member("DELETE FROM team_members WHERE team_id = $1 AND user_id = $2", team, user).await?;
        Ok(changed.then_some(version))
    }

    async fn change_member(&self, sql: &str, team: TeamId, user: UserId) -> Result<(bool, i64), Fault> {
        let mut client = self.pool.get().await.or_fault("change a team's members")?;
        let transaction = client.transaction().await.or_fault("change a team's members")?;
        lock_authority(&*transaction).await.or_fault("change a team's members")?;
        let changed = transaction.execute(sql, &[&team.0, &user.0]).await.or_fault("change a team's members")?;
        let version = authority_version(&*transaction).await.or_fault("change a team's members")?;
        transaction.commit().await.or_fault("change a team's members")?;
        Ok((changed > 0, version))
    }
}

/// Revokes what must end with the user, and reads the result back.
async fn finish(
    client: &impl GenericClient,
    keys: &AuditKeys,
    user: UserId,
    ended: bool,
    by: &ChangedBy,
) -> Result<UserChanged, Fault> {
    let (revoked_grants, revoked) = if ended {
        revoke_all_of_subject(client, keys, user, by).await.or_fault("write down a change of a user")?
    } else {
        Default::default()
    };
    let authority_version = authority_version(client).await.or_fault("write down a change of a user")?;
    Ok(UserChanged { user: user_with(client, user).await?, revoked_grants, revoked, authority_version })
}

async fn user_with(client: &impl GenericClient, user: UserId) -> Result<UserRecord, Fault> {
    let row = client.query_one(&format!("{USER} WHERE u.id = $1"), &[&user.0]).await.or_fault("read a user")?;
    Ok(user_record(&row))
}

/// A deleted user is in no list, so the message says why his name is not free.
async fn taken_by_whom(client: &impl GenericClient, fault: Fault, name: &str) -> Result<Fault, Fault> {
    let deleted = client
        .query_opt("SELECT FROM users WHERE name = $1 AND deleted_at IS NOT NULL", &[&name])
        .await
        .or_fault("create a user")?;
    Ok(match deleted {
        None => fault,
        Some(_) => fault.with_message(format!(
            "the user name '{name}' was a deleted user's, and stays his in the audit log; choose another one"
        )),
    })
}

fn name_fault(error: tokio_postgres::Error, what: &str, name: &str) -> Fault {
    match error.code() {
        Some(&SqlState::UNIQUE_VIOLATION) => Fault::new(FaultKind::Conflict, Stage::Request)
            .with_message(format!("the {what} name '{name}' is taken; choose another one")),
        Some(&SqlState::CHECK_VIOLATION) => Fault::invalid(format!(
            "name: of a {what} has 1 to 63 characters a-z, 0-9, '.', '_' or '-', and starts with a letter or a digit"
        )),
        Some(&SqlState::CHARACTER_NOT_IN_REPERTOIRE) => Fault::invalid("name: holds a character that cannot be stored"),
        _ => sql_fault("create a name", &error),
    }
}

fn display_name_fault(error: tokio_postgres::Error) -> Fault {
    match error.code() {
        Some(&SqlState::CHARACTER_NOT_IN_REPERTOIRE) => {
            Fault::invalid("display_name: holds a character that cannot be stored")
        }
        _ => sql_fault("change a user", &error),
    }
}

fn user_record(row: &Row) -> UserRecord {
    let teams = row.get::<_, Vec<Uuid>>("ids").into_iter().map(TeamId);
    UserRecord {
        id: UserId(row.get("id")),
        name: row.get("name"),
        display_name: row.get("display_name"),
        active: row.get("active"),
        teams: teams.zip(row.get::<_, Vec<String>>("names")).collect(),
        created_at: row.get("created_at"),
        deleted_at: row.get("deleted_at"),
    }
}

fn team_record(row: &Row) -> TeamRecord {
    TeamRecord {
        id: TeamId(row.get("id")),
        name: row.get("name"),
        members: row.get("members"),
        created_at: row.get("created_at"),
    }
}

fn member_record(row: &Row) -> MemberRecord {
    MemberRecord { user: UserId(row.get("id")), name: row.get("name"), added_at: row.get("added_at") }
}

#[cfg(test)]
mod tests;
