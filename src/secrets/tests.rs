use std::os::unix::fs::PermissionsExt;

use super::*;

const PLACE: SealContext<'static> = SealContext { table: "links", row: "7", key_version: 1 };

fn secret() -> MasterSecret {
    MasterSecret::generate().unwrap()
}

#[test]
fn what_is_sealed_opens_only_in_its_own_place() {
    let sealer = secret().sealer();
    let blob = sealer.seal(&PLACE, b"a private key");
    assert_eq!(sealer.open(&PLACE, &blob).unwrap().as_slice(), b"a private key");
    for other in [
        SealContext { table: "embedded_ca", ..PLACE },
        SealContext { row: "8", ..PLACE },
        SealContext { key_version: 2, ..PLACE },
    ] {
        assert_eq!(sealer.open(&other, &blob), Err(SealError::Altered), "{other:?}");
    }
}

#[test]
fn every_altered_byte_of_a_blob_is_noticed() {
    let sealer = secret().sealer();
    let blob = sealer.seal(&PLACE, b"key");
    for at in 0..blob.len() {
        let mut altered = blob.clone();
        altered[at] ^= 1;
        assert!(sealer.open(&PLACE, &altered).is_err(), "byte {at}");
    }
    for length in 0..blob.len() {
        assert!(sealer.open(&PLACE, &blob[..length]).is_err(), "cut to {length}");
    }
}

#[test]
fn sealing_twice_gives_different_blobs() {
    let sealer = secret().sealer();
    assert_ne!(sealer.seal(&PLACE, b"key"), sealer.seal(&PLACE, b"key"));
}

#[test]
fn another_master_secret_is_named_as_the_reason() {
    let blob = secret().sealer().seal(&PLACE, b"key");
    assert_eq!(secret().sealer().open(&PLACE, &blob), Err(SealError::UnknownKey));
}

#[test]
fn after_a_rotation_old_blobs_open_and_new_ones_use_the_new_secret() {
    let (old, new) = (STANDARD.encode([1; 32]), STANDARD.encode([2; 32]));
    let before = MasterSecret::parse(&old).unwrap().sealer();
    let rotated = MasterSecret::parse(&format!("# rotated\n{new}\n{old}\n")).unwrap().sealer();
    let after = MasterSecret::parse(&new).unwrap().sealer();
    let old_blob = before.seal(&PLACE, b"old");
    let new_blob = rotated.seal(&PLACE, b"new");
    assert_eq!(rotated.open(&PLACE, &old_blob).unwrap().as_slice(), b"old");
    assert_eq!(after.open(&PLACE, &new_blob).unwrap().as_slice(), b"new");
    assert_eq!(after.open(&PLACE, &old_blob), Err(SealError::UnknownKey));
}

#[test]
fn a_secret_file_survives_writing_and_reading_and_is_never_overwritten() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("master.key");
    let written = secret();
    written.write_new(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let blob = written.sealer().seal(&PLACE, b"key");
    assert_eq!(MasterSecret::load(&path).unwrap().sealer().open(&PLACE, &blob).unwrap().as_slice(), b"key");
    assert!(matches!(secret().write_new(&path), Err(SecretError::Write(_))));
}

#[test]
fn a_secret_file_that_others_may_read_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("master.key");
    secret().write_new(&path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(MasterSecret::load(&path), Err(SecretError::Permissions { mode: 0o640 })));
}

#[test]
fn a_malformed_secret_is_refused_with_its_line() {
    assert!(matches!(MasterSecret::parse(""), Err(SecretError::Empty)));
    assert!(matches!(MasterSecret::parse("\nhunter2\n"), Err(SecretError::Shape { line: 2 })));
    assert!(matches!(MasterSecret::parse(&STANDARD.encode([1; 31])), Err(SecretError::Shape { line: 1 })));
    let many = format!("{}\n", STANDARD.encode([1; 32])).repeat(MASTER_SECRETS_LIMIT + 1);
    assert!(matches!(MasterSecret::parse(&many), Err(SecretError::TooMany)));
}

#[test]
fn a_mac_is_bound_to_its_label_and_to_where_parts_end() {
    let secret = secret();
    let key = secret.mac_key("cursor");
    let tag = key.tag(&[b"ab", b"c"]);
    assert!(key.verify(&[b"ab", b"c"], &tag));
    assert!(key.verify(&[b"ab", b"c"], &tag[..16]));
    assert!(!key.verify(&[b"ab", b"c"], &tag[..15]));
    assert!(!key.verify(&[b"a", b"bc"], &tag));
    assert!(!key.verify(&[b"abc"], &tag));
    assert!(!key.verify(&[b"ab", b"c", b""], &tag));
    assert!(!secret.mac_key("query").verify(&[b"ab", b"c"], &tag));
    let mut long = tag.to_vec();
    long.push(0);
    assert!(!key.verify(&[b"ab", b"c"], &long));
}

