//! Parses the schedule's event: which minute this sweep is of.

use lambda::InvocationFailure;
use serde_json::Value;

/// The scheduled minute, counted from 1970. It is the schedule's own time, so that two sweeps started in the same clock
/// minute get different turns.
///
/// # Errors
/// `InvalidEvent` for any event but a schedule's.
pub(crate) fn minute(event: Value) -> Result<u64, InvocationFailure> {
    let time = lambda::scheduled(event)?.time;
    Ok(u64::try_from(time.as_second() / 60).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    macro_rules! event {
        ($case:literal) => {
            serde_json::from_str::<Value>(include_str!(concat!("../../../events/sweeper.", $case, ".json")))
                .expect("the payload is JSON")
        };
    }

    #[test]
    fn the_minute_comes_from_the_schedule() {
        let minute = minute(event!("schedule")).expect("a schedule");
        let time = "2026-11-22T03:04:00Z".parse::<rollout::Timestamp>().expect("a time");
        assert_eq!(minute * 60, time.as_second().cast_unsigned());
    }

    #[test]
    fn other_events_are_refused() {
        let failure = minute(event!("foreign")).expect_err("a push");
        assert_eq!(
            failure.to_string(),
            "an event `ECR Image Action` of `aws.ecr` was sent here, where only `Scheduled Event` events of \
             `aws.events` are taken"
        );
    }
}
