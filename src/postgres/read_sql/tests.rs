use std::collections::BTreeMap;

use mosaic_actors::domain::catalog::{ColumnKind, Resource, ResourceName};
use mosaic_actors::domain::identity::TeamId;
use mosaic_actors::domain::query::Condition;
use uuid::Uuid;

use super::*;

fn column(name: &str, storage: Storage) -> TableColumn {
    TableColumn {
        name: name.into(),
        before_value: crate::postgres::row_json::before_value(name),
        quoted: format!("\"{name}\""),
        storage,
        not_null: true,
        has_default: false,
        read_only: false,
    }
}

fn table(key: Storage, tenant: Storage, team: bool) -> TableMap {
    TableMap {
        resource: Resource {
            name: ResourceName::parse("t").unwrap(),
            id_kind: ColumnKind::Uuid,
            columns: Vec::new(),
            searchable: Vec::new(),
            sensitive: false,
            writable: false,
        },
        table: "\"public\".\"t\"".to_owned(),
        id: column("id", key),
        order: column("at", Storage::Timestamptz),
        owner: column("who", tenant.clone()),
        team: team.then(|| column("crew", tenant)),
        columns: vec![column("price", Storage::Numeric), column("n", Storage::Int4)],
        constraints: BTreeMap::new(),
        updated_at: None,
    }
}

fn uuids() -> TableMap {
    table(Storage::Uuid, Storage::Uuid, true)
}

fn texts() -> TableMap {
    let text = Storage::Text { chars_max: None };
    table(text.clone(), text, true)
}

fn shape(table: &TableMap, own: OwnRows, teams: usize, own_in_teams: usize) -> Option<TenantShape> {
    let some = |count| vec![TeamId(Uuid::nil()); count];
    TenantShape::of(&Visibility { own, teams: some(teams), own_in_teams: some(own_in_teams) }, table)
}

fn filter(conditions: &[(&str, Operator, FilterValue)]) -> Filter {
    let condition = |(field, operator, value): &(&str, Operator, FilterValue)| Condition {
        field: (*field).into(),
        operator: *operator,
        values: vec![value.clone()],
    };
    Filter { conditions: conditions.iter().map(condition).collect() }
}

const COLUMNS: &str =
    "r.\"at\" AS k0, r.\"id\" AS k1, r.\"who\" AS k2, r.\"crew\" AS k3, r.\"price\"::text AS c0, r.\"n\" AS c1";
const BOUNDS: &str =
    "r.\"at\" < '10000-01-01 00:00:00+00'::timestamptz AND r.\"at\" >= '0001-01-01 00:00:00+00'::timestamptz";

#[test]
fn one_tenant_key_is_one_index_range() {
    let table = uuids();
    let sql = list_sql(&table, shape(&table, OwnRows::All, 0, 3).unwrap(), &Filter::default(), false, 51);
    assert_eq!(
        sql.text,
        format!(
            "SELECT u.* FROM (SELECT {COLUMNS} FROM \"public\".\"t\" AS r WHERE r.\"who\" = $1::uuid AND {BOUNDS} \
             ORDER BY r.\"at\" DESC, r.\"id\" DESC LIMIT 51) AS u LIMIT $2::int8"
        )
    );
    assert_eq!(sql.binds, [Bind::Subject, Bind::Limit]);
}

