//! For tests: what strangers may send, and properties that hold whatever they do.
//!
//! Garbage that is garbage all through is refused at the first byte and shows little. So most of it is something sound
//! with a few things changed: a payload of `events/` in which a field is gone, of another type, renamed, far too long.
//!
//! [`hold`] runs each property with one seed that is the same everywhere: the suite says the same of the same tree.
//! `SWITCHBACK_SEED=fresh` takes another one, which a failure names, and `SWITCHBACK_SEED=`*number* shows it again;
//! `SWITCHBACK_CASES=100` tries a hundred times as much.

pub use proptest;

use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{RngSeed, TestCaseResult, TestRunner};
use serde_json::{Map, Value};
use std::fmt::Debug;
use std::path::Path;
use std::time::SystemTime;

/// The seed of the run that is the same everywhere.
const SEED: u64 = 20_261_122;

/// Texts at which something was once amiss, here or with others.
const TRICKY_STRINGS: [&str; 32] = [
    "",
    " ",
    ".",
    "..",
    "/",
    "#",
    "%",
    "%2e%2e%2f",
    "../../etc/passwd",
    "\u{0}",
    "\u{feff}",
    "\u{202e}",
    "a\nb",
    "\r\n\r\n",
    "null",
    "-1",
    "1e999",
    "18446744073709551616",
    "<script>alert(1)</script>",
    "<!channel>",
    "${jndi:ldap://x}",
    "{\"S\":\"x\"}",
    "sha256:",
    "sha256:0000000000000000000000000000000000000000000000000000000000000000",
    "shop/api/prod",
    "shop/api/prod#1",
    "TARGET#shop/api/prod",
    "arn:aws:iam::111122223333:root",
    "arn:aws:ecs:eu-central-1:111122223333:service/",
    "2026-13-45T99:99:99Z",
    "9999-12-31T23:59:59.999999999Z",
    "-009999-01-01T00:00:00Z",
];

/// Says of a property that it holds for `cases` values of a strategy.
///
/// # Panics
/// Where it does not, with the seed and the smallest value found at which it fails.
#[track_caller]
pub fn hold<S>(cases: u32, strategy: &S, property: impl Fn(S::Value) -> TestCaseResult)
where
    S: Strategy,
    S::Value: Debug,
{
    let seed = seed();
    if let Err(error) = runner(seed, cases * times()).run(strategy, &property) {
        panic!("SWITCHBACK_SEED={seed} shows it again\n{error}");
    }
}

/// Tests whose arguments are made by strategies, as in `proptest!`, each run by [`hold`]:
/// `held! { 256; #[test] fn no_text_is_a_link(text in ".{0,400}") { … } }`.
#[macro_export]
macro_rules! held {
    ($cases:expr; $($(#[$attribute:meta])* fn $name:ident($($argument:ident in $strategy:expr),+ $(,)?) $body:block)*) => {
        $(
            $(#[$attribute])*
            fn $name() {
                $crate::hold($cases, &($($strategy,)+), |($($argument,)+)| {
                    $body;
                    Ok(())
                });
            }
        )*
    };
}

/// Values of a strategy, with the seed that makes them again: for what is tried on many of them side by side.
///
/// # Panics
/// Where the strategy can make none.
#[must_use]
pub fn samples<S: Strategy>(cases: u32, strategy: &S) -> Vec<(u64, S::Value)> {
    let seed = seed();
    let mut runner = runner(seed, cases);
    (0..cases * times()).map(|_| (seed, strategy.new_tree(&mut runner).expect("a value").current())).collect()
}

fn runner(seed: u64, cases: u32) -> TestRunner {
    let config = ProptestConfig {
        cases,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(seed),
        max_shrink_iters: 2_000,
        ..ProptestConfig::default()
    };
    TestRunner::new(config)
}

fn seed() -> u64 {
    match std::env::var("SWITCHBACK_SEED") {
        Ok(text) if text == "fresh" => fresh(),
        Ok(text) => text.parse().expect("SWITCHBACK_SEED is a number, or `fresh`"),
        Err(_) => SEED,
    }
}

fn times() -> u32 {
    number("SWITCHBACK_CASES").and_then(|times| u32::try_from(times).ok()).unwrap_or(1).max(1)
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn fresh() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::from(since.subsec_nanos()) ^ (since.as_secs() << 20) ^ u64::from(std::process::id())
}

/// The payloads of a function in `events/`.
///
/// # Panics
/// Where it has none.
#[must_use]
pub fn events(function: &str) -> Vec<Value> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../events");
    let begins = format!("{function}.");
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .expect("the folder is there")
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.starts_with(&begins) && name.ends_with(".json")
        })
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "events/ has no {function}.<case>.json");
    let read = |path| serde_json::from_str(&std::fs::read_to_string(path).expect("readable")).expect("JSON");
    paths.into_iter().map(read).collect()
}

/// Any text: short and long, odd and plain.
pub fn text() -> BoxedStrategy<String> {
    prop_oneof![
        4 => "\\PC{0,40}",
        2 => proptest::collection::vec(any::<char>(), 0..120).prop_map(String::from_iter),
        3 => select(TRICKY_STRINGS.as_slice()).prop_map(str::to_owned),
        1 => (any::<char>(), 1usize..70_000).prop_map(|(one, times)| one.to_string().repeat(times)),
    ]
    .boxed()
}

