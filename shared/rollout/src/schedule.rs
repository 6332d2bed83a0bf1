//! Scheduled actions of Application Auto Scaling, and when they run.
//!
//! While scheduled scaling is suspended an action does not run, and AWS does not run it later (AWS documents the
//! suspension, not what becomes of a missed action; nobody has seen one run afterwards). So the limits that it would
//! have set are computed here.
//!
//! An action's schedule is `at(yyyy-mm-ddThh:mm:ss)`, `rate(value unit)` or `cron(minutes hours day-of-month month
//! day-of-week year)` (API reference, `PutScheduledAction`; Application Auto Scaling user guide, "Schedule recurring
//! scaling actions"; the six fields: EventBridge user guide, "Cron expressions reference"). `at` and `cron` are
//! evaluated in the action's time zone, UTC by default.

use crate::calendar;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;

/// How many days are searched for a run, in either direction: enough for a schedule that runs on one day a year.
const MAX_DAYS: usize = 800;

/// A scheduled action of a scalable target, as returned by `DescribeScheduledActions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduledAction {
    /// `ScheduledActionName`
    pub name: String,
    /// `at(…)`, `rate(…)` or `cron(…)`.
    pub schedule: String,
    /// IANA name; none: UTC.
    pub time_zone: Option<String>,
    /// Start time: no run before it; a rate first runs at it.
    pub start: Option<Timestamp>,
    /// End time: no run after it.
    pub end: Option<Timestamp>,
    /// Creation time: a rate without a start time is counted from it.
    pub created: Timestamp,
    /// The `MinCapacity` that it sets; none: the minimum is unchanged.
    pub min: Option<u32>,
    /// The `MaxCapacity` that it sets; none: the maximum is unchanged.
    pub max: Option<u32>,
}

/// Why a schedule cannot be evaluated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the schedule `{schedule}` is not understood: {reason}")]
pub struct ScheduleError {
    schedule: String,
    reason: String,
}

impl ScheduledAction {
    /// The last run after `after` and not after `until`; none: no run in that interval.
    ///
    /// # Errors
    /// [`ScheduleError`] if the schedule or the time zone is not understood.
    pub fn last_run(&self, after: Timestamp, until: Timestamp) -> Result<Option<Timestamp>, ScheduleError> {
        let (schedule, zone) = self.parsed()?;
        let until = self.end.map_or(until, |end| end.min(until));
        let runs = |at: &Timestamp| *at > after && *at <= until && self.start.is_none_or(|start| *at >= start);
        Ok(match schedule {
            Schedule::At(at) => instant(at, &zone).filter(runs),
            Schedule::Rate(period) => self.rate_run_before(period, until).filter(runs),
            Schedule::Cron(cron) => {
                let last = until.to_zoned(zone.clone()).date();
                let days = std::iter::successors(Some(last), |day| day.yesterday().ok()).take(MAX_DAYS);
                // One day earlier: the clocks may be set back across midnight.
                let first = after.to_zoned(zone.clone()).date().yesterday().unwrap_or(Date::MIN);
                let mut days = days.take_while(|day| *day >= first);
                days.find_map(|day| cron.runs_on(day, &zone).filter(runs).max())
            }
        })
    }

    /// The first run after `after`; none: it never runs again.
    ///
    /// # Errors
    /// As [`Self::last_run`].
    pub fn next_run(&self, after: Timestamp) -> Result<Option<Timestamp>, ScheduleError> {
        let (schedule, zone) = self.parsed()?;
        let runs = |at: &Timestamp| {
            *at > after && self.start.is_none_or(|start| *at >= start) && self.end.is_none_or(|end| *at <= end)
        };
        Ok(match schedule {
            Schedule::At(at) => instant(at, &zone).filter(runs),
            Schedule::Rate(period) => {
                let before = self.rate_run_before(period, after);
                let first = if self.start.is_some() { self.start } else { self.created.checked_add(period).ok() };
                let next = before.map_or(first, |before| before.checked_add(period).ok());
                next.filter(runs)
            }
            Schedule::Cron(cron) => {
                let from = self.start.map_or(after, |start| start.max(after));
                let first = from.to_zoned(zone.clone()).date();
                let first = first.yesterday().unwrap_or(first);
                let mut days = std::iter::successors(Some(first), |day| day.tomorrow().ok()).take(MAX_DAYS);
                days.find_map(|day| cron.runs_on(day, &zone).filter(runs).min())
            }
        })
    }

