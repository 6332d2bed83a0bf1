//! The journal and the state: whole, in order, and true.

use super::pair::{Limits, Open, Pair, Split, Truth, index};
use super::{
    Found, JOURNAL_WHOLE, NOT_ONTO_THE_ACCUSED, NOTHING_BORROWED, NOTHING_UNTRUE, ONE_RUNS, SHOWN_SEEN,
    VERDICT_IN_TIME, WAY_BACK_WHOLE,
};
use crate::ledger::Store;
use crate::world::World;
use engine::LeaseId;
use rollout::journal::{Fact, JournalEntry};
use rollout::snapshot::Weights;
use rollout::stage::Verdict;
use rollout::target::Deployment;
use rollout::{Cause, Seconds, SignedDuration, Slot, Timestamp};

/// So much later than its deadline a stage must have been left, whatever goes wrong: a wake lost, a holder dead, one that
/// stood still.
const GRACE: Seconds = Seconds(1_200);
/// From its first call to its last answer a look takes no longer, in seconds.
const ONE_LOOK_S: i64 = 10;

fn share(weights: Weights) -> Split {
    [u64::from(weights.blue), u64::from(weights.green)]
}

fn same_split(a: Split, b: Split) -> bool {
    a[0] * b[1] == a[1] * b[0] && (a[0] > 0) == (b[0] > 0) && (a[1] > 0) == (b[1] > 0)
}

fn only(split: Split, slot: Slot) -> bool {
    split[index(slot)] > 0 && split[index(slot.other())] == 0
}

/// Whether every rule was so when somebody looked, or had been a moment before.
fn every_rule(look: &Truth, so: impl Fn(Split) -> bool) -> bool {
    look.rules.iter().all(|(live, earlier)| so(*live) || earlier.iter().any(|split| so(*split)))
}

fn rules_of(look: &Truth) -> String {
    let rules: Vec<String> = look.rules.iter().map(|(live, _)| format!("{}/{}", live[0], live[1])).collect();
    rules.join(", ")
}

fn unless(true_: bool, words: impl FnOnce() -> String) -> Option<Found> {
    (!true_).then(|| (&NOTHING_UNTRUE, words()))
}

impl Pair {
    /// A decision was written, with the journal entries after `after`.
    pub(super) fn decided(
        &mut self,
        lease: &LeaseId,
        after: u64,
        world: &World,
        store: &Store,
        now: Timestamp,
    ) -> Option<Found> {
        let mut found = None;
        let target = self.target.clone();
        let mut entries = store.entries(&target, after).peekable();
        if entries.peek().is_some() {
            let look = self.look_of(Some(lease)).cloned();
            for entry in entries {
                found = found.or(self.entry(entry, look.as_ref(), world, store, now));
            }
        }
        let running = store.peek(&self.target).and_then(|state| state.running.as_ref());
        self.due = running.map(|running| (GRACE.after(last_moment(running)), running.stage.name()));
        self.judge(running, world);
        found = found.or_else(|| self.shown(lease, store));
        let (told, kept) = (self.open.as_ref().map(|open| open.number), running.map(|running| running.number));
        let agree = told == kept;
        found.or((!agree).then(|| (&ONE_RUNS, format!("the journal has {told:?} running, and the state {kept:?}"))))
    }

    /// Whether the traffic that people are shown as seen live is what the pass saw that wrote it down.
    fn shown(&self, lease: &LeaseId, store: &Store) -> Option<Found> {
        // People are shown when it was seen. Of an older look that was judged when it was written down: a pass that stood
        // still after its look, or read a part of it, uses nothing of it.
        let state = store.peek(&self.target)?;
        let seen_at = match (&state.at_rest, &state.traffic) {
            (Some(at_rest), _) => at_rest.seen_at,
            (None, traffic) => traffic.as_ref()?.seen_at,
        };
        let (weights, seen) = view::status::weights(state)?;
        let is_of_it = |look: &&Truth| look.at.duration_since(seen_at) <= SignedDuration::from_secs(ONE_LOOK_S);
        let look = self.look_of(Some(lease)).filter(|look| seen && look.read_rules).filter(is_of_it)?;
        let so = every_rule(look, |split| same_split(split, share(weights)));
        (!so)
            .then(|| (&SHOWN_SEEN, format!("{weights:?} are shown as seen live, and the rules had {}", rules_of(look))))
    }

