//! Differences between two JSON values, field by field.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// One changed path of a JSON value. A list counts as one value: it is replaced as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JsonChange {
    /// JSON pointer (RFC 6901).
    pub path: String,
    /// The new value; none: the path was removed.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub value: Option<Value>,
}

/// Keeps a `null` that is present apart from an absent field.
fn present<'de, D: Deserializer<'de>>(stored: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(stored).map(Some)
}

/// One field in which the recorded decision differs from the replayed one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldDifference {
    /// Path, with list indexes: `effects/0/weights/blue`.
    pub field: String,
    /// The recorded value; none: the field was absent.
    pub recorded: Option<Value>,
    /// The replayed value; none: the field is absent.
    pub now: Option<Value>,
}

/// The changes that turn `before` into `after`.
pub(super) fn changes(before: &Value, after: &Value) -> Vec<JsonChange> {
    let mut found = Vec::new();
    change(String::new(), Some(before), Some(after), &mut found);
    found
}

fn change(path: String, before: Option<&Value>, after: Option<&Value>, found: &mut Vec<JsonChange>) {
    match (before, after) {
        (Some(Value::Object(old)), Some(Value::Object(new))) => {
            let gone = old.keys().filter(|key| !new.contains_key(*key));
            for key in gone.chain(new.keys()) {
                change(format!("{path}/{}", escaped(key)), old.get(key), new.get(key), found);
            }
        }
        (before, after) if before == after => {}
        (_, after) => found.push(JsonChange { path, value: after.cloned() }),
    }
}

/// A key as it is escaped in a JSON pointer.
fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

/// `value` with the changes applied; the error names a path that does not exist.
pub(super) fn apply(value: &Value, changes: &[JsonChange]) -> Result<Value, String> {
    let mut value = value.clone();
    for JsonChange { path, value: new } in changes {
        let Some((parent, key)) = path.rsplit_once('/') else {
            match new {
                Some(new) if path.is_empty() => value = new.clone(),
                _ => return Err(format!("`{path}` is no place in a state")),
            }
            continue;
        };
        let key = key.replace("~1", "/").replace("~0", "~");
        let Some(Value::Object(parent)) = value.pointer_mut(parent) else {
            return Err(format!("`{path}` is changed, and is not there"));
        };
        match new {
            Some(new) => drop(parent.insert(key, new.clone())),
            None => drop(parent.remove(&key)),
        }
    }
    Ok(value)
}

/// The fields in which two values differ. Each element of a list is a field of its own.
pub(super) fn differences(field: &str, recorded: &Value, now: &Value) -> Vec<FieldDifference> {
    let mut found = Vec::new();
    compare_into(field.to_owned(), Some(recorded), Some(now), &mut found);
    found
}

fn compare_into(field: String, recorded: Option<&Value>, now: Option<&Value>, found: &mut Vec<FieldDifference>) {
    match (recorded, now) {
        (Some(Value::Object(old)), Some(Value::Object(new))) => {
            let gone = old.keys().filter(|key| !new.contains_key(*key));
            for key in gone.chain(new.keys()) {
                compare_into(format!("{field}/{key}"), old.get(key), new.get(key), found);
            }
        }
        (Some(Value::Array(old)), Some(Value::Array(new))) => {
            for index in 0..old.len().max(new.len()) {
                compare_into(format!("{field}/{index}"), old.get(index), new.get(index), found);
            }
        }
        (recorded, now) if recorded == now => {}
        (recorded, now) => found.push(FieldDifference { field, recorded: recorded.cloned(), now: now.cloned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn changes_round_trip_through_json() {
        let before = json!({"a": 1, "b": {"c": null, "d": [1, 2]}, "gone": 1, "x/y~z": {"k": 1}});
        let after = json!({"a": 1, "b": {"c": 5, "d": [1, 3]}, "x/y~z": {"k": null}, "new": null});
        let found = changes(&before, &after);
        let paths: Vec<&str> = found.iter().map(|change| change.path.as_str()).collect();
        assert_eq!(paths, ["/gone", "/b/c", "/b/d", "/new", "/x~1y~0z/k"]);
        let stored = serde_json::to_string(&found).expect("plain data");
        let found: Vec<JsonChange> = serde_json::from_str(&stored).expect("as written");
        assert_eq!(apply(&before, &found), Ok(after));
        assert_eq!(changes(&before, &before), []);
        assert_eq!(apply(&before, &changes(&before, &json!(3))), Ok(json!(3)));
    }

    #[test]
    fn a_change_to_a_missing_path_is_rejected() {
        for path in ["/a/b", "/b/d/7/8", "nowhere"] {
            let change = JsonChange { path: path.to_owned(), value: Some(json!(1)) };
            let refused = apply(&json!({"b": {"d": []}}), &[change]).expect_err("there is no such place");
            assert!(refused.contains(path), "{refused}");
        }
    }

    #[test]
    fn differences_list_each_field_by_path() {
        let found = differences("effects", &json!([{"blue": 100}, 2]), &json!([{"blue": 90, "green": 10}]));
        let fields: Vec<_> = found.iter().map(|it| (it.field.as_str(), it.recorded.clone(), it.now.clone())).collect();
        assert_eq!(
            fields,
            [
                ("effects/0/blue", Some(json!(100)), Some(json!(90))),
                ("effects/0/green", None, Some(json!(10))),
                ("effects/1", Some(json!(2)), None),
            ]
        );
    }
}
