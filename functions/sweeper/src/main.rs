//! `sweeper`: runs every minute, wakes overdue targets and processes pushes whose event was lost.
//!
//! The backstop for everything that is best effort: events, wakes, and functions that died half way.

use aws::registry::EcrRegistry;
use aws::{Ports, SystemClock};
use engine::intake::{Sweep, sweep};
use lambda::{Failure, Invocation};
use serde_json::{Value, json};
use std::process::ExitCode;

/// The environment variable with the interval, in minutes, at which a repository is compared with the ledger.
const EVERY: &str = "SWITCHBACK_REGISTRY_EVERY_MINUTES";

struct State {
    ports: Ports,
    registry: EcrRegistry,
    every: u64,
}

fn main() -> ExitCode {
    lambda::run(start, handle)
}

fn start() -> Result<State, Failure> {
    let ports = Ports::from_environment().map_err(|error| Failure::configuration(&error))?;
    Ok(State { registry: EcrRegistry::new(ports.clients.clone()), every: lambda::number(EVERY, 5)?, ports })
}

async fn handle(state: &State, event: Value, invocation: &Invocation) -> Result<Value, Failure> {
    let turn = turn(event, state.every, invocation)?;
    let report = sweep(&state.ports.ledger, &state.ports.wake_queue, &state.registry, &SystemClock, &turn).await;
    if report.ledger_unavailable {
        return Err(Failure::unavailable(&LedgerUnavailable(report.problems)));
    }
    let missed: Vec<Value> = report
        .missed
        .iter()
        .map(|(application, service, digest, outcome)| {
            json!({"application": application, "service": service, "digest": digest, "outcome": outcome.to_string()})
        })
        .collect();
    Ok(json!({
        "woken": report.woken, "cut": report.truncated, "missed": missed, "left": report.left, "problems": report.problems,
    }))
}

/// The sweep's minute by the schedule's own time, so that two sweeps started in the same clock minute get different turns.
fn turn(event: Value, every: u64, invocation: &Invocation) -> Result<Sweep, Failure> {
    let time = lambda::scheduled(event)?.time;
    let minute = u64::try_from(time.as_second() / 60).unwrap_or_default();
    Ok(Sweep { minute, every, until: invocation.until })
}

/// The ledger did not answer.
#[derive(Debug)]
struct LedgerUnavailable(Vec<String>);

impl std::fmt::Display for LedgerUnavailable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.join("; "))
    }
}

impl std::error::Error for LedgerUnavailable {}

#[cfg(test)]
mod tests {
    use super::*;

    macro_rules! event {
        ($case:literal) => {
            serde_json::from_str::<Value>(include_str!(concat!("../../../events/sweeper.", $case, ".json")))
                .expect("the payload is JSON")
        };
    }

    fn turn_of(event: Value) -> Result<Sweep, Failure> {
        let until = "2026-11-22T03:05:00Z".parse().expect("a time");
        turn(event, 5, &Invocation { request_id: "r-1".to_owned(), until })
    }

    #[test]
    fn the_minute_comes_from_the_schedule() {
        let sweep = turn_of(event!("schedule")).expect("a schedule");
        let time = "2026-11-22T03:04:00Z".parse::<rollout::Timestamp>().expect("a time");
        assert_eq!(sweep.minute * 60, time.as_second().cast_unsigned());
    }

    #[test]
    fn arbitrary_events_do_not_panic() {
        use garbage::proptest::prelude::*;
        let event = prop_oneof![5 => garbage::damaged(garbage::events("sweeper")), 1 => garbage::json()];
        garbage::hold(400, &event, |event| {
            if let Err(failure) = turn_of(event) {
                prop_assert_eq!(failure.kind(), "InvalidEvent");
                prop_assert!((1..=lambda::MAX_MESSAGE_CHARS + 1).contains(&failure.to_string().chars().count()));
            }
            Ok(())
        });
    }

    #[test]
    fn other_events_are_refused() {
        let failure = turn_of(event!("foreign")).expect_err("a push");
        assert_eq!(
            failure.to_string(),
            "an event `ECR Image Action` of `aws.ecr` was sent here, where only `Scheduled Event` events of `aws.events` \
             are taken"
        );
    }
}
