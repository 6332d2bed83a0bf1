//! Where words and JSON go: standard output for answers, standard error for what went wrong.

use super::exit::Exit;
use super::failure::Failure;
use serde::Serialize;
use serde_json::json;
use std::io::{IsTerminal as _, Write as _};
use view::Paint;

/// How a command speaks.
#[derive(Debug)]
pub(crate) struct Output {
    /// JSON instead of words.
    pub(crate) json: bool,
    /// Colours, where standard output is a terminal and `NO_COLOR` is not set.
    pub(crate) paint: Paint,
    /// Standard output is a terminal on which a line can be drawn again.
    pub(crate) live: bool,
    /// A living line stands there.
    living: bool,
}

impl Output {
    /// Standard output as it is.
    pub(crate) fn new(json: bool) -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let live = std::io::stdout().is_terminal() && !dumb && !json;
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let paint = if live && !no_colour { Paint::COLOURED } else { Paint::PLAIN };
        Self { json, paint, live, living: false }
    }

    /// Words that stay; nothing where JSON is wanted.
    pub(crate) fn say(&mut self, text: &str) {
        if !self.json {
            let erase = if std::mem::take(&mut self.living) { "\r\x1b[2K" } else { "" };
            write(&format!("{erase}{text}"));
        }
    }

    /// One line that the next words take the place of; only on a terminal.
    pub(crate) fn living(&mut self, text: &str) {
        if self.live {
            self.living = true;
            let line = text.trim_end().replace('\n', "");
            // Wrapping is off for the line's time: what does not fit is cut off instead of scrolling the screen.
            write(&format!("\r\x1b[2K\x1b[?7l{line}\x1b[?7h"));
        }
    }

    /// The whole screen anew; only on a terminal.
    pub(crate) fn screen(&mut self, text: &str) {
        let lines = text.replace('\n', "\x1b[K\n");
        write(&format!("\x1b[H{lines}\x1b[J"));
    }

    /// The answer, where JSON is wanted.
    pub(crate) fn document(&self, answer: &impl Serialize) {
        if self.json {
            let text =
                serde_json::to_string_pretty(answer).unwrap_or_else(|error| format!("{{\"error\": \"{error}\"}}"));
            write(&format!("{text}\n"));
        }
    }

    /// One event of something that goes on, where JSON is wanted: a line each.
    pub(crate) fn event(&self, name: &str, event: impl Serialize) {
        if self.json {
            write(&format!("{}\n", json!({name: event})));
        }
    }

    /// What went wrong, and its exit code.
    pub(crate) fn failed(&mut self, failure: &Failure) -> Exit {
        let exit = failure.exit();
        if self.json {
            let mut error = json!({
                "code": failure.code(),
                "message": failure.to_string(),
                "exit": exit.code(),
            });
            if let Failure::Refused(refusal) = failure
                && !refusal.problems.is_empty()
            {
                error["problems"] = json!(refusal.problems);
            }
            write(&format!("{}\n", json!({"error": error})));
        } else {
            self.say("");
        }
        warn(&format!("switchback: {failure}"));
        if let Failure::Refused(refusal) = failure {
            for problem in &refusal.problems {
                warn(&format!("  {problem}"));
            }
        }
        exit
    }
}

/// A line on standard error.
pub(crate) fn warn(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn write(text: &str) {
    // A reader that went away (`| head`) changes nothing of what was asked, nor the exit code.
    let mut out = std::io::stdout();
    let _ = out.write_all(text.as_bytes());
    let _ = out.flush();
}
