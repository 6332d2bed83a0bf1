//! Somebody's tool writes a rule in favour of a release that is bad: its alarm is answered all the same.
//!
//! The first two are what days of [`random`](crate::random) came to with seeds 14 and 10, before an alarm went before an edit:
//! the deployment was halted with 60 % (90 %) of the traffic on the bad release until its deadline.

use crate::street::{HOUR, Plan, Street, target};
use rollout::journal::Fact;
use rollout::stage::{Cause, Verdict};
use rollout::{Seconds, TargetId};
use simulation::world::ImageBehaviour;

fn dev() -> TargetId {
    target("shop/api/dev")
}

/// Waits until the candidate's alarm fires, edits at that moment, and counts the seconds until it has no traffic.
fn seconds_until_it_is_back(street: &mut Street, blue: i64) -> u64 {
    let alarm = street.simulation.at(&dev()).names().green_alarm.clone();
    street.until(HOUR, "its alarm fires", |street| street.simulation.world(|world| world.alarm_fires(&alarm)));
    street.edit_weights(&dev(), blue);
    let edited = street.simulation.now();
    street.until(HOUR, "the weights are back", |street| street.weights(&dev()) == (100, 0));
    Seconds::between(edited, street.simulation.now()).0
}

/// Goes bad while it has half of the traffic.
fn goes_bad() -> ImageBehaviour {
    ImageBehaviour { later: Some((Seconds(45), 0.5)), ..ImageBehaviour::default() }
}

fn went_back_for_its_alarm(street: &Street) -> bool {
    street.has(&dev(), |fact| matches!(fact, Fact::RollbackStarted { cause: Cause::Alarm { .. } }))
}

#[test]
fn an_edit_in_favour_of_a_bad_candidate_does_not_hold_up_its_alarm() {
    for blue in [40, 10, 0] {
        let mut street = Plan::of(&["api/dev"]).build();
        street.set_image(1, goes_bad());
        street.push("api", 1);
        let seconds = seconds_until_it_is_back(&mut street, blue);
        assert!(seconds <= 60, "{seconds} s with {blue}/{}{}", 100 - blue, street.stories());
        assert!(went_back_for_its_alarm(&street), "{}", street.stories());
        street.ends(&dev(), HOUR, &[Verdict::RolledBack]);
        street.rests(HOUR);
    }
}

#[test]
fn an_edit_during_the_way_back_is_written_over() {
    for (behaviour, what) in [(goes_bad(), "its alarm"), (ImageBehaviour::never_healthy(), "its tasks")] {
        let mut street = Plan::of(&["api/dev"]).build();
        street.set_image(1, behaviour);
        street.push("api", 1);
        let back = |fact: &Fact| matches!(fact, Fact::RollbackStarted { .. });
        street.until(HOUR, "it goes back", |street| street.has(&dev(), back));
        street.edit_weights(&dev(), 10);
        let edited = street.simulation.now();
        street.simulation.run_for(1);
        street.until(HOUR, "the weights are back", |street| street.weights(&dev()) == (100, 0));
        let seconds = Seconds::between(edited, street.simulation.now()).0;
        assert!(seconds <= 60, "{seconds} s, going back for {what}{}", street.stories());
        street.until(HOUR, "it is over", |street| !street.verdicts(&dev()).is_empty());
        street.rests(HOUR);
        assert_eq!(street.weights(&dev()), (100, 0), "{}", street.stories());
    }
}

#[test]
fn an_apply_that_puts_all_traffic_on_blue_is_answered_where_blue_is_the_bad_candidate() {
    let mut street = Plan::of(&["api/dev"]).build();
    street.push("api", 1);
    street.ends(&dev(), HOUR, &[Verdict::Succeeded]);
    street.rests(HOUR);
    // Green is stable now, and the next release goes to blue: as a Terraform file that still says 100/0 has it.
    street.set_image(2, goes_bad());
    street.push("api", 2);
    let alarm = street.simulation.at(&dev()).names().blue_alarm.clone();
    street.until(HOUR, "its alarm fires", |street| street.simulation.world(|world| world.alarm_fires(&alarm)));
    street.edit_weights(&dev(), 100);
    street.until(60, "the weights are back", |street| street.weights(&dev()) == (0, 100));
    assert!(went_back_for_its_alarm(&street), "{}", street.stories());
    street.ends(&dev(), HOUR, &[Verdict::Succeeded, Verdict::RolledBack]);
    street.rests(HOUR);
}
