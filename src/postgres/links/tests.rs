use time::macros::datetime;

use super::*;
use crate::postgres::grants::tests::{Site, by};

pub(crate) fn new_link(owner: UserId, shared_with: Vec<TeamId>) -> NewLink {
    NewLink {
        link: Link {
            id: LinkId::new(),
            peer: SiteName::parse("work").unwrap(),
            owner,
            shared_with,
            state: LinkState::Active,
            grant: GrantId::new(),
            federation_url: "https://work.example:8643".into(),
            allow_private: true,
            credentials: LinkCredentials {
                serial: Serial::from_bytes(&[7]).unwrap(),
                not_before: datetime!(2026-01-01 0:00 UTC),
                not_after: datetime!(2026-01-02 0:00 UTC),
                certificate_chain: vec![vec![1, 2], vec![3]],
                sealed_key: vec![4, 5],
                key_version: 1,
                pinned_root: vec![3],
            },
            created_at: datetime!(2026-01-01 0:00:00.000001 UTC),
        },
        site: "work".to_owned(),
        subject: UserId::new(),
        enroll_url: "https://work.example:8644".to_owned(),
    }
}

/// `Link` is not comparable: it holds a key.
fn parts(link: &Link) -> String {
    format!("{link:?} {:?} {:?} {:?}", link.shared_with, link.created_at, link.credentials.certificate_chain)
}

#[actix_rt::test]
async fn a_link_comes_back_as_it_was_stored_and_goes_with_its_key() {
    let site = Site::new().await;
    let links = Links::new(site.database.pool());
    let team = site.people.create_team("platform").await.unwrap().id;
    let new = new_link(site.ada.id, vec![team]);
    links.insert(&new).await.unwrap();
    let loaded = links.load(new.link.id).await.unwrap().unwrap();
    assert_eq!(parts(&loaded), parts(&new.link));
    assert_eq!(loaded.credentials.sealed_key, new.link.credentials.sealed_key);
    assert_eq!(links.load_all().await.unwrap().len(), 1);
    let record = links.get(new.link.id).await.unwrap().unwrap();
    assert_eq!((record.owner_name.as_str(), record.shared_with.as_slice()), ("ada", [team].as_slice()));
    links.record_state(new.link.id, LinkState::Revoked).await.unwrap();
    assert_eq!(links.load(new.link.id).await.unwrap().unwrap().state, LinkState::Revoked);
    assert_eq!(links.delete(new.link.id).await, Ok(true));
    assert_eq!(links.delete(new.link.id).await, Ok(false));
    assert!(links.load(new.link.id).await.unwrap().is_none());
}

#[actix_rt::test]
async fn a_users_second_link_of_the_same_name_is_a_conflict_and_another_users_is_not() {
    let site = Site::new().await;
    let links = Links::new(site.database.pool());
    let bob = site.people.create_user("bob", "").await.unwrap();
    links.insert(&new_link(site.ada.id, vec![])).await.unwrap();
    assert_eq!(links.insert(&new_link(site.ada.id, vec![])).await.unwrap_err().kind, FaultKind::Conflict);
    links.insert(&new_link(bob.id, vec![])).await.unwrap();
    assert_eq!(links.insert(&new_link(UserId::new(), vec![])).await.unwrap_err().kind, FaultKind::InvalidRequest);
    let unknown_team = new_link(site.people.create_user("eve", "").await.unwrap().id, vec![TeamId::new()]);
    assert_eq!(links.insert(&unknown_team).await.unwrap_err().kind, FaultKind::InvalidRequest);
    assert!(links.get(unknown_team.link.id).await.unwrap().is_none(), "no link without its teams");
    let of_bob = LinkPage { owner: Some(bob.id), limit: 10, ..LinkPage::default() };
    assert_eq!(links.list(&of_bob).await.unwrap().len(), 1);
    assert!(links.standing(bob.id, &SiteName::parse("work").unwrap()).await.unwrap().is_some());
    assert_eq!(links.standing(bob.id, &SiteName::parse("home").unwrap()).await, Ok(None));
}

