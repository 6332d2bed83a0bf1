//! When deployments may begin in an environment: its time zone, windows and freezes, from and to the file's words.

use crate::problem::Found;
use crate::tree::{Node, Value};
use crate::walk::{self, At, Fields, Shape};
use jiff::civil::{Date, DateTime, Time};
use rollout::entry::{FreezePeriod, Window};
use rollout::promotion::calendar::zone;
use std::collections::BTreeSet;

const MOST_WINDOWS: usize = 50;
const MOST_FREEZES: usize = 50;
const LONGEST_REASON: usize = 200;
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
/// Minutes of a day.
const DAY: u16 = 24 * 60;

pub(crate) const FREEZE: Shape =
    Shape { name: "Freeze", keys: &["from", "until", "reason"], required: &["from", "until", "reason"] };

/// What an environment says of the clock.
#[derive(Debug, Default)]
pub(crate) struct Calendar {
    pub(crate) time_zone: Option<String>,
    pub(crate) windows: Vec<Window>,
    pub(crate) freezes: Vec<FreezePeriod>,
}

/// Reads an environment's zone, windows and freezes.
pub(crate) fn calendar(environment: &Fields<'_>, found: &mut Found) -> Option<Calendar> {
    let before = found.count();
    let time_zone = environment.read("time_zone", found, |at, path, found| {
        let written = walk::line(at, path, "the name of a time zone", 64, found)?;
        if zone(&written).is_none() {
            let all: Vec<String> = jiff::tz::db().available().map(|name| name.to_string()).collect();
            let all: Vec<&str> = all.iter().map(String::as_str).collect();
            let hint = match walk::nearest_word(&written, &all) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "write a name of the IANA database, such as `Europe/Berlin` or `UTC`".to_owned(),
            };
            found.add(at.mark, path, format!("there is no time zone `{}`: {hint}", walk::shown(&written)));
        }
        Some(written)
    });
    let windows = environment.read("windows", found, windows);
    let freezes = environment.read("freezes", found, freezes);
    if environment.get("time_zone").is_none() {
        for key in ["windows", "freezes"] {
            if let Some((at, path)) = environment.get(key) {
                let message = format!(
                    "`{key}` without `time_zone`: say on which clock these times are, such as `time_zone: Europe/Berlin`"
                );
                found.add(at.mark, &path, message);
            }
        }
    }
    let calendar = Calendar { time_zone, windows: windows.unwrap_or_default(), freezes: freezes.unwrap_or_default() };
    (found.count() == before).then_some(calendar)
}

fn windows(at: At<'_>, path: &str, found: &mut Found) -> Option<Vec<Window>> {
    let nodes = walk::list(at, path, "windows", MOST_WINDOWS, found)?;
    if nodes.is_empty() {
        let message = "the list is empty: name a window, or take the key away to let deployments begin at any time";
        found.add(at.mark, path, message);
        return None;
    }
    let mut windows = Vec::new();
    for (at, path) in nodes {
        let Some(written) = walk::text(at, &path, "a window such as `mon-fri 09:00-16:00`", found) else { continue };
        match window(written) {
            Ok(read) => windows.extend(read),
            Err(message) => found.add(at.mark, &path, message),
        }
    }
    Some(windows)
}

/// A window as it is written; one that reaches over midnight becomes two.
fn window(text: &str) -> Result<Vec<Window>, String> {
    let wrong = || {
        format!(
            "`{}` is not a window: write days and a time of day, such as `mon-fri 09:00-16:00`, `sat,sun 22:00-02:00` or \
             `daily 00:00-24:00`",
            walk::shown(text)
        )
    };
    let (days, hours) = text.split_once(' ').ok_or_else(wrong)?;
    let (from, until) = hours.split_once('-').ok_or_else(wrong)?;
    let days = days_of(days)?;
    let from = minute(from).filter(|minute| *minute < DAY).ok_or_else(wrong)?;
    let until = minute(until).ok_or_else(wrong)?;
    if from == until {
        return Err(format!(
            "`{}` is empty: it ends when it begins; for a whole day write `00:00-24:00`",
            walk::shown(text)
        ));
    }
    if from < until {
        return Ok(vec![Window { days, from_minute: from, until_minute: until }]);
    }
    let next = days.iter().map(|day| day % 7 + 1).collect();
    let mut windows = vec![Window { days, from_minute: from, until_minute: DAY }];
    if until > 0 {
        windows.push(Window { days: next, from_minute: 0, until_minute: until });
    }
    Ok(windows)
}

/// Weekdays by their ISO numbers.
fn days_of(text: &str) -> Result<BTreeSet<u8>, String> {
    if text == "daily" {
        return Ok((1..=7).collect());
    }
    let day = |word: &str| {
        let index = DAYS.iter().position(|day| *day == word).and_then(|index| u8::try_from(index).ok());
        index.ok_or_else(|| {
            format!(
                "`{}` is not a day: write `mon`, `tue`, `wed`, `thu`, `fri`, `sat`, `sun`, `mon-fri`, `sat,sun` or `daily`",
                walk::shown(word)
            )
        })
    };
    let mut days = BTreeSet::new();
    for part in text.split(',') {
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (day(first)?, day(last)?),
            None => (day(part)?, day(part)?),
        };
        // `fri-mon` goes over the end of the week.
        let length = (7 + last - first) % 7;
        days.extend((first..=first + length).map(|day| day % 7 + 1));
    }
    Ok(days)
}

