//! The same logic nowhere stands twice.

use super::{crate_of, files, read};
use std::collections::BTreeMap;

/// So many lines in a row may stand in two places; beyond that they belong into one function.
const MAX_COPIED_LINES: usize = 15;

/// The lines of a file that count, and their numbers.
struct Source<'a> {
    file: &'a str,
    numbers: Vec<usize>,
    lines: Vec<&'a str>,
}

impl<'a> Source<'a> {
    fn new(file: &'a str, text: &'a str) -> Self {
        let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
        let (numbers, lines) = lines.filter(|(_, line)| counts(line)).unzip();
        Self { file, numbers, lines }
    }
}

/// Whether a line is logic: not blank, no comment, no import, and more than closing brackets.
fn counts(line: &str) -> bool {
    let is_import = line.starts_with("use ") || line.starts_with("pub use ");
    !is_import && !line.starts_with("//") && !line.chars().all(|letter| ")]},;".contains(letter))
}

/// Both places of every passage of more than [`MAX_COPIED_LINES`] lines that stands twice.
fn copies(files: &[(String, String)]) -> Vec<String> {
    let sources: Vec<Source<'_>> = files.iter().map(|(file, text)| Source::new(file, text)).collect();
    let mut seen: BTreeMap<&[&str], (&str, usize)> = BTreeMap::new();
    let mut copies = Vec::new();
    for source in &sources {
        let mut is_copy = false;
        for (passage, number) in source.lines.windows(MAX_COPIED_LINES + 1).zip(&source.numbers) {
            let here = (source.file, *number);
            let first = *seen.entry(passage).or_insert(here);
            // The passage that begins in the next line is the rest of the same copy.
            if first != here && !is_copy {
                copies.push(format!("{}:{} and {}:{}", first.0, first.1, here.0, here.1));
            }
            is_copy = first != here;
        }
    }
    copies
}

#[test]
fn the_same_logic_nowhere_stands_twice() {
    let files = files().into_iter().filter(|file| crate_of(file).is_some());
    let files: Vec<(String, String)> = files.map(|file| (file.clone(), read(&file))).collect();
    let copies = copies(&files);
    assert!(copies.is_empty(), "more than {MAX_COPIED_LINES} lines stand twice, from\n{}", copies.join("\n"));
}

#[test]
fn copies_are_found_whatever_their_indentation_and_comments() {
    let lines: Vec<String> = (0..=MAX_COPIED_LINES).map(|number| format!("let a{number} = {number};")).collect();
    let one = format!("fn one() {{\n{}\n}}\n", lines.join("\n"));
    let two = format!("use a::b;\n\nfn two() {{\n    {}\n}}\n", lines.join("\n\n    // A comment.\n    "));
    let shorter = format!("fn shorter() {{\n{}\n}}\n", lines[1..].join("\n"));
    let file = |name: &str, text: &str| (name.to_owned(), text.to_owned());
    assert_eq!(copies(&[file("one.rs", &one), file("two.rs", &two)]), ["one.rs:2 and two.rs:4"]);
    assert!(copies(&[file("one.rs", &one), file("shorter.rs", &shorter)]).is_empty());
}
