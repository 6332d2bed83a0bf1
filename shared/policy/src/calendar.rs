//! When deployments may begin in an environment: its time zone, windows and freezes, parsed from and formatted in the file's
//! notation.

use crate::file;
use crate::problem::ProblemCollector;
use crate::tree::{Node, Value};
use crate::values::{self, Fields, LocatedNode};
use jiff::civil::{Date, DateTime, Time};
use rollout::calendar::zone;
use rollout::entry::{FreezePeriod, Window};
use std::collections::BTreeSet;

const MAX_WINDOWS: usize = 50;
const MAX_FREEZES: usize = 50;
const MAX_REASON_CHARS: usize = 200;
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
/// Minutes of a day.
const MINUTES_PER_DAY: u16 = 24 * 60;

/// An environment's time zone, windows and freezes.
#[derive(Debug, Default)]
pub(crate) struct Calendar {
    pub(crate) time_zone: Option<String>,
    pub(crate) windows: Vec<Window>,
    pub(crate) freezes: Vec<FreezePeriod>,
}

/// Reads an environment's time zone, windows and freezes.
pub(crate) fn read_calendar(environment: &Fields<'_>, problems: &mut ProblemCollector) -> Option<Calendar> {
    let problems_before = problems.count();
    let time_zone = environment.read("time_zone", problems, |node, path, problems| {
        let written = values::line(node, path, "the name of a time zone", 64, problems)?;
        if zone(&written).is_none() {
            let all: Vec<String> = jiff::tz::db().available().map(|name| name.to_string()).collect();
            let all: Vec<&str> = all.iter().map(String::as_str).collect();
            let hint = match values::nearest_word(&written, &all) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "write a name of the IANA database, such as `Europe/Berlin` or `UTC`".to_owned(),
            };
            problems.add(node.mark, path, format!("there is no time zone `{}`: {hint}", values::shorten(&written)));
        }
        Some(written)
    });
    let windows = environment.read("windows", problems, read_windows);
    let freezes = environment.read("freezes", problems, read_freezes);
    if environment.get("time_zone").is_none() {
        for key in ["windows", "freezes"] {
            if let Some((node, path)) = environment.get(key) {
                let message = format!(
                    "`{key}` without `time_zone`: say on which clock these times are, such as `time_zone: Europe/Berlin`"
                );
                problems.add(node.mark, &path, message);
            }
        }
    }
    let calendar = Calendar { time_zone, windows: windows.unwrap_or_default(), freezes: freezes.unwrap_or_default() };
    (problems.count() == problems_before).then_some(calendar)
}

fn read_windows(node: LocatedNode<'_>, path: &str, problems: &mut ProblemCollector) -> Option<Vec<Window>> {
    let nodes = values::list(node, path, "windows", MAX_WINDOWS, problems)?;
    if nodes.is_empty() {
        let message = "the list is empty: name a window, or take the key away to let deployments begin at any time";
        problems.add(node.mark, path, message);
        return None;
    }
    let mut windows = Vec::new();
    for (node, path) in nodes {
        let read = values::parsed_text(node, &path, "a window such as `mon-fri 09:00-16:00`", parse_window, problems);
        windows.extend(read.into_iter().flatten());
    }
    Some(windows)
}

/// Parses a window; one that spans midnight becomes two.
fn parse_window(text: &str) -> Result<Vec<Window>, String> {
    let wrong = || {
        format!(
            "`{}` is not a window: write days and a time of day, such as `mon-fri 09:00-16:00`, `sat,sun 22:00-02:00` or \
             `daily 00:00-24:00`",
            values::shorten(text)
        )
    };
    let (days, hours) = text.split_once(' ').ok_or_else(wrong)?;
    let (from, until) = hours.split_once('-').ok_or_else(wrong)?;
    let days = parse_days(days)?;
    let from = parse_minute(from).filter(|minute| *minute < MINUTES_PER_DAY).ok_or_else(wrong)?;
    let until = parse_minute(until).ok_or_else(wrong)?;
    if from == until {
        return Err(format!(
            "`{}` is empty: it ends when it begins; for a whole day write `00:00-24:00`",
            values::shorten(text)
        ));
    }
    if from < until {
        return Ok(vec![Window { days, from_minute: from, until_minute: until }]);
    }
    let next = days.iter().map(|day| day % 7 + 1).collect();
    let mut windows = vec![Window { days, from_minute: from, until_minute: MINUTES_PER_DAY }];
    if until > 0 {
        windows.push(Window { days: next, from_minute: 0, until_minute: until });
    }
    Ok(windows)
}

