//! Many targets at once before the API budgets of one account: all of them get through, nobody starves, and ways back
//! overtake everything else.

use rollout::stage::Verdict;
use simulation::load::{Crowd, Report, push_to_all};
use std::time::Instant;

fn number<T: std::str::FromStr>(variable: &str, usually: T) -> T {
    let parsed = |text: String| text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}"));
    std::env::var(variable).map_or(usually, parsed)
}

fn timed(crowd: &Crowd) -> Report {
    let began = Instant::now();
    let report = push_to_all(crowd);
    println!("{} targets; {:.1} s of real time\n{report}", crowd.targets, began.elapsed().as_secs_f64());
    report
}

/// Good releases are through, bad ones are back, and nothing was given up.
fn all_is_well(crowd: &Crowd, report: &Report) {
    let bad = (0..crowd.targets).filter(|number| number % crowd.one_bad_in == crowd.one_bad_in / 2).count();
    assert_eq!(report.ended(Verdict::Succeeded), crowd.targets - bad, "{report}");
    assert_eq!(report.ended(Verdict::RolledBack), bad, "{report}");
    assert_eq!((report.alarm_to_back.count(), report.never_back, report.dead_letters), (bad, 0, 0), "{report}");
}

/// What one target takes with the account to itself, in seconds from its beginning to its verdict.
fn alone(crowd: &Crowd) -> f64 {
    push_to_all(&Crowd { targets: 1, one_bad_in: 0, ..crowd.clone() }).begin_to_verdict.percentile(100)
}

/// Turns come one after the other at an even pace, and whoever has begun gets on as if nobody else were there, or nearly so.
fn nobody_starves(crowd: &Crowd, report: &Report) {
    let fair = report.asked_to_begin.percentile(100) / crowd.targets as f64;
    for per_cent in [25, 50, 75] {
        let share = fair * crowd.targets as f64 * per_cent as f64 / 100.0;
        let waited = report.asked_to_begin.percentile(per_cent);
        assert!(
            (waited - share).abs() < share * 0.25 + 200.0,
            "{per_cent} % began after {waited} s, fair are {share}\n{report}"
        );
    }
    let (alone, longest) = (alone(crowd), report.begin_to_verdict.percentile(100));
    assert!(longest < alone * 1.5, "alone it takes {alone} s, among all {longest}\n{report}");
}

/// From the alarm's change of state to all weight back on the stable side, events and queues included.
fn ways_back_overtake(report: &Report) {
    let (most, all) = (report.alarm_to_back.percentile(99), report.alarm_to_back.percentile(100));
    assert!(most < 5.0 && all < 10.0, "{report}");
}

#[test]
#[ignore = "minutes: `cargo load`"]
fn ten_thousand_targets_at_once() {
    let usual = Crowd::of(number("LOAD_TARGETS", 10_000));
    let (budgets, believed) = (number("LOAD_BUDGETS", usual.budgets), number("LOAD_BELIEVED", usual.believed));
    let crowd = Crowd { budgets, believed, seed: number("LOAD_SEED", 1), ..usual };
    let report = timed(&crowd);
    all_is_well(&crowd, &report);
    if budgets >= believed {
        nobody_starves(&crowd, &report);
        ways_back_overtake(&report);
    }
}

#[test]
fn a_hundred_targets_at_once_all_get_through_and_ways_back_overtake_them() {
    let crowd = Crowd { one_bad_in: 20, ..Crowd::of(100) };
    let report = timed(&crowd);
    all_is_well(&crowd, &report);
    nobody_starves(&crowd, &report);
    ways_back_overtake(&report);
    let asked: u64 = report.drawn.values().map(|drawn| drawn.admitted).sum();
    assert!(report.throttled() * 20 < asked, "one call in 20 was throttled, or more\n{report}");
}

#[test]
fn where_others_use_up_the_budgets_nothing_fails_for_it_and_ways_back_take_seconds() {
    // What the product takes for 7.5 reads a second are 3 in truth.
    let crowd = Crowd { one_bad_in: 10, budgets: 0.3, ..Crowd::of(60) };
    let report = timed(&crowd);
    all_is_well(&crowd, &report);
    assert!(report.throttled() > 100, "this is about throttling\n{report}");
    assert!(report.alarm_to_back.percentile(100) < 60.0, "{report}");
}
