//! What is given back of borrowed autoscaling limits: what was found, and what scheduled actions would have made of it.

use crate::names::Slot;
use crate::schedule::{ScheduleError, ScheduledAction};
use crate::snapshot::{Autoscaling, Reading, Snapshot};
use crate::target::Deployment;
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;

/// A scheduled action may run some time after its minute: one of so long before the limits were read may not be in them.
/// Setting once more what it had set changes nothing.
const MAY_RUN_LATE: SignedDuration = SignedDuration::from_secs(60);

/// The limits that are due to each side.
#[derive(Debug, Default)]
pub(super) struct LimitsDue {
    pub(super) limits: BTreeMap<Slot, Autoscaling>,
    /// The scheduled actions that made them what they are.
    pub(super) ran: BTreeMap<Slot, Vec<String>>,
    /// What could not be read; the limits of before are due until it can.
    pub(super) unread: Vec<String>,
    /// What will never be known, for people.
    pub(super) unclear: Vec<String>,
}

impl LimitsDue {
    /// Limits go with the role, not with the name: the side that serves now has those of the side that served before.
    pub(super) fn swapped(self) -> Self {
        if self.limits.len() < 2 {
            return self;
        }
        let limits = self.limits.into_iter().map(|(slot, limits)| (slot.other(), limits)).collect();
        let ran = self.ran.into_iter().map(|(slot, ran)| (slot.other(), ran)).collect();
        Self { limits, ran, ..self }
    }
}

/// What is due now; none: scheduled actions were not looked for yet, and will be at the next look.
pub(super) fn limits_due(deployment: &Deployment, snapshot: &Snapshot, now: Timestamp) -> Option<LimitsDue> {
    let mut due = LimitsDue::default();
    let since = deployment.borrowed_at.unwrap_or(deployment.started_at);
    let since = since.checked_sub(MAY_RUN_LATE).unwrap_or(since);
    for (slot, found) in &deployment.borrowed {
        let service = &deployment.policy.pair.side(*slot).service;
        let mut limits = *found;
        match snapshot.schedules.get(slot) {
            // Somebody else had suspended them: they would not have run.
            _ if found.scheduled_suspended => {}
            None => return None,
            Some(Reading::Unknown(reason)) => {
                due.unread.push(format!("the scheduled actions of {service} could not be read: {reason}"));
            }
            Some(Reading::Known(actions)) => {
                let (runs, unclear) = runs(actions, since, now);
                for (_, action) in runs {
                    if apply(&mut limits, action) {
                        due.ran.entry(*slot).or_default().push(action.name.clone());
                    }
                }
                due.unclear.extend(unclear.into_iter().map(|(action, error)| {
                    let name = &action.name;
                    format!("whether the scheduled action {name} of {service} ran cannot be told ({error}): check its limits")
                }));
            }
        }
        due.limits.insert(*slot, limits);
    }
    Some(due)
}

/// Each action's last run in a time, in order, and those of which that cannot be told.
#[expect(clippy::type_complexity, reason = "two lists of pairs, used once")]
fn runs(
    actions: &[ScheduledAction],
    since: Timestamp,
    now: Timestamp,
) -> (Vec<(Timestamp, &ScheduledAction)>, Vec<(&ScheduledAction, ScheduleError)>) {
    let (mut runs, mut unclear) = (Vec::new(), Vec::new());
    for action in actions {
        match action.last_run(since, now) {
            Ok(Some(at)) => runs.push((at, action)),
            Ok(None) => {}
            Err(error) => unclear.push((action, error)),
        }
    }
    runs.sort_by(|(one, a), (other, b)| one.cmp(other).then_with(|| a.name.cmp(&b.name)));
    (runs, unclear)
}

/// Whether it changed the limits. Those that cross are refused by AWS, and so set nothing.
fn apply(limits: &mut Autoscaling, action: &ScheduledAction) -> bool {
    let (min, max) = (action.min.unwrap_or(limits.min), action.max.unwrap_or(limits.max));
    if min > max || (min, max) == (limits.min, limits.max) {
        return false;
    }
    *limits = Autoscaling { min, max, ..*limits };
    true
}