    /// The last run of a rate not after `until`.
    fn rate_run_before(&self, period: SignedDuration, until: Timestamp) -> Option<Timestamp> {
        // Without a start time, AWS does not document a run at the creation itself.
        let (base, first) = self.start.map_or((self.created, 1), |start| (start, 0));
        let passed = until.as_millisecond().checked_sub(base.as_millisecond())?;
        let periods = i32::try_from(passed.div_euclid(period.as_millis().try_into().ok()?)).ok()?;
        if periods < first { None } else { base.checked_add(period.checked_mul(periods)?).ok() }
    }

    fn parsed(&self) -> Result<(Schedule, TimeZone), ScheduleError> {
        let wrong = |reason: String| ScheduleError { schedule: self.schedule.clone(), reason };
        let zone = match &self.time_zone {
            None => TimeZone::UTC,
            Some(name) => calendar::zone(name).ok_or_else(|| wrong(format!("there is no time zone {name}")))?,
        };
        Ok((Schedule::parse(&self.schedule).map_err(wrong)?, zone))
    }
}

/// A local time as an instant. In a DST gap, the time moves forward by the length of the gap; a repeated time is its
/// first occurrence (AWS says of daylight saving time only that it is followed).
fn instant(at: DateTime, zone: &TimeZone) -> Option<Timestamp> {
    zone.to_ambiguous_timestamp(at).compatible().ok()
}

/// A parsed schedule.
enum Schedule {
    At(DateTime),
    Rate(SignedDuration),
    Cron(Cron),
}

impl Schedule {
    fn parse(text: &str) -> Result<Self, String> {
        let inner = |name: &str| text.trim().strip_prefix(name)?.trim_start().strip_prefix('(')?.strip_suffix(')');
        if let Some(at) = inner("at") {
            return at.trim().parse().map(Self::At).map_err(|_| "expected yyyy-mm-ddThh:mm:ss".to_owned());
        }
        if let Some(rate) = inner("rate") {
            return rate_of(rate)
                .map(Self::Rate)
                .ok_or_else(|| "expected a number and minutes, hours or days".to_owned());
        }
        match inner("cron") {
            Some(fields) => Cron::parse(fields).map(Self::Cron),
            None => Err("expected at(…), rate(…) or cron(…)".to_owned()),
        }
    }
}

fn rate_of(text: &str) -> Option<SignedDuration> {
    let mut words = text.split_whitespace();
    let (value, unit) = (words.next()?.parse::<i64>().ok()?, words.next()?);
    let seconds = match unit {
        "minute" | "minutes" => 60,
        "hour" | "hours" => 3600,
        "day" | "days" => 86400,
        _ => return None,
    };
    let whole = value.checked_mul(seconds).filter(|seconds| *seconds > 0)?;
    words.next().is_none().then(|| SignedDuration::from_secs(whole))
}

/// One item of a cron expression's day-of-month field.
#[derive(Debug, Clone, PartialEq, Eq)]
enum MonthDay {
    These(Vec<u16>),
    /// `L`
    Last,
    /// `LW`
    LastWeekday,
    /// `3W`: the weekday nearest to the third, within the month.
    NearestWeekday(i8),
}

