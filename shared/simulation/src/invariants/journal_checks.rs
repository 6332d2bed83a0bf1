//! Journal and state: complete, in order, and consistent with the world.

use super::pair::{ActualState, Limits, OpenDeployment, PairModel, Split, index};
use super::{
    BORROWED_SETTINGS_RETURNED, Finding, JOURNAL_HAS_NO_GAPS, JOURNAL_MATCHES_WORLD, NO_ROLLBACK_ONTO_ALARMED_SIDE,
    ONE_DEPLOYMENT_PER_TARGET, ROLLBACK_IS_COMPLETE, SHOWN_TRAFFIC_WAS_OBSERVED, STAGES_END_WITHIN_DEADLINE,
};
use crate::ledger::Store;
use crate::world::World;
use engine::LeaseId;
use rollout::Stage;
use rollout::deployment::Deployment;
use rollout::journal::{Fact, JournalEntry};
use rollout::snapshot::Weights;
use rollout::verdict::Verdict;
use rollout::{Cause, Seconds, SignedDuration, Slot, Timestamp};

/// How long after its deadline a stage must have been left at the latest, whatever goes wrong: a lost wake, a killed
/// lease holder, a paused one.
const GRACE: Seconds = Seconds(1_200);
/// Longest duration of one observation, from its first call to its last answer, in seconds.
const OBSERVATION_S: i64 = 10;
/// Age of its observation, in seconds, from which a committing pass must have been paused in between.
const STOOD_STILL_S: i64 = 3;

fn to_split(weights: Weights) -> Split {
    [u64::from(weights.blue), u64::from(weights.green)]
}

fn same_split(a: Split, b: Split) -> bool {
    a[0] * b[1] == a[1] * b[0] && (a[0] > 0) == (b[0] > 0) && (a[1] > 0) == (b[1] > 0)
}

fn all_on(split: Split, slot: Slot) -> bool {
    split[index(slot)] > 0 && split[index(slot.other())] == 0
}

/// Whether `holds` is true of every rule, at the observation or in one of the states that AWS may still have reported.
fn every_rule(look: &ActualState, holds: impl Fn(Split) -> bool) -> bool {
    look.rules.iter().all(|(live, earlier)| holds(*live) || earlier.iter().any(|split| holds(*split)))
}

fn format_rules(look: &ActualState) -> String {
    let rules: Vec<String> = look.rules.iter().map(|(live, _)| format!("{}/{}", live[0], live[1])).collect();
    rules.join(", ")
}

fn require(condition: bool, words: impl FnOnce() -> String) -> Option<Finding> {
    (!condition).then(|| (&JOURNAL_MATCHES_WORLD, words()))
}

impl PairModel {
    /// Checks a committed decision, with its journal entries after sequence `after`.
    pub(super) fn decided(
        &mut self,
        lease: &LeaseId,
        after: u64,
        world: &World,
        store: &Store,
        now: Timestamp,
    ) -> Option<Finding> {
        let mut found = None;
        let target = self.target.clone();
        let mut entries = store.entries(&target, after).peekable();
        if entries.peek().is_some() {
            let look = self.last_observation_of(Some(lease)).cloned();
            for entry in entries {
                found = found.or(self.entry(entry, look.as_ref(), world, store, now));
            }
        }
        let running = store.peek(&self.target).and_then(|state| state.running.as_ref());
        self.due = running.map(|running| (GRACE.after(latest_deadline(running)), running.stage().name()));
        self.update_rollback_triggers(running, world);
        found = found.or_else(|| self.check_shown_traffic(lease, store, now));
        let (in_journal, stored) = (self.open.as_ref().map(|open| open.number), running.map(|running| running.number));
        let agree = in_journal == stored;
        found.or((!agree).then(|| {
            (&ONE_DEPLOYMENT_PER_TARGET, format!("the journal has {in_journal:?} running, and the state {stored:?}"))
        }))
    }

    /// Whether the traffic that is shown as verified live matches what the writing pass observed.
    fn check_shown_traffic(&mut self, lease: &LeaseId, store: &Store, now: Timestamp) -> Option<Finding> {
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
            |look: &&ActualState| look.at.duration_since(seen_at) <= SignedDuration::from_secs(OBSERVATION_S);
        let look = self.last_observation_of(Some(lease)).filter(|look| seen && look.read_rules).filter(is_recent)?;
        if known && now.duration_since(look.at) > SignedDuration::from_secs(STOOD_STILL_S) {
            return None;
        }
        let holds = every_rule(look, |split| same_split(split, to_split(weights)));
        (!holds).then(|| {
            (
                &SHOWN_TRAFFIC_WAS_OBSERVED,
                format!("{weights:?} are shown as seen live, and the rules had {}", format_rules(look)),
            )
        })
    }

