//! Times and durations as text.

use jiff::Timestamp;
use rollout::Seconds;

/// The time from `now` until `then`: `4s`, `3m 20s`, `2h 5m`, `1d 3h`.
#[must_use]
pub fn time_left(then: Timestamp, now: Timestamp) -> String {
    format_duration(Seconds::between(now, then))
}

/// `in 4m 10s`; `now` if `then` is not later than `now`.
#[must_use]
pub fn until(then: Timestamp, now: Timestamp) -> String {
    if then <= now { "now".to_owned() } else { format!("in {}", time_left(then, now)) }
}

/// `4m 10s ago`, or `just now` within a second.
#[must_use]
pub fn ago(then: Timestamp, now: Timestamp) -> String {
    match Seconds::between(then, now) {
        Seconds(0..=1) => "just now".to_owned(),
        since => format!("{} ago", format_duration(since)),
    }
}

/// A duration in its two largest units, without the second one if it is zero.
#[must_use]
pub fn format_duration(duration: Seconds) -> String {
    let (large, unit, small, small_unit) = match duration.0 {
        seconds @ 0..60 => return format!("{seconds}s"),
        seconds @ 60..3600 => (seconds / 60, 'm', seconds % 60, 's'),
        seconds @ 3600..86400 => (seconds / 3600, 'h', seconds / 60 % 60, 'm'),
        seconds => (seconds / 86400, 'd', seconds / 3600 % 24, 'h'),
    };
    if small == 0 { format!("{large}{unit}") } else { format!("{large}{unit} {small}{small_unit}") }
}

/// `2026-01-01 00:05:12 UTC`
#[must_use]
pub fn instant(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// `2026-01-01 00:05:12`, UTC.
#[must_use]
pub fn day_and_time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// `00:05:12`, UTC.
#[must_use]
pub fn time_of_day(at: Timestamp) -> String {
    at.strftime("%H:%M:%S").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_use_their_two_largest_units() {
        let formatted =
            [0, 59, 60, 61, 3599, 3600, 3660, 86399, 86400, 183_600].map(|seconds| format_duration(Seconds(seconds)));
        assert_eq!(formatted, ["0s", "59s", "1m", "1m 1s", "59m 59s", "1h", "1h 1m", "23h 59m", "1d", "2d 3h"]);
    }

    #[test]
    fn instants_are_shown_relative_to_now() {
        let at = |second| Timestamp::from_second(second).expect("in range");
        assert_eq!(until(at(250), at(0)), "in 4m 10s");
        assert_eq!(until(at(0), at(1)), "now");
        assert_eq!(ago(at(0), at(1)), "just now");
        assert_eq!(ago(at(0), at(90)), "1m 30s ago");
        assert_eq!(instant(at(1_767_225_612)), "2026-01-01 00:00:12 UTC");
        assert_eq!(time_of_day(at(1_767_225_612)), "00:00:12");
    }
}
