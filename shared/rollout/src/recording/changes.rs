//! What differs between two JSON values, field by field.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// One place of a JSON value that has changed. A list is one place: it is written whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Where, as a JSON pointer (RFC 6901).
    pub path: String,
    /// What is there now; none: nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "there")]
    pub value: Option<Value>,
}

/// A `null` that is there is something.
fn there<'de, D: Deserializer<'de>>(stored: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(stored).map(Some)
}

/// One field in which what was recorded differs from what is decided now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Where: `effects/0/weights/blue`.
    pub field: String,
    /// What was recorded; none: the field was not there.
    pub recorded: Option<Value>,
    /// What is decided now; none: the field is not there.
    pub now: Option<Value>,
}

/// What turns `before` into `after`.
pub(super) fn changes(before: &Value, after: &Value) -> Vec<Change> {
    let mut found = Vec::new();
    change(String::new(), Some(before), Some(after), &mut found);
    found
}

fn change(path: String, before: Option<&Value>, after: Option<&Value>, found: &mut Vec<Change>) {
    match (before, after) {
        (Some(Value::Object(old)), Some(Value::Object(new))) => {
            let gone = old.keys().filter(|key| !new.contains_key(*key));
            for key in gone.chain(new.keys()) {
                change(format!("{path}/{}", escaped(key)), old.get(key), new.get(key), found);
            }
        }
        (before, after) if before == after => {}
        (_, after) => found.push(Change { path, value: after.cloned() }),
    }
}

/// As a key stands in a JSON pointer.
fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

/// `value` with the changes made; an error names the place that is not there.
pub(super) fn apply(value: &Value, changes: &[Change]) -> Result<Value, String> {
    let mut value = value.clone();
    for Change { path, value: new } in changes {
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

/// The fields in which two values differ. Of lists, each place is a field.
pub(super) fn differences(field: &str, recorded: &Value, now: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    differ(field.to_owned(), Some(recorded), Some(now), &mut found);
    found
}

fn differ(field: String, recorded: Option<&Value>, now: Option<&Value>, found: &mut Vec<Difference>) {
    match (recorded, now) {
        (Some(Value::Object(old)), Some(Value::Object(new))) => {
            let gone = old.keys().filter(|key| !new.contains_key(*key));
            for key in gone.chain(new.keys()) {
                differ(format!("{field}/{key}"), old.get(key), new.get(key), found);
            }
        }
        (Some(Value::Array(old)), Some(Value::Array(new))) => {
            for place in 0..old.len().max(new.len()) {
                differ(format!("{field}/{place}"), old.get(place), new.get(place), found);
            }
        }
        (recorded, now) if recorded == now => {}
        (recorded, now) => found.push(Difference { field, recorded: recorded.cloned(), now: now.cloned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn changes_lead_from_one_value_to_the_other_through_json() {
        let before = json!({"a": 1, "b": {"c": null, "d": [1, 2]}, "gone": 1, "x/y~z": {"k": 1}});
        let after = json!({"a": 1, "b": {"c": 5, "d": [1, 3]}, "x/y~z": {"k": null}, "new": null});
        let found = changes(&before, &after);
        let paths: Vec<&str> = found.iter().map(|change| change.path.as_str()).collect();
        assert_eq!(paths, ["/gone", "/b/c", "/b/d", "/new", "/x~1y~0z/k"]);
        let stored = serde_json::to_string(&found).expect("plain data");
        let found: Vec<Change> = serde_json::from_str(&stored).expect("as written");
        assert_eq!(apply(&before, &found), Ok(after));
        assert_eq!(changes(&before, &before), []);
        assert_eq!(apply(&before, &changes(&before, &json!(3))), Ok(json!(3)));
    }

    #[test]
    fn a_change_of_what_is_not_there_is_refused() {
        for path in ["/a/b", "/b/d/7/8", "nowhere"] {
            let change = Change { path: path.to_owned(), value: Some(json!(1)) };
            let refused = apply(&json!({"b": {"d": []}}), &[change]).expect_err("there is no such place");
            assert!(refused.contains(path), "{refused}");
        }
    }

    #[test]
    fn differences_name_each_field() {
        let found = differences("effects", &json!([{"blue": 100}, 2]), &json!([{"blue": 90, "green": 10}]));
        let told: Vec<_> = found.iter().map(|it| (it.field.as_str(), it.recorded.clone(), it.now.clone())).collect();
        assert_eq!(
            told,
            [
                ("effects/0/blue", Some(json!(100)), Some(json!(90))),
                ("effects/0/green", None, Some(json!(10))),
                ("effects/1", Some(json!(2)), None),
            ]
        );
    }
}