/// Parses weekdays into their ISO numbers (Monday is 1).
fn parse_days(text: &str) -> Result<BTreeSet<u8>, String> {
    if text == "daily" {
        return Ok((1..=7).collect());
    }
    let day = |word: &str| {
        let index = DAYS.iter().position(|day| *day == word).and_then(|index| u8::try_from(index).ok());
        index.ok_or_else(|| {
            format!(
                "`{}` is not a day: write `mon`, `tue`, `wed`, `thu`, `fri`, `sat`, `sun`, `mon-fri`, `sat,sun` or `daily`",
                values::shorten(word)
            )
        })
    };
    let mut days = BTreeSet::new();
    for part in text.split(',') {
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (day(first)?, day(last)?),
            None => (day(part)?, day(part)?),
        };
        // `fri-mon` wraps around the end of the week.
        let length = (7 + last - first) % 7;
        days.extend((first..=first + length).map(|day| day % 7 + 1));
    }
    Ok(days)
}

/// Parses `09:30` into a minute of the day; `24:00` is the end of the day.
fn parse_minute(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let two_digits = |digits: &str| match digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_digit()) {
        true => digits.parse::<u16>().ok(),
        false => None,
    };
    let (hour, minute) = (two_digits(hour)?, two_digits(minute)?);
    let valid = minute < 60 && (hour < 24 || (hour, minute) == (24, 0));
    valid.then_some(hour * 60 + minute)
}

fn read_freezes(node: LocatedNode<'_>, path: &str, problems: &mut ProblemCollector) -> Option<Vec<FreezePeriod>> {
    let nodes = values::list(node, path, "freezes", MAX_FREEZES, problems)?;
    Some(nodes.into_iter().filter_map(|(node, path)| read_freeze(node, &path, problems)).collect())
}

fn read_freeze(node: LocatedNode<'_>, path: &str, problems: &mut ProblemCollector) -> Option<FreezePeriod> {
    let fields = Fields::new(node, path, file::Freeze::KEYS, problems)?;
    let from = fields.read("from", problems, read_moment);
    let until = fields.read("until", problems, read_moment);
    let reason = fields.read("reason", problems, |node, path, problems| {
        values::line(node, path, "why nothing is deployed then", MAX_REASON_CHARS, problems)
    });
    let (from, until) = (from?, until?);
    if until <= from {
        let message = format!(
            "the freeze ends at {}, which is not after its begin at {}: put them in order",
            format_moment(until),
            format_moment(from)
        );
        problems.add(node.mark, path, message);
        return None;
    }
    Some(FreezePeriod { from, until, reason: reason? })
}

/// A date and a time of day in the environment's time zone.
fn read_moment(node: LocatedNode<'_>, path: &str, problems: &mut ProblemCollector) -> Option<DateTime> {
    let written = match node.inner {
        Node { value: Value::Broken, .. } => return None,
        Node { value: Value::Scalar { text, .. }, .. } => text.as_str(),
        _ => "",
    };
    let moment = parse_moment(written);
    if moment.is_none() {
        let message = format!(
            "expected a date and a time of day, such as `2026-12-20 18:00`, on the clock of `time_zone`; found {}",
            values::describe_node(node.inner)
        );
        problems.add(node.mark, path, message);
    }
    moment
}

fn parse_moment(text: &str) -> Option<DateTime> {
    let (date, time) = text.split_once(' ')?;
    let digits = |text: &str, length: usize| text.len() == length && text.bytes().all(|b| b.is_ascii_digit());
    let mut parts = date.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || !digits(year, 4) || !digits(month, 2) || !digits(day, 2) {
        return None;
    }
    let date = Date::new(year.parse().ok()?, month.parse().ok()?, day.parse().ok()?).ok()?;
    let minute = parse_minute(time).filter(|minute| *minute < MINUTES_PER_DAY)?;
    let time = Time::new(i8::try_from(minute / 60).ok()?, i8::try_from(minute % 60).ok()?, 0, 0).ok()?;
    Some(date.to_datetime(time))
}

