//! What stands where, and how long it is.

use super::{files, read};

/// What may stand at the top, beside folders and files of tools (a leading dot).
const TOP_LEVEL: &[&str] =
    &["Cargo.toml", "Cargo.lock", "README.md", "LICENSE", "events", "functions", "shared", "template.yaml", "tests"];
/// A file past this wants another name for half of it.
const MAX_LINES: usize = 700;
/// Names that say nothing.
const GENERIC_NAMES: &[&str] = &["utils", "util", "common", "helpers", "helper", "manager", "misc"];

#[test]
fn the_top_level_has_only_known_files() {
    for file in files() {
        let top = file.split('/').next().unwrap();
        assert!(top.starts_with('.') || TOP_LEVEL.contains(&top), "{file} does not belong at the top");
    }
}

#[test]
fn files_are_short_and_have_specific_names() {
    for file in files().iter().filter(|file| file.ends_with(".rs")) {
        let lines = read(file).lines().count();
        assert!(lines <= MAX_LINES, "{file} has {lines} lines, more than {MAX_LINES}: give half of it its own name");
        let stem = file.rsplit('/').next().unwrap().trim_end_matches(".rs");
        assert!(!GENERIC_NAMES.contains(&stem), "{file}: `{stem}` says nothing; name it after what it does");
    }
}

#[test]
fn nothing_is_left_unfinished() {
    // Put together here, so that this file does not find itself.
    let marks =
        [["TO", "DO"].concat(), ["FIX", "ME"].concat(), ["unimplement", "ed!("].concat(), ["tod", "o!("].concat()];
    for file in files() {
        let text =
            [".rs", ".yaml", ".yml", ".sh", ".py", ".toml", ".md", ".html"].iter().any(|end| file.ends_with(end));
        if !text && !file.starts_with(".ci/") {
            continue;
        }
        for (number, line) in read(&file).lines().enumerate() {
            for mark in &marks {
                assert!(!line.contains(mark), "{file}:{}: {mark}", number + 1);
            }
        }
    }
}

#[test]
fn every_package_takes_the_workspace_lints() {
    for file in files().iter().filter(|file| file.ends_with("/Cargo.toml")) {
        assert!(read(file).contains("[lints]\nworkspace = true"), "{file} does not take the workspace's lints");
    }
}
