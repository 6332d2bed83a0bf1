//! Many targets at once before the API budgets of one account: all of them get through, nobody starves, and ways back
//! overtake everything else.

use rollout::verdict::Verdict;
use simulation::load::{LoadProfile, LoadReport, push_to_all};
use std::time::Instant;

fn number<T: std::str::FromStr>(variable: &str, default: T) -> T {
    let parsed = |text: String| text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}"));
    std::env::var(variable).map_or(default, parsed)
}

fn run_and_print(profile: &LoadProfile) -> LoadReport {
    let started_at = Instant::now();
    let report = push_to_all(profile);
    println!("{} targets; {:.1} s of real time\n{report}", profile.targets, started_at.elapsed().as_secs_f64());
    report
}

/// Good releases are through, bad ones are back, and nothing was given up.
fn expect_all_finished(profile: &LoadProfile, report: &LoadReport) {
    let bad_releases = (0..profile.targets)
        .filter(|number| number % profile.bad_release_every == profile.bad_release_every / 2)
        .count();
    assert_eq!(report.ended(Verdict::Succeeded), profile.targets - bad_releases, "{report}");
    assert_eq!(report.ended(Verdict::RolledBack), bad_releases, "{report}");
    assert_eq!(
        (report.alarm_to_rollback.count(), report.not_rolled_back, report.dead_letters),
        (bad_releases, 0, 0),
        "{report}"
    );
}

/// What one target takes with the account to itself, in seconds from its beginning to its verdict.
fn seconds_alone(profile: &LoadProfile) -> f64 {
    push_to_all(&LoadProfile { targets: 1, bad_release_every: 0, ..profile.clone() }).start_to_verdict.percentile(100)
}

/// Turns come one after the other at an even pace, and whoever has begun gets on as if nobody else were there, or nearly so.
fn expect_fair_progress(profile: &LoadProfile, report: &LoadReport) {
    let seconds_per_target = report.push_to_start.percentile(100) / profile.targets as f64;
    for per_cent in [25, 50, 75] {
        let expected_wait = seconds_per_target * profile.targets as f64 * per_cent as f64 / 100.0;
        let actual_wait = report.push_to_start.percentile(per_cent);
        assert!(
            (actual_wait - expected_wait).abs() < expected_wait * 0.25 + 200.0,
            "{per_cent} % began after {actual_wait} s, fair are {expected_wait}\n{report}"
        );
    }
    let (seconds_alone, longest) = (seconds_alone(profile), report.start_to_verdict.percentile(100));
    assert!(longest < seconds_alone * 1.5, "alone it takes {seconds_alone} s, among all {longest}\n{report}");
}

/// From the alarm's change of state to all weight back on the stable side, events and queues included.
fn expect_fast_rollbacks(report: &LoadReport) {
    let (p99, max) = (report.alarm_to_rollback.percentile(99), report.alarm_to_rollback.percentile(100));
    assert!(p99 < 5.0 && max < 10.0, "{report}");
}

#[test]
#[ignore = "minutes: `cargo load`"]
fn deploys_ten_thousand_targets_at_once() {
    let defaults = LoadProfile::of(number("LOAD_TARGETS", 10_000));
    let (budgets, assumed_budget_scale) =
        (number("LOAD_BUDGETS", defaults.budgets), number("LOAD_BELIEVED", defaults.assumed_budget_scale));
    let profile = LoadProfile { budgets, assumed_budget_scale, seed: number("LOAD_SEED", 1), ..defaults };
    let report = run_and_print(&profile);
    expect_all_finished(&profile, &report);
    if budgets >= assumed_budget_scale {
        expect_fair_progress(&profile, &report);
        expect_fast_rollbacks(&report);
    }
}

#[test]
fn a_hundred_targets_all_finish_and_rollbacks_go_first() {
    let profile = LoadProfile { bad_release_every: 20, ..LoadProfile::of(100) };
    let report = run_and_print(&profile);
    expect_all_finished(&profile, &report);
    expect_fair_progress(&profile, &report);
    expect_fast_rollbacks(&report);
    let admitted_calls: u64 = report.usage.values().map(|usage| usage.admitted).sum();
    assert!(report.throttled() * 20 < admitted_calls, "one call in 20 was throttled, or more\n{report}");
}

#[test]
fn exhausted_api_budgets_fail_nothing_and_rollbacks_stay_fast() {
    // What the product takes for 7.5 reads a second are 3 in truth.
    let profile = LoadProfile { bad_release_every: 10, budgets: 0.3, ..LoadProfile::of(60) };
    let report = run_and_print(&profile);
    expect_all_finished(&profile, &report);
    assert!(report.throttled() > 100, "this is about throttling\n{report}");
    assert!(report.alarm_to_rollback.percentile(100) < 60.0, "{report}");
}
