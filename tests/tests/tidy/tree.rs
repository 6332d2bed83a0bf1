//! What stands where, and how long it is.

use super::{files, read};

/// What may stand at the top, beside folders and files of tools (a leading dot).
const TOP: &[&str] =
    &["Cargo.toml", "Cargo.lock", "README.md", "LICENSE", "events", "functions", "shared", "template.yaml", "tests"];
/// A file past this wants another name for half of it.
const MOST_LINES: usize = 700;
/// Names that say nothing.
const EMPTY_NAMES: &[&str] = &["utils", "util", "common", "helpers", "helper", "manager", "misc"];

#[test]
fn nothing_else_stands_at_the_top() {
    for file in files() {
        let top = file.split('/').next().unwrap();
        assert!(top.starts_with('.') || TOP.contains(&top), "{file} does not belong at the top");
    }
}

#[test]
fn no_file_is_too_long_and_none_has_an_empty_name() {
    for file in files().iter().filter(|file| file.ends_with(".rs")) {
        let lines = read(file).lines().count();
        assert!(lines <= MOST_LINES, "{file} has {lines} lines, more than {MOST_LINES}: give half of it its own name");
        let stem = file.rsplit('/').next().unwrap().trim_end_matches(".rs");
        assert!(!EMPTY_NAMES.contains(&stem), "{file}: `{stem}` says nothing; name it after what it does");
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
