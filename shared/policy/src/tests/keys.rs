//! The keys of the file, and the words that stand for a choice: schema, reader, writer and example agree in them.

use crate::problem::{Problem, ProblemCollector};
use crate::tree::{self, Node, Value};
use crate::{parse, render, schema};
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

/// The definitions that have keys, by name.
fn definitions() -> BTreeMap<String, Json> {
    let schema = current();
    let mut all = BTreeMap::from([("File".to_owned(), schema.clone())]);
    for (name, definition) in schema["$defs"].as_object().expect("definitions") {
        if definition["properties"].is_object() {
            all.insert(name.clone(), definition.clone());
        }
    }
    all
}

/// The keys of a definition, each with its own schema.
fn properties(definition: &Json) -> &Map<String, Json> {
    definition["properties"].as_object().expect("keys")
}

#[test]
fn every_key_has_a_description_and_no_other_key_is_allowed() {
    for (name, definition) in definitions() {
        assert_eq!(definition["additionalProperties"], json!(false), "{name} allows unknown keys");
        for (key, property) in properties(&definition) {
            assert!(property["description"].is_string(), "{name}.{key}");
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

/// Where the schema applies in a document, by JSON pointer.
#[derive(Default)]
struct Places {
    /// The mappings, with the definition of each.
    mappings: BTreeMap<String, Json>,
    /// The values that are one of several words, with these words.
    choices: BTreeMap<String, BTreeSet<String>>,
}

/// Validates `value` against the keywords that our schema uses.
fn validate(schema: &Json, root: &Json, value: &Json, pointer: &str, places: &mut Places) -> Result<(), String> {
    if let Some(reference) = schema.get("$ref").and_then(Json::as_str) {
        let target = root.pointer(reference.trim_start_matches('#')).ok_or("a reference to nothing")?;
        validate(target, root, value, pointer, places)?;
    }
    if let Some(options) = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Json::as_array) {
        let outcomes: Vec<_> = options.iter().map(|option| validate(option, root, value, pointer, places)).collect();
        if outcomes.iter().all(Result::is_err) {
            return Err(format!("{pointer}: fits none of {outcomes:?}"));
        }
        let words: Option<BTreeSet<String>> =
            options.iter().map(|option| option["const"].as_str().map(str::to_owned)).collect();
        if let Some(words) = words {
            places.choices.insert(pointer.to_owned(), words);
        }
    }
    if let Some(unwanted) = schema.get("not")
        && validate(unwanted, root, value, pointer, &mut Places::default()).is_ok()
    {
        return Err(format!("{pointer}: {value} is {unwanted}"));
    }
    validate_value(schema, value).map_err(|problem| format!("{pointer}: {problem}"))?;
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        validate(&schema["items"], root, item, &format!("{pointer}/{index}"), places)?;
    }
    if schema["properties"].is_object() {
        places.mappings.insert(pointer.to_owned(), schema.clone());
    }
    for (key, item) in value.as_object().into_iter().flatten() {
        let below = format!("{pointer}/{key}");
        if let Some(property) = schema["properties"].get(key) {
            validate(property, root, item, &below, places)?;
        } else if let Some(patterns) = schema["patternProperties"].as_object() {
            let (pattern, property) = patterns.iter().next().ok_or("no pattern")?;
            if !regex::Regex::new(pattern).expect("a pattern").is_match(key) {
                return Err(format!("{below}: the key does not match {pattern}"));
            }
            validate(property, root, item, &below, places)?;
        } else if schema["additionalProperties"] == json!(false) {
            return Err(format!("{below}: unknown key"));
        }
    }
    Ok(())
}

/// Validates `value` against the keywords that look at nothing below it.
fn validate_value(schema: &Json, value: &Json) -> Result<(), String> {
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
        return Err(format!("{value} is not {types:?}"));
    }
    if let (Some(pattern), Some(text)) = (schema["pattern"].as_str(), value.as_str())
        && !regex::Regex::new(pattern).expect("a pattern").is_match(text)
    {
        return Err(format!("{text} does not match {pattern}"));
    }
    if let Some(expected) = schema.get("const").filter(|expected| *expected != value) {
        return Err(format!("{value} is not {expected}"));
    }
    let number = |keyword: &str| schema[keyword].as_u64();
    if let Some(value) = value.as_u64()
        && (number("minimum").is_some_and(|least| value < least) || number("maximum").is_some_and(|most| value > most))
    {
        return Err(format!("{value} is out of bounds"));
    }
    if let Some(words) = schema["enum"].as_array().filter(|words| !words.contains(value)) {
        return Err(format!("{value} is not among {words:?}"));
    }
    match words(&schema["required"]).into_iter().find(|required| value.get(required).is_none()) {
        Some(required) => Err(format!("{required} is missing")),
        None => Ok(()),
    }
}

fn words(list: &Json) -> BTreeSet<String> {
    list.as_array().into_iter().flatten().filter_map(Json::as_str).map(str::to_owned).collect()
}