#[test]
fn every_tenant_key_has_a_range_of_its_own_and_doubles_go() {
    let table = uuids();
    let filter =
        filter(&[("n", Operator::In, FilterValue::Integer(1)), ("price", Operator::LessThan, FilterValue::Float(0.1))]);
    let sql = list_sql(&table, shape(&table, OwnRows::Personal, 1, 1).unwrap(), &filter, true, 60);
    let tail = "AND (r.\"at\", r.\"id\") < ($6::timestamptz, $7::uuid) AND r.\"at\" >= '0001-01-01 00:00:00+00'::timestamptz \
                AND r.\"n\" = ANY ($4::int8[]) AND r.\"price\" < $5::text::numeric \
                ORDER BY r.\"at\" DESC, r.\"id\" DESC LIMIT 101";
    assert_eq!(
        sql.text,
        format!(
            "SELECT DISTINCT ON (u.k0, u.k1) u.* FROM (\
             (SELECT {COLUMNS} FROM \"public\".\"t\" AS r WHERE r.\"who\" = $1::uuid AND r.\"crew\" IS NULL {tail}) UNION ALL \
             (SELECT l.* FROM unnest($2::uuid[]) AS t(key) CROSS JOIN LATERAL \
             (SELECT {COLUMNS} FROM \"public\".\"t\" AS r WHERE r.\"crew\" = t.key {tail}) AS l) UNION ALL \
             (SELECT l.* FROM unnest($3::uuid[]) AS t(key) CROSS JOIN LATERAL \
             (SELECT {COLUMNS} FROM \"public\".\"t\" AS r WHERE r.\"who\" = $1::uuid AND r.\"crew\" = t.key {tail}) AS l)\
             ) AS u ORDER BY u.k0 DESC, u.k1 DESC LIMIT $8::int8"
        )
    );
    assert_eq!(
        sql.binds,
        [
            Bind::Subject,
            Bind::Teams,
            Bind::OwnInTeams,
            Bind::Condition(0),
            Bind::Condition(1),
            Bind::CursorTime,
            Bind::CursorId,
            Bind::Limit
        ]
    );
}

#[test]
fn text_ids_are_ordered_by_their_bytes() {
    let table = texts();
    let sql = list_sql(&table, shape(&table, OwnRows::All, 1, 0).unwrap(), &Filter::default(), true, 2).text;
    assert!(sql.starts_with("SELECT DISTINCT ON (u.k0, u.k1 COLLATE \"C\") u.*"), "{sql}");
    assert!(sql.contains("ORDER BY r.\"at\" DESC, r.\"id\" COLLATE \"C\" DESC LIMIT 2"), "{sql}");
    assert!(sql.contains("(r.\"at\", r.\"id\" COLLATE \"C\") < ($3::timestamptz, $4::text COLLATE \"C\")"), "{sql}");
    assert!(sql.ends_with("ORDER BY u.k0 DESC, u.k1 COLLATE \"C\" DESC LIMIT $5::int8"), "{sql}");
    // Equality by whatever collation the index has.
    let sql = get_sql(&table, shape(&table, OwnRows::All, 1, 0).unwrap()).text;
    assert!(
        sql.contains("WHERE r.\"id\" = $1::text AND ((r.\"who\" = $2::text) OR (r.\"crew\" = ANY ($3::text[])))"),
        "{sql}"
    );
}

#[test]
fn nothing_visible_is_no_statement() {
    assert_eq!(shape(&uuids(), OwnRows::None, 0, 0), None);
    let teamless = table(Storage::Int8, Storage::Uuid, false);
    assert_eq!(shape(&teamless, OwnRows::None, 2, 2), None);
    assert_eq!(shape(&teamless, OwnRows::Personal, 2, 2), shape(&teamless, OwnRows::Personal, 0, 0));
}

#[test]
fn a_table_without_teams_holds_personal_rows_only() {
    let teamless = table(Storage::Int8, Storage::Uuid, false);
    let shape = shape(&teamless, OwnRows::Personal, 1, 1).unwrap();
    let with = |value| list_sql(&teamless, shape, &filter(&[("team_id", Operator::Equal, value)]), false, 2);
    assert!(with(FilterValue::Null).text.contains(" AND true ORDER BY"));
    let sql = with(FilterValue::Uuid(Uuid::nil()));
    assert!(sql.text.contains(" AND false ORDER BY") && sql.text.contains("NULL::uuid AS k3"), "{}", sql.text);
    assert_eq!(sql.binds, [Bind::Subject, Bind::Limit]);
}

#[test]
fn the_number_of_statements_for_all_page_sizes_is_small() {
    let table = uuids();
    let tenants = shape(&table, OwnRows::All, 1, 0).unwrap();
    let texts: std::collections::BTreeSet<_> =
        (2..=10_001).map(|rows| list_sql(&table, tenants, &Filter::default(), false, rows).text).collect();
    assert_eq!(texts.len(), RANGE_STEPS.len());
}
