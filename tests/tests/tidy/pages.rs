//! Pages: short enough to be read, and their links lead somewhere.

use super::{files, read, root};
use std::collections::BTreeSet;

/// The README says what it is, how to start, and where everything else is.
const README_LINES: usize = 150;

#[test]
fn the_readme_is_short() {
    let lines = read("README.md").lines().count();
    assert!(
        lines <= README_LINES,
        "README.md has {lines} lines, more than {README_LINES}: a page stands where its subject is"
    );
}

/// Targets of the links of a page, code blocks left out.
fn links(text: &str) -> Vec<String> {
    let prose: Vec<&str> = text.split("```").step_by(2).collect();
    let prose = prose.concat();
    prose.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0.to_owned())).collect()
}

/// A heading as GitHub's anchors name it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    kept.chars()
        .filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter))
        .collect::<String>()
        .replace(' ', "-")
}

fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings.map(|line| anchor(line.trim_start_matches('#'))).collect()
}

#[test]
fn every_link_resolves() {
    for page in files().iter().filter(|file| file.ends_with(".md")) {
        let text = read(page);
        let folder = root().join(page).parent().unwrap().to_path_buf();
        for link in links(&text).iter().filter(|link| !link.contains("://")) {
            let (path, wanted) = link.split_once('#').unwrap_or((link, ""));
            let there = folder.join(path);
            assert!(path.is_empty() || there.exists(), "{page}: {link} leads nowhere");
            if !wanted.is_empty() {
                let text = if path.is_empty() { text.clone() } else { std::fs::read_to_string(&there).unwrap() };
                assert!(anchors(&text).contains(wanted), "{page}: {link}: there is no such heading");
            }
        }
    }
}
