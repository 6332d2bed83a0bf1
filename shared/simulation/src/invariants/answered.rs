//! Reasons to go back: each answered within a minute.
//!
//! Two clocks. The strict one runs from the first observation that AWS answered and that showed the alarm firing; a call,
//! event or wake that failed after that stops it until the next observation, but a pass that was killed on its way back only
//! restarts it (another one takes over). The other one runs from the moment at which the world was so, and counts only
//! while nothing has failed at all: it finds an alarm that nobody looks at.

use super::pair::{Pair, index};
use super::{ALARM_ANSWERED, Found};
use crate::virtual_time::{Deed, Struck};
use crate::world::World;
use rollout::target::{Deployment, Purpose};
use rollout::{Slot, Stage, TargetId, Timestamp};

/// Weights are back within this, in seconds.
const ANSWERED_WITHIN_S: i64 = 60;
/// A wake that was lost before a pass was killed may have been the one that was to take over from it, in seconds.
const TAKEOVER_SENT_WITHIN_S: i64 = 120;
/// The calls of one look are answered within this, in seconds.
const ONE_LOOK_S: i64 = 5;
/// Nothing has failed for so long: nobody waits for what failed before, in seconds.
const UNDISTURBED_FOR_S: i64 = 900;

/// What the running deployment has to go back for.
#[derive(Debug)]
struct Judged {
    stable: Slot,
    /// Alarms that turn it back, each with the one side that it sees, if it sees one alone.
    alarms: Vec<(String, Option<Slot>)>,
    /// It is going back already.
    going_back: bool,
}

/// How long the reason to go back has been there.
#[derive(Debug, Default)]
pub(super) struct Answer {
    judged: Option<Judged>,
    /// Since when the world has been so.
    so_since: Option<Timestamp>,
    /// Since when a pass has known, as far as AWS answered.
    seen_since: Option<Timestamp>,
}

fn seconds(from: Timestamp, to: Timestamp) -> i64 {
    to.duration_since(from).as_secs()
}

/// Whether something went wrong with a pass of the target, or with a wake on its way to it.
fn concerns(struck: &Struck, target: &TargetId) -> bool {
    let named = |rest: &str| rest.strip_prefix(&target.to_string()).is_some_and(|rest| !rest.starts_with('-'));
    struck.whom.strip_prefix("drive ").is_some_and(named) || struck.whom.strip_prefix("wake of ").is_some_and(named)
}

fn killed(struck: &Struck) -> bool {
    struck.what.starts_with("killed") || struck.what.starts_with("stands still")
}

/// A pass that is killed in its first calls may not have scheduled who takes over: its own wake comes again, later. The lease, and
/// what is read beside the look; a wake that was not meant to hurry schedules it beside that, too.
fn at_its_beginning(struck: &Struck) -> bool {
    let unscheduled = struck.what == "killed before it" && struck.whom.ends_with(": send_wake");
    unscheduled || [": begin", ": observe", ": commands", ": brakes"].iter().any(|call| struck.whom.ends_with(call))
}

impl Pair {
    /// Takes in what the deployment that runs now would have to go back for.
    pub(super) fn judge(&mut self, running: Option<&Deployment>, world: &World) {
        self.answer.judged = running.and_then(|running| self.judged(running, world));
    }

    fn judged(&self, running: &Deployment, world: &World) -> Option<Judged> {
        let stable = running.way_back()?.stable();
        let going_back = matches!(running.stage, Stage::RollingBack { .. });
        // A deployment that goes back to an older release is not judged by alarms, and one that froze is a person's.
        let judges = running.purpose == Purpose::Deploy && running.frozen.is_none();
        let alarms = running.policy.alarms.iter().filter(|_| judges).map(|alarm| alarm.name.clone());
        let alarms = alarms.filter(|name| !running.overrides.firing_alarms.contains(name));
        let alarms = alarms.map(|name| (self.seen_by(&name, world), name)).map(|(side, name)| (name, side)).collect();
        Some(Judged { stable, alarms, going_back })
    }

