use super::*;
use crate::postgres::grants::tests::{Site, by};
use crate::postgres::people::UserUpdate;

const HOUR: Duration = Duration::from_secs(3_600);

#[actix_rt::test]
async fn a_session_is_its_user_and_his_teams_until_it_is_revoked() {
    let site = Site::new().await;
    let sessions = Sessions::new(site.database.pool());
    let team = site.people.create_team("platform").await.unwrap().id;
    site.people.add_member(team, site.ada.id).await.unwrap();
    let record = sessions.create_session_token(site.ada.id, &[1; 32], "laptop", HOUR).await.unwrap().unwrap();
    let session = Session { user: site.ada.id, teams: vec![team], token: SessionTokenId(record.id) };
    assert_eq!(sessions.authenticate_session(&[1; 32]).await, Ok(Some(session)));
    assert_eq!(sessions.authenticate_session(&[2; 32]).await, Ok(None));
    assert_eq!(sessions.authenticate_admin(&[1; 32]).await, Ok(None), "a session is no admin");
    assert_eq!(sessions.revoke(record.id).await, Ok(true));
    assert_eq!(sessions.authenticate_session(&[1; 32]).await, Ok(None));
    assert_eq!(sessions.revoke(Uuid::now_v7()).await, Ok(false));
}

#[actix_rt::test]
async fn tokens_end_with_their_time_and_with_their_user() {
    let site = Site::new().await;
    let sessions = Sessions::new(site.database.pool());
    sessions.create_session_token(site.ada.id, &[1; 32], "", Duration::ZERO).await.unwrap().unwrap();
    assert_eq!(sessions.authenticate_session(&[1; 32]).await, Ok(None));
    sessions.create_session_token(site.ada.id, &[2; 32], "", HOUR).await.unwrap().unwrap();
    let disable = UserUpdate { active: Some(false), ..UserUpdate::default() };
    site.people.update_user(site.ada.id, &disable, &by()).await.unwrap();
    assert_eq!(sessions.authenticate_session(&[2; 32]).await, Ok(None));
    assert_eq!(sessions.create_session_token(site.ada.id, &[3; 32], "", HOUR).await, Ok(None));
    sessions.create_admin_token(&[4; 32], "", Some(Duration::ZERO)).await.unwrap();
    assert_eq!(sessions.authenticate_admin(&[4; 32]).await, Ok(None));
}

#[actix_rt::test]
async fn an_admin_token_without_a_lifetime_lasts_and_lists_page_through_both_kinds() {
    let site = Site::new().await;
    let sessions = Sessions::new(site.database.pool());
    let admin = sessions.create_admin_token(&[4; 32], "ops", None).await.unwrap();
    assert_eq!(sessions.authenticate_admin(&[4; 32]).await, Ok(Some(admin.id)));
    let session = sessions.create_session_token(site.ada.id, &[1; 32], "laptop", HOUR).await.unwrap().unwrap();
    assert_eq!(session.user, Some((site.ada.id, "ada".to_owned())));
    let first = sessions.list(&TokenPage { limit: 1, ..TokenPage::default() }).await.unwrap();
    assert_eq!(first, std::slice::from_ref(&session));
    let after = Some((session.created_at, session.id));
    assert_eq!(sessions.list(&TokenPage { after, limit: 5, ..TokenPage::default() }).await.unwrap(), [admin]);
    let of_ada = TokenPage { user: Some(site.ada.id), limit: 5, ..TokenPage::default() };
    assert_eq!(sessions.list(&of_ada).await.unwrap(), [session]);
}