/// Formats a moment in the file's notation.
pub(crate) fn format_moment(at: DateTime) -> String {
    format!("{:04}-{:02}-{:02} {:02}:{:02}", at.year(), at.month(), at.day(), at.hour(), at.minute())
}

/// Formats a window in the file's notation.
pub(crate) fn format_window(window: &Window) -> String {
    let time = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
    format!("{} {}-{}", format_days(&window.days), time(window.from_minute), time(window.until_minute))
}

fn format_days(days: &BTreeSet<u8>) -> String {
    if days.len() == DAYS.len() {
        return "daily".to_owned();
    }
    let mut runs: Vec<(u8, u8)> = Vec::new();
    for day in days {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == *day => *last = *day,
            _ => runs.push((*day, *day)),
        }
    }
    let word = |day: u8| DAYS.get(usize::from(day).wrapping_sub(1)).copied().unwrap_or_default();
    let formatted = runs.into_iter().map(|(first, last)| match last - first {
        0 => word(first).to_owned(),
        1 => format!("{},{}", word(first), word(last)),
        _ => format!("{}-{}", word(first), word(last)),
    });
    formatted.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(text: &str) -> Vec<String> {
        parse_window(text).unwrap_or_else(|message| panic!("{message}")).iter().map(format_window).collect()
    }

    #[test]
    fn windows_are_parsed_and_formatted() {
        for (written, read) in [
            ("mon-thu 09:00-16:00", vec!["mon-thu 09:00-16:00"]),
            ("fri 09:00-12:00", vec!["fri 09:00-12:00"]),
            ("mon,tue,wed 00:00-00:01", vec!["mon-wed 00:00-00:01"]),
            ("sun,mon 23:59-24:00", vec!["mon,sun 23:59-24:00"]),
            ("daily 00:00-24:00", vec!["daily 00:00-24:00"]),
            ("fri-mon 10:00-11:00", vec!["mon,fri-sun 10:00-11:00"]),
            ("mon-sun 10:00-11:00", vec!["daily 10:00-11:00"]),
            // Across midnight: the remainder is on the following day, and Monday follows Sunday.
            ("mon,wed 22:00-02:00", vec!["mon,wed 22:00-24:00", "tue,thu 00:00-02:00"]),
            ("sun 22:00-02:00", vec!["sun 22:00-24:00", "mon 00:00-02:00"]),
            ("sat 22:00-00:00", vec!["sat 22:00-24:00"]),
        ] {
            let formatted = round_trip(written);
            assert_eq!(formatted, read, "{written}");
            for word in formatted {
                assert_eq!(round_trip(&word), [word], "what is written out is read again as it was");
            }
        }
    }

    #[test]
    fn an_invalid_window_gets_a_helpful_message() {
        for (written, expected) in [
            ("mon-fri", "is not a window"),
            ("09:00-16:00", "is not a window"),
            ("mon 9:00-16:00", "is not a window"),
            ("mon 09:00-25:00", "is not a window"),
            ("mon 09:00-16:60", "is not a window"),
            ("mon 24:00-02:00", "is not a window"),
            ("mon 09:00 - 16:00", "is not a window"),
            ("mon  09:00-16:00", "is not a window"),
            ("mon 09:00-+6:00", "is not a window"),
            ("monday 09:00-16:00", "`monday` is not a day"),
            ("Mon 09:00-16:00", "`Mon` is not a day"),
            ("mon, 09:00-16:00", "`` is not a day"),
            ("mon-tue-wed 09:00-16:00", "`tue-wed` is not a day"),
            ("daily,mon 09:00-16:00", "`daily` is not a day"),
            ("mon 09:00-09:00", "is empty: it ends when it begins; for a whole day write `00:00-24:00`"),
        ] {
            let message = parse_window(written).expect_err(written);
            assert!(message.contains(expected), "{written}: {message}");
        }
    }

    #[test]
    fn only_valid_dates_and_times_are_parsed() {
        let moment = parse_moment("2028-02-29 23:59").expect("a leap year");
        assert_eq!(format_moment(moment), "2028-02-29 23:59");
        for text in [
            "2026-02-29 00:00",
            "2026-13-01 00:00",
            "2026-12-20",
            "2026-12-20T00:00",
            "2026-12-20 24:00",
            "26-12-20 00:00",
            "",
            "2026-1-20 00:00",
            "-026-12-20 00:00",
        ] {
            assert!(parse_moment(text).is_none(), "{text}");
        }
    }
}