/// `09:30` as a minute of the day; `24:00` is its end.
fn minute(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let two = |digits: &str| match digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_digit()) {
        true => digits.parse::<u16>().ok(),
        false => None,
    };
    let (hour, minute) = (two(hour)?, two(minute)?);
    let sound = minute < 60 && (hour < 24 || (hour, minute) == (24, 0));
    sound.then_some(hour * 60 + minute)
}

fn freezes(at: At<'_>, path: &str, found: &mut Found) -> Option<Vec<FreezePeriod>> {
    let nodes = walk::list(at, path, "freezes", MOST_FREEZES, found)?;
    Some(nodes.into_iter().filter_map(|(at, path)| freeze(at, &path, found)).collect())
}

fn freeze(at: At<'_>, path: &str, found: &mut Found) -> Option<FreezePeriod> {
    let fields = Fields::new(at, path, &FREEZE, found)?;
    let from = fields.read("from", found, moment);
    let until = fields.read("until", found, moment);
    let reason = fields.read("reason", found, |at, path, found| {
        walk::line(at, path, "why nothing is deployed then", LONGEST_REASON, found)
    });
    let (from, until) = (from?, until?);
    if until <= from {
        let message = format!(
            "the freeze ends at {}, which is not after its begin at {}: put them in order",
            moment_words(until),
            moment_words(from)
        );
        found.add(at.mark, path, message);
        return None;
    }
    Some(FreezePeriod { from, until, reason: reason? })
}

/// A date and a time of day on the environment's clock.
fn moment(at: At<'_>, path: &str, found: &mut Found) -> Option<DateTime> {
    let written = match at.node {
        Node { value: Value::Broken, .. } => return None,
        Node { value: Value::Scalar { text, .. }, .. } => text.as_str(),
        _ => "",
    };
    let moment = read_moment(written);
    if moment.is_none() {
        let message = format!(
            "expected a date and a time of day, such as `2026-12-20 18:00`, on the clock of `time_zone`; found {}",
            walk::kind(at.node)
        );
        found.add(at.mark, path, message);
    }
    moment
}

fn read_moment(text: &str) -> Option<DateTime> {
    let (date, time) = text.split_once(' ')?;
    let digits = |text: &str, length: usize| text.len() == length && text.bytes().all(|b| b.is_ascii_digit());
    let mut parts = date.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || !digits(year, 4) || !digits(month, 2) || !digits(day, 2) {
        return None;
    }
    let date = Date::new(year.parse().ok()?, month.parse().ok()?, day.parse().ok()?).ok()?;
    let minute = minute(time).filter(|minute| *minute < DAY)?;
    let time = Time::new(i8::try_from(minute / 60).ok()?, i8::try_from(minute % 60).ok()?, 0, 0).ok()?;
    Some(date.to_datetime(time))
}

/// A moment as the file writes it.
pub(crate) fn moment_words(at: DateTime) -> String {
    format!("{:04}-{:02}-{:02} {:02}:{:02}", at.year(), at.month(), at.day(), at.hour(), at.minute())
}

/// A window as the file writes it.
pub(crate) fn window_words(window: &Window) -> String {
    let time = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
    format!("{} {}-{}", days_words(&window.days), time(window.from_minute), time(window.until_minute))
}

fn days_words(days: &BTreeSet<u8>) -> String {
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
    let words = runs.into_iter().map(|(first, last)| match last - first {
        0 => word(first).to_owned(),
        1 => format!("{},{}", word(first), word(last)),
        _ => format!("{}-{}", word(first), word(last)),
    });
    words.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn again(text: &str) -> Vec<String> {
        window(text).unwrap_or_else(|message| panic!("{message}")).iter().map(window_words).collect()
    }

    #[test]
    fn windows_are_read_as_people_write_them() {
        for (written, read) in [
            ("mon-thu 09:00-16:00", vec!["mon-thu 09:00-16:00"]),
            ("fri 09:00-12:00", vec!["fri 09:00-12:00"]),
            ("mon,tue,wed 00:00-00:01", vec!["mon-wed 00:00-00:01"]),
            ("sun,mon 23:59-24:00", vec!["mon,sun 23:59-24:00"]),
            ("daily 00:00-24:00", vec!["daily 00:00-24:00"]),
            ("fri-mon 10:00-11:00", vec!["mon,fri-sun 10:00-11:00"]),
            ("mon-sun 10:00-11:00", vec!["daily 10:00-11:00"]),
            // Over midnight: the rest is on the day after, and Monday comes after Sunday.
            ("mon,wed 22:00-02:00", vec!["mon,wed 22:00-24:00", "tue,thu 00:00-02:00"]),
            ("sun 22:00-02:00", vec!["sun 22:00-24:00", "mon 00:00-02:00"]),
            ("sat 22:00-00:00", vec!["sat 22:00-24:00"]),
        ] {
            let words = again(written);
            assert_eq!(words, read, "{written}");
            for word in words {
                assert_eq!(again(&word), [word], "what is written out is read again as it was");
            }
        }
    }

    #[test]
    fn what_is_no_window_is_refused_with_what_to_write() {
        for (written, told) in [
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
            let message = window(written).expect_err(written);
            assert!(message.contains(told), "{written}: {message}");
        }
    }

    #[test]
    fn a_moment_is_a_day_of_the_calendar_and_a_time_of_it() {
        let moment = read_moment("2028-02-29 23:59").expect("a leap year");
        assert_eq!(moment_words(moment), "2028-02-29 23:59");
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
            assert!(read_moment(text).is_none(), "{text}");
        }
    }
}
