//! A platform is named in the core's table and in one module of each crate that reads or writes it: whoever adds one finds
//! every place, and no other code asks which platform it has.

use super::{crate_of, files, read};
use std::collections::BTreeSet;

/// Where platforms may be named, and why.
const MAY_NAME: [(&str, &str); 8] = [
    ("shared/rollout/src/platform.rs", "the core's table"),
    ("shared/rollout/src/lib.rs", "exports the table"),
    ("shared/rollout/src/doctor/platforms/", "what the doctor checks of each"),
    ("shared/policy/src/resources/", "how a policy names each"),
    ("shared/aws/src/cloud/platforms/", "what is read and written of each on AWS"),
    ("shared/simulation/src/virtual_time/platforms/", "what is read and written of each in the simulated world"),
    ("shared/simulation/src/world/scene.rs", "builds a world for a pair"),
    ("shared/simulation/src/world/scene/rolling.rs", "builds a world for a service in place"),
];

/// The variants of the core's table.
fn platforms() -> BTreeSet<String> {
    let table = read("shared/rollout/src/platform.rs");
    let variants = table.split("pub enum Platform {").nth(1).unwrap().split('}').next().unwrap();
    variants.lines().filter_map(|line| line.trim().split_once('(')).map(|(name, _)| name.to_owned()).collect()
}

/// The source of a file outside of its tests and comments.
fn code(file: &str) -> String {
    let text = read(file);
    let code = text.split("#[cfg(test)]\nmod ").next().unwrap();
    code.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n")
}

#[test]
fn platforms_are_named_only_in_their_modules() {
    let platforms = platforms();
    assert!(platforms.len() >= 2, "the table's variants were not found: {platforms:?}");
    let is_test = |file: &str| file.contains("/tests/") || file.ends_with("/tests.rs") || file.starts_with("tests/");
    let mut used = BTreeSet::new();
    for file in files().iter().filter(|file| crate_of(file).is_some() && !is_test(file)) {
        let code = code(file);
        let named: Vec<&String> = platforms.iter().filter(|platform| code.contains(platform.as_str())).collect();
        let place = MAY_NAME.iter().find(|(place, _)| file.starts_with(place));
        assert!(
            named.is_empty() || place.is_some(),
            "{file} names {named:?}: ask for a trait of the core's table, or move it to the platform's module"
        );
        used.extend(place.filter(|_| !named.is_empty()).map(|(place, _)| *place));
    }
    let unused: Vec<&str> = MAY_NAME.iter().map(|(place, _)| *place).filter(|place| !used.contains(place)).collect();
    assert!(unused.is_empty(), "{unused:?} name no platform: take them out of the list");
}

#[test]
fn decisions_are_the_same_on_every_platform_that_moves_the_same_way() {
    for file in files().iter().filter(|file| file.starts_with("shared/rollout/src/decide/")) {
        let code = code(file);
        let named = ["ecs_service", "EcsServiceName", "Platform::"].into_iter().find(|word| code.contains(word));
        assert!(named.is_none(), "{file} has `{}`: `decide` asks how a target moves", named.unwrap_or_default());
    }
}
