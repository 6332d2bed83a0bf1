//! From environment to environment with the real binaries: who may bring a release further, who must agree, and who is
//! turned away. GitHub's issuer and Slack are stand-ins on loopback; everything else is as in `end_to_end.rs`.
//!
//! One deployment of the template serves all tests, each with an application of its own.

mod approving;
mod climb;
mod commands;
mod links;
mod shop;
mod story;
mod train;
mod workflows;

use libtest_mimic::{Arguments, Trial};
use tests::harness::permissions::Suite;
use tests::harness::stack;

/// How many run at once: they wait for tasks and holds, not for the machine.
const AT_ONCE: usize = 8;

/// Names of test functions, with the functions.
macro_rules! tests {
    ($($module:ident::$test:ident),* $(,)?) => { [$((stringify!($test), $module::$test as fn())),*] };
}

fn main() {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(AT_ONCE);
    let tests = tests![
        climb::a_release_climbs_from_dev_to_prod_and_a_bad_one_comes_down_again,
        workflows::a_token_that_is_not_of_the_issuer_for_this_audience_and_now_is_turned_away_at_the_door,
        workflows::what_no_grant_names_is_refused_with_one_answer_and_told_to_the_operators_alone,
        workflows::asking_twice_is_one_promotion_and_a_token_that_was_kept_is_none,
        approving::two_people_say_yes_in_slack_however_often_slack_repeats_them,
        approving::what_slack_did_not_take_is_posted_later_and_once_and_a_stream_that_repeats_itself_adds_nothing,
        approving::a_no_in_slack_ends_it_with_the_reason,
        approving::what_slack_has_not_signed_decides_nothing,
        approving::a_stranger_and_an_asker_may_not_approve,
        approving::a_deployment_that_has_given_way_is_not_approved_any_more,
        commands::a_freeze_holds_a_push_a_hotfix_passes_it_and_what_waits_goes_on_once_it_is_lifted,
        commands::a_release_without_a_way_back_stays_where_it_is_until_a_person_decides,
        commands::an_operator_says_yes_on_the_command_line_and_not_to_what_they_asked_for,
        train::a_train_goes_in_order_and_comes_back_together,
        links::a_link_shows_first_and_decides_once,
        links::a_link_that_was_altered_made_up_or_is_over_opens_nothing,
    ];
    let trials = tests.map(|(name, test)| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
    });
    let conclusion = libtest_mimic::run(&arguments, trials.into());
    // What no test asks for and all of them want.
    let mut strange = if conclusion.num_passed == 0 { Vec::new() } else { stack().oddities() };
    // What the roles are for is told only by all tests together.
    if conclusion.num_filtered_out + conclusion.num_ignored + conclusion.num_failed == 0 && conclusion.num_passed > 0 {
        strange.extend(stack().idle_permissions(Suite::Climb));
    }
    if strange.is_empty() {
        conclusion.exit();
    }
    eprintln!(
        "something was called that nobody here speaks, was given up on, or is allowed for nothing:\n{}",
        strange.join("\n")
    );
    std::process::exit(101);
}
