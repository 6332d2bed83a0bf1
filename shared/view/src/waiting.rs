//! What a target waits for: each text continues "waiting for".

use crate::journal::traffic_split;
use crate::people::{names, with_short_names};
use crate::time_format::time_left;
use jiff::Timestamp;
use rollout::explanation::WaitingOn;
use rollout::text::visible;
use rollout::{Gate, Name};
use std::collections::{BTreeMap, BTreeSet};

/// One wait, with the time left at `now`.
#[must_use]
pub fn waiting(on: &WaitingOn, now: Timestamp) -> String {
    visible(&with_short_names(&waiting_words(on, now)))
}

fn waiting_words(on: &WaitingOn, now: Timestamp) -> String {
    match on {
        WaitingOn::Gate { gate, reason, until, deadline } => {
            let end = match until {
                Some(until) => format!("opens in {}", time_left(*until, now)),
                // A gate closed by a person opens again only by a person.
                None if *gate == Gate::StopTheLine => "until somebody resumes the line".to_owned(),
                None => format!("expires in {}", time_left(*deadline, now)),
            };
            format!("gate {gate}: {reason} ({end})")
        }
        WaitingOn::Approval { approved, required, eligible, expires_at, .. } => {
            format!("{} (expires in {})", approvals(approved, *required, eligible), time_left(*expires_at, now))
        }
        WaitingOn::AwaitingOperator { reason, deadline } => {
            let reason = reason.trim_end_matches('.');
            format!("a person to decide: {reason} (ends as it is in {})", time_left(*deadline, now))
        }
        WaitingOn::Preflight { reason, deadline } => {
            format!("preflight to pass: {reason} (fails in {})", time_left(*deadline, now))
        }
        WaitingOn::Reading { reason, deadline } => {
            format!("a reading that failed: {reason} (decides without it in {})", time_left(*deadline, now))
        }
        WaitingOn::Settling { reason, until } => {
            format!("AWS to confirm the last change: {reason} ({})", time_left(*until, now))
        }
        WaitingOn::Version { deadline } => {
            format!("the new version's registration (fails in {})", time_left(*deadline, now))
        }
        WaitingOn::Healthy { healthy, want, detail, deadline } => {
            let detail = if detail.is_empty() { String::new() } else { format!(", {detail}") };
            format!("{healthy} of {want} targets healthy{detail} (rolls back in {})", time_left(*deadline, now))
        }
        WaitingOn::Replacing { .. } => replacing(on, now),
        WaitingOn::Hook { hook, deadline } => format!("hook {hook} (fails in {})", time_left(*deadline, now)),
        WaitingOn::Weights { weights, deadline } => {
            format!("{} to be live (fails in {})", traffic_split(*weights), time_left(*deadline, now))
        }
        WaitingOn::Hold { traffic, until } => {
            format!("the end of the hold at {traffic} % ({} left)", time_left(*until, now))
        }
        WaitingOn::Bake { until } => format!("the end of the bake ({} left)", time_left(*until, now)),
        WaitingOn::Alarms { names, absent, not_evaluated, deadline } => {
            format!("{} (rolls back in {})", alarms(names, absent, not_evaluated), time_left(*deadline, now))
        }
        WaitingOn::KeepWarm { until } => {
            format!("the end of the old side's keep-warm time ({} left)", time_left(*until, now))
        }
        WaitingOn::Drain { slot, until } => format!("{slot} to drain ({} left)", time_left(*until, now)),
        WaitingOn::RestoringSettings { what, deadline } => {
            format!("{what} to be restored (ends without it in {})", time_left(*deadline, now))
        }
        WaitingOn::Stopping { slot, running, deadline } => {
            format!("{running} tasks of {slot} to stop (continues anyway in {})", time_left(*deadline, now))
        }
        WaitingOn::ForeignEdit { reason, deadline } => {
            format!(
                "a change outside Switchback to be undone: {reason} (ends and leaves it in {})",
                time_left(*deadline, now)
            )
        }
        WaitingOn::RollbackBlocked { reason, deadline } => {
            format!("a healthy stable side to roll back to: {reason} (fails in {})", time_left(*deadline, now))
        }
        WaitingOn::FiringAlarm { name, reason, deadline } => {
            format!("alarm {name} to clear: {reason} (rolls back in {})", time_left(*deadline, now))
        }
        WaitingOn::StableAlarm { name, reason } => {
            format!("the stable side's alarm {name} to clear, or a person to resume or roll back: {reason}")
        }
        WaitingOn::RateLimitQueue { .. } | WaitingOn::Budget { .. } => api_limits(on, now),
        WaitingOn::Retry { effect, reason } => format!("{effect} to succeed: {reason}"),
    }
}