/// Any JSON.
pub fn json() -> BoxedStrategy<Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
            proptest::collection::vec((text(), inner), 0..5).prop_map(|pairs| Value::Object(Map::from_iter(pairs))),
        ]
    })
    .boxed()
}

/// One of these, with up to three things changed in it.
pub fn damaged(valid: Vec<Value>) -> BoxedStrategy<Value> {
    let mutations = proptest::collection::vec((any::<Index>(), mutation()), 0..4);
    (select(valid), mutations)
        .prop_map(|(mut value, mutations)| {
            mutations.into_iter().for_each(|(at, mutation)| mutation.apply(&mut value, at));
            value
        })
        .boxed()
}

/// A body that is to be JSON: damaged, cut, no JSON at all, or nested without end.
pub fn body(valid: Vec<Value>) -> BoxedStrategy<String> {
    prop_oneof![
        6 => damaged(valid.clone()).prop_map(|value| value.to_string()),
        1 => (damaged(valid), any::<Index>()).prop_map(|(value, at)| {
            let text = value.to_string();
            let cut = at.index(text.len() + 1);
            text.chars().take(cut).collect()
        }),
        1 => json().prop_map(|value| value.to_string()),
        1 => text(),
        1 => (1usize..5_000).prop_map(|deep| "[".repeat(deep)),
        1 => (1usize..5_000).prop_map(|deep| "{\"a\":".repeat(deep)),
    ]
    .boxed()
}

/// What is done to one place of a value.
#[derive(Debug, Clone)]
enum Mutation {
    Remove,
    Replace(Value),
    Rename(String),
    Append(String),
    Stringify,
    WrapInArray,
    Duplicate,
}

fn mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        3 => Just(Mutation::Remove),
        3 => json().prop_map(Mutation::Replace),
        3 => text().prop_map(|text| Mutation::Replace(text.into())),
        1 => text().prop_map(Mutation::Rename),
        2 => text().prop_map(Mutation::Append),
        1 => Just(Mutation::Stringify),
        1 => Just(Mutation::WrapInArray),
        1 => Just(Mutation::Duplicate),
    ]
}

impl Mutation {
    fn apply(self, value: &mut Value, at: Index) {
        let mut places = Vec::new();
        pointers(value, String::new(), &mut places);
        let place = &places[at.index(places.len())];
        match self {
            Self::Replace(other) => replace(value, place, |_| other),
            Self::Stringify => replace(value, place, |found| Value::String(found.to_string())),
            Self::WrapInArray => replace(value, place, |found| Value::Array(vec![found])),
            Self::Append(more) => replace(value, place, |found| match found {
                Value::String(text) => Value::String(text + &more),
                other => other,
            }),
            Self::Remove | Self::Rename(_) | Self::Duplicate => {
                let Some((parent, last)) = place.rsplit_once('/') else { return };
                let last = last.replace("~1", "/").replace("~0", "~");
                match value.pointer_mut(parent) {
                    Some(Value::Object(fields)) => {
                        let found = fields.remove(&last).unwrap_or_default();
                        match self {
                            Self::Rename(name) => drop(fields.insert(name, found)),
                            Self::Duplicate => {
                                fields.insert(format!("{last}{last}"), found.clone());
                                fields.insert(last, found);
                            }
                            _ => {}
                        }
                    }
                    Some(Value::Array(items)) => {
                        let index: usize = last.parse().expect("an index");
                        match self {
                            Self::Duplicate => items.push(items[index].clone()),
                            _ => drop(items.remove(index)),
                        }
                    }
                    _ => {}
                }
            }
        }
    }
}

fn replace(value: &mut Value, place: &str, by: impl FnOnce(Value) -> Value) {
    if let Some(found) = value.pointer_mut(place) {
        *found = by(found.take());
    }
}

/// Every place of a value, as a JSON pointer (RFC 6901).
fn pointers(value: &Value, here: String, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                pointers(field, format!("{here}/{}", name.replace('~', "~0").replace('/', "~1")), found);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                pointers(item, format!("{here}/{index}"), found);
            }
        }
        _ => {}
    }
    found.push(here);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::collections::BTreeSet;

    #[test]
    fn mutated_values_mostly_keep_their_shape() {
        let valid = json!({"a": {"b": [1, 2, {"c/d": "text"}]}, "e": null});
        let made = samples(200, &damaged(vec![valid.clone()]));
        let different: BTreeSet<String> = made.iter().map(|(_, value)| value.to_string()).collect();
        assert!(different.len() > 100, "{}", different.len());
        let alike = made.iter().filter(|(_, value)| value.get("a").is_some() || value.get("e").is_some()).count();
        assert!(alike > made.len() / 2, "{alike} of {}", made.len());
        assert!(made.iter().any(|(_, value)| *value == valid), "and sometimes nothing is changed");
    }

    held! {
        64;

        #[test]
        fn each_argument_has_its_own_strategy(short in "[a-z]{1,3}", number in 0u8..10) {
            prop_assume!(short != "abc");
            prop_assert!(short.len() <= 3 && number < 10);
        }
    }

    #[test]
    #[should_panic(expected = "SWITCHBACK_SEED=")]
    fn a_failing_property_reports_its_seed() {
        hold(200, &text(), |text| {
            prop_assert!(text.len() < 100);
            Ok(())
        });
    }

    #[test]
    #[should_panic(expected = "SWITCHBACK_SEED=")]
    fn a_panic_fails_the_property() {
        hold(200, &text(), |text| {
            assert!(text.len() < 100, "too long");
            Ok(())
        });
    }
}