    /// Whether the stage that it is in is still in time.
    pub(super) fn in_time(&self, now: Timestamp) -> Option<Found> {
        let (due, stage) = self.due.filter(|(due, _)| *due < now)?;
        let number = self.open.as_ref().map_or(0, |open| open.number);
        Some((&VERDICT_IN_TIME, format!("#{number} is still {stage}, and should have been out of it by {due}")))
    }

    fn entry(
        &mut self,
        entry: &JournalEntry,
        look: Option<&Truth>,
        world: &World,
        store: &Store,
        now: Timestamp,
    ) -> Option<Found> {
        let before = std::mem::replace(&mut self.last_entry, entry.sequence);
        if entry.sequence != before + 1 {
            return Some((&JOURNAL_WHOLE, format!("entry {} comes after entry {before}", entry.sequence)));
        }
        if let Some(found) = self.one_runs(entry) {
            return Some(found);
        }
        match &entry.fact {
            Fact::Started { digest, .. } => {
                let number = entry.deployment.unwrap_or(0);
                self.open = Some(Open {
                    number,
                    digest: digest.clone(),
                    since: now,
                    stable: None,
                    settled_at: None,
                    found: None,
                    decided: None,
                    decided_before: None,
                    froze_for: None,
                    may_go: false,
                    left: false,
                });
                self.last_deployment = number;
                None
            }
            Fact::SidesSettled { stable, stable_running, .. } => self.sides_settled(*stable, *stable_running, look),
            Fact::WeightsDecided { weights } => {
                if let Some(open) = &mut self.open {
                    open.decided_before = open.decided.replace(share(*weights));
                }
                None
            }
            Fact::StageEntered { stage, .. } if stage == "retiring" || stage == "letting_go" => {
                if let Some(open) = &mut self.open {
                    open.may_go = true;
                }
                None
            }
            Fact::LeftBehind { .. } => {
                if let Some(open) = &mut self.open {
                    open.left = true;
                }
                None
            }
            Fact::Ended { verdict, live, .. } => {
                let found = self.ended(*verdict, *live, look, world, store);
                self.open = None;
                found
            }
            fact => self.is_true(fact, look, world),
        }
    }

    /// A deployment begins after the end of the one before, and only what runs does anything.
    fn one_runs(&self, entry: &JournalEntry) -> Option<Found> {
        let open = self.open.as_ref().map(|open| open.number);
        match &entry.fact {
            Fact::Started { .. } => {
                let next = entry.deployment == Some(self.last_deployment + 1);
                (open.is_some() || !next).then(|| {
                    let last = self.last_deployment;
                    (&ONE_RUNS, format!("#{:?} begins while {open:?} runs, after #{last}", entry.deployment))
                })
            }
            Fact::StageEntered { .. }
            | Fact::SidesSettled { .. }
            | Fact::TaskDefinitionReady { .. }
            | Fact::WeightsDecided { .. }
            | Fact::WeightsVerified { .. }
            | Fact::AutoscalingBorrowed { .. }
            | Fact::AutoscalingReturned { .. }
            | Fact::CandidateHealthy { .. }
            | Fact::Halted { .. }
            | Fact::Resumed
            | Fact::RollbackStarted { .. }
            | Fact::Ended { .. } => (entry.deployment != open).then(|| {
                let words = format!("{} of {:?} is told while {open:?} runs", entry.fact.name(), entry.deployment);
                (&ONE_RUNS, words)
            }),
            _ => None,
        }
    }

