use proptest::prelude::*;

use super::*;
use crate::domain::query::RowId;
use crate::fakes::{EPOCH, page, site};

fn peer(name: &str) -> SourceName {
    SourceName::Peer(site(name))
}

fn position(second: i64, id: &str) -> Position {
    Position { created_at: EPOCH + time::Duration::seconds(second), id: RowId::parse(id).unwrap() }
}

fn from_peer(rows: &[(i64, &str)], cursor: Option<&str>, next: Option<&str>, after: Option<Position>) -> Supply {
    let page = page(rows, next.is_some(), None);
    let skip = given_before(&page, after.as_ref());
    let base = SourcePosition::Peer { cursor: cursor.map(Into::into), after, taken: 9 };
    Supply { base, page, skip, next_cursor: next.map(Into::into) }
}

fn ids(supplies: &[(&SourceName, &Supply)], limit: usize) -> Vec<String> {
    let order = merge(supplies, limit);
    order.into_iter().map(|(which, row)| supplies[which].1.rows()[row].position.id.to_string()).collect()
}

#[test]
fn equal_times_are_ordered_by_source_name_and_then_as_the_source_sent_them() {
    let (home, local, work) = (peer("home"), SourceName::Local, peer("work"));
    let of_home = from_peer(&[(5, "h1"), (5, "h0")], None, None, None);
    let of_local =
        Supply { base: SourcePosition::start_of(&local), ..from_peer(&[(5, "l0"), (4, "l1")], None, None, None) };
    let of_work = from_peer(&[(6, "w0"), (5, "w1")], None, None, None);
    let supplies = [(&local, &of_local), (&work, &of_work), (&home, &of_home)];
    assert_eq!(ids(&supplies, 10), ["w0", "h1", "h0", "l0", "w1", "l1"]);
}

#[test]
fn nothing_is_given_out_behind_the_last_row_of_a_source_that_has_more() {
    let (home, work) = (peer("home"), peer("work"));
    let of_home = from_peer(&[(9, "h0"), (7, "h1")], None, Some("more"), None);
    let of_work = from_peer(&[(8, "w0"), (6, "w1")], None, None, None);
    assert_eq!(ids(&[(&home, &of_home), (&work, &of_work)], 10), ["h0", "w0", "h1"]);
}

#[test]
fn a_page_given_out_in_part_is_asked_for_again_and_one_given_out_whole_is_not() {
    let supply = from_peer(&[(9, "c"), (8, "b"), (7, "a")], Some("here"), Some("next"), Some(position(9, "c")));
    assert_eq!(supply.rows().len(), 2);
    let in_part = SourcePosition::Peer { cursor: Some("here".into()), after: Some(position(8, "b")), taken: 2 };
    assert_eq!(supply.position_behind(1), in_part);
    assert_eq!(supply.position_behind(0), supply.base);
    let whole = SourcePosition::Peer { cursor: Some("next".into()), after: None, taken: 0 };
    assert_eq!(supply.position_behind(2), whole);
    let last = Supply { next_cursor: None, page: Page { more: false, ..supply.page.clone() }, ..supply };
    assert_eq!(last.position_behind(2), SourcePosition::Done);
}

#[test]
fn a_row_that_disappeared_is_replaced_by_its_place_in_the_order() {
    let rows = page(&[(9, "d"), (8, "c"), (8, "a"), (7, "z")], false, None);
    assert_eq!(given_before(&rows, Some(&position(8, "b"))), 2);
    assert_eq!(given_before(&rows, Some(&position(8, "a"))), 3);
    assert_eq!(given_before(&rows, Some(&position(1, "a"))), 4);
    assert_eq!(given_before(&rows, None), 0);
}

#[test]
fn a_page_of_nothing_but_newer_rows_keeps_the_place_for_the_page_behind_it() {
    let supply = from_peer(&[(19, "y"), (18, "x")], None, Some("next"), Some(position(9, "c")));
    assert!(supply.rows().is_empty());
    let expected = SourcePosition::Peer { cursor: Some("next".into()), after: Some(position(9, "c")), taken: 0 };
    assert_eq!(supply.position_behind(0), expected);
}

proptest! {
    #[test]
    fn a_merge_is_the_sorted_union_cut_at_the_limit_and_the_first_horizon(
        sources in prop::collection::vec((prop::collection::vec(0..12i64, 0..8), any::<bool>()), 1..5),
        limit in 1..30usize,
    ) {
        let names: Vec<_> = (0..sources.len()).map(|n| peer(&format!("p{n}"))).collect();
        let supplies: Vec<_> = sources.iter().enumerate().map(|(n, (seconds, more))| {
            let mut seconds = seconds.clone();
            seconds.sort_unstable_by(|a, b| b.cmp(a));
            let ids: Vec<_> = (0..seconds.len()).map(|i| format!("p{n}-{i}")).collect();
            let rows: Vec<_> = seconds.iter().zip(&ids).map(|(second, id)| (*second, id.as_str())).collect();
            from_peer(&rows, None, more.then_some("next"), None)
        }).collect();
        let pairs: Vec<_> = names.iter().zip(&supplies).collect();
        // All rows by (time descending, source, place); a row may be given out if no source with more rows ended before it.
        let mut all: Vec<_> = supplies.iter().enumerate().flat_map(|(n, supply)| {
            supply.rows().iter().enumerate().map(move |(i, row)| (std::cmp::Reverse(row.position.created_at), n, i))
        }).collect();
        all.sort();
        let ends = supplies.iter().enumerate().filter(|(_, supply)| supply.next_cursor.is_some()).map(|(n, supply)| {
            supply.rows().last().map(|row| (std::cmp::Reverse(row.position.created_at), n, supply.rows().len() - 1))
        });
        let mut allowed = all.len();
        for end in ends {
            allowed = allowed.min(end.map_or(0, |end| all.iter().filter(|row| **row <= end).count()));
        }
        let expected: Vec<_> = all.into_iter().take(allowed.min(limit)).map(|(_, n, i)| (n, i)).collect();
        prop_assert_eq!(merge(&pairs, limit), expected);
    }
}
