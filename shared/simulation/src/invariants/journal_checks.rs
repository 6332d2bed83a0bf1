//! Checks of a pair's journal and state: consistent with the world.

use super::pair::{Limits, OpenDeployment, PairModel, Split, StateAtObservation, index};
use super::target_journal::{not_observed, require};
use super::{ALL_TRAFFIC_ON_ONE_SIDE_AT_END, BrokenInvariant, CHANGED_SETTINGS_RESTORED, SHOWN_TRAFFIC_WAS_OBSERVED};
use crate::ledger::Store;
use crate::world::World;
use engine::LeaseId;
use rollout::Stage;
use rollout::journal::{Fact, JournalEntry};
use rollout::snapshot::Weights;
use rollout::verdict::Verdict;
use rollout::{SignedDuration, Slot, Timestamp};

/// Longest duration of one observation, from its first call to its last answer, in seconds.
const OBSERVATION_S: i64 = 10;
/// Age of its observation, in seconds, from which a committing pass must have been paused in between.
const STOOD_STILL_S: i64 = 3;

pub(super) fn to_split(weights: Weights) -> Split {
    [u64::from(weights.blue), u64::from(weights.green)]
}

pub(super) fn same_split(a: Split, b: Split) -> bool {
    a[0] * b[1] == a[1] * b[0] && (a[0] > 0) == (b[0] > 0) && (a[1] > 0) == (b[1] > 0)
}

pub(super) fn all_on(split: Split, slot: Slot) -> bool {
    split[index(slot)] > 0 && split[index(slot.other())] == 0
}

/// Whether `holds` is true of every rule, at the observation or in one of the states that AWS may still have reported.
pub(super) fn every_rule(at_observation: &StateAtObservation, holds: impl Fn(Split) -> bool) -> bool {
    at_observation.rules.iter().all(|(live, earlier)| holds(*live) || earlier.iter().any(|split| holds(*split)))
}

pub(super) fn format_rules(at_observation: &StateAtObservation) -> String {
    let rules: Vec<String> = at_observation.rules.iter().map(|(live, _)| format!("{}/{}", live[0], live[1])).collect();
    rules.join(", ")
}

impl PairModel {
    /// Checks a committed decision, with its journal entries after sequence `after`.
    pub(super) fn check_decision(
        &mut self,
        lease: &LeaseId,
        after: u64,
        world: &World,
        store: &Store,
        now: Timestamp,
    ) -> Option<BrokenInvariant> {
        let mut found = None;
        let target = self.target.clone();
        let mut entries = store.entries(&target, after).peekable();
        if entries.peek().is_some() {
            let at_observation = self.last_observation_of(Some(lease)).cloned();
            for entry in entries {
                found = found.or(self.check_entry(entry, at_observation.as_ref(), world, store, now));
            }
        }
        let running = store.peek(&self.target).and_then(|state| state.running.as_ref());
        self.journal.note_decision(running);
        self.update_rollback_triggers(running, world);
        found = found.or_else(|| self.check_shown_traffic(lease, store, now));
        found.or(self.journal.check_running(running))
    }

    /// Whether the traffic that is shown as verified live matches what the writing pass observed.
    fn check_shown_traffic(&mut self, lease: &LeaseId, store: &Store, now: Timestamp) -> Option<BrokenInvariant> {
        // The time of the reading is shown, too. An older reading was checked when it was written: a pass that was
        // paused after its observation discards it and releases the lease with the state unchanged.
        let state = store.peek(&self.target)?;
        let seen_at = match (&state.idle, &state.traffic) {
            (Some(idle), _) => idle.seen_at,
            (None, traffic) => traffic.as_ref()?.seen_at,
        };
        let known = self.shown_since.replace(seen_at) == Some(seen_at);
        let (weights, seen) = view::status::weights(state)?;
        let is_recent =
            |state: &&StateAtObservation| state.at.duration_since(seen_at) <= SignedDuration::from_secs(OBSERVATION_S);
        let last = self.last_observation_of(Some(lease)).filter(|state| seen && state.read_rules);
        let at_observation = last.filter(is_recent)?;
        if known && now.duration_since(at_observation.at) > SignedDuration::from_secs(STOOD_STILL_S) {
            return None;
        }
        let holds = every_rule(at_observation, |split| same_split(split, to_split(weights)));
        (!holds).then(|| {
            (
                &SHOWN_TRAFFIC_WAS_OBSERVED,
                format!("{weights:?} are shown as verified live, and the rules had {}", format_rules(at_observation)),
            )
        })
    }

