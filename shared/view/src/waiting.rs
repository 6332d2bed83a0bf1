//! What a target waits for, in words: each goes on from "waiting for".

use crate::journal::split;
use crate::people::{names, with_short_names};
use crate::when::left;
use jiff::Timestamp;
use rollout::Gate;
use rollout::target::WaitingOn;
use rollout::text::visible;
use std::collections::BTreeSet;

/// One thing that is waited for, with the time left at `now`.
#[must_use]
pub fn waiting(on: &WaitingOn, now: Timestamp) -> String {
    visible(&with_short_names(&whole(on, now)))
}

fn whole(on: &WaitingOn, now: Timestamp) -> String {
    match on {
        WaitingOn::Gate { gate, reason, until, deadline } => match until {
            Some(until) => format!("gate {gate}: {reason} (opens in {})", left(*until, now)),
            // What a person has stopped goes on when a person says so.
            None if *gate == Gate::StopTheLine => format!("gate {gate}: {reason} (until somebody resumes the line)"),
            None => format!("gate {gate}: {reason} (expires in {})", left(*deadline, now)),
        },
        WaitingOn::Approval { approved, required, may, expires_at, .. } => {
            let said = if approved.is_empty() { String::new() } else { format!("approved by {}; ", names(approved)) };
            let (has, left) = (approved.len(), left(*expires_at, now));
            format!("approval, {has} of {required}: {said}{} may approve (expires in {left})", names(may))
        }
        WaitingOn::Frozen { reason, deadline } => {
            let reason = reason.trim_end_matches('.');
            format!("a person to decide: {reason} (ends as it is in {})", left(*deadline, now))
        }
        WaitingOn::Preflight { reason, deadline } => {
            format!("preflight to pass: {reason} (fails in {})", left(*deadline, now))
        }
        WaitingOn::Reading { reason, deadline } => {
            format!("a reading that failed: {reason} (decides without it in {})", left(*deadline, now))
        }
        WaitingOn::Settling { reason, until } => {
            format!("AWS to confirm the last change: {reason} ({})", left(*until, now))
        }
        WaitingOn::TaskDefinition { deadline } => {
            format!("the task definition (fails in {})", left(*deadline, now))
        }
        WaitingOn::Healthy { healthy, want, detail, deadline } => {
            let detail = if detail.is_empty() { String::new() } else { format!(", {detail}") };
            format!("{healthy} of {want} targets healthy{detail} (rolls back in {})", left(*deadline, now))
        }
        WaitingOn::Hook { hook, deadline } => format!("hook {hook} (fails in {})", left(*deadline, now)),
        WaitingOn::Weights { weights, deadline } => {
            format!("{} to be live (fails in {})", split(*weights), left(*deadline, now))
        }
        WaitingOn::Hold { traffic, until } => {
            format!("the end of the hold at {traffic} % ({} left)", left(*until, now))
        }
        WaitingOn::Bake { until } => format!("the end of the bake ({} left)", left(*until, now)),
        WaitingOn::Alarms { names, absent, not_evaluated, deadline } => {
            let list = |names: &BTreeSet<String>| names.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            let mut wanted = Vec::new();
            if !absent.is_empty() {
                let them = list(absent);
                wanted.push(format!("{them} to exist again: CloudWatch has no alarm of that name"));
            }
            wanted.extend(not_evaluated.iter().map(|(name, reason)| format!("{name} to be evaluated again: {reason}")));
            if !names.is_empty() {
                wanted.push(format!("data for {}", list(names)));
            }
            format!("{} (rolls back in {})", wanted.join("; "), left(*deadline, now))
        }
        WaitingOn::Warm { until } => format!("the end of the old side's keep-warm time ({} left)", left(*until, now)),
        WaitingOn::Drain { slot, until } => format!("{slot} to drain ({} left)", left(*until, now)),
        WaitingOn::GivingBack { what, deadline } => {
            format!("{what} to be restored (ends without it in {})", left(*deadline, now))
        }
        WaitingOn::Stopping { slot, running, deadline } => {
            format!("{running} tasks of {slot} to stop (continues anyway in {})", left(*deadline, now))
        }
        WaitingOn::ForeignEdit { reason, deadline } => {
            format!("the listener rule to be restored: {reason} (ends and leaves it in {})", left(*deadline, now))
        }
        WaitingOn::WayBack { reason, deadline } => {
            format!("a healthy stable side to roll back to: {reason} (fails in {})", left(*deadline, now))
        }
        WaitingOn::StableAlarm { name, reason } => {
            format!("the stable side's alarm {name} to clear, or a person to resume or roll back: {reason}")
        }
        WaitingOn::Turn { at } => {
            format!("its turn before this account's API limits (starts in {})", left(*at, now))
        }
        WaitingOn::Budget { until } => {
            format!("AWS throttling to end: too many requests in this account (next look in {})", left(*until, now))
        }
        WaitingOn::Retry { effect, reason } => format!("{effect} to succeed: {reason}"),
    }
}
