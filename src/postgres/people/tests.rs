use mosaic_actors::domain::grant::GrantStatus;
use mosaic_actors::ports::grant_store::GrantStore;

use super::*;
use crate::postgres::grants::tests::{Site, by};

#[actix_rt::test]
async fn a_user_is_found_by_id_and_by_name_with_his_teams() {
    let site = Site::new().await;
    let (b, a) = (site.people.create_team("beta").await.unwrap(), site.people.create_team("alpha").await.unwrap());
    for team in [&a, &b] {
        site.people.add_member(team.id, site.ada.id).await.unwrap();
    }
    let by_name = site.people.user(&IdOrName::parse("ada")).await.unwrap().unwrap();
    let by_id = site.people.user(&IdOrName::parse(&site.ada.id.to_string())).await.unwrap().unwrap();
    assert_eq!(by_name, by_id);
    assert_eq!(by_id.teams, [(a.id, "alpha".to_owned()), (b.id, "beta".to_owned())]);
    assert_eq!(site.people.user(&IdOrName::parse("bob")).await.unwrap(), None);
    assert_eq!(site.people.team(&IdOrName::parse("alpha")).await.unwrap().unwrap().members, 1);
}

#[actix_rt::test]
async fn a_taken_name_is_a_conflict_and_a_malformed_one_is_named() {
    let site = Site::new().await;
    assert_eq!(site.people.create_user("ada", "").await.unwrap_err().kind, FaultKind::Conflict);
    for name in ["", "Ada", "a b", "a\0b", &"a".repeat(64)] {
        let fault = site.people.create_user(name, "").await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::InvalidRequest, "{name:?}");
        assert!(fault.message.unwrap().starts_with("name: "), "{name:?}");
    }
}

#[actix_rt::test]
async fn disabling_a_user_revokes_the_grants_with_this_subject_and_enabling_does_not_bring_them_back() {
    let site = Site::new().await;
    let (active, pending) = (site.active_grant(3).await, site.grant().await.id);
    let disable = UserUpdate { active: Some(false), ..UserUpdate::default() };
    let changed = site.people.update_user(site.ada.id, &disable, &by()).await.unwrap().unwrap();
    let mut revoked = changed.revoked_grants.clone();
    revoked.sort();
    assert_eq!(revoked, [active, pending]);
    assert_eq!(changed.revoked.len(), 1);
    assert!(!changed.user.active);
    let loaded = site.grants.load(active).await.unwrap().unwrap();
    assert_eq!((loaded.status, loaded.subject_active), (GrantStatus::Revoked, false));
    assert_eq!(site.actions().await, ["create", "invite", "enroll", "create", "revoke", "revoke"]);

    let enable = UserUpdate { active: Some(true), ..UserUpdate::default() };
    let changed = site.people.update_user(site.ada.id, &enable, &by()).await.unwrap().unwrap();
    assert_eq!(changed.revoked_grants, []);
    assert_eq!(site.grants.load(active).await.unwrap().unwrap().status, GrantStatus::Revoked);
    assert_eq!(changed.authority_version, site.grants.load_all().await.unwrap().version);
}

#[actix_rt::test]
async fn a_deleted_user_keeps_his_row_and_cannot_be_changed_or_named_again() {
    let site = Site::new().await;
    let deleted = site.people.delete_user(site.ada.id, &by()).await.unwrap().unwrap();
    assert!(deleted.user.deleted_at.is_some());
    assert!(site.people.delete_user(site.ada.id, &by()).await.unwrap().is_none());
    let enable = UserUpdate { active: Some(true), ..UserUpdate::default() };
    assert!(site.people.update_user(site.ada.id, &enable, &by()).await.unwrap().is_none());
    let taken = site.people.create_user("ada", "").await.unwrap_err();
    assert_eq!(taken.kind, FaultKind::Conflict);
    assert!(taken.message.unwrap().contains("deleted user"), "nobody sees the name in a list any more");
    assert_eq!(site.people.list_users(None, false, 10).await.unwrap(), []);
    assert_eq!(site.people.list_users(None, true, 10).await.unwrap().len(), 1);
}

#[actix_rt::test]
async fn members_come_and_go_and_each_time_authority_moves_on() {
    let site = Site::new().await;
    let team = site.people.create_team("platform").await.unwrap().id;
    let added = site.people.add_member(team, site.ada.id).await.unwrap();
    assert_eq!(site.people.add_member(team, site.ada.id).await.unwrap(), added, "twice changes nothing");
    let names: Vec<_> =
        site.people.list_members(team, None, 10).await.unwrap().into_iter().map(|member| member.name).collect();
    assert_eq!(names, ["ada"]);
    assert_eq!(site.people.remove_member(team, site.ada.id).await.unwrap(), Some(added + 1));
    assert_eq!(site.people.remove_member(team, site.ada.id).await.unwrap(), None);
    assert_eq!(site.people.existing_teams(&[team, TeamId::new()]).await.unwrap(), [team]);
}