    fn check_entry(
        &mut self,
        entry: &JournalEntry,
        at_observation: Option<&StateAtObservation>,
        world: &World,
        store: &Store,
        now: Timestamp,
    ) -> Option<BrokenInvariant> {
        if let Some(found) = self.journal.check_place(entry) {
            return Some(found);
        }
        match &entry.fact {
            Fact::Started { digest, .. } => {
                self.open = Some(OpenDeployment {
                    number: entry.deployment.unwrap_or(0),
                    digest: digest.clone(),
                    since: now,
                    stable: None,
                    settled_at: None,
                    found: None,
                    decided: None,
                    previously_decided: None,
                    operator_wait_cause: None,
                    stable_may_stop: false,
                    left_behind: false,
                });
                None
            }
            Fact::SidesDetermined { stable, stable_running, .. } => {
                self.check_sides_determined(*stable, *stable_running, at_observation)
            }
            Fact::WeightsDecided { weights } => {
                if let Some(open) = &mut self.open {
                    open.previously_decided = open.decided.replace(to_split(*weights));
                }
                None
            }
            Fact::StageEntered { stage: Stage::Retiring | Stage::Abandoning, .. } => {
                if let Some(open) = &mut self.open {
                    open.stable_may_stop = true;
                }
                None
            }
            Fact::CleanupIncomplete { .. } => {
                if let Some(open) = &mut self.open {
                    open.left_behind = true;
                }
                None
            }
            Fact::Ended { verdict, live, .. } => {
                let found = self.check_end(*verdict, *live, at_observation, world, store);
                self.open = None;
                found
            }
            fact => self.check_fact(fact, at_observation, world),
        }
    }

    fn check_sides_determined(
        &mut self,
        stable: Slot,
        running: u32,
        at_observation: Option<&StateAtObservation>,
    ) -> Option<BrokenInvariant> {
        let open = self.open.as_mut()?;
        open.stable = Some(stable);
        open.decided = Some(if stable == Slot::Blue { [100, 0] } else { [0, 100] });
        let Some(at_observation) = at_observation else {
            return Some(not_observed("the sides are determined"));
        };
        open.settled_at = Some(at_observation.at);
        open.found = Some((at_observation.limits, at_observation.tests.clone()));
        let read = at_observation.read_running[index(stable)];
        require(every_rule(at_observation, |split| all_on(split, stable)), || {
            let rules = format_rules(at_observation);
            format!("the journal says that {stable} has all traffic, and the rules have {rules}")
        })
        .or(require(at_observation.healthy[index(stable)] > 0, || {
            format!("the journal says that {stable} serves, and it has no healthy target")
        }))
        .or(require(read.is_none_or(|read| running >= read), || {
            format!("the journal says that {running} tasks of {stable} run, and {read:?} were observed")
        }))
    }

