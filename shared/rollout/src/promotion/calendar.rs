//! Windows and freezes on the clock of a time zone, with its daylight saving time.

use crate::entry::{EntryRules, Window};
use jiff::civil::{Date, Time};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{Span, Timestamp};

/// How many days ahead a window is looked for: every weekday comes within a week, but a window of an hour that daylight
/// saving time skips is a week later.
const DAYS_AHEAD: i32 = 15;

/// The zone of an IANA name, from the database that comes with the binary; none: there is no such zone.
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

/// When deployments may begin.
pub(super) enum Opens {
    Now,
    At(Timestamp),
    Never(String),
}

pub(super) fn opens_at(rules: &EntryRules, now: Timestamp) -> Opens {
    if rules.windows.is_empty() {
        return Opens::Now;
    }
    let Some(zone) = zone_of(rules) else {
        return Opens::Never(format!("there is no time zone {}", rules.time_zone.as_deref().unwrap_or_default()));
    };
    let today = now.to_zoned(zone.clone()).date();
    // Windows do not reach over midnight; yesterday's end may still be today's first instant.
    let days = (-1..DAYS_AHEAD).filter_map(|ahead| today.checked_add(Span::new().days(ahead)).ok());
    let mut open = days
        .flat_map(|day| rules.windows.iter().filter_map(|window| on(window, day, &zone)).collect::<Vec<_>>())
        .collect::<Vec<_>>();
    open.sort();
    match open.into_iter().find(|(_, until)| now < *until) {
        Some((from, _)) if from <= now => Opens::Now,
        Some((from, _)) => Opens::At(from),
        None => Opens::Never("no deploy window opens within two weeks".to_owned()),
    }
}

/// A window on a day, as instants; none where it is not open on that day, or where the clocks skip all of it.
fn on(window: &Window, day: Date, zone: &TimeZone) -> Option<(Timestamp, Timestamp)> {
    let weekday = u8::try_from(day.weekday().to_monday_one_offset()).ok()?;
    if !window.days.contains(&weekday) {
        return None;
    }
    let from = instant(day, window.from_minute, zone)?;
    let until = instant(day, window.until_minute, zone)?;
    (from < until).then_some((from, until))
}

/// A minute of a day as an instant. A time that the clocks skip is as long after the skip as it was after its begin; of
/// one that comes twice it is the first (RFC 5545, 3.3.5).
fn instant(day: Date, minute: u16, zone: &TimeZone) -> Option<Timestamp> {
    let (day, minute) = if minute >= 1440 { (day.tomorrow().ok()?, 0) } else { (day, minute) };
    let time = Time::new(i8::try_from(minute / 60).ok()?, i8::try_from(minute % 60).ok()?, 0, 0).ok()?;
    zone.to_ambiguous_timestamp(day.to_datetime(time)).compatible().ok()
}

/// The end of the policy's freeze that is on, and why it is; of several the last one to end.
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
