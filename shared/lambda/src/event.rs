//! Deserializes JSON with the path of the invalid part in errors, and reads EventBridge's event envelope.

use crate::InvocationFailure;
pub use aws_lambda_events::event::eventbridge::EventBridgeEvent;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Deserializes a part of an event; `part` is its path in the event, for the error.
///
/// # Errors
/// `InvalidEvent`, with the path of the invalid part: `detail.image-digest: missing field …`.
pub fn read<T: DeserializeOwned>(value: Value, part: &str) -> Result<T, InvocationFailure> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let inner = error.path().to_string();
        let path = match (part, inner.as_str()) {
            (part, ".") => part.to_owned(),
            ("", inner) => inner.to_owned(),
            (part, inner) => format!("{part}.{inner}"),
        };
        let path = if path.is_empty() { "the event".to_owned() } else { path };
        InvocationFailure::event(format!("{path}: {}", error.inner()))
    })
}

/// Reads EventBridge's envelope (EventBridge user guide, "Events structure"); the detail stays raw JSON.
///
/// # Errors
/// `InvalidEvent`, with the path of the invalid part.
pub fn eventbridge(event: Value) -> Result<EventBridgeEvent<Value>, InvocationFailure> {
    read(event, "")
}

/// The failure for an event that this function does not handle.
#[must_use]
pub fn unexpected_event(event: &EventBridgeEvent<Value>, taken: &str) -> InvocationFailure {
    let EventBridgeEvent { source, detail_type, .. } = event;
    InvocationFailure::event(format!(
        "an event `{detail_type}` of `{source}` was sent here, where only {taken} are taken"
    ))
}

/// The event of a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scheduled {
    /// The scheduled time; the same for all sweeps of one minute.
    pub time: Timestamp,
}

/// Reads the event of a scheduled rule (EventBridge user guide, "Creating a scheduled rule").
///
/// # Errors
/// `InvalidEvent` for any other event, and if the time is missing.
pub fn scheduled(event: Value) -> Result<Scheduled, InvocationFailure> {
    let event = eventbridge(event)?;
    if (event.source.as_str(), event.detail_type.as_str()) != ("aws.events", "Scheduled Event") {
        return Err(unexpected_event(&event, "`Scheduled Event` events of `aws.events`"));
    }
    Ok(Scheduled { time: event_time(&event)? })
}

/// The event's time.
///
/// # Errors
/// `InvalidEvent` if the time is missing.
pub fn event_time(event: &EventBridgeEvent<Value>) -> Result<Timestamp, InvocationFailure> {
    event
        .time
        .and_then(|time| Timestamp::from_millisecond(time.timestamp_millis()).ok())
        .ok_or_else(|| InvocationFailure::event("time: missing, or not a time"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[derive(Debug, serde::Deserialize)]
    #[serde(rename_all = "kebab-case")]
    struct Detail {
        #[expect(dead_code, reason = "only its absence is looked at")]
        image_digest: String,
    }

    #[test]
    fn a_parse_error_names_the_field_path() {
        let missing = read::<Detail>(json!({"image-tag": "v1"}), "detail").expect_err("a field is missing");
        assert_eq!(missing.to_string(), "detail: missing field `image-digest`");
        let wrong = read::<Detail>(json!({"image-digest": 7}), "detail").expect_err("a number");
        assert_eq!(wrong.to_string(), "detail.image-digest: invalid type: integer `7`, expected a string");
        let other = eventbridge(json!("hello")).expect_err("no envelope");
        assert_eq!(other.kind(), "InvalidEvent");
        assert!(other.to_string().starts_with("the event: invalid type"), "{other}");
    }

    #[test]
    fn other_events_are_not_schedules() {
        let schedule = json!({
            "source": "aws.events", "detail-type": "Scheduled Event", "time": "2026-11-22T03:04:00Z", "detail": {}
        });
        assert_eq!(scheduled(schedule).map(|s| s.time.to_string()), Ok("2026-11-22T03:04:00Z".to_owned()));
        let push = json!({"source": "aws.ecr", "detail-type": "ECR Image Action", "detail": {}});
        let refused = scheduled(push).expect_err("a push");
        assert_eq!(
            refused.to_string(),
            "an event `ECR Image Action` of `aws.ecr` was sent here, where only `Scheduled Event` events of \
             `aws.events` are taken"
        );
    }
}