/// One item of a cron expression's day-of-week field; Sunday is 1.
#[derive(Debug, Clone, PartialEq, Eq)]
enum WeekDay {
    These(Vec<u16>),
    /// `6L`: the last Friday of the month.
    LastOf(i8),
    /// `6#3`: the third Friday of the month.
    Nth(i8, i8),
}

/// A parsed cron expression: for each of its six fields, the values or days that it matches.
struct Cron {
    minutes: Vec<u16>,
    hours: Vec<u16>,
    month_days: Vec<MonthDay>,
    months: Vec<u16>,
    week_days: Vec<WeekDay>,
    years: Vec<u16>,
}

const MONTHS: [&str; 12] = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const WEEK_DAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

impl Cron {
    fn parse(text: &str) -> Result<Self, String> {
        let fields: Vec<String> = text.split_whitespace().map(str::to_uppercase).collect();
        let [minutes, hours, month_days, months, week_days, years] = fields.as_slice() else {
            return Err(format!("it has {} fields of 6", fields.len()));
        };
        let month_day = |item: &str| match item {
            "L" => Ok(MonthDay::Last),
            "LW" | "WL" => Ok(MonthDay::LastWeekday),
            _ => match item.strip_suffix('W') {
                Some(day) => Ok(MonthDay::NearestWeekday(small(number(day, &[], 1..=31)?))),
                None => Ok(MonthDay::These(range(item, &[], 1..=31)?)),
            },
        };
        let week_day = |item: &str| {
            if let Some((day, which)) = item.split_once('#') {
                return Ok(WeekDay::Nth(small(number(day, &WEEK_DAYS, 1..=7)?), small(number(which, &[], 1..=5)?)));
            }
            match item.strip_suffix('L') {
                // `L` alone: Saturday, the last day of the week.
                Some("") => Ok(WeekDay::These(vec![7])),
                Some(day) => Ok(WeekDay::LastOf(small(number(day, &WEEK_DAYS, 1..=7)?))),
                None => Ok(WeekDay::These(range(item, &WEEK_DAYS, 1..=7)?)),
            }
        };
        Ok(Self {
            minutes: ranges(minutes, &[], 0..=59)?,
            hours: ranges(hours, &[], 0..=23)?,
            month_days: month_days.split(',').map(month_day).collect::<Result<_, String>>()?,
            months: ranges(months, &MONTHS, 1..=12)?,
            week_days: week_days.split(',').map(week_day).collect::<Result<_, String>>()?,
            years: ranges(years, &[], 1970..=2199)?,
        })
    }

    /// The runs on a local day.
    fn runs_on<'c>(&'c self, day: Date, zone: &'c TimeZone) -> impl Iterator<Item = Timestamp> + 'c {
        let minutes = if self.is_on(day) { self.minutes.as_slice() } else { &[] };
        minutes.iter().flat_map(move |minute| {
            self.hours.iter().filter_map(move |hour| {
                let time = Time::new(i8::try_from(*hour).ok()?, i8::try_from(*minute).ok()?, 0, 0).ok()?;
                instant(day.to_datetime(time), zone)
            })
        })
    }

    fn is_on(&self, day: Date) -> bool {
        let among = |these: &[u16], value: i16| u16::try_from(value).is_ok_and(|value| these.contains(&value));
        among(&self.years, day.year())
            && among(&self.months, day.month().into())
            && self.month_days.iter().any(|item| month_day_is(item, day))
            && self.week_days.iter().any(|item| week_day_is(item, day))
    }
}

fn month_day_is(item: &MonthDay, day: Date) -> bool {
    let last = day.days_in_month();
    let weekday = |of: i8| Date::new(day.year(), day.month(), of).map(|day| day.weekday().to_monday_one_offset());
    match item {
        MonthDay::These(days) => u16::try_from(day.day()).is_ok_and(|of| days.contains(&of)),
        MonthDay::Last => day.day() == last,
        MonthDay::LastWeekday => {
            let back = match weekday(last) {
                Ok(6) => 1,
                Ok(7) => 2,
                _ => 0,
            };
            day.day() == last - back
        }
        MonthDay::NearestWeekday(of) => {
            let nearest = match weekday(*of) {
                Ok(6) if *of > 1 => of - 1,
                Ok(6) => of + 2,
                Ok(7) if *of < last => of + 1,
                Ok(7) => of - 2,
                Ok(_) => *of,
                Err(_) => return false,
            };
            day.day() == nearest
        }
    }
}