    fn sides_settled(&mut self, stable: Slot, running: u32, look: Option<&Truth>) -> Option<Found> {
        let open = self.open.as_mut()?;
        open.stable = Some(stable);
        open.decided = Some(if stable == Slot::Blue { [100, 0] } else { [0, 100] });
        let Some(look) = look else {
            return Some((&NOTHING_UNTRUE, "sides were settled, and nobody looked".to_owned()));
        };
        open.settled_at = Some(look.at);
        open.found = Some((look.limits, look.test));
        let read = look.read_running[index(stable)];
        unless(every_rule(look, |split| only(split, stable)), || {
            format!("{stable} is said to carry everything, and the rules have {}", rules_of(look))
        })
        .or(unless(look.healthy[index(stable)] > 0, || {
            format!("{stable} is said to serve, and nothing of it is healthy")
        }))
        .or(unless(read.is_none_or(|read| running >= read), || {
            format!("{running} tasks of {stable}, and {read:?} ran")
        }))
    }

    /// Compares what is told with what was so when the one who tells it looked.
    fn is_true(&mut self, fact: &Fact, look: Option<&Truth>, world: &World) -> Option<Found> {
        let open = self.open.as_ref();
        let stable = open.and_then(|open| open.stable);
        let candidate = stable.map(Slot::other);
        let need = |words: &str| (&NOTHING_UNTRUE, format!("{words} is told, and nobody looked"));
        match fact {
            Fact::WeightsVerified { weights } => {
                let Some(look) = look else { return Some(need("that weights were seen")) };
                unless(every_rule(look, |split| same_split(split, share(*weights))), || {
                    format!("{weights:?} are said to have been seen, and the rules had {}", rules_of(look))
                })
            }
            Fact::CandidateHealthy { healthy } => {
                let (Some(look), Some(candidate)) = (look, candidate) else {
                    return Some(need("a candidate's health"));
                };
                let seen = look.healthy[index(candidate)];
                unless(seen == *healthy && seen > 0, || {
                    format!("{healthy} targets are said to be healthy, and {seen} were")
                })
            }
            Fact::TaskDefinitionReady { task_definition, .. } => {
                let image = world.image_in(task_definition, &self.container).unwrap_or_default();
                let digest = open.map(|open| open.digest.as_str()).unwrap_or_default();
                unless(image.ends_with(digest), || {
                    format!("{task_definition} is said to run {digest}, and runs {image}")
                })
            }
            Fact::AutoscalingBorrowed { slot, min, max } => {
                let found = open.and_then(|open| open.found).and_then(|(limits, _)| limits[index(*slot)]);
                let so = found.is_some_and(|(low, high, _)| (low, high) == (*min, *max));
                unless(so, || format!("{slot}'s limits are said to have been {min} to {max}, and were {found:?}"))
            }
            Fact::AutoscalingReturned { slot, min, max, .. } => {
                let Some(look) = look else { return Some(need("that limits were given back")) };
                let seen = look.limits[index(*slot)];
                let so = seen.is_some_and(|(low, high, _)| (low, high) == (*min, *max));
                unless(so, || format!("{slot}'s limits are said to be {min} to {max} again, and are {seen:?}"))
            }
            Fact::Halted { reason } => {
                let (Some(look), Some(decided)) = (look, open.and_then(|open| open.decided)) else { return None };
                let edited = self.rules.iter().any(|rule| rule.by_hand || rule.odd);
                let other = |split: Split| !same_split(split, decided);
                let differs =
                    look.rules.iter().any(|(live, earlier)| other(*live) || earlier.iter().any(|split| other(*split)));
                unless(edited && differs, || format!("it is halted ({reason}), and nobody had edited anything"))
            }
            Fact::StableAlarm { alarm, .. } => {
                let look = look?;
                let so = look.firing.contains(alarm) && (stable.is_none() || self.seen_by(alarm, world) == stable);
                unless(so, || format!("{alarm} is said to fire for the stable side alone, and does not"))
            }
            Fact::ForeignWeightsReplaced { found, .. } => {
                let somebody = self.rules.iter().any(|rule| rule.by_hand_at.is_some());
                unless(somebody, || {
                    format!("somebody's weights are said to be replaced ({found}), and nobody wrote any")
                })
            }
            Fact::Resumed => {
                let (Some(look), Some(decided)) = (look, open.and_then(|open| open.decided)) else { return None };
                // What was decided last may never have been written: as it was before that is as it was, too.
                let before = open.and_then(|open| open.decided_before);
                let as_left =
                    |split| same_split(split, decided) || before.is_some_and(|before| same_split(split, before));
                unless(every_rule(look, as_left), || {
                    format!("the rules are said to be as they were, and have {}", rules_of(look))
                })
            }
            Fact::Frozen { cause, .. } => {
                let found = self.is_cause(cause, look);
                if let Some(open) = &mut self.open {
                    open.froze_for = Some(cause.clone());
                }
                found
            }
            // What it froze for may be over when it goes back for that.
            Fact::RollbackStarted { cause } if open.is_some_and(|open| open.froze_for.as_ref() == Some(cause)) => None,
            Fact::RollbackStarted { cause: Cause::Alarm { name, .. } }
                if stable.is_some() && self.seen_by(name, world) == stable =>
            {
                Some((
                    &NOT_ONTO_THE_ACCUSED,
                    format!("{name} sees the stable side alone, and traffic goes back to that"),
                ))
            }
            Fact::RollbackStarted { cause } => self.is_cause(cause, look),
            Fact::WayBackUnfit { .. } => {
                let Some(look) = look else { return Some(need("an unfit way back")) };
                // A repair goes to the side that the ledger knows, and reads nothing off the rules.
                let stable = stable?;
                let healthy = look.healthy[index(stable)];
                unless(healthy == 0, || {
                    format!("{stable} is said to be unfit, and {healthy} targets of it are healthy")
                })
            }
            Fact::Verified { digest, .. } => {
                let look = look?;
                let live =
                    [Slot::Blue, Slot::Green].into_iter().find(|slot| every_rule(look, |split| only(split, *slot)));
                let Some(live) = live else {
                    return unless(false, || {
                        format!("{digest} is said to be verified, and the rules had {}", rules_of(look))
                    });
                };
                let image = world.image_run_by(&self.sides[index(live)].service, &self.container).unwrap_or_default();
                unless(image.ends_with(digest), || format!("{digest} is said to be verified, and {live} runs {image}"))
            }
            _ => None,
        }
    }

