//! What a target does next, told as stories, and what it never does, whatever it is shown.
#![expect(clippy::unwrap_used, unreachable_pub, reason = "tests: the names tell the story")]

mod alarms;
mod asleep;
mod at_rest;
mod concurrency;
mod edits;
mod floods;
mod forward_only;
mod gates;
mod lag;
mod line;
mod looks;
mod never;
mod one_side;
mod recording;
mod repair;
mod scene;
mod scheduled;
mod size;
mod stories;
mod tasks;
mod throttled;
mod trains;
mod verified;