/// The wait for AWS's API limits; empty for another wait.
fn api_limits(on: &WaitingOn, now: Timestamp) -> String {
    match on {
        WaitingOn::RateLimitQueue { at } => {
            format!("its turn before this account's API limits (starts in {})", time_left(*at, now))
        }
        WaitingOn::Budget { until } => {
            let again = time_left(*until, now);
            format!("AWS throttling to end: too many requests in this account (next look in {again})")
        }
        _ => String::new(),
    }
}

/// How far the platform is with replacing what runs; empty for another wait.
fn replacing(on: &WaitingOn, now: Timestamp) -> String {
    let WaitingOn::Replacing { healthy, want, others, protected, detail, deadline } = on else { return String::new() };
    let protected = if *protected > 0 { format!(" ({protected} protected)") } else { String::new() };
    let others = if *others > 0 { format!(", {others} of other versions{protected} to end") } else { String::new() };
    let detail = if detail.is_empty() { String::new() } else { format!(", {detail}") };
    format!("{healthy} of {want} tasks healthy{others}{detail} (out of time in {})", time_left(*deadline, now))
}

fn approvals(approved: &[Name], required: u8, eligible: &[Name]) -> String {
    let approved_by = if approved.is_empty() { String::new() } else { format!("approved by {}; ", names(approved)) };
    format!("approval, {} of {required}: {approved_by}{} may approve", approved.len(), names(eligible))
}

/// Alarms that cannot be judged; `no_data` are those that have no data yet.
fn alarms(no_data: &BTreeSet<String>, absent: &BTreeSet<String>, not_evaluated: &BTreeMap<String, String>) -> String {
    let list = |names: &BTreeSet<String>| names.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    let mut wanted = Vec::new();
    if !absent.is_empty() {
        wanted.push(format!("{} to exist again: CloudWatch has no alarm of that name", list(absent)));
    }
    wanted.extend(not_evaluated.iter().map(|(name, reason)| format!("{name} to be evaluated again: {reason}")));
    if !no_data.is_empty() {
        wanted.push(format!("data for {}", list(no_data)));
    }
    wanted.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_alarm_without_a_state_is_named_with_its_reason() {
        let alarms = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        let wait = |names: &[&str], absent: &[&str], not_evaluated: &[(&str, &str)]| {
            let not_evaluated = not_evaluated.iter().map(|(name, why)| ((*name).to_owned(), (*why).to_owned()));
            let on = WaitingOn::Alarms {
                names: alarms(names),
                absent: alarms(absent),
                not_evaluated: not_evaluated.collect(),
                deadline: Timestamp::from_second(120).expect("a time"),
            };
            waiting(&on, Timestamp::UNIX_EPOCH)
        };
        let absent = wait(&[], &["api-5xx", "api-cpu"], &[]);
        assert!(absent.starts_with("api-5xx, api-cpu to exist again: CloudWatch has no alarm"), "{absent}");
        assert!(absent.contains("rolls back in 2m") && !absent.contains("data for"), "{absent}");

        let all = wait(&["api-latency"], &["api-5xx"], &[("api-log", "EVALUATION_ERROR")]);
        for words in ["api-5xx to exist", "api-log to be evaluated again: EVALUATION_ERROR", "data for api-latency"] {
            assert!(all.contains(words), "{words}: {all}");
        }
    }
}
