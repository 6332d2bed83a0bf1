//! Observations at the time of a failure, a short phrase per reading.

use crate::journal::traffic_split;
use rollout::Slot;
use rollout::snapshot::{AlarmReading, Reading, RuleReading, Snapshot};

/// The notable readings of a snapshot, the most relevant first: alarms that are not OK, targets, traffic.
#[must_use]
pub fn evidence(snapshot: &Snapshot) -> Vec<String> {
    let mut lines = Vec::new();
    match &snapshot.alarms {
        Reading::Known(alarms) => lines.extend(alarms.iter().filter_map(|(name, alarm)| match alarm {
            AlarmReading::Ok => None,
            AlarmReading::Firing { reason } if reason.is_empty() => Some(format!("alarm {name} fires")),
            AlarmReading::Firing { reason } => Some(format!("alarm {name} fires: {reason}")),
            AlarmReading::NoData => Some(format!("alarm {name} has no data")),
            AlarmReading::NotEvaluated { reason } => Some(format!("alarm {name} is not evaluated: {reason}")),
            AlarmReading::Absent => Some(format!("there is no alarm {name}")),
        })),
        Reading::Unknown(reason) => lines.push(format!("alarms could not be read: {reason}")),
    }
    for slot in Slot::BOTH {
        match snapshot.side(slot) {
            Reading::Known(side) => {
                let (healthy, all, running) = (side.targets.healthy, side.targets.registered(), side.running);
                lines.push(format!("{slot}: {healthy} of {all} targets healthy, {running} tasks running"));
            }
            Reading::Unknown(reason) => lines.push(format!("{slot} could not be read: {reason}")),
        }
    }
    for rule in &snapshot.rules {
        let line = match rule {
            Reading::Known(RuleReading { weights, .. }) => format!("traffic: {}", traffic_split(*weights)),
            Reading::Unknown(reason) => format!("a rule could not be read: {reason}"),
        };
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines
}
