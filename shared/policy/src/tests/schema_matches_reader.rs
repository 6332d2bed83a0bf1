//! The schema is generated from types, while the reader walks the tree by hand: these tests check that both agree.

use crate::problem::ProblemCollector;
use crate::tree::{self, Node, Value};
use crate::{SHAPES, parse, schema};
use serde_json::{Map, Value as Json, json};
use std::collections::{BTreeMap, BTreeSet};

const EXAMPLE: &str = include_str!("../../examples/switchback.yaml");

fn current() -> Json {
    serde_json::from_str(&schema()).expect("the schema is JSON")
}

#[test]
fn the_committed_schema_is_current() {
    let stored = include_str!("../../switchback.schema.json");
    assert!(stored == schema(), "run `cargo run -p policy --example schema`, and commit what it writes");
}

/// All keys and the required keys of every definition that has keys, by the definition's name.
fn definitions() -> BTreeMap<String, (BTreeSet<String>, BTreeSet<String>)> {
    let schema = current();
    let mut all: Vec<(String, Json)> = vec![("File".to_owned(), schema.clone())];
    for (name, definition) in schema["$defs"].as_object().expect("definitions") {
        all.push((name.clone(), definition.clone()));
    }
    let words = |value: &Json| -> BTreeSet<String> {
        value.as_array().into_iter().flatten().filter_map(Json::as_str).map(str::to_owned).collect()
    };
    all.into_iter()
        .filter_map(|(name, definition)| {
            let properties = definition.get("properties")?.as_object()?;
            assert_eq!(definition["additionalProperties"], json!(false), "{name} allows unknown keys");
            Some((name, (properties.keys().cloned().collect(), words(&definition["required"]))))
        })
        .collect()
}

#[test]
fn reader_and_schema_know_the_same_keys() {
    let set = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<BTreeSet<_>>();
    let reader: BTreeMap<_, _> =
        SHAPES.iter().map(|shape| (shape.name.to_owned(), (set(shape.keys), set(shape.required)))).collect();
    assert_eq!(reader, definitions());
}

#[test]
fn every_key_has_a_description() {
    let schema = current();
    for definition in schema["$defs"].as_object().expect("definitions").values().chain([&schema]) {
        for (key, property) in definition["properties"].as_object().into_iter().flatten() {
            assert!(property["description"].is_string(), "`{key}` in {definition:#}");
        }
    }
}

/// The example converted to JSON.
fn to_json(node: &Node) -> Json {
    match &node.value {
        Value::Scalar { text, plain: true } if text == "true" || text == "false" => json!(text == "true"),
        Value::Scalar { text, plain: true } if text.parse::<u64>().is_ok() => {
            json!(text.parse::<u64>().expect("a number"))
        }
        Value::Scalar { text, .. } => json!(text),
        Value::List(nodes) => nodes.iter().map(to_json).collect(),
        Value::Map(entries) => {
            Json::Object(entries.iter().map(|(key, node)| (key.text.clone(), to_json(node))).collect::<Map<_, _>>())
        }
        Value::Broken => Json::Null,
    }
}

fn example() -> Json {
    let mut problems = ProblemCollector::default();
    to_json(&tree::read(EXAMPLE, &mut problems).expect("the example is YAML"))
}