/// Where the schema applies in a valid document.
fn places(document: &Json) -> Places {
    let schema = current();
    let mut places = Places::default();
    validate(&schema, &schema, document, "", &mut places).expect("valid");
    places
}

/// The keys of the schema that a valid document does not have, as `Definition.key`.
fn unused_keys(document: &Json) -> Vec<String> {
    let mappings = places(document).mappings;
    let is_used = |definition: &Json, key: &str| {
        mappings.iter().any(|(pointer, other)| {
            other == definition && document.pointer(pointer).is_some_and(|mapping| mapping.get(key).is_some())
        })
    };
    let mut unused = Vec::new();
    for (name, definition) in definitions() {
        let keys = properties(&definition).keys().filter(|key| !is_used(&definition, key));
        unused.extend(keys.map(|key| format!("{name}.{key}")));
    }
    unused
}

#[test]
fn the_example_is_valid_and_has_every_key() {
    // The patterns of `not` are those of `tags`.
    assert_eq!(unused_keys(&example()), ["NotTags.regex", "NotTags.semver"]);
}

#[test]
fn a_rendered_policy_is_valid_and_has_every_key() {
    let rendered = render(&parse(EXAMPLE).expect("sound"));
    // Defaults are written out in each target, and `after: {all: […]}` as a list.
    let defaults =
        ["Defaults.alarms", "Defaults.configuration", "Defaults.deadlines", "Defaults.hooks", "Defaults.strategy"];
    let others = ["Environment.defaults", "NotTags.regex", "NotTags.semver"];
    assert_eq!(unused_keys(&rendered), [&["AfterSome.all"][..], &defaults, &others].concat());
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

/// A place of the example as the reader's problems name it: `environments.prod.windows[0]`.
fn problem_path(pointer: &str) -> String {
    pointer.split('/').skip(1).fold(String::new(), |path, part| match (part.parse::<usize>(), path.is_empty()) {
        (Ok(index), _) => format!("{path}[{index}]"),
        (Err(_), true) => part.to_owned(),
        (Err(_), false) => format!("{path}.{part}"),
    })
}

/// The example with another value at `pointer`, and the reader's problems with it.
fn damaged(example: &Json, pointer: &str, value: Json) -> (Json, Vec<Problem>) {
    let mut damaged = example.clone();
    *damaged.pointer_mut(pointer).expect("there") = value;
    // JSON is valid YAML, so the reader accepts it directly.
    let problems = parse(&damaged.to_string()).err().unwrap_or_else(|| panic!("{pointer} is not read"));
    (damaged, problems.0)
}

/// The words in backticks.
fn quoted(text: &str) -> BTreeSet<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Where a mapping has only a key that is in none, the reader says which keys are known there, and which are missing.
#[test]
fn the_reader_knows_the_keys_of_every_mapping() {
    let example = example();
    for (pointer, definition) in places(&example).mappings {
        let (_, problems) = damaged(&example, &pointer, json!({"0": true}));
        let known = problems.iter().find_map(|problem| problem.message.strip_prefix("unknown key `0`: known here: "));
        let known = quoted(known.unwrap_or_else(|| panic!("{pointer} takes an unknown key")));
        let expected: BTreeSet<String> = properties(&definition).keys().cloned().collect();
        assert_eq!(known, expected, "{pointer}");
        let path = problem_path(&pointer);
        let missing = problems.iter().filter(|problem| problem.path == path).filter_map(|problem| {
            let key = problem.message.strip_prefix('`')?.strip_suffix("` is missing: add it")?;
            Some(key.to_owned())
        });
        assert_eq!(missing.collect::<BTreeSet<_>>(), words(&definition["required"]), "{pointer}");
    }
}

#[test]
fn the_reader_knows_the_words_of_every_choice() {
    let example = example();
    let choices = places(&example).choices;
    assert!(choices.len() > 10, "the example lost its choices");
    for (pointer, words) in choices {
        let (_, problems) = damaged(&example, &pointer, json!("0"));
        let path = problem_path(&pointer);
        let message = problems.iter().find(|problem| problem.path == path).map(|problem| problem.message.as_str());
        let (expected, _) = message.and_then(|message| message.split_once(", found ")).expect("a refusal");
        assert_eq!(quoted(expected), words, "{pointer}");
    }
}

/// Every key is really read: given a value of a type that no key accepts, the reader reports a problem there or below.
#[test]
fn no_key_is_accepted_and_ignored() {
    let example = example();
    parse(&example.to_string()).unwrap_or_else(|problems| panic!("{problems}"));
    let schema = current();
    let mut all = Vec::new();
    key_pointers(&example, "", &mut all);
    assert!(all.len() > 80, "the example lost its keys");
    for pointer in all {
        let (damaged, problems) = damaged(&example, &pointer, json!([[[]]]));
        let path = problem_path(&pointer);
        assert!(problems.iter().any(|problem| problem.path.starts_with(&path)), "{pointer}: {problems:?}");
        let refused = validate(&schema, &schema, &damaged, "", &mut Places::default());
        assert!(refused.is_err(), "the schema accepts a list of lists at {pointer}");
    }
}
