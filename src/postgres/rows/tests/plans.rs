//! What Postgres does with the statements, over a hundred thousand rows: index ranges, and no sort over the table.

use mosaic_actors::domain::query::OwnRows;
use serde_json::Value;

use super::*;
use crate::postgres::read_sql::Bind;

const ROWS: &str = "
    INSERT INTO users (id, name)
    SELECT ('00000000-0000-0000-0001-' || lpad(n::text, 12, '0'))::uuid, 'u' || n FROM generate_series(0, 99) n;
    INSERT INTO teams (id, name)
    SELECT ('00000000-0000-0000-0002-' || lpad(n::text, 12, '0'))::uuid, 't' || n FROM generate_series(0, 19) n;
    INSERT INTO tasks (id, owner_id, team_id, title, created_at)
    SELECT gen_random_uuid(),
           ('00000000-0000-0000-0001-' || lpad((CASE WHEN n % 5 = 0 THEN 0 ELSE n % 100 END)::text, 12, '0'))::uuid,
           CASE WHEN n % 3 > 0 THEN ('00000000-0000-0000-0002-' || lpad((n % 20)::text, 12, '0'))::uuid END,
           'task', '2026-01-01Z'::timestamptz + (n * 7919 % 100000) * interval '1 s'
    FROM generate_series(0, 99999) n;
    VACUUM ANALYZE tasks";

/// One statement with literal parameters, planned with and without knowledge of them; each plan with what it did.
async fn plans(site: &Site, sql: &ReadSql, literal: impl Fn(Bind) -> String) -> Vec<Value> {
    let literals: Vec<_> = sql.binds.iter().map(|bind| literal(*bind)).collect();
    let mut plans = Vec::new();
    for mode in ["force_custom_plan", "force_generic_plan"] {
        let planning: String = READ_SETTINGS.iter().map(|(name, value)| format!("SET {name} = {value}; ")).collect();
        let prepare = format!("DEALLOCATE ALL; {planning}SET plan_cache_mode = {mode}; PREPARE page AS {}", sql.text);
        site.client.batch_execute(&prepare).await.unwrap();
        let explain = format!("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE page ({})", literals.join(", "));
        let messages = site.client.simple_query(&explain).await.unwrap();
        let text = messages.iter().find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        });
        let plan: Value = serde_json::from_str(&text.unwrap()).unwrap();
        plans.push(plan[0]["Plan"].clone());
    }
    plans
}

fn nodes<'a>(plan: &'a Value, out: &mut Vec<&'a Value>) {
    out.push(plan);
    for child in plan["Plans"].as_array().into_iter().flatten() {
        nodes(child, out);
    }
}

/// Every access to the table is an index scan that fetched no more than its range's limit, and every sort is over no more
/// than the ranges' rows together.
///
/// `waste` is how many rows may be read per row that is given: an owner's rows in a team which is not his any more have no
/// index of their own, because hardly any right names them.
fn assert_index_ranges(plan: &Value, range: u64, ranges: u64, waste: u64) {
    let mut all = Vec::new();
    nodes(plan, &mut all);
    let mut scans = 0;
    for node in all {
        let kind = node["Node Type"].as_str().unwrap();
        let rows = node["Actual Rows"].as_u64().unwrap();
        if node["Relation Name"] == "tasks" {
            scans += 1;
            assert!(["Index Scan", "Index Only Scan"].contains(&kind), "{kind}: {plan:#}");
            assert!(rows <= range, "{rows} rows: {plan:#}");
            let removed = node["Rows Removed by Filter"].as_u64().unwrap_or(0);
            assert!(removed <= range * (waste - 1), "{removed} rows read for nothing: {plan:#}");
            // A page per row and a few of the index, for each time that the scan ran.
            let loops = node["Actual Loops"].as_u64().unwrap();
            let blocks = node["Shared Hit Blocks"].as_u64().unwrap() + node["Shared Read Blocks"].as_u64().unwrap();
            assert!(blocks <= loops * (range * waste + 12), "{blocks} blocks: {plan:#}");
        }
        if kind.contains("Sort") {
            assert!(rows <= range * ranges, "{rows} sorted: {plan:#}");
        }
    }
    assert!(scans > 0, "{plan:#}");
}

#[tokio::test]
async fn a_page_reads_index_ranges_and_sorts_only_what_they_gave() {
    let site = Site::new().await;
    for statement in ROWS.split(';') {
        site.client.batch_execute(statement).await.unwrap();
    }
    let table = site.rows.catalog.get(&name("tasks")).unwrap();
    let team = |number: u32| format!("00000000-0000-0000-0002-{number:012}");
    let literal = |bind: Bind| match bind {
        // The user with a fifth of all rows.
        Bind::Subject => "'00000000-0000-0000-0001-000000000000'".to_owned(),
        Bind::Teams => format!("'{{{},{},{}}}'", team(1), team(2), team(3)),
        Bind::OwnInTeams => format!("'{{{},{}}}'", team(5), team(10)),
        // Behind nine tenths of the rows.
        Bind::CursorTime => "'2026-01-01 02:46:40Z'".to_owned(),
        Bind::CursorId => "'80000000-0000-0000-0000-000000000000'".to_owned(),
        Bind::RowId => "(SELECT id FROM tasks WHERE team_id IS NULL LIMIT 1)".to_owned(),
        Bind::Limit => "51".to_owned(),
        Bind::Condition(_) => "'2026-01-01 20:00:00Z'".to_owned(),
    };
    let ids = vec![TeamId(Uuid::nil())];
    let visibility = |own, teams: bool, own_in_teams: bool| Visibility {
        own,
        teams: if teams { ids.clone() } else { Vec::new() },
        own_in_teams: if own_in_teams { ids.clone() } else { Vec::new() },
    };
    let raw = RawValue::from_string(r#"{"created_at":{"lt":"2026-01-01T20:00:00Z"}}"#.to_owned()).unwrap();
    let before = parse_where(&raw, table.resource()).unwrap();
    for (visibility, ranges, waste) in [
        (visibility(OwnRows::All, false, false), 1, 1),
        (visibility(OwnRows::All, true, false), 4, 1),
        (visibility(OwnRows::Personal, true, false), 4, 1),
        (visibility(OwnRows::None, true, true), 5, 12),
    ] {
        let shape = TenantShape::of(&visibility, table).unwrap();
        for filter in [&Filter::default(), &before] {
            for cursor in [false, true] {
                let sql = list_sql(table, shape, filter, cursor, 51);
                for plan in plans(&site, &sql, literal).await {
                    assert_index_ranges(&plan, 51, ranges, waste);
                }
            }
        }
        let sql = get_sql(table, shape);
        for plan in plans(&site, &sql, |bind| match bind {
            Bind::RowId => "'80000000-0000-0000-0000-000000000000'".to_owned(),
            other => literal(other),
        })
        .await
        {
            assert_index_ranges(&plan, 1, 1, 2);
        }
    }
}
