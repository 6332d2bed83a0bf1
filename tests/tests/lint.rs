//! The files that the compiler does not see are clean: `template.yaml`, and the workflows.

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
fn there_are_workflows_and_they_are_of_the_schema() {
    assert!(!lint::workflow_files().unwrap_or_else(|failure| panic!("{failure}")).is_empty());
    clean(lint::workflow_schema());
}

#[test]
fn the_workflows_are_secure() {
    clean(lint::workflow_security());
}
