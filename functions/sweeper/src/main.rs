//! `sweeper`: every minute, wakes what is overdue and takes in the pushes whose event never came.
//!
//! The backstop of everything that is best effort: events, wakes, and functions that died half way.

use aws::registry::EcrRegistry;
use aws::{Ports, SystemClock};
use engine::intake::{Sweep, sweep};
use lambda::{Failure, Invocation};
use serde_json::{Value, json};
use std::process::ExitCode;

/// The variable that says every how many minutes a repository is compared with the ledger.
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
    let swept = sweep(&state.ports.ledger, &state.ports.wake_queue, &state.registry, &SystemClock, &turn).await;
    if swept.blind {
        return Err(Failure::unavailable(&Blind(swept.problems)));
    }
    let missed: Vec<Value> = swept
        .missed
        .iter()
        .map(|(application, service, digest, taken)| {
            json!({"application": application, "service": service, "digest": digest, "outcome": taken.to_string()})
        })
        .collect();
    Ok(json!({
        "woken": swept.woken, "cut": swept.cut, "missed": missed, "left": swept.left, "problems": swept.problems,
    }))
}

/// Which sweep it is, by the schedule's own time: two that start in one minute by the clock have a turn each.
fn turn(event: Value, every: u64, invocation: &Invocation) -> Result<Sweep, Failure> {
    let time = lambda::scheduled(event)?.time;
    let minute = u64::try_from(time.as_second() / 60).unwrap_or_default();
    Ok(Sweep { minute, every, until: invocation.until })
}

/// The ledger did not answer.
#[derive(Debug)]
struct Blind(Vec<String>);

impl std::fmt::Display for Blind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.join("; "))
    }
}

impl std::error::Error for Blind {}

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
    fn a_minute_is_the_schedules() {
        let sweep = turn_of(event!("schedule")).expect("a schedule");
        let time = "2026-11-22T03:04:00Z".parse::<rollout::Timestamp>().expect("a time");
        assert_eq!(sweep.minute * 60, time.as_second().cast_unsigned());
    }

    #[test]
    fn no_event_makes_it_panic_and_what_is_no_schedule_is_refused_clearly() {
        use garbage::proptest::prelude::*;
        let event = prop_oneof![5 => garbage::damaged(garbage::events("sweeper")), 1 => garbage::json()];
        garbage::hold(400, &event, |event| {
            if let Err(failure) = turn_of(event) {
                prop_assert_eq!(failure.kind(), "InvalidEvent");
                prop_assert!((1..=lambda::LONGEST_MESSAGE + 1).contains(&failure.to_string().chars().count()));
            }
            Ok(())
        });
    }

    #[test]
    fn what_is_no_schedule_is_refused() {
        let failure = turn_of(event!("foreign")).expect_err("a push");
        assert_eq!(
            failure.to_string(),
            "an event `ECR Image Action` of `aws.ecr` was sent here, where only `Scheduled Event` events of `aws.events` \
             are taken"
        );
    }
}
