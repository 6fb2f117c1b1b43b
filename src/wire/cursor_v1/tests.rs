use mosaic_actors::domain::answer::SourceName;
use mosaic_actors::domain::fault::FaultKind;
use mosaic_actors::domain::identity::{SiteName, UserId};
use mosaic_actors::domain::query::{SourceSelector, Verb};
use mosaic_actors::fan_out::{CompositePosition, SourcePosition};
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::secrets::MasterSecret;

fn key() -> MacKey {
    MasterSecret::generate().unwrap().mac_key("cursor tests")
}

fn tasks() -> ResourceName {
    ResourceName::parse("tasks").unwrap()
}

fn position(micros: i64, id: &str) -> Position {
    Position {
        created_at: OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1_000).unwrap(),
        id: RowId::parse(id).unwrap(),
    }
}

#[test]
fn a_cursor_means_nothing_to_another_grant_resource_filter_or_key() {
    let (key, tasks) = (key(), tasks());
    let notes = ResourceName::parse("notes").unwrap();
    let own = PeerCursorBinding { grant: GrantId(Uuid::from_u128(1)), resource: &tasks, filter: b"{}" };
    let cursor = encode_peer_cursor(&key, own, &position(5, "a"));
    assert_eq!(decode_peer_cursor(&key, own, &cursor), Ok(position(5, "a")));

    let fault = decode_peer_cursor(&key, PeerCursorBinding { filter: b"", ..own }, &cursor).unwrap_err();
    assert_eq!(fault.kind, FaultKind::InvalidRequest);
    assert_eq!(
        fault.message.as_deref(),
        Some("cursor: is not one that this query gave out; start again without a cursor")
    );
    let other_grant = PeerCursorBinding { grant: GrantId(Uuid::from_u128(2)), ..own };
    assert_eq!(decode_peer_cursor(&key, other_grant, &cursor), Err(fault.clone()));
    let other_resource = PeerCursorBinding { resource: &notes, ..own };
    assert_eq!(decode_peer_cursor(&key, other_resource, &cursor), Err(fault.clone()));
    assert_eq!(decode_peer_cursor(&self::key(), own, &cursor), Err(fault));
}

#[test]
fn the_longest_id_has_a_cursor_below_the_limit() {
    let (key, tasks) = (key(), tasks());
    let binding = PeerCursorBinding { grant: GrantId(Uuid::from_u128(1)), resource: &tasks, filter: b"" };
    let longest = position(i64::from(i32::MAX), &"🦀".repeat(RowId::MAX_CHARS));
    let cursor = encode_peer_cursor(&key, binding, &longest);
    assert!(cursor.len() <= PEER_CURSOR_CHARS_MAX, "{}", cursor.len());
    assert_eq!(decode_peer_cursor(&key, binding, &cursor), Ok(longest));
}

proptest! {
    #[test]
    fn every_position_comes_back(micros in -62_135_596_800_000_000_i64..=253_402_300_799_999_999, id in "[^\\p{Cc}]{1,200}") {
        let (key, tasks) = (key(), tasks());
        let binding = PeerCursorBinding { grant: GrantId(Uuid::from_u128(1)), resource: &tasks, filter: b"" };
        let position = position(micros, &id);
        let cursor = encode_peer_cursor(&key, binding, &position);
        prop_assert_eq!(decode_peer_cursor(&key, binding, &cursor), Ok(position));
    }

    #[test]
    fn an_altered_cursor_is_refused(at in 0_usize..60, with in "[A-Za-z0-9_-]") {
        let (key, tasks) = (key(), tasks());
        let binding = PeerCursorBinding { grant: GrantId(Uuid::from_u128(1)), resource: &tasks, filter: b"" };
        let cursor = encode_peer_cursor(&key, binding, &position(7, "0198c8a0-5f4e-7cc3-98c4-dc0c0c07398f"));
        let mut altered = cursor.clone();
        altered.replace_range(at..=at, &with);
        prop_assert_eq!(decode_peer_cursor(&key, binding, &altered).is_ok(), altered == cursor);
    }

    #[test]
    fn made_up_cursors_are_refused(cursor in ".{0,80}") {
        let (key, tasks) = (key(), tasks());
        let binding = PeerCursorBinding { grant: GrantId(Uuid::from_u128(1)), resource: &tasks, filter: b"" };
        prop_assert!(decode_peer_cursor(&key, binding, &cursor).is_err());
    }
}

fn composite() -> CompositePosition {
    let peer = |name: &str| SourceName::Peer(SiteName::parse(name).unwrap());
    CompositePosition {
        sources: vec![
            (SourceName::Local, SourcePosition::Local { after: Some(position(-5, "a\"b")) }),
            (peer("done"), SourcePosition::Done),
            (peer("fresh"), SourcePosition::Peer { cursor: None, after: None, taken: 0 }),
            (
                peer("work"),
                SourcePosition::Peer { cursor: Some("opaque".into()), after: Some(position(9, "z")), taken: 3 },
            ),
        ],
    }
}

#[test]
fn a_sessions_cursor_brings_every_source_back_to_its_user_and_question_only() {
    let (key, tasks) = (key(), tasks());
    let work = SourceSelector::Peer(SiteName::parse("work").unwrap());
    let own = SessionCursorBinding {
        user: UserId(Uuid::from_u128(1)),
        verb: Verb::List,
        resource: &tasks,
        filter: b"",
        sources: &SourceSelector::All,
    };
    let cursor = encode_session_cursor(&key, own, &composite());
    assert_eq!(decode_session_cursor(&key, own, &cursor, 4_096), Ok(composite()));
    for other in [
        SessionCursorBinding { user: UserId(Uuid::from_u128(2)), ..own },
        SessionCursorBinding { verb: Verb::Search, ..own },
        SessionCursorBinding { filter: b"{}", ..own },
        SessionCursorBinding { sources: &work, ..own },
        SessionCursorBinding { sources: &SourceSelector::Local, ..own },
    ] {
        assert_eq!(decode_session_cursor(&key, other, &cursor, 4_096), Err(foreign()), "{other:?}");
    }
    let notes = ResourceName::parse("notes").unwrap();
    let of_notes = SessionCursorBinding { resource: &notes, ..own };
    assert_eq!(decode_session_cursor(&key, of_notes, &cursor, 4_096), Err(foreign()));
    let of_work = encode_session_cursor(&key, SessionCursorBinding { sources: &work, ..own }, &composite());
    let lab = SourceSelector::Peer(SiteName::parse("lab").unwrap());
    let of_lab = SessionCursorBinding { sources: &lab, ..own };
    assert_eq!(decode_session_cursor(&key, of_lab, &of_work, 4_096), Err(foreign()));
    assert_eq!(decode_session_cursor(&key, own, &cursor, cursor.len() - 1), Err(foreign()));
    // A peer's cursor of the same key is none of a session's.
    let binding = PeerCursorBinding { grant: GrantId(Uuid::from_u128(1)), resource: &tasks, filter: b"" };
    assert_eq!(
        decode_session_cursor(&key, own, &encode_peer_cursor(&key, binding, &position(1, "a")), 4_096),
        Err(foreign())
    );
}