#[actix_rt::test]
async fn only_a_link_that_has_ended_is_replaced_and_its_teams_stay() {
    let site = Site::new().await;
    let links = Links::new(site.database.pool());
    let (one, other) =
        (site.people.create_team("one").await.unwrap().id, site.people.create_team("other").await.unwrap().id);
    let peer = SiteName::parse("work").unwrap();
    let lasting = |shared_with: Vec<TeamId>| {
        let mut new = new_link(site.ada.id, shared_with);
        new.link.credentials.not_after = datetime!(2126-01-01 0:00 UTC);
        new
    };
    let first = lasting(vec![one]);
    links.insert(&first).await.unwrap();
    let root_sha256 = sha256(&[3]);
    let standing = |link, ended| Ok(Some(Standing { link, ended, shared: true, root_sha256 }));
    assert_eq!(links.standing(site.ada.id, &peer).await, standing(first.link.id, false));
    let second = lasting(vec![]);
    assert_eq!(links.replace(first.link.id, &second).await.unwrap_err().kind, FaultKind::Conflict);
    assert!(links.get(second.link.id).await.unwrap().is_none());

    links.record_state(first.link.id, LinkState::Revoked).await.unwrap();
    assert_eq!(links.standing(site.ada.id, &peer).await, standing(first.link.id, true));
    links.replace(first.link.id, &second).await.unwrap();
    assert!(links.get(first.link.id).await.unwrap().is_none());
    assert_eq!(links.get(second.link.id).await.unwrap().unwrap().shared_with, [one]);

    // Of another authority: the name is the inviter's word, and the teams were not meant for him.
    links.record_state(second.link.id, LinkState::Revoked).await.unwrap();
    let mut stranger = lasting(vec![]);
    stranger.link.credentials.pinned_root = vec![9];
    links.replace(second.link.id, &stranger).await.unwrap();
    assert_eq!(links.get(stranger.link.id).await.unwrap().unwrap().shared_with, []);
    let unshared = Standing { link: stranger.link.id, ended: false, shared: false, root_sha256: sha256(&[9]) };
    assert_eq!(links.standing(site.ada.id, &peer).await, Ok(Some(unshared)));

    // Whoever names teams means those; and a certificate past its end has ended the link too.
    links.delete(stranger.link.id).await.unwrap();
    let late = new_link(site.ada.id, vec![one]);
    links.insert(&late).await.unwrap();
    assert_eq!(links.standing(site.ada.id, &peer).await, standing(late.link.id, true));
    let third = lasting(vec![other]);
    links.replace(late.link.id, &third).await.unwrap();
    assert_eq!(links.get(third.link.id).await.unwrap().unwrap().shared_with, [other]);
    // A replacement that cannot be stored leaves the ended one where it was.
    links.record_state(third.link.id, LinkState::Expired).await.unwrap();
    let unknown = lasting(vec![TeamId::new()]);
    assert!(links.replace(third.link.id, &unknown).await.is_err());
    assert!(links.get(third.link.id).await.unwrap().is_some());
}

#[actix_rt::test]
async fn the_links_of_a_disabled_user_do_not_start_and_those_of_a_deleted_one_are_gone() {
    let site = Site::new().await;
    let links = Links::new(site.database.pool());
    let new = new_link(site.ada.id, vec![]);
    links.insert(&new).await.unwrap();
    let disable = crate::postgres::people::UserUpdate { active: Some(false), ..Default::default() };
    site.people.update_user(site.ada.id, &disable, &by()).await.unwrap();
    assert!(links.load_all().await.unwrap().is_empty());
    assert!(links.load(new.link.id).await.unwrap().is_none());
    assert!(links.get(new.link.id).await.unwrap().is_some());
    site.people.delete_user(site.ada.id, &by()).await.unwrap();
    assert!(links.get(new.link.id).await.unwrap().is_none());
}

fn next(link: &Link) -> LinkCredentials {
    LinkCredentials {
        serial: Serial::from_bytes(&[8]).unwrap(),
        not_after: datetime!(2026-01-03 0:00 UTC),
        certificate_chain: vec![vec![9]],
        sealed_key: vec![6],
        key_version: 2,
        ..link.credentials.clone()
    }
}

#[actix_rt::test]
async fn a_renewal_is_stored_by_one_replica_and_found_by_the_others() {
    let site = Site::new().await;
    let (here, there) = (Links::new(site.database.pool()), Links::new(site.database.pool()));
    let new = new_link(site.ada.id, vec![]);
    let (id, old) = (new.link.id, new.link.credentials.serial.clone());
    here.insert(&new).await.unwrap();
    here.record_state(id, LinkState::Degraded).await.unwrap();

    let (began, begins) = tokio::sync::oneshot::channel();
    let (go_on, goes_on) = tokio::sync::oneshot::channel::<()>();
    let credentials = next(&new.link);
    let renewing = actix_rt::spawn(here.renew(
        id,
        old.clone(),
        Box::pin(async move {
            began.send(()).unwrap();
            goes_on.await.unwrap();
            Ok(credentials)
        }),
    ));
    begins.await.unwrap();
    let not_asked = || Box::pin(async { panic!("the other replica asks nothing") });
    assert!(matches!(there.renew(id, old.clone(), not_asked()).await, Ok(Renewed::UnderWay)));
    go_on.send(()).unwrap();
    assert!(matches!(renewing.await.unwrap(), Ok(Renewed::Here(_))));

    let Ok(Renewed::Elsewhere(found)) = there.renew(id, old.clone(), not_asked()).await else { panic!() };
    let credentials = &found.credentials;
    assert_eq!((credentials.serial.as_bytes(), credentials.key_version), ([8].as_slice(), 2));
    assert_eq!((credentials.sealed_key.as_slice(), found.state), ([6].as_slice(), LinkState::Active));
    assert_eq!(credentials.not_after, datetime!(2026-01-03 0:00 UTC));
}

#[actix_rt::test]
async fn a_renewal_that_fails_leaves_the_link_as_it_was_and_one_of_a_removed_link_is_not_asked_for() {
    let site = Site::new().await;
    let links = Links::new(site.database.pool());
    let new = new_link(site.ada.id, vec![]);
    let (id, old) = (new.link.id, new.link.credentials.serial.clone());
    links.insert(&new).await.unwrap();
    let failing = Box::pin(async { Err(Fault::new(FaultKind::Unreachable, Stage::Connect)) });
    assert_eq!(links.renew(id, old.clone(), failing).await.unwrap_err().kind, FaultKind::Unreachable);
    assert_eq!(parts(&links.load(id).await.unwrap().unwrap()), parts(&new.link));
    links.delete(id).await.unwrap();
    let not_asked = Box::pin(async { panic!("nothing is asked") });
    assert_eq!(links.renew(id, old, not_asked).await.unwrap_err().kind, FaultKind::NotFound);
}
