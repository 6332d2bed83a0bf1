//! Freezes and stop-the-line.

use crate::journal::{Tone, capitalised};
use crate::layout::{WIDTH, hanging_indent, wrap};
use crate::paint::Paint;
use crate::people::display_name;
use crate::time_format::{ago, day_and_time, instant, until};
use jiff::Timestamp;
use rollout::Brake;
use rollout::brake::{BrakeRecord, Lifted, Scope};

/// What a brake applies to, as a short phrase.
#[must_use]
pub fn scope(scope: &Scope) -> String {
    match scope {
        Scope::Everything => "the line".to_owned(),
        Scope::Application { application } => format!("application {application}"),
        Scope::Environment { application, environment } => format!("environment {environment} of {application}"),
    }
}

/// An active brake: its effect, who set it, since when, until when, and why.
#[must_use]
pub fn brake(on: &Brake, now: Timestamp) -> String {
    let what = match &on.scope {
        Scope::Everything => "rollouts are stopped (stop-the-line)".to_owned(),
        other => format!("{} is frozen", scope(other)),
    };
    let end = match on.until {
        Some(at) => format!("until {} ({})", instant(at), until(at, now)),
        None => "until somebody lifts it".to_owned(),
    };
    format!("{what}, by {} {}, {end}: {}", display_name(&on.by.to_string()), ago(on.since, now), on.reason)
}

/// The active brakes and their effect.
#[must_use]
pub fn brakes(on: &[Brake], now: Timestamp, paint: Paint) -> String {
    let mut text = String::new();
    for on in on.iter().filter(|on| on.until.is_none_or(|until| now < until)) {
        let mark = paint.mark(Tone::Warning);
        text.push_str(&format!("{}\n", hanging_indent(&format!("{mark} "), 2, &brake(on, now))));
    }
    if text.is_empty() {
        return "No freeze, and rollouts are running.\n".to_owned();
    }
    let explanation = "A freeze starts nothing new; stop-the-line also holds running rollouts where they are. \
                       Rollbacks are never held.";
    format!("{text}\n{}\n", wrap(explanation, WIDTH, 0))
}

/// Confirms that a brake was set.
#[must_use]
pub fn set(on: &Brake, instead_of: Option<&Brake>, now: Timestamp) -> String {
    let before = instead_of.map_or_else(String::new, |old| {
        format!(" It replaces the one set by {}: {}.", display_name(&old.by.to_string()), old.reason)
    });
    let text = format!("{}.{before} Rollbacks are not held.", capitalised(&brake(on, now)));
    format!("{}\n", wrap(&text, WIDTH, 0))
}

/// Confirms that a brake was lifted. `woken`: number of targets woken because the brake had held them.
#[must_use]
pub fn lifted(was: &Brake, lifted: &Lifted, woken: usize) -> String {
    let what = match &was.scope {
        Scope::Everything => "Rollouts are running again".to_owned(),
        other => capitalised(&format!("{} is no longer frozen", scope(other))),
    };
    let woken = match woken {
        0 => "No target was waiting".to_owned(),
        1 => "1 waiting target was woken".to_owned(),
        several => format!("{several} waiting targets were woken"),
    };
    let text = format!("{what}, by {}: {}. {woken}.", display_name(&lifted.by.to_string()), lifted.reason);
    format!("{}\n", wrap(&text, WIDTH, 0))
}

/// History of brakes, newest first.
#[must_use]
pub fn log(records: &[BrakeRecord], paint: Paint) -> String {
    if records.is_empty() {
        return "No freeze and no stop so far.\n".to_owned();
    }
    let lines = records.iter().map(|record| {
        let BrakeRecord { brake, lifted } = record;
        let what = scope(&brake.scope);
        let stopped = matches!(brake.scope, Scope::Everything);
        let (at, by, reason, verb) = match lifted {
            Some(lifted) if stopped => (lifted.at, &lifted.by, &lifted.reason, "resumed"),
            Some(lifted) => (lifted.at, &lifted.by, &lifted.reason, "unfrozen"),
            None if stopped => (brake.since, &brake.by, &brake.reason, "stopped"),
            None => (brake.since, &brake.by, &brake.reason, "frozen"),
        };
        let end = brake.until.filter(|_| lifted.is_none());
        let end = end.map_or_else(String::new, |until| format!(" until {}", instant(until)));
        let head = format!("{}  ", paint.faint(&day_and_time(at)));
        format!(
            "{}\n",
            hanging_indent(&head, 21, &format!("{what} {verb} by {}{end}: {reason}", display_name(&by.to_string())))
        )
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rollout::{Actor, TargetId};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_767_225_600 + second).expect("a time")
    }

    fn ada() -> Actor {
        Actor::Person { name: "arn:aws:sts::111122223333:assumed-role/deployer/ada".to_owned() }
    }

    fn prod_freeze() -> Brake {
        let target = TargetId::parse("shop/api/prod").expect("a target");
        Brake {
            scope: Scope::Environment { application: target.application, environment: target.environment },
            by: ada(),
            reason: "the sale".to_owned(),
            since: at(0),
            until: Some(at(7200)),
        }
    }

    #[test]
    fn lists_active_brakes_with_scope_and_end() {
        let stopped = Brake { scope: Scope::Everything, until: None, ..prod_freeze() };
        assert_eq!(
            brakes(&[stopped, prod_freeze()], at(60), Paint::PLAIN),
            "! rollouts are stopped (stop-the-line), by ada 1m ago, until somebody lifts it:\n  the sale\n\
             ! environment prod of shop is frozen, by ada 1m ago, until 2026-01-01 02:00:00\n\
             \x20 UTC (in 1h 59m): the sale\n\n\
             A freeze starts nothing new; stop-the-line also holds running rollouts where\n\
             they are. Rollbacks are never held.\n"
        );
        // The freeze has expired: it holds nothing and is not listed.
        assert_eq!(brakes(&[prod_freeze()], at(7200), Paint::PLAIN), "No freeze, and rollouts are running.\n");
    }

    #[test]
    fn log_names_who_set_and_lifted_each_brake() {
        let lifted = Lifted { by: ada(), reason: "over".to_owned(), at: at(90) };
        let records = [
            BrakeRecord { brake: prod_freeze(), lifted: Some(lifted) },
            BrakeRecord { brake: prod_freeze(), lifted: None },
        ];
        assert_eq!(
            log(&records, Paint::PLAIN),
            "2026-01-01 00:01:30  environment prod of shop unfrozen by ada: over\n\
             2026-01-01 00:00:00  environment prod of shop frozen by ada until 2026-01-01\n\
             \x20                    02:00:00 UTC: the sale\n"
        );
        assert_eq!(log(&[], Paint::PLAIN), "No freeze and no stop so far.\n");
    }
}