    /// The side that an alarm looks at, if it looks at one alone.
    pub(super) fn seen_by(&self, alarm: &str, world: &World) -> Option<Slot> {
        let group = world.group_of_alarm(alarm)?;
        [Slot::Blue, Slot::Green].into_iter().find(|slot| self.sides[index(*slot)].group == group)
    }

    /// Whether a reason to go back is waiting for its answer for too long. `struck`: what went wrong so far, in order.
    pub(super) fn answered(
        &mut self,
        deeds: &[Deed],
        world: &World,
        struck: &[Struck],
        now: Timestamp,
    ) -> Option<Found> {
        let Some((reason, stable, going_back)) = self.reason(world) else {
            (self.answer.so_since, self.answer.seen_since) = (None, None);
            return None;
        };
        let so_since = *self.answer.so_since.get_or_insert(now);
        if deeds.iter().any(|deed| self.has_seen(deed)) {
            self.answer.seen_since.get_or_insert(now);
        }
        if let Some(seen_since) = self.answer.seen_since
            && seconds(seen_since, now) > ANSWERED_WITHIN_S
        {
            self.answer.seen_since = restarted(&self.target, seen_since, going_back, struck);
        }
        let late = |since: &Timestamp| seconds(*since, now) > ANSWERED_WITHIN_S;
        let undisturbed = || struck.last().is_none_or(|last| seconds(last.at, now) > UNDISTURBED_FOR_S);
        let since =
            self.answer.seen_since.filter(late).or(Some(so_since).filter(|since| late(since) && undisturbed()))?;
        let candidate = stable.other();
        let rules: Vec<String> = self.rules.iter().map(|rule| format!("{}/{}", rule.live[0], rule.live[1])).collect();
        Some((
            &ALARM_ANSWERED,
            format!("{reason} since {since}, and the rules still give {candidate} {}", rules.join(", ")),
        ))
    }

    /// Why traffic has to go back to which side, and whether the deployment is going back already; none: it need not, or
    /// cannot.
    fn reason(&self, world: &World) -> Option<(String, Slot, bool)> {
        let judged = self.answer.judged.as_ref()?;
        let (stable, candidate) = (index(judged.stable), index(judged.stable.other()));
        // What somebody made of a rule that names others, too, is nobody's to put right but theirs.
        let has_traffic = self.rules.iter().any(|rule| rule.live[candidate] > 0 && !rule.odd);
        if !has_traffic || self.sides[stable].healthy == 0 {
            return None;
        }
        let fires = |(name, _): &&(String, Option<Slot>)| world.alarm_fires(name);
        if judged.going_back {
            return Some((format!("it goes back to {}", judged.stable), judged.stable, true));
        }
        let against = judged.alarms.iter().filter(|(_, side)| *side != Some(judged.stable)).find(fires)?;
        Some((format!("{} fires", against.0), judged.stable, false))
    }

    /// Whether a pass has seen the reason.
    fn has_seen(&self, deed: &Deed) -> bool {
        let (Some(judged), Deed::Looked { rule, firing, .. }) = (&self.answer.judged, deed) else { return false };
        let against = |(name, side): &(String, Option<Slot>)| *side != Some(judged.stable) && firing.contains(name);
        self.is_of(rule) && (judged.going_back || judged.alarms.iter().any(against))
    }
}

/// From when on AWS and the queue have answered, with what went wrong since; none: they have not, up to now.
fn restarted(target: &TargetId, since: Timestamp, going_back: bool, struck: &[Struck]) -> Option<Timestamp> {
    let recent = struck.iter().rev().take_while(|struck| seconds(struck.at, since) <= TAKEOVER_SENT_WITHIN_S);
    let (mut since, mut lost) = (since, false);
    for struck in recent.filter(|struck| struck.what != "slow" && concerns(struck, target)) {
        lost |= struck.whom.starts_with("wake of ") && struck.what != "twice";
        // The calls of one look run side by side: what failed a moment before this one was read is of the same pass.
        if seconds(struck.at, since) > ONE_LOOK_S {
            continue;
        }
        if !killed(struck) || !going_back || at_its_beginning(struck) {
            return None;
        }
        since = since.max(struck.at);
    }
    (!lost).then_some(since)
}
