//! The files that the compiler does not see are clean: `template.yaml`, and what GitHub reads.

use tests::harness::{HarnessError, lint};

fn assert_clean(outcome: Result<(), HarnessError>) {
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

#[test]
fn the_template_is_clean() {
    assert_clean(lint::template());
}

#[test]
fn workflows_and_actions_match_the_schema() {
    let found = lint::GithubFiles::find().unwrap_or_else(|failure| panic!("{failure}"));
    assert!(found.workflows.iter().any(|file| file.ends_with("ci.yaml")), "{found:?}");
    assert_clean(lint::workflow_schema());
}

#[test]
fn workflows_and_actions_pass_actionlint() {
    assert_clean(lint::actionlint());
}

#[test]
fn workflows_and_actions_pass_zizmor() {
    assert_clean(lint::zizmor());
}
