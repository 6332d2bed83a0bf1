//! Where words and JSON go: standard output for answers, standard error for what went wrong.

use super::exit::Exit;
use super::failure::Failure;
use rollout::text::{visible_json, visible_lines};
use serde::Serialize;
use serde_json::json;
use std::io::{BufRead as _, IsTerminal as _, Write as _};
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
    /// What the words are about where there are several; said before the first of them.
    subject: Option<String>,
    /// What was said to be the subject last.
    said: Option<String>,
}

impl Output {
    /// Standard output as it is.
    pub(crate) fn new(json: bool) -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let live = std::io::stdout().is_terminal() && !dumb && !json;
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let paint = if live && !no_colour { Paint::COLOURED } else { Paint::PLAIN };
        Self { json, paint, live, living: false, subject: None, said: None }
    }

    /// The words that follow are about this one of several.
    pub(crate) fn about(&mut self, subject: Option<String>) {
        self.subject = subject;
    }

    /// Words that stay; nothing where JSON is wanted.
    pub(crate) fn say(&mut self, text: &str) {
        if !self.json {
            let erase = if std::mem::take(&mut self.living) { "\r\x1b[2K" } else { "" };
            let mut heading = String::new();
            if !text.is_empty() && self.subject != self.said {
                self.said.clone_from(&self.subject);
                heading = self.subject.as_ref().map_or_else(String::new, |it| format!("{}\n", self.paint.strong(it)));
            }
            write(&format!("{erase}{}", self.paint.visible(&format!("{heading}{text}"))));
        }
    }

    /// One line that the next words take the place of; only on a terminal.
    pub(crate) fn living(&mut self, text: &str) {
        if self.live {
            self.living = true;
            let line = self.paint.visible(text.trim_end()).replace('\n', "");
            let line = self.subject.as_ref().map_or(line.clone(), |subject| format!("{line}  [{subject}]"));
            // Wrapping is off for the line's time: what does not fit is cut off instead of scrolling the screen.
            write(&format!("\r\x1b[2K\x1b[?7l{line}\x1b[?7h"));
        }
    }

    /// The whole screen anew; only on a terminal.
    pub(crate) fn screen(&mut self, text: &str) {
        let lines = self.paint.visible(text).replace('\n', "\x1b[K\n");
        write(&format!("\x1b[H{lines}\x1b[J"));
    }

    /// The answer, where JSON is wanted.
    pub(crate) fn document(&self, answer: &impl Serialize) {
        if self.json {
            let text =
                serde_json::to_string_pretty(answer).unwrap_or_else(|error| format!("{{\"error\": \"{error}\"}}"));
            write(&format!("{}\n", visible_json(&text)));
        }
    }

    /// One event of something that goes on, where JSON is wanted: a line each.
    pub(crate) fn event(&self, name: &str, event: impl Serialize) {
        if self.json {
            write(&format!("{}\n", visible_json(&json!({name: event}).to_string())));
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
            write(&format!("{}\n", visible_json(&json!({"error": error}).to_string())));
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

/// Asks a yes-or-no question on the terminal; `without` says what to do where there is none.
pub(crate) fn agreed(question: &str, without: &str, output: &Output) -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() || output.json {
        return Err(Failure::Usage(format!("stdin is not a terminal: {without}")));
    }
    let broken = |error: std::io::Error| Failure::Unexpected(format!("the answer cannot be read: {error}"));
    let mut out = std::io::stdout();
    write!(out, "{} [y/N] ", visible_lines(question)).and_then(|()| out.flush()).map_err(broken)?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).map_err(broken)?;
    Ok(matches!(line.trim(), "y" | "Y" | "yes"))
}

/// A line on standard error.
pub(crate) fn warn(text: &str) {
    let _ = writeln!(std::io::stderr(), "{}", visible_lines(text));
}

fn write(text: &str) {
    // A reader that went away (`| head`) changes nothing of what was asked, nor the exit code.
    let mut out = std::io::stdout();
    let _ = out.write_all(text.as_bytes());
    let _ = out.flush();
}