fn week_day_is(item: &WeekDay, day: Date) -> bool {
    let weekday = day.weekday().to_sunday_one_offset();
    match item {
        WeekDay::These(days) => u16::try_from(weekday).is_ok_and(|weekday| days.contains(&weekday)),
        WeekDay::LastOf(wanted) => weekday == *wanted && day.day() > day.days_in_month() - 7,
        WeekDay::Nth(wanted, which) => weekday == *wanted && (day.day() - 1) / 7 + 1 == *which,
    }
}

/// Converts a number that was parsed within small bounds.
fn small(number: u16) -> i8 {
    i8::try_from(number).unwrap_or(i8::MAX)
}

fn ranges(text: &str, names: &[&str], bounds: RangeInclusive<u16>) -> Result<Vec<u16>, String> {
    let all = text.split(',').map(|item| range(item, names, bounds.clone())).collect::<Result<Vec<_>, _>>()?;
    Ok(all.into_iter().flatten().collect())
}

/// Parses one item of a field: `*`, `?`, `3`, `3-7`, `3/15`, `*/15`, `3-30/5`.
fn range(item: &str, names: &[&str], bounds: RangeInclusive<u16>) -> Result<Vec<u16>, String> {
    let (span, step) = match item.split_once('/') {
        Some((span, step)) => (span, Some(number(step, &[], 1..=*bounds.end())?)),
        None => (item, None),
    };
    let (from, to) = match (span, span.split_once('-')) {
        ("*" | "?", _) => (*bounds.start(), *bounds.end()),
        (_, Some((from, to))) => (number(from, names, bounds.clone())?, number(to, names, bounds.clone())?),
        (_, None) => {
            let from = number(span, names, bounds.clone())?;
            (from, if step.is_some() { *bounds.end() } else { from })
        }
    };
    if from > to {
        return Err(format!("`{item}` ends before it begins"));
    }
    Ok((from..=to).step_by(step.unwrap_or(1).into()).collect())
}

