//! The files that the compiler does not see are clean: `template.yaml`, and what GitHub reads.

use tests::harness::{Failure, lint};

fn clean(outcome: Result<(), Failure>) {
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

#[test]
fn the_template_is_clean() {
    clean(lint::template());
}

#[test]
fn workflows_and_actions_are_found_and_of_the_schema() {
    let found = lint::GithubFiles::find().unwrap_or_else(|failure| panic!("{failure}"));
    assert!(found.workflows.iter().any(|file| file.ends_with("ci.yaml")), "{found:?}");
    clean(lint::workflow_schema());
}

#[test]
fn workflows_and_actions_make_sense() {
    clean(lint::workflow_sense());
}

#[test]
fn workflows_and_actions_are_secure() {
    clean(lint::workflow_security());
}