/// Validates `value` against the keywords that our schema uses, and returns every definition key that it encountered.
fn validate(
    schema: &Json,
    root: &Json,
    value: &Json,
    path: &str,
    used_keys: &mut BTreeSet<String>,
) -> Result<(), String> {
    if let Some(reference) = schema.get("$ref").and_then(Json::as_str) {
        let target = root.pointer(reference.trim_start_matches('#')).ok_or("a reference to nothing")?;
        validate(target, root, value, path, used_keys)?;
    }
    if let Some(options) = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Json::as_array) {
        let outcomes: Vec<_> = options.iter().map(|option| validate(option, root, value, path, used_keys)).collect();
        if outcomes.iter().all(Result::is_err) {
            return Err(format!("{path}: fits none of {outcomes:?}"));
        }
    }
    let types: Vec<&str> = match &schema["type"] {
        Json::String(one) => vec![one],
        Json::Array(several) => several.iter().filter_map(Json::as_str).collect(),
        _ => vec![],
    };
    let fits = |kind: &&str| match *kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64(),
        other => panic!("the schema uses the type {other}: teach this test"),
    };
    if !types.is_empty() && !types.iter().any(fits) {
        return Err(format!("{path}: {value} is not {types:?}"));
    }
    if let (Some(pattern), Some(text)) = (schema["pattern"].as_str(), value.as_str())
        && !regex::Regex::new(pattern).expect("a pattern").is_match(text)
    {
        return Err(format!("{path}: {text} does not match {pattern}"));
    }
    if let Some(expected) = schema.get("const").filter(|expected| *expected != value) {
        return Err(format!("{path}: {value} is not {expected}"));
    }
    if let Some(unwanted) = schema.get("not")
        && validate(unwanted, root, value, path, &mut BTreeSet::new()).is_ok()
    {
        return Err(format!("{path}: {value} is {unwanted}"));
    }
    let number = |keyword: &str| schema[keyword].as_u64();
    if let Some(value) = value.as_u64()
        && (number("minimum").is_some_and(|least| value < least) || number("maximum").is_some_and(|most| value > most))
    {
        return Err(format!("{path}: {value} is out of bounds"));
    }
    if let Some(words) = schema["enum"].as_array().filter(|words| !words.contains(value)) {
        return Err(format!("{path}: {value} is not among {words:?}"));
    }
    for required in schema["required"].as_array().into_iter().flatten().filter_map(Json::as_str) {
        if value.get(required).is_none() {
            return Err(format!("{path}: {required} is missing"));
        }
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        validate(&schema["items"], root, item, &format!("{path}[{index}]"), used_keys)?;
    }
    for (key, item) in value.as_object().into_iter().flatten() {
        let below = format!("{path}.{key}");
        if let Some(property) = schema["properties"].get(key) {
            used_keys.insert(format!("{}.{key}", property["description"]));
            validate(property, root, item, &below, used_keys)?;
        } else if let Some(patterns) = schema["patternProperties"].as_object() {
            let (pattern, property) = patterns.iter().next().ok_or("no pattern")?;
            if !regex::Regex::new(pattern).expect("a pattern").is_match(key) {
                return Err(format!("{below}: the key does not match {pattern}"));
            }
            validate(property, root, item, &below, used_keys)?;
        } else if schema["additionalProperties"] == json!(false) {
            return Err(format!("{below}: unknown key"));
        }
    }
    Ok(())
}

#[test]
fn the_example_is_valid_and_uses_every_schema_key() {
    let schema = current();
    let mut used_keys = BTreeSet::new();
    validate(&schema, &schema, &example(), "", &mut used_keys).expect("valid");
    let all: BTreeSet<String> = schema["$defs"]
        .as_object()
        .expect("definitions")
        .values()
        .chain([&schema])
        .flat_map(|definition| definition["properties"].as_object().into_iter().flatten())
        .map(|(key, property)| format!("{}.{key}", property["description"]))
        .collect();
    assert_eq!(used_keys, all, "the example does not use every key");
}

/// A JSON pointer to every key below `value`.
fn key_pointers(value: &Json, here: &str, all: &mut Vec<String>) {
    match value {
        Json::Object(entries) => {
            for (key, value) in entries {
                let pointer = format!("{here}/{key}");
                all.push(pointer.clone());
                key_pointers(value, &pointer, all);
            }
        }
        Json::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                key_pointers(value, &format!("{here}/{index}"), all);
            }
        }
        _ => {}
    }
}

/// Every key is really read: given a value of a type that no key accepts, the reader reports a problem at that key or below
/// it.
#[test]
fn no_key_is_accepted_and_ignored() {
    let example = example();
    // JSON is valid YAML, so the reader accepts it directly.
    parse(&example.to_string()).unwrap_or_else(|problems| panic!("{problems}"));
    let schema = current();
    let mut all = Vec::new();
    key_pointers(&example, "", &mut all);
    assert!(all.len() > 80, "the example lost its keys");
    for pointer in all {
        let mut damaged = example.clone();
        *damaged.pointer_mut(&pointer).expect("there") = json!([[[]]]);
        let problems = parse(&damaged.to_string()).err().unwrap_or_else(|| panic!("{pointer} is not read"));
        let path = pointer.trim_start_matches('/').split('/').fold(String::new(), |path, part| {
            match (part.parse::<usize>(), path.is_empty()) {
                (Ok(index), _) => format!("{path}[{index}]"),
                (Err(_), true) => part.to_owned(),
                (Err(_), false) => format!("{path}.{part}"),
            }
        });
        assert!(problems.0.iter().any(|problem| problem.path.starts_with(&path)), "{pointer}: {problems}");
        let refused = validate(&schema, &schema, &damaged, "", &mut BTreeSet::new());
        assert!(refused.is_err(), "the schema accepts a list of lists at {pointer}");
    }
}
