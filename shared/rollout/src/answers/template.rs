//! Templates: versions made of a document of a task definition, and how one document differs from another.

use crate::registry::with_host_of;
use crate::template::{TemplateChange, TemplateReading};
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

/// The container of a document. `subject`: what the document is, for people.
///
/// # Errors
/// A reason that lists the existing containers, where it is not among them.
pub fn container_named<'a>(document: &'a Value, container: &str, subject: &str) -> Result<&'a Value, String> {
    let found = containers(document).iter().find(|definition| is_named(definition, container));
    found.ok_or_else(|| missing_container_reason(subject, container, document))
}

/// The newest template (`version`, `document`), and how it differs from the live version; without one, no difference is
/// named.
///
/// # Errors
/// A reason that lists the existing containers, where `container` is not among them.
pub fn reading(
    version: String,
    document: &Value,
    live: Option<&Value>,
    container: &str,
) -> Result<TemplateReading, String> {
    let name = version.rsplit('/').next().unwrap_or(&version);
    container_named(document, container, &format!("the newest template {name}"))?;
    let changes = live.map(|live| changes(live, document, container)).unwrap_or_default();
    Ok(TemplateReading::new(version, changes))
}

/// Why there is no template.
#[must_use]
pub fn no_revision_reason(family: &str) -> String {
    format!(
        "the family {family} has no active task definition: have the tooling that owns it (Terraform, for example) \
         register one"
    )
}

/// Sets the image of `container`, keeping the registry host that the container uses for the same repository.
///
/// # Errors
/// A reason that lists the existing containers, where `container` is not among them.
fn with_image(mut document: Value, container: &str, image: &str) -> Result<Value, String> {
    let found = containers_mut(&mut document).find(|definition| is_named(definition, container));
    let replaced = found.map(|definition| {
        let live = definition.get("image").and_then(Value::as_str).unwrap_or_default();
        definition["image"] = with_host_of(live, image).into();
    });
    replaced.ok_or_else(|| missing_container_reason("the task definition", container, &document))?;
    Ok(document)
}

/// What is registered for a new version: `template` with the image of `container` replaced, in `family`; none: in the
/// family of `template`.
///
/// # Errors
/// A reason that lists the existing containers, where `container` is not among them.
pub fn version_of(template: Value, container: &str, image: &str, family: Option<&str>) -> Result<Value, String> {
    let mut wanted = with_image(template, container, image)?;
    if let Some(family) = family {
        wanted["family"] = family.into();
    }
    Ok(wanted)
}

fn containers(document: &Value) -> &[Value] {
    document.get("containerDefinitions").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// The containers of a document.
pub fn containers_mut(document: &mut Value) -> impl Iterator<Item = &mut Value> {
    document.get_mut("containerDefinitions").and_then(Value::as_array_mut).into_iter().flatten()
}

fn is_named(container: &Value, name: &str) -> bool {
    container.get("name").and_then(Value::as_str) == Some(name)
}

/// `subject`: what lacks the container, for people.
fn missing_container_reason(subject: &str, name: &str, document: &Value) -> String {
    let names: Vec<_> = containers(document).iter().filter_map(|container| container.get("name")?.as_str()).collect();
    format!("{subject} has no container {name}: it has {}", names.join(", "))
}

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

    fn with_cpu(cpu: &str) -> Value {
        let containers = json!([{"name": "api", "image": "r/api:1"}, {"name": "proxy", "image": "r/proxy:1"}]);
        json!({"family": "api", "cpu": cpu, "containerDefinitions": containers})
    }

    #[test]
    fn a_template_is_read_with_its_differences_from_the_live_version() {
        let (live, mut template) = (with_cpu("256"), with_cpu("512"));
        template["family"] = json!("api-template");
        template["containerDefinitions"][0]["image"] = json!("r/api:placeholder");
        let arn = "arn:aws:ecs:eu-west-1:123456789012:task-definition/api-template:7";
        let found = reading(arn.to_owned(), &template, Some(&live), "api").expect("the container is there");
        assert_eq!(found.version, arn);
        let change = |before: &str, after: &str| TemplateChange {
            field: "cpu".to_owned(),
            before: Some(before.to_owned()),
            after: Some(after.to_owned()),
        };
        assert_eq!(found.changes, [change("256", "512")], "neither the family nor the image of the container");
        let first = reading(arn.to_owned(), &template, None, "api").expect("the container is there");
        assert!(first.is_unchanged(), "there is no live version to compare with: {first:?}");
        let missing = reading(arn.to_owned(), &template, None, "web").expect_err("there is none of that name");
        assert_eq!(missing, "the newest template api-template:7 has no container web: it has api, proxy");
    }

    #[test]
    fn a_family_without_a_revision_is_named_with_what_to_do() {
        let reason = no_revision_reason("shop-api");
        assert!(reason.starts_with("the family shop-api has no active task definition: "), "{reason}");
        assert!(reason.ends_with("register one"), "{reason}");
    }
}