fn number(text: &str, names: &[&str], bounds: RangeInclusive<u16>) -> Result<u16, String> {
    let named = names.iter().position(|name| *name == text).and_then(|index| u16::try_from(index + 1).ok());
    let found = named.or_else(|| text.parse().ok()).filter(|number| bounds.contains(number));
    found.ok_or_else(|| format!("`{text}` is not between {} and {}", bounds.start(), bounds.end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Timestamp {
        text.parse().expect("a timestamp")
    }

    fn action(schedule: &str, time_zone: Option<&str>) -> ScheduledAction {
        ScheduledAction {
            name: "morning".to_owned(),
            schedule: schedule.to_owned(),
            time_zone: time_zone.map(str::to_owned),
            start: None,
            end: None,
            created: time("2026-01-01T00:00:30Z"),
            min: Some(10),
            max: None,
        }
    }

    /// The next run after an instant; also checks that it is the last run up to itself.
    fn next(schedule: &str, zone: Option<&str>, after: &str) -> String {
        let run = action(schedule, zone).next_run(time(after)).expect("a sound schedule").expect("a run");
        let back = action(schedule, zone).last_run(time(after), run).expect("a sound schedule");
        assert_eq!(back, Some(run), "the last run up to a run is that run: {schedule}");
        run.to_string()
    }

    #[test]
    fn every_schedule_form_runs_as_aws_documents() {
        // 2026-11-22 is a Sunday.
        let from = "2026-11-22T03:00:00Z";
        for (schedule, zone, expected) in [
            ("at(2026-11-22T08:00:00)", None, "2026-11-22T08:00:00Z"),
            ("at(2026-11-22T08:00:00)", Some("Europe/Berlin"), "2026-11-22T07:00:00Z"),
            ("rate(5 minutes)", None, "2026-11-22T03:00:30Z"),
            ("rate(1 hour)", None, "2026-11-22T03:00:30Z"),
            ("cron(0 8 * * ? *)", Some("Europe/Berlin"), "2026-11-22T07:00:00Z"),
            ("cron(0 8 ? * MON-FRI *)", None, "2026-11-23T08:00:00Z"),
            ("cron(0/15 * * * ? *)", None, "2026-11-22T03:15:00Z"),
            ("cron(0 10 L * ? *)", None, "2026-11-30T10:00:00Z"),
            ("cron(0 10 LW 1 ? *)", None, "2027-01-29T10:00:00Z"),
            // 1 August 2026 is a Saturday and 1 November a Sunday: the nearest weekday is never in another month.
            ("cron(0 10 1W 8 ? 2027)", None, "2027-08-02T10:00:00Z"),
            ("cron(0 10 ? * 6L *)", None, "2026-11-27T10:00:00Z"),
            ("cron(0 10 ? * 3#1 *)", None, "2026-12-01T10:00:00Z"),
            ("cron(30 6,18 ? JAN,DEC MON *)", None, "2026-12-07T06:30:00Z"),
        ] {
            assert_eq!(next(schedule, zone, from), expected, "{schedule}");
        }
    }

    #[test]
    fn last_run_is_the_latest_within_the_interval() {
        let quarter = action("cron(0/15 * * * ? *)", None);
        let (from, to) = (time("2026-11-22T03:01:00Z"), time("2026-11-22T03:44:59Z"));
        assert_eq!(quarter.last_run(from, to), Ok(Some(time("2026-11-22T03:30:00Z"))));
        assert_eq!(quarter.last_run(time("2026-11-22T03:30:00Z"), to), Ok(None), "the beginning is not in it");
        let ended = ScheduledAction { end: Some(time("2026-11-22T03:20:00Z")), ..quarter.clone() };
        assert_eq!(ended.last_run(from, to), Ok(Some(time("2026-11-22T03:15:00Z"))));
        let later = ScheduledAction { start: Some(time("2026-11-22T03:40:00Z")), ..quarter };
        assert_eq!(later.last_run(from, to), Ok(None));
        let rate = ScheduledAction { start: Some(time("2026-11-22T03:40:00Z")), ..action("rate(1 day)", None) };
        assert_eq!(rate.last_run(from, to), Ok(Some(time("2026-11-22T03:40:00Z"))), "a rate runs at its start");
    }

    #[test]
    fn a_skipped_or_repeated_hour_runs_once() {
        let berlin = Some("Europe/Berlin");
        assert_eq!(next("cron(30 2 * * ? *)", berlin, "2027-03-27T12:00:00Z"), "2027-03-28T01:30:00Z");
        assert_eq!(next("cron(30 2 * * ? *)", berlin, "2026-10-24T12:00:00Z"), "2026-10-25T00:30:00Z");
    }

    #[test]
    fn an_invalid_schedule_is_reported_with_its_text() {
        for (schedule, zone) in [
            ("cron(0 8 * * ?)", None),
            ("cron(60 8 * * ? *)", None),
            ("cron(0 8 * * FUN *)", None),
            ("rate(0 minutes)", None),
            ("every day", None),
            ("cron(0 8 * * ? *)", Some("Mars/Olympus")),
        ] {
            let error = action(schedule, zone).next_run(time("2026-11-22T03:00:00Z")).expect_err(schedule);
            assert!(error.to_string().contains(schedule), "{error}");
        }
    }
}
