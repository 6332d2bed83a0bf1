//! Windows and freezes on a zone's own clock.

use super::{GateCase, at};
use rollout::calendar::zone;
use rollout::entry::{FreezePeriod, Window};

fn window(days: &[u8], from: u16, until: u16) -> Window {
    Window { days: days.iter().copied().collect(), from_minute: from * 60, until_minute: until * 60 }
}

/// What the window gate says at `now`, in `zone`.
fn blockers(zone: &str, windows: &[Window], now: &str) -> String {
    let case = GateCase::new().with(|case| {
        case.rules().time_zone = Some(zone.to_owned());
        case.rules().windows = windows.to_vec();
        case.now = at(now);
    });
    case.blockers().replace("window waits: outside of the deploy windows (until ", "").replace(')', "")
}

#[test]
fn a_window_opens_and_closes_in_its_time_zone() {
    let working_days = [window(&[1, 2, 3, 4], 9, 16), window(&[5], 9, 12)];
    let berlin = |now: &str| blockers("Europe/Berlin", &working_days, now);
    // In winter Berlin is an hour ahead of UTC. 2026-11-16 is a Monday.
    assert_eq!(berlin("2026-11-16T07:59:59Z"), "2026-11-16T08:00:00Z");
    assert_eq!(berlin("2026-11-16T08:00:00Z"), "");
    assert_eq!(berlin("2026-11-16T14:59:59Z"), "");
    assert_eq!(berlin("2026-11-16T15:00:00Z"), "2026-11-17T08:00:00Z");
    // On Friday until noon; then the weekend.
    assert_eq!(berlin("2026-11-20T10:59:59Z"), "");
    assert_eq!(berlin("2026-11-20T11:00:00Z"), "2026-11-23T08:00:00Z");
    // In summer it is two hours ahead.
    assert_eq!(berlin("2026-07-06T06:59:59Z"), "2026-07-06T07:00:00Z");
    assert_eq!(berlin("2026-07-06T07:00:00Z"), "");
    // Another zone, another day: in Auckland it is Monday already.
    assert_eq!(blockers("Pacific/Auckland", &working_days, "2026-11-15T20:00:00Z"), "");
}

#[test]
fn windows_are_correct_across_daylight_saving_changes() {
    let nights = [window(&[7], 2, 3)];
    let berlin = |now: &str| blockers("Europe/Berlin", &nights, now);
    // 2026-03-29: from 2:00 the clocks go to 3:00. The hour does not exist, and comes right after the skip.
    assert_eq!(
        berlin("2026-03-29T00:59:59Z"),
        "2026-04-05T00:00:00Z",
        "the skipped hour is empty: it opens a week later"
    );
    // 2026-10-25: the hour from 2:00 comes twice; the window begins with the first and ends when the clock says 3:00.
    assert_eq!(berlin("2026-10-24T23:59:59Z"), "2026-10-25T00:00:00Z");
    assert_eq!(berlin("2026-10-25T00:30:00Z"), "");
    assert_eq!(berlin("2026-10-25T01:30:00Z"), "");
    assert_eq!(berlin("2026-10-25T02:00:00Z"), "2026-11-01T01:00:00Z");
}

#[test]
fn an_all_day_window_has_no_gap_at_midnight() {
    let always = [window(&[1, 2, 3, 4, 5, 6, 7], 0, 24)];
    for now in ["2026-11-20T22:59:59Z", "2026-11-20T23:00:00Z", "2026-03-29T01:00:00Z", "2026-10-25T01:00:00Z"] {
        assert_eq!(blockers("Europe/Berlin", &always, now), "", "{now}");
    }
}

#[test]
fn a_calendar_freeze_starts_and_ends_in_its_time_zone() {
    let blockers = |now: &str| {
        let case = GateCase::new().with(|case| {
            case.rules().time_zone = Some("America/New_York".to_owned());
            case.rules().freezes = vec![FreezePeriod {
                from: "2026-12-20T00:00".parse().expect("a time"),
                until: "2027-01-04T08:00".parse().expect("a time"),
                reason: "year's end".to_owned(),
            }];
            case.now = at(now);
        });
        case.blockers()
    };
    assert_eq!(blockers("2026-12-20T04:59:59Z"), "");
    let frozen = "freeze waits: the policy's freeze: year's end (until 2027-01-04T13:00:00Z)";
    assert_eq!(blockers("2026-12-20T05:00:00Z"), frozen);
    assert_eq!(blockers("2027-01-04T12:59:59Z"), frozen);
    assert_eq!(blockers("2027-01-04T13:00:00Z"), "");
}

#[test]
fn time_zones_come_from_the_bundled_database() {
    assert!(zone("Europe/Berlin").is_some());
    assert!(zone("UTC").is_some());
    assert!(zone("Mars/Olympus_Mons").is_none());
}
