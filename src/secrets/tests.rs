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
