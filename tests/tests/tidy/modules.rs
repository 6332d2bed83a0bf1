//! Modules use only those above them, in the order in which their parent's table lists them: no circles, and a parent that
//! can be read from top to bottom.

use super::{files, read};
use std::collections::{BTreeMap, BTreeSet};

/// A parent module, the folder of its modules, and how those name each other.
const ORDERED: [(&str, &str, &str); 4] = [
    ("shared/rollout/src/lib.rs", "shared/rollout/src/", "crate::"),
    ("shared/rollout/src/decide/mod.rs", "shared/rollout/src/decide/", "super::"),
    ("shared/policy/src/lib.rs", "shared/policy/src/", "crate::"),
    ("shared/simulation/src/lib.rs", "shared/simulation/src/", "crate::"),
];

#[test]
fn modules_use_only_those_above_them() {
    for (parent, folder, prefix) in ORDERED {
        let order = listed(&read(parent));
        let uses = uses(parent, folder, prefix);
        let named: BTreeSet<&str> = order.iter().map(String::as_str).collect();
        let missing: Vec<&String> = uses.keys().filter(|module| !named.contains(module.as_str())).collect();
        assert!(missing.is_empty(), "{parent} does not list {missing:?} in its table");
        for (position, module) in order.iter().enumerate() {
            let above: BTreeSet<&String> = order[..position].iter().collect();
            let used =
                uses.get(module).unwrap_or_else(|| panic!("{parent} lists `{module}`, and there is no such module"));
            let below: Vec<&String> = used.iter().filter(|used| !above.contains(used)).collect();
            assert!(below.is_empty(), "{folder}{module} uses {below:?}, which {parent} lists below it");
        }
    }
}

/// The modules of a table in doc comments, from the top: `//! | [`name`] | …`, with a link behind it, or without brackets where
/// the module is private.
fn listed(text: &str) -> Vec<String> {
    let rows = text.lines().filter_map(|line| line.strip_prefix("//! | ")?.trim_start_matches('[').strip_prefix('`'));
    let names = rows.filter_map(|row| row.split('`').next());
    names.map(|name| name.trim_end_matches("()").to_owned()).collect()
}

/// Which modules of a folder each of them uses, outside of its tests.
fn uses(parent: &str, folder: &str, prefix: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in files().iter().filter(|file| file.starts_with(folder) && file.ends_with(".rs") && *file != parent) {
        let module = file[folder.len()..].split('/').next().unwrap().trim_end_matches(".rs").to_owned();
        if module == "tests" {
            continue;
        }
        let text = read(file);
        let code = text.split("#[cfg(test)]").next().unwrap();
        let code: Vec<&str> = code.lines().map(|line| line.split("//").next().unwrap()).collect();
        let code = code.join("\n");
        let used = code.split(prefix).skip(1).flat_map(names_at);
        found.entry(module).or_default().extend(used);
    }
    let modules: BTreeSet<String> = found.keys().cloned().collect();
    for (module, used) in &mut found {
        used.retain(|name| name != module && modules.contains(name));
    }
    found
}

/// The first names of the paths that begin here: one, or those in braces.
fn names_at(text: &str) -> Vec<String> {
    let name = |text: &str| text.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    match text.strip_prefix('{') {
        Some(group) => {
            let mut depth = 0_u32;
            let (mut names, mut start) = (Vec::new(), 0);
            for (index, character) in group.char_indices() {
                match character {
                    '{' => depth += 1,
                    '}' if depth == 0 => {
                        names.push(name(&group[start..index]));
                        break;
                    }
                    '}' => depth -= 1,
                    ',' if depth == 0 => {
                        names.push(name(&group[start..index]));
                        start = index + 1;
                    }
                    _ => {}
                }
            }
            names
        }
        None => vec![name(text)],
    }
}
