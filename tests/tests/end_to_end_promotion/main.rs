//! From environment to environment with the real binaries: who may bring a release further, who must agree, and who is
//! turned away. GitHub's issuer and Slack are stand-ins on loopback; everything else is as in `end_to_end`.
//!
//! One deployment of the template serves all tests, each with an application of its own.

mod commands;
mod deployment_log;
mod links;
mod neighbours;
mod promotion;
mod shop;
mod slack_approvals;
mod train;
mod workflows;

use tests::harness::permissions::Suite;
use tests::harness::suite::run;

/// Names of test functions, with the functions.
macro_rules! tests {
    ($($module:ident::$test:ident),* $(,)?) => { [$((stringify!($test), $module::$test as fn())),*] };
}

fn main() {
    let tests = tests![
        promotion::a_release_is_promoted_to_prod_and_a_bad_one_rolled_back,
        workflows::the_gateway_rejects_invalid_tokens,
        workflows::an_ungranted_request_gets_a_generic_403,
        workflows::repeated_requests_promote_once_and_old_tokens_never,
        slack_approvals::slack_retries_and_repeated_presses_count_one_vote,
        slack_approvals::slack_failures_are_retried_without_duplicate_posts,
        slack_approvals::a_slack_rejection_ends_the_deployment_with_its_reason,
        slack_approvals::a_request_without_slacks_signature_is_rejected,
        slack_approvals::a_non_approver_cannot_approve,
        slack_approvals::a_superseded_deployment_cannot_be_approved,
        commands::a_freeze_holds_pushes_but_not_hotfixes,
        commands::a_forward_only_release_waits_for_an_operator,
        commands::an_operator_can_approve_by_cli_but_not_their_own_request,
        train::a_train_deploys_in_order_and_rolls_back_together,
        neighbours::pushes_at_once_are_deployed_one_at_a_time,
        links::an_approval_link_decides_once,
        links::tampered_forged_and_expired_links_are_rejected,
    ];
    run(Suite::Promotion, &tests)
}