#[test]
fn a_token_has_its_prefix_and_43_random_characters() {
    let token = Token::generate(Token::SESSION);
    assert_eq!(token.expose().len(), Token::SESSION.len() + 43);
    assert_eq!(Token::parse(Token::SESSION, token.expose()), Some(token.clone()));
    assert_eq!(Token::parse(Token::ADMIN, token.expose()), None);
    assert_eq!(Token::parse(Token::SESSION, &token.expose()[..50]), None);
    assert_ne!(Token::generate(Token::SESSION), token);
}

#[test]
fn debug_shows_no_secret() {
    let token = Token::generate(Token::ENROLL);
    assert_eq!(format!("{token:?}"), "Token");
    let secret = secret();
    assert_eq!(format!("{secret:?} {:?} {:?}", secret.sealer(), secret.mac_key("x")), "MasterSecret Sealer MacKey");
}

fn ring(lines: &[u8]) -> MasterSecret {
    let text: Vec<String> = lines.iter().map(|byte| STANDARD.encode([*byte; 32])).collect();
    MasterSecret::parse(&text.join("\n")).unwrap()
}

#[test]
fn what_was_derived_follows_a_secret_that_is_adopted_and_then_seals() {
    let running = ring(&[1]);
    let (sealer, mac) = (running.sealer(), running.mac_key("cursor"));
    let (blob, tag) = (sealer.seal(&PLACE, b"key"), mac.tag(&[b"a"]));
    let [new, old] = ring(&[2, 1]).ids()[..] else { panic!("two ids") };
    assert_eq!((running.sealing(), running.seal_with(new)), (old, false), "it is not known yet");

    running.adopt(&ring(&[2, 1]), &[]);
    assert_eq!((running.ids(), running.sealing()), (vec![new, old], old), "known is not in use");
    assert_eq!(sealer.open(&PLACE, &ring(&[2]).sealer().seal(&PLACE, b"x")).unwrap().as_slice(), b"x");
    assert!(mac.verify(&[b"a"], &ring(&[2]).mac_key("cursor").tag(&[b"a"])), "another replica is ahead");
    assert_eq!(mac.sign(&[b"a"]), (old, tag));

    assert!(running.seal_with(new));
    let resealed = sealer.reseal(&PLACE, &blob).unwrap().unwrap();
    assert_eq!((Sealer::key_id(&blob), Sealer::key_id(&resealed)), (Some(old), Some(new)));
    assert_eq!(sealer.reseal(&PLACE, &resealed), Ok(None));
    assert_eq!(ring(&[2]).sealer().open(&PLACE, &resealed).unwrap().as_slice(), b"key");
    assert_eq!(sealer.open(&PLACE, &blob).unwrap().as_slice(), b"key");
    assert!(mac.verify(&[b"a"], &tag), "what was handed out before holds while the old secret is known");
    assert_ne!(mac.tag(&[b"a"]), tag);
    assert!(!ring(&[2]).mac_key("cursor").verify(&[b"a"], &tag), "and ends with it");
}

#[test]
fn a_secret_that_is_forgotten_opens_and_recognises_nothing_any_more() {
    let running = ring(&[2, 1]);
    let [new, old] = running.ids()[..] else { panic!("two ids") };
    let (sealer, mac, signing) = (running.sealer(), running.mac_key("cursor"), running.signing_key("seal"));
    let (blob, tag) = (ring(&[1]).sealer().seal(&PLACE, b"key"), ring(&[1]).mac_key("cursor").tag(&[b"a"]));
    assert_eq!(running.forget(&[new]), [], "the one that seals stays");
    assert_eq!(running.forget(&[ring(&[3]).ids()[0]]), []);
    assert!(sealer.open(&PLACE, &blob).is_ok() && mac.verify(&[b"a"], &tag) && signing.public_key(old).is_some());

    assert_eq!((running.forget(&[old, new]), running.ids()), (vec![old], vec![new]));
    assert_eq!(sealer.open(&PLACE, &blob), Err(SealError::UnknownKey));
    assert!(!mac.verify(&[b"a"], &tag));
    assert_eq!(mac.check(old, &[b"a"], &tag), MacVerdict::UnknownKey);
    assert_eq!(signing.public_key(old), None);
    assert_eq!((running.seal_with(old), running.sealing()), (false, new));
    running.adopt(&ring(&[2, 1]), &[old]);
    assert_eq!(running.ids(), [new], "and is not learned again");
    let current = sealer.seal(&PLACE, b"key");
    assert_eq!(sealer.open(&PLACE, &current).unwrap().as_slice(), b"key");
    assert!(mac.verify(&[b"b"], &mac.tag(&[b"b"])));
}