    /// Whether the current stage has exceeded its deadline.
    pub(super) fn overdue_stage(&self, now: Timestamp) -> Option<Finding> {
        let (due, stage) = self.due.filter(|(due, _)| *due < now)?;
        let number = self.open.as_ref().map_or(0, |open| open.number);
        Some((
            &STAGES_END_WITHIN_DEADLINE,
            format!("#{number} is still {stage}, and should have been out of it by {due}"),
        ))
    }

    fn entry(
        &mut self,
        entry: &JournalEntry,
        look: Option<&ActualState>,
        world: &World,
        store: &Store,
        now: Timestamp,
    ) -> Option<Finding> {
        let before = std::mem::replace(&mut self.last_entry, entry.sequence);
        if entry.sequence != before + 1 {
            return Some((&JOURNAL_HAS_NO_GAPS, format!("entry {} comes after entry {before}", entry.sequence)));
        }
        if let Some(found) = self.check_one_running(entry) {
            return Some(found);
        }
        match &entry.fact {
            Fact::Started { digest, .. } => {
                let number = entry.deployment.unwrap_or(0);
                self.open = Some(OpenDeployment {
                    number,
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
                self.last_deployment = number;
                None
            }
            Fact::SidesDetermined { stable, stable_running, .. } => self.sides_settled(*stable, *stable_running, look),
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
                let found = self.check_end(*verdict, *live, look, world, store);
                self.open = None;
                found
            }
            fact => self.check_fact(fact, look, world),
        }
    }

    /// A deployment starts only after the previous one has ended, and only the running one writes entries.
    fn check_one_running(&self, entry: &JournalEntry) -> Option<Finding> {
        let open = self.open.as_ref().map(|open| open.number);
        match &entry.fact {
            Fact::Started { .. } => {
                let next = entry.deployment == Some(self.last_deployment + 1);
                (open.is_some() || !next).then(|| {
                    let last = self.last_deployment;
                    (
                        &ONE_DEPLOYMENT_PER_TARGET,
                        format!("#{:?} begins while {open:?} runs, after #{last}", entry.deployment),
                    )
                })
            }
            Fact::StageEntered { .. }
            | Fact::SidesDetermined { .. }
            | Fact::TaskDefinitionReady { .. }
            | Fact::WeightsDecided { .. }
            | Fact::WeightsVerified { .. }
            | Fact::AutoscalingOverridden { .. }
            | Fact::AutoscalingRestored { .. }
            | Fact::CandidateHealthy { .. }
            | Fact::Halted { .. }
            | Fact::Resumed
            | Fact::RollbackStarted { .. }
            | Fact::Ended { .. } => (entry.deployment != open).then(|| {
                let words = format!("{} of {:?} is told while {open:?} runs", entry.fact.name(), entry.deployment);
                (&ONE_DEPLOYMENT_PER_TARGET, words)
            }),
            _ => None,
        }
    }

    fn sides_settled(&mut self, stable: Slot, running: u32, look: Option<&ActualState>) -> Option<Finding> {
        let open = self.open.as_mut()?;
        open.stable = Some(stable);
        open.decided = Some(if stable == Slot::Blue { [100, 0] } else { [0, 100] });
        let Some(look) = look else {
            return Some((&JOURNAL_MATCHES_WORLD, "sides were settled, and nobody looked".to_owned()));
        };
        open.settled_at = Some(look.at);
        open.found = Some((look.limits, look.test));
        let read = look.read_running[index(stable)];
        require(every_rule(look, |split| all_on(split, stable)), || {
            format!("{stable} is said to carry everything, and the rules have {}", format_rules(look))
        })
        .or(require(look.healthy[index(stable)] > 0, || {
            format!("{stable} is said to serve, and nothing of it is healthy")
        }))
        .or(require(read.is_none_or(|read| running >= read), || {
            format!("{running} tasks of {stable}, and {read:?} ran")
        }))
    }

    /// Compares a journal fact with the actual state at the observation of the pass that wrote it.
    fn check_fact(&mut self, fact: &Fact, look: Option<&ActualState>, world: &World) -> Option<Finding> {
        let open = self.open.as_ref();
        let stable = open.and_then(|open| open.stable);
        let candidate = stable.map(Slot::other);
        let need = |words: &str| (&JOURNAL_MATCHES_WORLD, format!("{words} is told, and nobody looked"));
        match fact {
            Fact::WeightsVerified { weights } => {
                let Some(look) = look else { return Some(need("that weights were seen")) };
                require(every_rule(look, |split| same_split(split, to_split(*weights))), || {
                    format!("{weights:?} are said to have been seen, and the rules had {}", format_rules(look))
                })
            }
            Fact::CandidateHealthy { healthy } => {
                let (Some(look), Some(candidate)) = (look, candidate) else {
                    return Some(need("a candidate's health"));
                };
                let seen = look.healthy[index(candidate)];
                require(seen == *healthy && seen > 0, || {
                    format!("{healthy} targets are said to be healthy, and {seen} were")
                })
            }
            Fact::TaskDefinitionReady { task_definition, .. } => {
                let image = world.image_in(task_definition, &self.container).unwrap_or_default();
                let digest = open.map(|open| open.digest.as_str()).unwrap_or_default();
                require(image.ends_with(digest), || {
                    format!("{task_definition} is said to run {digest}, and runs {image}")
                })
            }
            Fact::AutoscalingOverridden { slot, min, max } => {
                let found = open.and_then(|open| open.found).and_then(|(limits, _)| limits[index(*slot)]);
                let holds = found.is_some_and(|(low, high, _)| (low, high) == (*min, *max));
                require(holds, || format!("{slot}'s limits are said to have been {min} to {max}, and were {found:?}"))
            }
            Fact::AutoscalingRestored { slot, min, max, .. } => {
                let Some(look) = look else { return Some(need("that limits were given back")) };
                let seen = look.limits[index(*slot)];
                let holds = seen.is_some_and(|(low, high, _)| (low, high) == (*min, *max));
                require(holds, || format!("{slot}'s limits are said to be {min} to {max} again, and are {seen:?}"))
            }
            Fact::Halted { reason } => {
                let (Some(look), Some(decided)) = (look, open.and_then(|open| open.decided)) else { return None };
                let edited = self.rules.iter().any(|rule| rule.by_hand || rule.unexpected_groups);
                let other = |split: Split| !same_split(split, decided);
                let differs =
                    look.rules.iter().any(|(live, earlier)| other(*live) || earlier.iter().any(|split| other(*split)));
                require(edited && differs, || format!("it is halted ({reason}), and nobody had edited anything"))
            }
            Fact::StableAlarm { alarm, .. } => {
                let look = look?;
                let holds = look.firing.contains(alarm)
                    && (stable.is_none() || self.side_seen_by_alarm(alarm, world) == stable);
                require(holds, || format!("{alarm} is said to fire for the stable side alone, and does not"))
            }
            Fact::ForeignWeightsReplaced { found, .. } => {
                let edited_by_somebody = self.rules.iter().any(|rule| rule.by_hand_at.is_some());
                require(edited_by_somebody, || {
                    format!("somebody's weights are said to be replaced ({found}), and nobody wrote any")
                })
            }
            Fact::Resumed => {
                let (Some(look), Some(decided)) = (look, open.and_then(|open| open.decided)) else { return None };
                // The weights decided last may never have been written, so the ones before also count as unchanged.
                let before = open.and_then(|open| open.previously_decided);
                let as_before =
                    |split| same_split(split, decided) || before.is_some_and(|before| same_split(split, before));
                require(every_rule(look, as_before), || {
                    format!("the rules are said to be as they were, and have {}", format_rules(look))
                })
            }
            Fact::AwaitingOperator { cause, .. } => {
                let found = self.check_cause(cause, look);
                if let Some(open) = &mut self.open {
                    open.operator_wait_cause = Some(cause.clone());
                }
                found
            }
            // The cause of waiting for the operator may be over by the time the deployment rolls back for it.
            Fact::RollbackStarted { cause }
                if open.is_some_and(|open| open.operator_wait_cause.as_ref() == Some(cause)) =>
            {
                None
            }
            Fact::RollbackStarted { cause: Cause::Alarm { name, .. } }
                if stable.is_some() && self.side_seen_by_alarm(name, world) == stable =>
            {
                Some((
                    &NO_ROLLBACK_ONTO_ALARMED_SIDE,
                    format!("{name} sees the stable side alone, and traffic goes back to that"),
                ))
            }
            Fact::RollbackStarted { cause } => self.check_cause(cause, look),
            Fact::RollbackBlocked { .. } => {
                let Some(look) = look else { return Some(need("an unfit way back")) };
                // A repair goes to the stable side recorded in the ledger, and derives nothing from the rules.
                let stable = stable?;
                let healthy = look.healthy[index(stable)];
                require(healthy == 0, || {
                    format!("{stable} is said to be unfit, and {healthy} targets of it are healthy")
                })
            }
            Fact::Verified { digest, .. } => {
                let look = look?;
                let live =
                    [Slot::Blue, Slot::Green].into_iter().find(|slot| every_rule(look, |split| all_on(split, *slot)));
                let Some(live) = live else {
                    return require(false, || {
                        format!("{digest} is said to be verified, and the rules had {}", format_rules(look))
                    });
                };
                let image = world.image_run_by(&self.sides[index(live)].service, &self.container).unwrap_or_default();
                require(image.ends_with(digest), || format!("{digest} is said to be verified, and {live} runs {image}"))
            }
            _ => None,
        }
    }

    fn check_cause(&self, cause: &Cause, look: Option<&ActualState>) -> Option<Finding> {
        let look = look?;
        let stable = self.open.as_ref()?.stable?;
        match cause {
            Cause::Alarm { name, reason } => {
                let holds = look.firing.contains(name) || reason.contains("no data");
                require(holds, || format!("it goes back for alarm {name}, which did not fire"))
            }
            Cause::ExternalRollback => {
                let back = every_rule(look, |split| all_on(split, stable));
                let edited_by_somebody = self.rules.iter().any(|rule| rule.by_hand_at.is_some());
                require(back && edited_by_somebody, || {
                    format!("somebody is said to have switched back by hand, and nobody did ({})", format_rules(look))
                })
            }
            Cause::Unhealthy { reason } => {
                let healthy = look.healthy[index(stable.other())];
                require(healthy == 0, || format!("it goes back ({reason}), and {healthy} targets are healthy"))
            }
            _ => None,
        }
    }

    fn check_end(
        &mut self,
        verdict: Verdict,
        live: Option<Slot>,
        look: Option<&ActualState>,
        world: &World,
        store: &Store,
    ) -> Option<Finding> {
        let open = self.open.take()?;
        if let (Some(live), Some(look)) = (live, look)
            && !every_rule(look, |split| all_on(split, live))
        {
            return require(false, || {
                format!("{live} is said to carry everything, and the rules have {}", format_rules(look))
            });
        }
        let stable = open.stable?;
        if open.left_behind {
            return None;
        }
        let switched_sides = verdict == Verdict::Succeeded && live != Some(stable);
        let expected_live = if switched_sides { stable.other() } else { stable };
        let edited_by_hand = self.edited_by_hand_since(open.since);
        if live != Some(expected_live) {
            let words =
                format!("#{} has ended as {verdict:?}, and {live:?} is live; {expected_live} should be", open.number);
            return Some((&ROLLBACK_IS_COMPLETE, words));
        }
        let sends_all_to_expected = |rule: &super::pair::RuleModel| {
            all_on(rule.live, expected_live) && rule.nodes.iter().all(|node| all_on(*node, expected_live))
        };
        if !edited_by_hand && !self.rules.iter().all(sends_all_to_expected) {
            let words = format!(
                "#{} has ended as {verdict:?}, and not every rule and node sends all to {expected_live}",
                open.number
            );
            return Some((&ROLLBACK_IS_COMPLETE, words));
        }
        let state = store.peek(&self.target)?;
        let stored = state.stable.as_ref();
        if stored.is_some_and(|stored| stored.slot != expected_live) {
            return require(false, || {
                format!("{expected_live} is live, and the ledger has {:?} as stable", stored.map(|stored| stored.slot))
            });
        }
        let release = stored.and_then(|stored| stored.release.as_ref());
        let image = world.image_run_by(&self.sides[index(expected_live)].service, &self.container);
        if let (Some(release), Some(image)) = (release, image)
            && !image.ends_with(release.id.digest.as_str())
        {
            let words = format!(
                "#{} has ended as {verdict:?}, {} is stable, and {expected_live} runs {image}",
                open.number, release.tag
            );
            return Some((&ROLLBACK_IS_COMPLETE, words));
        }
        self.check_returned(&open, switched_sides, world)
    }

    fn check_returned(&self, open: &OpenDeployment, switched_sides: bool, world: &World) -> Option<Finding> {
        let (found, test) = open.found?;
        let by_hand = |at: Option<Timestamp>| at.is_some_and(|at| at >= open.since);
        // Limits follow the role: the new stable side has the limits of the previous stable side.
        let expected: [Option<Limits>; 2] = match found {
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
            if comparable(side.limits) != comparable(expected) && !by_hand(side.limits_by_hand_at) {
                let words = format!(
                    "#{} has ended, and {} has {:?}, not {expected:?}",
                    open.number, side.service.1, side.limits
                );
                return Some((&BORROWED_SETTINGS_RETURNED, words));
            }
        }
        let rule = self.test.as_ref().filter(|rule| !switched_sides && !by_hand(rule.by_hand_at))?;
        let test = test?;
        (!same_split(rule.live, test)).then(|| {
            let words = format!(
                "#{} has ended, and the test rule has {}/{}, not {}/{}",
                open.number, rule.live[0], rule.live[1], test[0], test[1]
            );
            (&BORROWED_SETTINGS_RETURNED, words)
        })
    }
}

/// Latest deadline of the running deployment's stage, halt and operator wait.
fn latest_deadline(running: &Deployment) -> Timestamp {
    let halted = running.halted().map(|halt| halt.deadline);
    let frozen = running.awaiting_operator().map(|frozen| frozen.deadline);
    let stage = running.phase.deadline();
    [halted, frozen].into_iter().flatten().fold(stage, Timestamp::max)
}
