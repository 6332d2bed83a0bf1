//! What a target waits for, in words.

use crate::journal::split;
use jiff::Timestamp;
use rollout::target::WaitingOn;

/// One thing that is waited for, with the time left at `now`.
#[must_use]
pub fn waiting(on: &WaitingOn, now: Timestamp) -> String {
    match on {
        WaitingOn::Preflight { reason, deadline } => {
            format!("preflight: {reason} (gives up in {})", left(*deadline, now))
        }
        WaitingOn::Reading { reason, deadline } => {
            format!("something cannot be read: {reason} (decides without it in {})", left(*deadline, now))
        }
        WaitingOn::TaskDefinition { deadline } => {
            format!("the task definition (gives up in {})", left(*deadline, now))
        }
        WaitingOn::Healthy { healthy, want, detail, deadline } => {
            let detail = if detail.is_empty() { String::new() } else { format!(", {detail}") };
            format!("{healthy} of {want} targets healthy{detail} (switches back in {})", left(*deadline, now))
        }
        WaitingOn::Hook { hook, deadline } => format!("hook {hook} (fails in {})", left(*deadline, now)),
        WaitingOn::Weights { weights, deadline } => {
            format!("traffic to be {} live (gives up in {})", split(*weights), left(*deadline, now))
        }
        WaitingOn::Hold { traffic, until } => {
            format!("{traffic} % on the candidate is watched for another {}", left(*until, now))
        }
        WaitingOn::Bake { until } => {
            format!("all traffic on the candidate is watched for another {}", left(*until, now))
        }
        WaitingOn::Alarms { names, deadline } => {
            let names: Vec<_> = names.iter().map(String::as_str).collect();
            format!("data for {} (switches back in {})", names.join(", "), left(*deadline, now))
        }
        WaitingOn::Warm { until } => format!("the old side stays warm for another {}", left(*until, now)),
        WaitingOn::Drain { slot, until } => format!("{slot} drains for another {}", left(*until, now)),
        WaitingOn::GivingBack { what, deadline } => {
            format!("{what} to be given back (ends without in {})", left(*deadline, now))
        }
        WaitingOn::Stopping { slot, running, deadline } => {
            format!("{running} tasks of {slot} to stop (goes on without in {})", left(*deadline, now))
        }
        WaitingOn::ForeignEdit { reason, deadline } => {
            format!("somebody else edited the rule: {reason} (ends untouched in {})", left(*deadline, now))
        }
        WaitingOn::WayBack { reason, deadline } => {
            format!("the stable side is not fit yet: {reason} (fails in {})", left(*deadline, now))
        }
        WaitingOn::Retry { effect, reason } => format!("{effect} to work: {reason}"),
    }
}

/// The time from `now` until `then` as people say it: `4s`, `3m 20s`, `2h 5m`.
#[must_use]
pub fn left(then: Timestamp, now: Timestamp) -> String {
    match rollout::Seconds::between(now, then).0 {
        seconds @ 0..60 => format!("{seconds}s"),
        seconds @ 60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        seconds => format!("{}h {}m", seconds / 3600, seconds / 60 % 60),
    }
}
