//! The autoscaling limits to restore at the end of a deployment: the original ones, updated by the scheduled actions
//! that would have run meanwhile.

use crate::deployment::Deployment;
use crate::names::Slot;
use crate::schedule::{ScheduleError, ScheduledAction};
use crate::snapshot::{Autoscaling, Reading, Snapshot};
use crate::weighted::Weighted;
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;

/// A scheduled action may run some time after its minute: the limits read may not yet include one that ran this long
/// before. Applying its values again changes nothing.
const MAY_RUN_LATE: SignedDuration = SignedDuration::from_secs(60);

/// The limits to restore, and how they were determined.
#[derive(Debug, Default)]
pub(super) struct LimitsToRestore {
    /// The limits of each side that has a scalable target.
    pub(super) limits: BTreeMap<Slot, Autoscaling>,
    /// Names of the scheduled actions that were applied to the limits.
    pub(super) ran: BTreeMap<Slot, Vec<String>>,
    /// What could not be read, as text for people; until it can, the original limits are restored.
    pub(super) unread: Vec<String>,
    /// What can never be determined, as text for people.
    pub(super) unclear: Vec<String>,
}

impl LimitsToRestore {
    /// Limits follow the role, not the side: the side that serves now gets the limits of the side that served before.
    pub(super) fn swapped(self) -> Self {
        if self.limits.len() < 2 {
            return self;
        }
        let limits = self.limits.into_iter().map(|(slot, limits)| (slot.other(), limits)).collect();
        let ran = self.ran.into_iter().map(|(slot, ran)| (slot.other(), ran)).collect();
        Self { limits, ran, ..self }
    }
}

/// The limits to restore now; `None`: scheduled actions were not read yet and will be at the next observation.
pub(super) fn limits_to_restore(
    deployment: &Deployment,
    weighted: &Weighted,
    snapshot: &Snapshot,
    now: Timestamp,
) -> Option<LimitsToRestore> {
    let mut due = LimitsToRestore::default();
    let since = weighted.original_limits_read_at;
    let since = since.checked_sub(MAY_RUN_LATE).unwrap_or(since);
    for (slot, found) in &weighted.original_limits {
        let service = deployment.policy.resources.platform.workload_name(Some(*slot));
        let mut limits = *found;
        match snapshot.schedules.get(slot) {
            // The scheduled actions were suspended outside Switchback: they would not have run.
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
                    format!(
                        "whether the scheduled action {name} of {service} ran cannot be determined ({error}): check \
                         its limits"
                    )
                }));
            }
        }
        due.limits.insert(*slot, limits);
    }
    Some(due)
}

/// The last run of each action in a period, in order, and the actions for which it cannot be determined.
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

/// Applies the action; returns whether it changed the limits. AWS rejects a minimum above the maximum, so such an
/// action sets nothing.
fn apply(limits: &mut Autoscaling, action: &ScheduledAction) -> bool {
    let (min, max) = (action.min.unwrap_or(limits.min), action.max.unwrap_or(limits.max));
    if min > max || (min, max) == (limits.min, limits.max) {
        return false;
    }
    *limits = Autoscaling { min, max, ..*limits };
    true
}
