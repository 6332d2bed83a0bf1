//! What a target does next, written as stories, and what it never does, whatever it is shown.
#![expect(clippy::unwrap_used, unreachable_pub, reason = "tests: the names tell the story")]

mod alarm_effects;
mod alarms;
mod asleep;
mod automatic_promotion;
mod command_bursts;
mod concurrency;
mod decisive_alarms;
mod eventual_consistency;
mod first;
mod fixture;
mod foreign_edits;
mod forward_only;
mod gates;
mod idle;
mod in_place;
mod invariants;
mod one_at_a_time;
mod recording;
mod repair;
mod scenarios;
mod scheduled;
mod side_alarms;
mod size;
mod sticky;
mod stop_the_line;
mod tasks;
mod templates;
mod throttled;
mod train_approval;
mod trains;
mod verified;
