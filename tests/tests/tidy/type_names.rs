//! One name for one thing: what a type's name means in one crate, it means in every other.

use super::{crate_of, files, read};
use std::collections::{BTreeMap, BTreeSet};

/// Names that two crates declare for the same thing.
struct SameThing {
    /// Where the two stand: how the paths of their files begin.
    places: [&'static str; 2],
    /// Why both are the same thing.
    reason: &'static str,
    names: &'static [&'static str],
}

const SAME_THINGS: &[SameThing] = &[
    SameThing {
        places: ["shared/policy/src/file/", "shared/rollout/src/"],
        reason: "a key of the policy file as it is written, and the same key validated",
        names: &[
            "After",
            "Concurrency",
            "Deadlines",
            "Drift",
            "Gate",
            "Grant",
            "Hook",
            "Leg",
            "Permission",
            "Person",
            "Registry",
            "StableFiring",
            "Step",
            "Strategy",
            "TaskFailures",
            "Trigger",
        ],
    },
    SameThing {
        places: ["shared/rollout/src/answers/", "shared/simulation/src/world/"],
        reason: "an object of ECS's API: the fields that decisions need, and the simulated answer",
        names: &["EcsContainer", "EcsDeployment", "EcsService", "EcsServiceEvent", "EcsTask"],
    },
    SameThing {
        places: ["shared/rollout/src/doctor/", "shared/simulation/src/world/"],
        reason: "CloudWatch's usage metric of Fargate and its quota: what the doctor needs, and the simulated answer",
        names: &["FargateUsage"],
    },
    SameThing {
        places: ["shared/api/src/", "tests/src/harness/"],
        reason: "a press of a button in a Slack message: as the API reads it, and as the harness sends it",
        names: &["ButtonPress"],
    },
    SameThing {
        places: ["shared/aws/src/", "tests/src/harness/"],
        reason: "an HTTP response, as each crate's client returns it",
        names: &["Response"],
    },
];

impl SameThing {
    /// Whether it explains why `name` is declared in all of these files.
    fn explains(&self, name: &str, files: &BTreeSet<String>) -> bool {
        let is_known = |file: &String| self.places.iter().any(|place| file.starts_with(place));
        self.names.contains(&name) && files.iter().all(is_known)
    }
}

/// Every type that more than its own module can name, and the files that declare one of that name.
fn declared() -> BTreeMap<String, BTreeSet<String>> {
    let mut declared: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in files().iter().filter(|file| crate_of(file).is_some()) {
        for name in read(file).lines().filter_map(type_name) {
            declared.entry(name.to_owned()).or_default().insert(file.clone());
        }
    }
    declared
}

/// The name of the type that this line of a formatted file declares with `pub` or `pub(…)`.
fn type_name(line: &str) -> Option<&str> {
    let rest = line.trim_start().strip_prefix("pub")?;
    let rest = match rest.strip_prefix('(') {
        Some(scope) => scope.split_once(')')?.1,
        None => rest,
    };
    let (keyword, rest) = rest.strip_prefix(' ')?.split_once(' ')?;
    let name = rest.split(|letter: char| !letter.is_alphanumeric() && letter != '_').next()?;
    (["struct", "enum", "trait", "type"].contains(&keyword) && !name.is_empty()).then_some(name)
}

#[test]
fn no_type_name_that_two_crates_use_for_different_things() {
    let mut unexplained = Vec::new();
    for (name, files) in &declared() {
        let crates: BTreeSet<&str> = files.iter().filter_map(|file| crate_of(file)).collect();
        if crates.len() > 1 && !SAME_THINGS.iter().any(|same| same.explains(name, files)) {
            unexplained.push(format!("`{name}` in {files:?}"));
        }
    }
    let what_to_do = "give one of them another name, or say in this test why both are the same thing";
    assert!(unexplained.is_empty(), "{what_to_do}:\n{}", unexplained.join("\n"));
}

#[test]
fn every_name_of_the_same_thing_is_declared_twice() {
    let declared = declared();
    for same in SAME_THINGS {
        for name in same.names {
            for place in same.places {
                let is_there =
                    declared.get(*name).is_some_and(|files| files.iter().any(|file| file.starts_with(place)));
                assert!(is_there, "{place} has no `{name}` ({}): take it out of this test", same.reason);
            }
        }
    }
}

#[test]
fn declarations_of_types_are_read() {
    for (line, name) in [
        ("pub struct One<'a> {", Some("One")),
        ("    pub(crate) enum Two {", Some("Two")),
        ("pub(in crate::three) type Three = u8;", Some("Three")),
        ("pub trait Four: Send {", Some("Four")),
        ("pub struct Five;", Some("Five")),
        ("pub struct Six(pub u8);", Some("Six")),
        ("    pub struct $name {", None),
        ("struct Private;", None),
        ("// pub struct Comment;", None),
        ("pub fn struct_of() {", None),
        ("pub(crate) const TYPE: u8 = 1;", None),
    ] {
        assert_eq!(type_name(line), name, "{line}");
    }
}
