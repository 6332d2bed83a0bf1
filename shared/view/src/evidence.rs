//! What was seen when something went wrong, a few words a reading.

use crate::journal::split;
use rollout::Slot;
use rollout::snapshot::{AlarmReading, Reading, RuleReading, Snapshot};

/// What tells something in a snapshot, the most telling first: alarms that are not OK, targets, traffic.
#[must_use]
pub fn evidence(seen: &Snapshot) -> Vec<String> {
    let mut told = Vec::new();
    match &seen.alarms {
        Reading::Known(alarms) => told.extend(alarms.iter().filter_map(|(name, alarm)| match alarm {
            AlarmReading::Ok => None,
            AlarmReading::Firing { reason } if reason.is_empty() => Some(format!("alarm {name} fires")),
            AlarmReading::Firing { reason } => Some(format!("alarm {name} fires: {reason}")),
            AlarmReading::NoData => Some(format!("alarm {name} has no data")),
            AlarmReading::NotEvaluated { reason } => Some(format!("alarm {name} is not evaluated: {reason}")),
            AlarmReading::Absent => Some(format!("there is no alarm {name}")),
        })),
        Reading::Unknown(reason) => told.push(format!("alarms could not be read: {reason}")),
    }
    for slot in [Slot::Blue, Slot::Green] {
        match seen.side(slot) {
            Reading::Known(side) => {
                let (healthy, all, running) = (side.targets.healthy, side.targets.registered(), side.running);
                told.push(format!("{slot}: {healthy} of {all} targets healthy, {running} tasks running"));
            }
            Reading::Unknown(reason) => told.push(format!("{slot} could not be read: {reason}")),
        }
    }
    for rule in &seen.rules {
        let line = match rule {
            Reading::Known(RuleReading { weights, .. }) => format!("traffic: {}", split(*weights)),
            Reading::Unknown(reason) => format!("a rule could not be read: {reason}"),
        };
        if !told.contains(&line) {
            told.push(line);
        }
    }
    told
}
