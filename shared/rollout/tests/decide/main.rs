//! What a target does next, told as stories, and what it never does, whatever it is shown.
#![expect(clippy::unwrap_used, unreachable_pub, reason = "tests: the names tell the story")]

mod at_rest;
mod concurrency;
mod floods;
mod formats;
mod forward_only;
mod gates;
mod lag;
mod line;
mod looks;
mod never;
mod recording;
mod scene;
mod size;
mod stories;
mod throttled;
mod trains;
mod verified;
