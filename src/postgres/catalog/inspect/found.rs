//! What the database says about one table.

use tokio_postgres::{Client, Error};

pub(super) struct FoundTable {
    pub schema: String,
    pub name: String,
    /// A plain or partitioned table; a view has neither indexes nor constraints of its own.
    pub is_table: bool,
    pub may_write: bool,
    pub columns: Vec<FoundColumn>,
    pub indexes: Vec<FoundIndex>,
    /// Constraint or unique index, and the names of its columns.
    pub constraints: Vec<(String, Vec<String>)>,
}

pub(super) struct FoundColumn {
    pub name: String,
    /// As the table declares it, for messages.
    pub declared_type: String,
    /// Without domains and without length: `format_type(oid, NULL)`.
    pub type_name: String,
    /// The base type as SQL takes it, quoted and with its schema.
    pub base_type_sql: String,
    /// Of an enum, in order.
    pub labels: Vec<String>,
    pub chars_max: Option<usize>,
    pub not_null: bool,
    pub has_default: bool,
    pub generated: bool,
    pub may_select: bool,
}

pub(super) struct FoundIndex {
    pub unique: bool,
    pub partial: bool,
    /// Key columns; an expression has no name.
    pub columns: Vec<String>,
    /// Per key column: bit 0 descending, bit 1 nulls first.
    pub options: Vec<i16>,
    pub collations: Vec<String>,
}

pub(super) async fn table(client: &Client, declared: &str) -> Result<Option<FoundTable>, Error> {
    let (schema, name) = match declared.split_once('.') {
        Some((schema, name)) => (Some(schema), name),
        None => (None, declared),
    };
    let Some(row) = client.query_opt(TABLE, &[&name, &schema]).await? else { return Ok(None) };
    let oid: u32 = row.get(0);
    Ok(Some(FoundTable {
        schema: row.get(1),
        name: row.get(2),
        is_table: row.get(3),
        may_write: row.get(4),
        columns: columns(client, oid).await?,
        indexes: indexes(client, oid).await?,
        constraints: constraints(client, oid).await?,
    }))
}

const TABLE: &str = "\
SELECT c.oid, n.nspname::text, c.relname::text, c.relkind IN ('r', 'p'),
       has_table_privilege(c.oid, 'INSERT') AND has_table_privilege(c.oid, 'UPDATE')
       AND has_table_privilege(c.oid, 'DELETE')
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relname = $1::text AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
  AND CASE WHEN $2::text IS NULL THEN pg_catalog.pg_table_is_visible(c.oid) ELSE n.nspname = $2::text END";

async fn columns(client: &Client, table: u32) -> Result<Vec<FoundColumn>, Error> {
    let rows = client.query(COLUMNS, &[&table]).await?;
    Ok(rows
        .iter()
        .map(|row| FoundColumn {
            name: row.get(0),
            declared_type: row.get(1),
            type_name: row.get(2),
            base_type_sql: row.get(3),
            labels: row.get(4),
            chars_max: row.get::<_, Option<i32>>(5).and_then(|chars| usize::try_from(chars).ok()),
            not_null: row.get(6),
            has_default: row.get(7),
            generated: row.get(8),
            may_select: row.get(9),
        })
        .collect())
}

/// A domain stands for its base type, however many domains lie between. A length is kept as type modifier, plus 4.
const COLUMNS: &str = "\
WITH RECURSIVE base (attnum, type, typmod, not_null) AS (
    SELECT attnum, atttypid, atttypmod, attnotnull FROM pg_catalog.pg_attribute
    WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped
  UNION ALL
    SELECT b.attnum, t.typbasetype, CASE WHEN b.typmod >= 0 THEN b.typmod ELSE t.typtypmod END,
           b.not_null OR t.typnotnull
    FROM base b JOIN pg_catalog.pg_type t ON t.oid = b.type WHERE t.typtype = 'd')
SELECT a.attname::text, format_type(a.atttypid, a.atttypmod), format_type(t.oid, NULL),
       quote_ident(n.nspname) || '.' || quote_ident(t.typname),
       ARRAY(SELECT e.enumlabel::text FROM pg_catalog.pg_enum e WHERE e.enumtypid = t.oid ORDER BY e.enumsortorder),
       CASE WHEN t.typname IN ('varchar', 'bpchar') AND b.typmod >= 4 THEN b.typmod - 4 END,
       b.not_null, a.atthasdef OR a.attidentity <> '' OR t.typdefault IS NOT NULL,
       a.attgenerated <> '' OR a.attidentity = 'a', has_column_privilege($1, a.attnum, 'SELECT')
FROM base b
JOIN pg_catalog.pg_type t ON t.oid = b.type AND t.typtype <> 'd'
JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
JOIN pg_catalog.pg_attribute a ON a.attrelid = $1 AND a.attnum = b.attnum
ORDER BY a.attnum";

async fn indexes(client: &Client, table: u32) -> Result<Vec<FoundIndex>, Error> {
    let rows = client.query(INDEXES, &[&table]).await?;
    Ok(rows
        .iter()
        .map(|row| FoundIndex {
            unique: row.get(0),
            partial: row.get(1),
            columns: row.get(2),
            options: row.get(3),
            collations: row.get(4),
        })
        .collect())
}

const INDEXES: &str = "\
SELECT i.indisunique, i.indpred IS NOT NULL,
       ARRAY(SELECT COALESCE(a.attname::text, '') FROM generate_series(0, i.indnkeyatts - 1) k
             LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[k] ORDER BY k),
       ARRAY(SELECT i.indoption[k] FROM generate_series(0, i.indnkeyatts - 1) k ORDER BY k),
       ARRAY(SELECT COALESCE(l.collname::text, '') FROM generate_series(0, i.indnkeyatts - 1) k
             LEFT JOIN pg_catalog.pg_collation l ON l.oid = i.indcollation[k] ORDER BY k)
FROM pg_catalog.pg_index i
JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid JOIN pg_catalog.pg_am m ON m.oid = c.relam
WHERE i.indrelid = $1 AND i.indisvalid AND m.amname = 'btree'";

async fn constraints(client: &Client, table: u32) -> Result<Vec<(String, Vec<String>)>, Error> {
    let rows = client.query(CONSTRAINTS, &[&table]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

const CONSTRAINTS: &str = "\
SELECT c.conname::text, ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a
                              WHERE a.attrelid = c.conrelid AND a.attnum = ANY (c.conkey) ORDER BY a.attnum)
FROM pg_catalog.pg_constraint c WHERE c.conrelid = $1 AND c.conkey IS NOT NULL
UNION
SELECT x.relname::text, ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a
                              WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey::int2[]) ORDER BY a.attnum)
FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
WHERE i.indrelid = $1 AND i.indisunique";