    fn is_cause(&self, cause: &Cause, look: Option<&Truth>) -> Option<Found> {
        let look = look?;
        let stable = self.open.as_ref()?.stable?;
        match cause {
            Cause::Alarm { name, reason } => {
                let so = look.firing.contains(name) || reason.contains("no data");
                unless(so, || format!("it goes back for alarm {name}, which did not fire"))
            }
            Cause::ByHand => {
                let back = every_rule(look, |split| only(split, stable));
                let somebody = self.rules.iter().any(|rule| rule.by_hand_at.is_some());
                unless(back && somebody, || {
                    format!("somebody is said to have switched back by hand, and nobody did ({})", rules_of(look))
                })
            }
            Cause::Unhealthy { reason } => {
                let healthy = look.healthy[index(stable.other())];
                unless(healthy == 0, || format!("it goes back ({reason}), and {healthy} targets are healthy"))
            }
            _ => None,
        }
    }

    fn ended(
        &mut self,
        verdict: Verdict,
        live: Option<Slot>,
        look: Option<&Truth>,
        world: &World,
        store: &Store,
    ) -> Option<Found> {
        let open = self.open.take()?;
        if let (Some(live), Some(look)) = (live, look)
            && !every_rule(look, |split| only(split, live))
        {
            return unless(false, || {
                format!("{live} is said to carry everything, and the rules have {}", rules_of(look))
            });
        }
        let stable = open.stable?;
        if open.left {
            return None;
        }
        let went_on = verdict == Verdict::Succeeded && live != Some(stable);
        let carries = if went_on { stable.other() } else { stable };
        let meddled = self.meddled_since(open.since);
        if live != Some(carries) {
            let words = format!("#{} has ended as {verdict:?}, and {live:?} is live; {carries} should be", open.number);
            return Some((&WAY_BACK_WHOLE, words));
        }
        let whole =
            |rule: &super::pair::Rule| only(rule.live, carries) && rule.nodes.iter().all(|node| only(*node, carries));
        if !meddled && !self.rules.iter().all(whole) {
            let words = format!(
                "#{} has ended as {verdict:?}, and not every rule and node sends all to {carries}",
                open.number
            );
            return Some((&WAY_BACK_WHOLE, words));
        }
        let state = store.peek(&self.target)?;
        let kept = state.stable.as_ref();
        if kept.is_some_and(|kept| kept.slot != carries) {
            return unless(false, || {
                format!("{carries} is live, and the ledger has {:?} as stable", kept.map(|kept| kept.slot))
            });
        }
        let release = kept.and_then(|kept| kept.release.as_ref());
        let image = world.image_run_by(&self.sides[index(carries)].service, &self.container);
        if let (Some(release), Some(image)) = (release, image)
            && !image.ends_with(release.id.digest.as_str())
        {
            let words = format!(
                "#{} has ended as {verdict:?}, {} is stable, and {carries} runs {image}",
                open.number, release.tag
            );
            return Some((&WAY_BACK_WHOLE, words));
        }
        self.given_back(&open, went_on, world)
    }