#[test]
fn a_tag_that_is_kept_names_its_secret() {
    let secret = ring(&[2, 1]);
    let [new, old] = secret.ids()[..] else { panic!("two ids") };
    let mac = secret.mac_key("checkpoint");
    let (id, tag) = mac.sign(&[b"root"]);
    assert_eq!((id, mac.check(new, &[b"root"], &tag)), (new, MacVerdict::Genuine));
    assert_eq!(mac.check(new, &[b"roof"], &tag), MacVerdict::Forged);
    assert_eq!(mac.check(old, &[b"root"], &tag), MacVerdict::Forged, "made with another secret than it says");
    assert_eq!(ring(&[3]).mac_key("checkpoint").check(new, &[b"root"], &tag), MacVerdict::UnknownKey);
}

#[test]
fn a_moved_or_altered_blob_is_not_made_good_by_sealing_it_anew() {
    let secret = ring(&[2, 1]);
    let blob = ring(&[1]).sealer().seal(&PLACE, b"key");
    let elsewhere = SealContext { row: "8", ..PLACE };
    assert_eq!(secret.sealer().reseal(&elsewhere, &blob), Err(SealError::Altered));
    assert_eq!(secret.sealer().reseal(&SealContext { key_version: 2, ..PLACE }, &blob), Err(SealError::Altered));
    let current = secret.sealer().seal(&PLACE, b"key");
    assert_eq!(secret.sealer().reseal(&elsewhere, &current), Err(SealError::Altered), "also when it is current");
    assert_eq!(ring(&[3]).sealer().reseal(&PLACE, &blob), Err(SealError::UnknownKey));
    let mut version = blob.clone();
    version[0] = 2;
    assert_eq!(secret.sealer().reseal(&PLACE, &version), Err(SealError::Shape));
}

#[test]
fn replacing_the_file_keeps_its_mode_and_removes_what_a_crash_left() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("master.secret");
    let first = secret();
    first.write_new(&path).unwrap();
    std::fs::write(directory.path().join("master.secret.new"), "half").unwrap();
    let two = first.with_a_new_one().unwrap();
    two.replace(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let read = MasterSecret::load(&path).unwrap();
    assert_eq!(
        (read.ids(), two.sealing()),
        (two.ids(), first.sealing()),
        "the new one stands first and does not seal yet"
    );
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    assert_eq!(read.only(two.ids()[0]).unwrap().ids(), [two.ids()[0]]);
    let full = (1..MASTER_SECRETS_LIMIT).fold(secret(), |all, _| all.with_a_new_one().unwrap());
    assert!(matches!(full.with_a_new_one(), Err(SecretError::TooMany)));
}

#[test]
fn replacing_the_file_follows_no_link_that_stands_in_its_directory() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let (path, beside, victim) = (at("master.secret"), at("master.secret.new"), at("victim"));
    secret().write_new(&path).unwrap();
    let before = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&victim, "untouched").unwrap();
    let mode = |path: &std::path::Path| std::fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777;
    let victims_mode = mode(&victim);
    // Put there just before the file is made, and just before it is renamed.
    std::os::unix::fs::symlink(&victim, &beside).unwrap();
    assert!(matches!(file::create_private(&beside), Err(SecretError::Write(_))));
    std::fs::remove_file(&beside).unwrap();
    let written = file::create_private(&beside).unwrap();
    std::fs::remove_file(&beside).unwrap();
    std::os::unix::fs::symlink(&victim, &beside).unwrap();
    assert!(matches!(file::put_in_place(&written, &beside, &path), Err(SecretError::Swapped)));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), before);
    // There from the beginning: it is what a crash left, for all we know.
    secret().replace(&path).unwrap();
    assert_eq!((std::fs::read_to_string(&victim).unwrap(), mode(&victim)), ("untouched".to_owned(), victims_mode));
    assert_eq!((mode(&path), path.is_symlink(), beside.exists()), (0o600, false, false));
}

#[test]
fn a_link_to_the_file_is_not_replaced_and_the_remedy_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let (file, link) = (directory.path().join("kept"), directory.path().join("master.secret"));
    secret().write_new(&file).unwrap();
    std::os::unix::fs::symlink(&file, &link).unwrap();
    let before = std::fs::read_to_string(&file).unwrap();
    let refused = MasterSecret::load(&link).unwrap().replace(&link).unwrap_err();
    assert!(refused.to_string().contains("name the file that the link leads to"), "{refused}");
    assert!(link.is_symlink());
    assert_eq!(std::fs::read_to_string(&file).unwrap(), before);
}

#[test]
fn a_file_that_is_too_long_is_refused_and_not_cut() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("master.secret");
    secret().write_new(&path).unwrap();
    let mut text = "#".repeat(16 * 1024).into_bytes();
    text.extend(b"\n");
    text.extend(std::fs::read(&path).unwrap());
    std::fs::write(&path, text).unwrap();
    assert!(matches!(MasterSecret::load(&path), Err(SecretError::TooLong)));
}
