//! `--where`: what a person types, as the `where` object of the API.

use serde_json::{Map, Value};

use super::outcome::Failure;

/// Longest first, so that `>=` is not read as `>`.
const OPERATORS: [(&str, Option<&str>); 5] =
    [(">=", Some("gte")), ("<=", Some("lte")), (">", Some("gt")), ("<", Some("lt")), ("=", None)];

/// Builds the object from all `--where` arguments: each `field=value`, `field>=value` (also `<=`, `>`, `<`) or a whole
/// object in JSON. Values are numbers, `true`, `false` and `null` where they look like it, else text; `"7"` is a text.
///
/// # Errors
/// `Misused` for an argument of another form and for the same condition given twice.
pub(crate) fn parse_where(arguments: &[String]) -> Result<Option<Value>, Failure> {
    let mut object = Map::new();
    for argument in arguments {
        if argument.trim_start().starts_with('{') {
            let given: Map<String, Value> = serde_json::from_str(argument)
                .map_err(|e| Failure::misused(format!("--where '{argument}' is not a JSON object: {e}")))?;
            for (field, condition) in given {
                add(&mut object, argument, field, condition)?;
            }
        } else {
            let (field, condition) = comparison(argument)?;
            add(&mut object, argument, field, condition)?;
        }
    }
    Ok((!object.is_empty()).then_some(Value::Object(object)))
}

fn comparison(argument: &str) -> Result<(String, Value), Failure> {
    let at = argument.find(['=', '<', '>']);
    let found = at.and_then(|at| {
        let rest = &argument[at..];
        OPERATORS.iter().find(|(sign, _)| rest.starts_with(sign)).map(|(sign, name)| (at, sign, name))
    });
    let Some((at, sign, name)) = found.filter(|(at, _, _)| !argument[..*at].trim().is_empty()) else {
        return Err(Failure::misused(format!("--where '{argument}' is no condition"))
            .remedy("write field=value, field>=value or a JSON object, for example --where status=open"));
    };
    let value = value(argument[at + sign.len()..].trim());
    let condition = match name {
        Some(name) => Value::Object(Map::from_iter([((*name).to_owned(), value)])),
        None => value,
    };
    Ok((argument[..at].trim().to_owned(), condition))
}

fn value(text: &str) -> Value {
    match serde_json::from_str(text) {
        Ok(value @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_))) => value,
        _ => Value::String(text.to_owned()),
    }
}

/// Bounds of one field join (`a>=1`, `a<5`); anything else given twice is a contradiction.
fn add(object: &mut Map<String, Value>, argument: &str, field: String, condition: Value) -> Result<(), Failure> {
    let twice = || Failure::misused(format!("--where '{argument}' repeats a condition on '{field}'"));
    match (object.get_mut(&field), condition) {
        (None, condition) => {
            object.insert(field, condition);
            Ok(())
        }
        (Some(Value::Object(known)), Value::Object(more)) => {
            if more.keys().any(|key| known.contains_key(key)) {
                return Err(twice());
            }
            known.extend(more);
            Ok(())
        }
        _ => Err(twice()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(arguments: &[&str]) -> Result<Option<Value>, Failure> {
        parse_where(&arguments.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn conditions_become_one_object() {
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(of(&["status=open"]), Ok(Some(json!({"status": "open"}))));
        assert_eq!(
            of(&["priority>=2", "priority<5", "team_id=null", "title=\"7\"", "title2=a=b"]),
            Ok(Some(json!({"priority": {"gte": 2, "lt": 5}, "team_id": null, "title": "7", "title2": "a=b"})))
        );
        assert_eq!(
            of(&[r#"{"status":{"in":["open","done"]}}"#, "priority=3"]),
            Ok(Some(json!({"status": {"in": ["open", "done"]}, "priority": 3})))
        );
        assert_eq!(
            of(&["created_at>2026-11-01T00:00:00Z"]),
            Ok(Some(json!({"created_at": {"gt": "2026-11-01T00:00:00Z"}})))
        );
    }

    #[test]
    fn what_is_no_condition_or_contradicts_is_misuse() {
        for bad in
            [&["status"][..], &["=open"], &["{\"a\":"], &["[1]"], &["a=1", "a=2"], &["a>1", "a>2"], &["a=1", "a>2"]]
        {
            assert_eq!(of(bad).map_err(|failure| failure.exit_code()), Err(2), "{bad:?}");
        }
    }
}
