//! Deploy windows and calendar freezes in a time zone, with its daylight saving time.

use crate::entry::{EntryRules, Window};
use jiff::civil::{Date, Time};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{Span, Timestamp};

/// How many days ahead the next window is searched for: every weekday comes within a week, but a window within an hour
/// that daylight saving time skips opens a week later.
const DAYS_AHEAD: i32 = 15;

/// The time zone of an IANA name, from the database bundled with the binary; none: there is no such zone.
#[must_use]
pub fn zone(name: &str) -> Option<TimeZone> {
    TimeZoneDatabase::bundled().get(name).ok()
}

fn zone_of(rules: &EntryRules) -> Option<TimeZone> {
    match &rules.time_zone {
        None => Some(TimeZone::UTC),
        Some(name) => zone(name),
    }
}

/// When the deploy windows let deployments start.
pub(super) enum WindowState {
    /// A window is open, or there are none.
    Now,
    /// The next window opens then.
    At(Timestamp),
    /// No window opens, with the reason.
    Never(String),
}

/// The state of the deploy windows at `now`.
pub(super) fn window_state(rules: &EntryRules, now: Timestamp) -> WindowState {
    if rules.windows.is_empty() {
        return WindowState::Now;
    }
    let Some(zone) = zone_of(rules) else {
        return WindowState::Never(format!("there is no time zone {}", rules.time_zone.as_deref().unwrap_or_default()));
    };
    let today = now.to_zoned(zone.clone()).date();
    // Windows do not cross midnight; the end of yesterday's window may still be today's first instant.
    let days = (-1..DAYS_AHEAD).filter_map(|ahead| today.checked_add(Span::new().days(ahead)).ok());
    let mut open = days
        .flat_map(|day| rules.windows.iter().filter_map(|window| window_on(window, day, &zone)).collect::<Vec<_>>())
        .collect::<Vec<_>>();
    open.sort();
    match open.into_iter().find(|(_, until)| now < *until) {
        Some((from, _)) if from <= now => WindowState::Now,
        Some((from, _)) => WindowState::At(from),
        None => WindowState::Never("no deploy window opens within two weeks".to_owned()),
    }
}

/// A window on a given day, as instants; none: it is not open on that day, or the clocks skip all of it.
fn window_on(window: &Window, day: Date, zone: &TimeZone) -> Option<(Timestamp, Timestamp)> {
    let weekday = u8::try_from(day.weekday().to_monday_one_offset()).ok()?;
    if !window.days.contains(&weekday) {
        return None;
    }
    let from = instant(day, window.from_minute, zone)?;
    let until = instant(day, window.until_minute, zone)?;
    (from < until).then_some((from, until))
}

/// A minute of a day as an instant. In a DST gap, the time moves forward by the length of the gap; a repeated time is
/// its first occurrence (RFC 5545, 3.3.5).
fn instant(day: Date, minute: u16, zone: &TimeZone) -> Option<Timestamp> {
    let (day, minute) = if minute >= 1440 { (day.tomorrow().ok()?, 0) } else { (day, minute) };
    let time = Time::new(i8::try_from(minute / 60).ok()?, i8::try_from(minute % 60).ok()?, 0, 0).ok()?;
    zone.to_ambiguous_timestamp(day.to_datetime(time)).compatible().ok()
}

/// The end and the reason of the active calendar freeze; of several, the last to end.
pub(super) fn frozen_until(rules: &EntryRules, now: Timestamp) -> Option<(Timestamp, String)> {
    if rules.freezes.is_empty() {
        return None;
    }
    let Some(zone) = zone_of(rules) else {
        let reason = format!("there is no time zone {}", rules.time_zone.as_deref().unwrap_or_default());
        return Some((Timestamp::MAX, reason));
    };
    let as_instants = rules.freezes.iter().filter_map(|freeze| {
        let from = zone.to_ambiguous_timestamp(freeze.from).compatible().ok()?;
        let until = zone.to_ambiguous_timestamp(freeze.until).compatible().ok()?;
        Some((from, until, freeze))
    });
    let on = as_instants.filter(|(from, until, _)| (*from..*until).contains(&now));
    on.max_by_key(|(_, until, _)| *until).map(|(_, until, freeze)| (until, freeze.reason.clone()))
}
