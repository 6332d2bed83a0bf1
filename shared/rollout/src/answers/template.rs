//! Templates: how one document of a task definition differs from another.

use crate::template::TemplateChange;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// Lists of a document whose entries have an identity, and the field that has it: they are compared entry by entry.
const KEYED: [(&str, &str); 10] = [
    ("environment", "name"),
    ("secrets", "name"),
    ("tags", "key"),
    ("volumes", "name"),
    ("containerDefinitions", "name"),
    ("portMappings", "containerPort"),
    ("mountPoints", "containerPath"),
    ("ulimits", "name"),
    ("systemControls", "namespace"),
    ("secretOptions", "name"),
];

/// Fields in which `template` differs from `live`, both as the parameters of a registration. Not the family, which is
/// another one by design, and not the image of `container`, which the release replaces. Secrets are in these documents
/// by reference only.
#[must_use]
pub fn changes(live: &Value, template: &Value, container: &str) -> Vec<TemplateChange> {
    let [live, template] = [live, template].map(|document| flattened(document, container));
    let fields: BTreeSet<&String> = live.keys().chain(template.keys()).collect();
    fields
        .into_iter()
        .filter(|field| live.get(*field) != template.get(*field))
        .map(|field| TemplateChange {
            field: field.clone(),
            before: live.get(field).cloned(),
            after: template.get(field).cloned(),
        })
        .collect()
}

/// Every value of a document by the name of its field, in words: `container app: environment LOG_LEVEL`.
fn flattened(document: &Value, container: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    if let Some(fields) = document.as_object() {
        for (name, value) in fields.iter().filter(|(name, _)| name.as_str() != "family") {
            if name == "containerDefinitions" {
                for definition in value.as_array().into_iter().flatten().filter_map(Value::as_object) {
                    flatten_container(definition, container, &mut found);
                }
            } else {
                flatten(name, name, value, &mut found);
            }
        }
    }
    found
}

fn flatten_container(definition: &Map<String, Value>, replaced: &str, found: &mut BTreeMap<String, String>) {
    let name = definition.get("name").and_then(Value::as_str).unwrap_or_default();
    let is_replaced = |field: &str| field == "image" && name == replaced;
    // A container without any other field is there, too.
    found.insert(format!("container {name}"), "present".to_owned());
    for (field, value) in definition.iter().filter(|(field, _)| field.as_str() != "name" && !is_replaced(field)) {
        flatten(&format!("container {name}: {field}"), field, value, found);
    }
}

/// `path`: the field in words; `field`: its own name.
fn flatten(path: &str, field: &str, value: &Value, found: &mut BTreeMap<String, String>) {
    let key = KEYED.iter().find(|(list, _)| *list == field).map(|(_, key)| *key);
    match (value, key) {
        // AWS leaves out what is empty, or returns it as null or as an empty list.
        (Value::Null, _) => {}
        (Value::Array(entries), _) if entries.is_empty() => {}
        (Value::Array(entries), Some(key)) => {
            for entry in entries {
                let named = entry.get(key).map(plain).unwrap_or_default();
                match (entry.get("value").or_else(|| entry.get("valueFrom")), entry.as_object()) {
                    (Some(value), _) => {
                        found.insert(format!("{path} {named}"), plain(value));
                    }
                    (None, Some(fields)) => {
                        for (name, value) in fields.iter().filter(|(name, _)| *name != key) {
                            flatten(&format!("{path} {named}: {name}"), name, value, found);
                        }
                        found.insert(format!("{path} {named}"), "present".to_owned());
                    }
                    (None, None) => {
                        found.insert(format!("{path} {named}"), plain(entry));
                    }
                }
            }
        }
        (Value::Object(fields), _) => {
            for (name, value) in fields {
                flatten(&format!("{path}.{name}"), name, value, found);
            }
        }
        (value, _) => {
            found.insert(path.to_owned(), plain(value));
        }
    }
}

/// A value as people write it.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn document(cpu: &str, environment: Value, secrets: Value, image: &str) -> Value {
        json!({
            "family": "shop-api",
            "cpu": cpu,
            "networkMode": "awsvpc",
            "containerDefinitions": [
                {"name": "app", "image": image, "environment": environment, "secrets": secrets, "links": []},
                {"name": "proxy", "image": "envoy:1"},
            ],
        })
    }

    #[test]
    fn every_field_that_differs_is_named_with_both_values() {
        let secret = |of: &str| json!([{"name": "TOKEN", "valueFrom": of}]);
        let live = document(
            "256",
            json!([{"name": "LEVEL", "value": "info"}, {"name": "GONE", "value": "1"}]),
            secret("arn:old"),
            "r/api@sha256:1",
        );
        let mut template = document(
            "512",
            json!([{"name": "NEW", "value": "2"}, {"name": "LEVEL", "value": "debug"}]),
            secret("arn:new"),
            "r/api:placeholder",
        );
        template["family"] = json!("another");
        template["containerDefinitions"][1]["image"] = json!("envoy:2");
        let found = changes(&live, &template, "app");
        let words: Vec<String> = found
            .iter()
            .map(|change| {
                let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
                format!("{}: {} to {}", change.field, value(&change.before), value(&change.after))
            })
            .collect();
        assert_eq!(
            words,
            [
                "container app: environment GONE: 1 to -",
                "container app: environment LEVEL: info to debug",
                "container app: environment NEW: - to 2",
                "container app: secrets TOKEN: arn:old to arn:new",
                "container proxy: image: envoy:1 to envoy:2",
                "cpu: 256 to 512",
            ]
        );
    }

    #[test]
    fn order_empty_lists_and_the_replaced_image_are_no_difference() {
        let one =
            document("256", json!([{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]), json!([]), "r/a@1");
        let mut other =
            document("256", json!([{"name": "B", "value": "2"}, {"name": "A", "value": "1"}]), json!(null), "r/a@2");
        other["volumes"] = json!([]);
        assert_eq!(changes(&one, &other, "app"), []);
    }

    #[test]
    fn a_container_or_a_field_of_tomorrow_is_a_difference() {
        let one = document("256", json!([]), json!([]), "r/a@1");
        let mut other = one.clone();
        other["aFieldOfTomorrow"] = json!({"depth": [1, 2]});
        other["containerDefinitions"].as_array_mut().expect("a list").push(json!({"name": "agent"}));
        let fields: Vec<String> = changes(&one, &other, "app").into_iter().map(|change| change.field).collect();
        assert_eq!(fields, ["aFieldOfTomorrow.depth", "container agent"]);
    }
}
