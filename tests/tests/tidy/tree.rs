//! What stands where, and how long it is.

use super::{files, read};

/// What may stand at the top, beside folders and files of tools (a leading dot).
const TOP_LEVEL: &[&str] =
    &["Cargo.toml", "Cargo.lock", "README.md", "LICENSE", "events", "functions", "shared", "template.yaml", "tests"];
/// A file past this wants another name for half of it.
const MAX_LINES: usize = 600;
/// A function past this does more than its name says.
const MAX_FUNCTION_LINES: usize = 80;
/// `main.rs` of a function reads its settings, makes its clients and starts the runtime.
const MAX_MAIN_LINES: usize = 60;
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
fn functions_are_short() {
    let mut long = Vec::new();
    for file in files().iter().filter(|file| file.ends_with(".rs")) {
        for (name, lines) in function_lengths(&read(file)) {
            if lines > MAX_FUNCTION_LINES {
                long.push(format!("{file}: `{name}` has {lines} lines"));
            }
        }
    }
    assert!(long.is_empty(), "functions of more than {MAX_FUNCTION_LINES} lines:\n{}", long.join("\n"));
}

#[test]
fn entry_points_of_functions_are_short() {
    for file in files().iter().filter(|file| file.starts_with("functions/") && file.ends_with("/src/main.rs")) {
        let lines = read(file).lines().count();
        assert!(lines <= MAX_MAIN_LINES, "{file} has {lines} lines, more than {MAX_MAIN_LINES}: split it");
    }
}

/// The functions of a formatted file, each with its lines from `fn` to the closing brace at the same indentation.
/// Declarations without a body, and bodies on the line of `fn`, are left out.
fn function_lengths(text: &str) -> Vec<(&str, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let length = |first: usize| {
        let signature = lines[first..].iter().position(|line| line.ends_with(['{', ';', '}']))?;
        if !lines[first + signature].ends_with('{') {
            return None;
        }
        let indentation = lines[first].len() - lines[first].trim_start().len();
        let closing = |line: &&str| line.len() == indentation + 1 && line.ends_with('}');
        lines[first..].iter().position(closing).map(|last| last + 1)
    };
    lines.iter().enumerate().filter_map(|(first, &line)| Some((function_name(line)?, length(first)?))).collect()
}

/// The name of the function whose signature begins in this line.
fn function_name(line: &str) -> Option<&str> {
    let (qualifiers, rest) = line.split_once("fn ")?;
    let is_qualifier =
        |word: &str| ["const", "async", "unsafe"].contains(&word) || word.starts_with("pub") || word.ends_with(')');
    let end = rest.find(|letter: char| !letter.is_alphanumeric() && letter != '_')?;
    (end > 0 && qualifiers.split_whitespace().all(is_qualifier)).then(|| &rest[..end])
}

#[test]
fn function_lengths_are_counted_to_the_closing_brace() {
    let declarations = ["trait T {", "    fn one(", "        &self,", "    ) -> impl Send;", "    fn two(&self);", "}"];
    assert_eq!(function_lengths(&declarations.join("\n")), []);
    let one = ["fn one() {}"];
    let two = ["pub(crate) async fn two(", "    a: u8,", ") {", "    if a > 1 {", "    }", "}"];
    let three = ["fn three<T>()", "where", "    T: Copy,", "{", "}"];
    let bodies = [&one[..], &two, &three].concat().join("\n");
    assert_eq!(function_lengths(&bodies), [("two", 6), ("three", 5)]);
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
