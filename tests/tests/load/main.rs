//! Many deployments at once on the wire: the real functions as processes, an emulated DynamoDB, the wire front.
//!
//! The queues are the harness's own, so that what lies in them can be counted; how many passes run at once is how many
//! processes there are.

mod load_test;
mod tally;

use load_test::{LoadTest, deploy_all};
use rollout::verdict::Verdict;

fn number(variable: &str, usually: usize) -> usize {
    std::env::var(variable)
        .map_or(usually, |text| text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}")))
}

fn run(load_test: &LoadTest) {
    let threads = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let done =
        threads.expect("a runtime").block_on(deploy_all(load_test)).unwrap_or_else(|failure| panic!("{failure}"));
    println!("{done}");
    let bad = load_test.bad();
    assert_eq!(
        done.ended(Verdict::Succeeded),
        load_test.targets - bad,
        "of {} good releases\n{done}",
        load_test.targets - bad
    );
    assert_eq!(done.ended(Verdict::RolledBack), bad, "of {bad} bad releases\n{done}");
    assert!(done.dead_letters.is_empty(), "given up: {:?}", done.dead_letters);
    assert!(done.anomalies.is_empty(), "the front does not know: {:?}", done.anomalies);
    assert!(done.tally.hottest_writes() < 1_000.0, "a partition takes 1,000 writes a second\n{done}");
}

#[test]
#[ignore = "minutes: `cargo load-on-the-wire`"]
fn two_hundred_deployments_at_once() {
    run(&LoadTest { targets: number("LOAD_TARGETS", 200), bad_one_in: 50, drivers: number("LOAD_DRIVERS", 8) });
}

#[test]
fn a_handful_of_deployments_at_once() {
    run(&LoadTest { targets: 6, bad_one_in: 6, drivers: 2 });
}
