//! Somebody's tool writes a rule in favour of a release that is bad: its alarm is answered all the same.
//!
//! The first two are what days of [`random`](crate::random) came to with seeds 14 and 10, before an alarm went before an edit:
//! the deployment was halted with 60 % (90 %) of the traffic on the bad release until its deadline.

use crate::pipeline::{HOUR, Pipeline, PipelineBuilder, target};
use rollout::journal::Fact;
use rollout::verdict::{Cause, Verdict};
use rollout::{Seconds, TargetId};
use simulation::world::ImageBehaviour;

fn dev() -> TargetId {
    target("shop/api/dev")
}

/// Waits until the candidate's alarm fires, edits at that moment, and counts the seconds until it has no traffic.
fn seconds_until_rolled_back(pipeline: &mut Pipeline, blue: i64) -> u64 {
    let alarm = pipeline.simulation.at(&dev()).names().green_alarm.clone();
    pipeline.until(HOUR, "its alarm fires", |pipeline| pipeline.simulation.world(|world| world.alarm_fires(&alarm)));
    pipeline.edit_weights(&dev(), blue);
    let edited = pipeline.simulation.now();
    pipeline.until(HOUR, "the weights are back", |pipeline| pipeline.weights(&dev()) == (100, 0));
    Seconds::between(edited, pipeline.simulation.now()).0
}

/// Goes bad while it has half of the traffic.
fn fails_after_45_s() -> ImageBehaviour {
    ImageBehaviour { later: Some((Seconds(45), 0.5)), ..ImageBehaviour::default() }
}

fn was_rolled_back_by_alarm(pipeline: &Pipeline) -> bool {
    pipeline.has(&dev(), |fact| matches!(fact, Fact::RollbackStarted { cause: Cause::Alarm { .. } }))
}

#[test]
fn an_edit_favouring_a_bad_candidate_does_not_delay_rollback() {
    for blue in [40, 10, 0] {
        let mut pipeline = PipelineBuilder::of(&["api/dev"]).build();
        pipeline.set_image(1, fails_after_45_s());
        pipeline.push("api", 1);
        let seconds = seconds_until_rolled_back(&mut pipeline, blue);
        assert!(seconds <= 60, "{seconds} s with {blue}/{}{}", 100 - blue, pipeline.journal_texts());
        assert!(was_rolled_back_by_alarm(&pipeline), "{}", pipeline.journal_texts());
        pipeline.expect_verdicts(&dev(), HOUR, &[Verdict::RolledBack]);
        pipeline.wait_until_idle(HOUR);
    }
}

#[test]
fn an_edit_during_a_rollback_is_overwritten() {
    for (behaviour, what) in [(fails_after_45_s(), "its alarm"), (ImageBehaviour::never_healthy(), "its tasks")] {
        let mut pipeline = PipelineBuilder::of(&["api/dev"]).build();
        pipeline.set_image(1, behaviour);
        pipeline.push("api", 1);
        let is_rollback_start = |fact: &Fact| matches!(fact, Fact::RollbackStarted { .. });
        pipeline.until(HOUR, "it goes back", |pipeline| pipeline.has(&dev(), is_rollback_start));
        pipeline.edit_weights(&dev(), 10);
        let edited = pipeline.simulation.now();
        pipeline.simulation.run_for(1);
        pipeline.until(HOUR, "the weights are back", |pipeline| pipeline.weights(&dev()) == (100, 0));
        let seconds = Seconds::between(edited, pipeline.simulation.now()).0;
        assert!(seconds <= 60, "{seconds} s, going back for {what}{}", pipeline.journal_texts());
        pipeline.until(HOUR, "it is over", |pipeline| !pipeline.verdicts(&dev()).is_empty());
        pipeline.wait_until_idle(HOUR);
        assert_eq!(pipeline.weights(&dev()), (100, 0), "{}", pipeline.journal_texts());
    }
}

#[test]
fn rolls_back_when_an_edit_sends_all_traffic_to_the_bad_candidate() {
    let mut pipeline = PipelineBuilder::of(&["api/dev"]).build();
    pipeline.push("api", 1);
    pipeline.expect_verdicts(&dev(), HOUR, &[Verdict::Succeeded]);
    pipeline.wait_until_idle(HOUR);
    // Green is stable now, and the next release goes to blue: as a Terraform file that still says 100/0 has it.
    pipeline.set_image(2, fails_after_45_s());
    pipeline.push("api", 2);
    let alarm = pipeline.simulation.at(&dev()).names().blue_alarm.clone();
    pipeline.until(HOUR, "its alarm fires", |pipeline| pipeline.simulation.world(|world| world.alarm_fires(&alarm)));
    pipeline.edit_weights(&dev(), 100);
    pipeline.until(60, "the weights are back", |pipeline| pipeline.weights(&dev()) == (0, 100));
    assert!(was_rolled_back_by_alarm(&pipeline), "{}", pipeline.journal_texts());
    pipeline.expect_verdicts(&dev(), HOUR, &[Verdict::Succeeded, Verdict::RolledBack]);
    pipeline.wait_until_idle(HOUR);
}
