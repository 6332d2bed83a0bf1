//! The end of a day: what is off is put right, and everything comes to an end.

use super::{DayRun, ROLLBACK_REASON, targets};
use crate::pipeline::{HOUR, carol};
use rollout::journal::Fact;
use rollout::{Instruction, Slot, TargetId};
use simulation::invariants::{Invariant, Violation};

const ENDS_IDLE: Invariant = Invariant { name: "rests", sentence: "everything comes to an end, and to rest" };

impl DayRun {
    pub(super) fn settle(&mut self) -> Result<(), Violation> {
        while !self.active_brakes.is_empty() {
            self.lift_first_brake();
        }
        for target in self.targets() {
            self.scale_up(&target);
            self.recover(&target);
            if self.in_place.contains(&target) {
                self.wake_service(&target);
                self.set_service_evaluation(&target, None);
            } else {
                for slot in Slot::BOTH {
                    self.set_evaluation(&target, slot, None);
                }
            }
        }
        // What waits behind something that awaits an operator may come to await one in its turn.
        for _ in 0..3 {
            self.resolve_operator_waits();
        }
        self.reaches_idle()?;
        for target in self.pairs() {
            self.restore_whole_weights(&target)?;
        }
        self.pipeline.simulation.run_for(300);
        self.pipeline.simulation.check_when_idle();
        self.check_invariants()?;
        for target in self.targets() {
            let state = self.pipeline.state(&target);
            if state.running.is_some() || !state.queued.is_empty() || !state.outbox.is_empty() {
                return Err(self.violation_of(&ENDS_IDLE, &target, format!("{state:?}")));
            }
        }
        for target in self.pairs() {
            let (blue, green) = self.pipeline.weights(&target);
            if blue != 0 && green != 0 {
                return Err(self.violation_of(&ENDS_IDLE, &target, format!("it is left at {blue}/{green}")));
            }
        }
        Ok(())
    }

    /// Nothing that has no automatic rollback ends by itself, nothing goes on while the stable side's own alarm fires,
    /// and nothing begins where one was let go of: somebody decides.
    fn resolve_operator_waits(&mut self) {
        self.pipeline.simulation.run_for(HOUR);
        for target in self.targets() {
            let state = self.pipeline.state(&target);
            let running = state.running.as_ref();
            if running.is_some_and(|running| running.awaiting_operator().is_some()) {
                self.pipeline.ask(&target, Instruction::Rollback, carol(), ROLLBACK_REASON);
            }
            if running.is_some_and(|running| running.stable_alarm().is_some()) {
                self.pipeline.ask(&target, Instruction::Resume, carol(), "the new release is the better one");
            }
            if state.operator_hold.is_some() {
                self.pipeline.ask(&target, Instruction::Resume, carol(), "it is put right");
            }
        }
    }

    fn reaches_idle(&mut self) -> Result<(), Violation> {
        let reaches_idle = self.pipeline.simulation.run_until_idle(30 * HOUR);
        self.check_invariants()?;
        // Weights that the policy would put back, and cannot yet, are looked at for as long as they are so.
        let is_waiting_to_revert = |target: &TargetId| {
            let state = self.pipeline.state(target);
            let idle = state.running.is_none() && state.queued.is_empty() && state.outbox.is_empty();
            idle && state.idle.is_some_and(|seen| seen.drift.is_some())
        };
        if reaches_idle || self.targets().iter().any(is_waiting_to_revert) {
            return Ok(());
        }
        let [_, _, prod] = targets();
        let describe = |target: &TargetId| {
            let state = self.pipeline.state(target);
            let running = state.running.as_ref().map(|running| (running.number, running.stage().name()));
            format!("{target}: {running:?}, waits on {:?}, wakes at {:?}", state.explanation.waiting_on, state.wake_at)
        };
        let all = self.targets().iter().map(describe).collect::<Vec<_>>().join("; ");
        Err(self.violation_of(&ENDS_IDLE, &prod, format!("a day later something still goes on: {all}")))
    }

    /// Whoever meddled with the weights leaves it to a rollback to put all traffic on one side again, or does so by hand
    /// where there is nothing to go back to.
    fn restore_whole_weights(&mut self, target: &TargetId) -> Result<(), Violation> {
        for by_hand in [false, true] {
            let (blue, green) = self.pipeline.weights(target);
            // Whoever aborts what waits for a person, or decides nothing for hours, leaves everything as it is.
            let abandon = |fact: &Fact| matches!(fact, Fact::CleanupIncomplete { .. });
            let was_frozen = |fact: &Fact| matches!(fact, Fact::AwaitingOperator { .. } | Fact::StableAlarm { .. });
            let left = self.pipeline.has(target, was_frozen) && self.pipeline.has(target, abandon);
            let may_be_split = left || self.edited_by_hand.contains(target);
            let drifted = self.pipeline.state(target).idle.is_some_and(|seen| seen.drift.is_some());
            if ((blue == 0) != (green == 0) && !drifted) || !may_be_split {
                return Ok(());
            }
            if by_hand {
                let stable = self.pipeline.state(target).stable.and_then(|stable| stable.slot);
                self.edit_weights(target, if stable == Some(Slot::Green) { 0 } else { 100 });
            } else {
                self.pipeline.ask(target, Instruction::Rollback, carol(), ROLLBACK_REASON);
            }
            self.reaches_idle()?;
        }
        Ok(())
    }
}