    fn given_back(&self, open: &Open, went_on: bool, world: &World) -> Option<Found> {
        let (found, test) = open.found?;
        let by_hand = |at: Option<Timestamp>| at.is_some_and(|at| at >= open.since);
        // Limits go with the role: the side that serves now has those of the side that served before.
        let expected: [Option<Limits>; 2] = match found {
            [Some(blue), Some(green)] if went_on => [Some(green), Some(blue)],
            found => found,
        };
        for (side, expected) in self.sides.iter().zip(expected) {
            // A scheduled action that came due while scheduled scaling was suspended: what it would have set is given back.
            let scheduled = self.sides.iter().any(|side| world.has_scheduled_actions(&side.service));
            let as_found = |limits: Option<Limits>| {
                limits.map(|(min, max, suspended)| (if scheduled { (0, 0) } else { (min, max) }, suspended))
            };
            if as_found(side.limits) != as_found(expected) && !by_hand(side.limits_by_hand_at) {
                let words = format!(
                    "#{} has ended, and {} has {:?}, not {expected:?}",
                    open.number, side.service.1, side.limits
                );
                return Some((&NOTHING_BORROWED, words));
            }
        }
        let rule = self.test.as_ref().filter(|rule| !went_on && !by_hand(rule.by_hand_at))?;
        let test = test?;
        (!same_split(rule.live, test)).then(|| {
            let words = format!(
                "#{} has ended, and the test rule has {}/{}, not {}/{}",
                open.number, rule.live[0], rule.live[1], test[0], test[1]
            );
            (&NOTHING_BORROWED, words)
        })
    }
}

/// When the present wait of a deployment is over, at the latest.
fn last_moment(running: &Deployment) -> Timestamp {
    let halted = running.halted.as_ref().map(|halt| halt.deadline);
    let frozen = running.frozen.as_ref().map(|frozen| frozen.deadline);
    let stage = running.stage.deadline();
    [halted, frozen].into_iter().flatten().fold(stage, Timestamp::max)
}