    fn check_end(
        &mut self,
        verdict: Verdict,
        live: Option<Slot>,
        at_observation: Option<&StateAtObservation>,
        world: &World,
        store: &Store,
    ) -> Option<BrokenInvariant> {
        let open = self.open.take()?;
        if let (Some(live), Some(at_observation)) = (live, at_observation)
            && !every_rule(at_observation, |split| all_on(split, live))
        {
            return require(false, || {
                let rules = format_rules(at_observation);
                format!("the journal says that {live} has all traffic, and the rules have {rules}")
            });
        }
        let stable = open.stable?;
        if open.left_behind {
            return None;
        }
        let switched_sides = verdict == Verdict::Succeeded && live != Some(stable);
        let expected_live = if switched_sides { stable.other() } else { stable };
        let has_foreign_edit = self.has_foreign_edit_since(open.since);
        if live != Some(expected_live) {
            let words =
                format!("#{} ended as {verdict:?}, and {live:?} is live instead of {expected_live}", open.number);
            return Some((&ALL_TRAFFIC_ON_ONE_SIDE_AT_END, words));
        }
        let sends_all_to_expected = |rule: &super::pair::RuleModel| {
            all_on(rule.live, expected_live) && rule.nodes.iter().all(|node| all_on(*node, expected_live))
        };
        if !has_foreign_edit && !self.rules.iter().all(sends_all_to_expected) {
            let words = format!(
                "#{} ended as {verdict:?}, and not every rule and node sends all traffic to {expected_live}",
                open.number
            );
            return Some((&ALL_TRAFFIC_ON_ONE_SIDE_AT_END, words));
        }
        let state = store.peek(&self.target)?;
        let stored = state.stable.as_ref();
        if stored.is_some_and(|stored| stored.slot != Some(expected_live)) {
            return require(false, || {
                let stored = stored.and_then(|stored| stored.slot);
                format!("{expected_live} is live, and the stable side in the ledger is {stored:?}")
            });
        }
        let release = stored.and_then(|stored| stored.release.as_ref());
        let image = world.image_run_by(&self.sides[index(expected_live)].service, &self.container);
        if let (Some(release), Some(image)) = (release, image)
            && !image.ends_with(release.id.digest.as_str())
        {
            let words = format!(
                "#{} ended as {verdict:?}, {} is stable, and {expected_live} runs {image}",
                open.number, release.tag
            );
            return Some((&ALL_TRAFFIC_ON_ONE_SIDE_AT_END, words));
        }
        self.check_settings_restored(&open, switched_sides, world)
    }

    fn check_settings_restored(
        &self,
        open: &OpenDeployment,
        switched_sides: bool,
        world: &World,
    ) -> Option<BrokenInvariant> {
        let (found, tests) = open.found.as_ref()?;
        let foreign = |at: Option<Timestamp>| at.is_some_and(|at| at >= open.since);
        // Limits follow the role: the new stable side has the limits of the previous stable side.
        let expected: [Option<Limits>; 2] = match *found {
            [Some(blue), Some(green)] if switched_sides => [Some(green), Some(blue)],
            found => found,
        };
        for (side, expected) in self.sides.iter().zip(expected) {
            // A scheduled action came due while scheduled scaling was suspended: the limits that it would have set are
            // restored.
            let scheduled = self.sides.iter().any(|side| world.has_scheduled_actions(&side.service));
            let comparable = |limits: Option<Limits>| {
                limits.map(|(min, max, suspended)| (if scheduled { (0, 0) } else { (min, max) }, suspended))
            };
            if comparable(side.limits) != comparable(expected) && !foreign(side.foreign_limits_at) {
                let words = format!(
                    "#{} ended, and the limits of {} are {:?} instead of {expected:?}",
                    open.number, side.service.1, side.limits
                );
                return Some((&CHANGED_SETTINGS_RESTORED, words));
            }
        }
        let ours = |rule: &super::pair::RuleModel| !switched_sides && !foreign(rule.foreign_edit_at);
        let mut compared = self.tests.iter().zip(tests).filter(|(rule, _)| ours(rule));
        let (rule, test) = compared.find(|(rule, test)| !same_split(rule.live, **test))?;
        let words = format!(
            "#{} ended, and the test rule has {}/{} instead of {}/{}",
            open.number, rule.live[0], rule.live[1], test[0], test[1]
        );
        Some((&CHANGED_SETTINGS_RESTORED, words))
    }
}
