//! Is the suite worth its time? Defects are planted one by one, and each must be caught.
//!
//! `cargo mutation-check` plants each of [`MUTANTS`] in a copy of the tree, runs the test command that has to catch it,
//! and writes `tests/mutants.md`. It fails where one survives, can no longer be planted, or does not compile.
//! `MUTANT=part-of-a-name,another` plants only those, and the other rows stay as they are. The usual run of the suite
//! only looks whether the table still fits the tree.
#![expect(clippy::unwrap_used, reason = "tests: what is missing here is what the test is about")]

mod field;
mod plant;
mod platforms;
mod promotion;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A defect, and how it is planted.
pub(crate) struct Mutant {
    /// Short, for the table and for `MUTANT`.
    name: &'static str,
    /// What somebody would see of it.
    defect: &'static str,
    /// Where it has been met; empty: it is feared, not met.
    met: &'static str,
    /// The file that it is planted in.
    file: &'static str,
    /// What stands there once.
    text: &'static str,
    /// What stands there instead.
    instead: &'static str,
    /// What must catch it.
    caught_by: Suite,
}

/// What is run to catch a mutant: without the random histories, which would catch many of them, too, but not by name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Suite {
    /// Decisions, written as stories, and what they judge by.
    Decisions,
    /// A crash at every call, and ledgers that cannot be read, over several targets in virtual time.
    Crashes,
    /// What runs in the end, in virtual time.
    Stories,
    /// The command line as a CI job calls it.
    Jobs,
    /// Tags and registries of what is pushed, in virtual time.
    Pushes,
    /// What a workflow of GitHub Actions is granted.
    Grants,
}

impl Suite {
    const ALL: [Self; 6] = [Self::Decisions, Self::Crashes, Self::Stories, Self::Jobs, Self::Pushes, Self::Grants];

    /// The arguments passed to cargo.
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Decisions => &[
                "test",
                "-p",
                "rollout",
                "--lib",
                "--test",
                "decide",
                "--test",
                "promotion",
                "--",
                "--skip",
                "invariants::",
            ],
            Self::Crashes => &[
                "test",
                "-p",
                "simulation",
                "--test",
                "promotion",
                "--",
                "crashes::a_promotion_survives",
                "crashes::a_promotion_blocked",
            ],
            Self::Stories => &["test", "-p", "simulation", "--test", "stories", "tasks_run_the_pushed_digest"],
            Self::Jobs => &["test", "-p", "switchback", "--test", "cli", "ci::"],
            Self::Pushes => &["test", "-p", "simulation", "--test", "pushes"],
            Self::Grants => &["test", "-p", "policy", "--lib", "grants::"],
        }
    }

    /// Its name in the table of results.
    fn label(self) -> &'static str {
        match self {
            Self::Decisions => "decisions",
            Self::Crashes => "crashes",
            Self::Stories => "stories",
            Self::Jobs => "jobs",
            Self::Pushes => "pushes",
            Self::Grants => "grants",
        }
    }

    /// The command, as people type it.
    fn command(self) -> String {
        format!("cargo {}", self.arguments().join(" "))
    }
}

/// All of them: what users of others have met, then what promotion and its gates could do.
fn mutants() -> impl Iterator<Item = &'static Mutant> {
    field::MUTANTS.iter().chain(promotion::MUTANTS).chain(platforms::MUTANTS)
}

/// The project's root folder.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// Where the results are kept.
const RESULTS: &str = "tests/mutants.md";

#[test]
fn every_mutant_still_applies() {
    let mut names = BTreeSet::new();
    for mutant in mutants() {
        assert!(names.insert(mutant.name), "two mutants are called {}", mutant.name);
        let text = std::fs::read_to_string(root().join(mutant.file));
        let text = text.unwrap_or_else(|error| panic!("{}: {}: {error}", mutant.name, mutant.file));
        let found = text.matches(mutant.text).count();
        assert_eq!(found, 1, "{}: its text is to stand in {} once, and does {found} times", mutant.name, mutant.file);
        assert_ne!(mutant.text, mutant.instead, "{} changes nothing", mutant.name);
    }
}

#[test]
fn the_stored_results_match_the_mutants() {
    let kept = std::fs::read_to_string(root().join(RESULTS)).unwrap();
    let kept: Vec<&str> = kept.lines().filter(|line| line.starts_with("| `")).collect();
    for mutant in mutants() {
        let begins = plant::row_begins(mutant);
        let row = kept.iter().find(|line| line.starts_with(&begins));
        let row = row.unwrap_or_else(|| panic!("{RESULTS} knows nothing of {}: cargo mutation-check", mutant.name));
        assert!(!row.contains("| **"), "it was not caught: {row}");
    }
    assert_eq!(kept.len(), mutants().count(), "{RESULTS} tells of what is no more: cargo mutation-check");
}

#[test]
#[ignore = "plants every defect and runs the suite on each: many minutes; `cargo mutation-check`"]
fn the_suite_catches_every_mutant() {
    let wanted = std::env::var("MUTANT").ok();
    let is_wanted = |name: &str| wanted.as_ref().is_none_or(|parts| parts.split(',').any(|part| name.contains(part)));
    let chosen: Vec<&Mutant> = mutants().filter(|mutant| is_wanted(mutant.name)).collect();
    assert!(!chosen.is_empty(), "no mutant is called like {wanted:?}");
    let field = plant::SourceCopy::prepare();
    let mut escaped = Vec::new();
    let suites: BTreeSet<Suite> = chosen.iter().map(|mutant| mutant.caught_by).collect();
    for suite in suites {
        field.must_pass(suite);
        for mutant in chosen.iter().filter(|mutant| mutant.caught_by == suite) {
            let outcome = field.test_mutant(mutant);
            keep(mutant, &outcome);
            escaped.extend(outcome.complaint(mutant));
        }
    }
    println!("\n{}", std::fs::read_to_string(root().join(RESULTS)).unwrap());
    assert!(escaped.is_empty(), "{}", escaped.join("\n"));
}

/// Writes the results anew with another row; rows of defects that are no more, or are others now, go.
fn keep(mutant: &Mutant, outcome: &plant::MutantOutcome) {
    let kept = std::fs::read_to_string(root().join(RESULTS)).unwrap_or_default();
    let mut rows = Vec::new();
    for known in mutants() {
        let begins = plant::row_begins(known);
        if known.name == mutant.name {
            rows.push(format!("{begins}{} |", outcome.to_markdown(known.caught_by)));
        } else {
            rows.extend(kept.lines().find(|line| line.starts_with(&begins)).map(str::to_owned));
        }
    }
    std::fs::write(root().join(RESULTS), plant::table(&rows)).unwrap();
}
