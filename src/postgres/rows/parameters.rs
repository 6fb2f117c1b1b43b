//! The values behind a statement's parameters, in the types that its casts name.

use mosaic_actors::domain::fault::{Fault, FaultKind, Stage};
use mosaic_actors::domain::identity::TeamId;
use mosaic_actors::domain::query::{Condition, Filter, FilterValue, Operator, Position, RowId};
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::Tenant;
use crate::postgres::catalog::{Storage, TableMap};
use crate::postgres::read_sql::{Bind, ReadSql};

pub(crate) type Parameter = Box<dyn ToSql + Sync + Send>;

/// All parameters of one statement, `$1` first.
pub(crate) struct Parameters(Vec<Parameter>);

impl Parameters {
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = &(dyn ToSql + Sync)> {
        self.0.iter().map(|parameter| &**parameter as &(dyn ToSql + Sync))
    }
}

/// What a statement may be given.
pub(crate) struct Values<'a> {
    pub table: &'a TableMap,
    pub tenant: &'a Tenant,
    pub filter: &'a Filter,
    pub after: Option<&'a Position>,
    pub id: Option<&'a RowId>,
    pub rows: u32,
}

impl Values<'_> {
    /// `None`: an id is not of the kind that the table has.
    pub(crate) fn parameters(&self, sql: &ReadSql) -> Result<Option<Parameters>, Fault> {
        let mut parameters = Vec::with_capacity(sql.binds.len());
        for bind in &sql.binds {
            let parameter = match bind {
                Bind::Subject => Some(tenant_key(&self.table.owner.storage, self.tenant.subject.0)),
                Bind::Teams => Some(self.teams(&self.tenant.visibility.teams)),
                Bind::OwnInTeams => Some(self.teams(&self.tenant.visibility.own_in_teams)),
                Bind::CursorTime => self.after.map(|after| Box::new(after.created_at) as Parameter),
                Bind::CursorId => self.after.and_then(|after| row_key(&self.table.id.storage, &after.id)),
                Bind::RowId => self.id.and_then(|id| row_key(&self.table.id.storage, id)),
                Bind::Limit => Some(Box::new(i64::from(self.rows)) as Parameter),
                Bind::Condition(index) => Some(self.condition(*index)?),
            };
            match parameter {
                Some(parameter) => parameters.push(parameter),
                None => return Ok(None),
            }
        }
        Ok(Some(Parameters(parameters)))
    }

    fn teams(&self, teams: &[TeamId]) -> Parameter {
        match self.table.team.as_ref().map(|team| &team.storage) {
            Some(Storage::Text { .. }) => Box::new(teams.iter().map(TeamId::to_string).collect::<Vec<_>>()),
            _ => Box::new(teams.iter().map(|team| team.0).collect::<Vec<Uuid>>()),
        }
    }

    fn condition(&self, index: usize) -> Result<Parameter, Fault> {
        let condition = &self.filter.conditions[index];
        let storage = self.table.field(&condition.field).map(|column| &column.storage);
        storage.and_then(|storage| filter_value(storage, condition)).ok_or_else(|| {
            tracing::error!(field = %condition.field, "a filter does not fit the resource that it was parsed for");
            Fault::new(FaultKind::Internal, Stage::Database)
        })
    }
}

pub(crate) fn tenant_key(storage: &Storage, id: Uuid) -> Parameter {
    match storage {
        Storage::Text { .. } => Box::new(id.hyphenated().to_string()),
        _ => Box::new(id),
    }
}

/// The id as its column holds it; only the spelling that the wire uses is an id of a row.
pub(crate) fn row_key(storage: &Storage, id: &RowId) -> Option<Parameter> {
    match storage {
        Storage::Uuid => crate::wire::where_v1::parse_uuid(id.as_str()).map(|id| Box::new(id) as Parameter),
        Storage::Int4 | Storage::Int8 => {
            let number: i64 = id.as_str().parse().ok()?;
            (number.to_string() == id.as_str()).then(|| Box::new(number) as Parameter)
        }
        _ => Some(Box::new(id.as_str().to_owned())),
    }
}

fn filter_value(storage: &Storage, condition: &Condition) -> Option<Parameter> {
    use FilterValue as V;
    match storage {
        Storage::Uuid => bound(condition, |value| if let V::Uuid(id) = value { Some(*id) } else { None }),
        Storage::Bool => bound(condition, |value| if let V::Bool(flag) = value { Some(*flag) } else { None }),
        Storage::Int2 | Storage::Int4 | Storage::Int8 => {
            bound(condition, |value| if let V::Integer(number) = value { Some(*number) } else { None })
        }
        // What a client saw as 0.1 is the nearest `real` to 0.1, so that is what it compares with.
        #[allow(clippy::cast_possible_truncation)]
        Storage::Float4 => {
            bound(condition, |value| if let V::Float(number) = value { Some(*number as f32) } else { None })
        }
        Storage::Float8 => bound(condition, |value| if let V::Float(number) = value { Some(*number) } else { None }),
        Storage::Numeric => {
            bound(condition, |value| if let V::Float(number) = value { Some(number.to_string()) } else { None })
        }
        Storage::Timestamptz => bound(condition, |value| if let V::Timestamp(at) = value { Some(*at) } else { None }),
        Storage::Date => bound(condition, |value| if let V::Date(day) = value { Some(*day) } else { None }),
        Storage::Text { .. } | Storage::Enum { .. } => bound(condition, |value| match value {
            V::Text(text) => Some(text.clone()),
            // Tenant columns that hold ids as text.
            V::Uuid(id) => Some(id.hyphenated().to_string()),
            _ => None,
        }),
        Storage::Json | Storage::Jsonb | Storage::TextArray => None,
    }
}

fn bound<T: ToSql + Sync + Send + 'static>(
    condition: &Condition,
    value: impl Fn(&FilterValue) -> Option<T>,
) -> Option<Parameter>
where
    Vec<T>: ToSql,
{
    let mut values: Vec<T> = condition.values.iter().map(value).collect::<Option<_>>()?;
    if condition.operator == Operator::In {
        return Some(Box::new(values));
    }
    let only = values.pop().filter(|_| values.is_empty())?;
    Some(Box::new(only))
}
