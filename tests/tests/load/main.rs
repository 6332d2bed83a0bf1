//! Many deployments at once on the wire: the real functions as processes, an emulated DynamoDB, the wire front.
//!
//! The queues are the harness's own, so that what lies in them can be counted; how many passes run at once is how many
//! processes there are.

mod crowd;
mod tally;

use crowd::{Crowd, deploy_all};
use rollout::stage::Verdict;

fn number(variable: &str, usually: usize) -> usize {
    std::env::var(variable)
        .map_or(usually, |text| text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}")))
}

fn run(crowd: &Crowd) {
    let threads = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let done = threads.expect("a runtime").block_on(deploy_all(crowd)).unwrap_or_else(|failure| panic!("{failure}"));
    println!("{done}");
    let bad = crowd.bad();
    assert_eq!(done.ended(Verdict::Succeeded), crowd.targets - bad, "of {} good releases\n{done}", crowd.targets - bad);
    assert_eq!(done.ended(Verdict::RolledBack), bad, "of {bad} bad releases\n{done}");
    assert!(done.dead_letters.is_empty(), "given up: {:?}", done.dead_letters);
    assert!(done.surprises.is_empty(), "the front does not know: {:?}", done.surprises);
    assert!(done.tally.hottest_writes() < 1_000.0, "a partition takes 1,000 writes a second\n{done}");
}

#[test]
#[ignore = "minutes: `cargo load-on-the-wire`"]
fn two_hundred_deployments_at_once() {
    run(&Crowd { targets: number("LOAD_TARGETS", 200), one_bad_in: 50, drivers: number("LOAD_DRIVERS", 8) });
}

#[test]
fn a_handful_of_deployments_at_once() {
    run(&Crowd { targets: 6, one_bad_in: 6, drivers: 2 });
}
