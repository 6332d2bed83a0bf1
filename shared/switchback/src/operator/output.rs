//! Output of text and JSON: standard output for results, standard error for failures.

use super::exit::Exit;
use super::failure::Failure;
use rollout::text::{visible_json, visible_lines};
use serde::Serialize;
use serde_json::json;
use std::io::{BufRead as _, IsTerminal as _, Write as _};
use view::Paint;

/// Output settings of a command.
#[derive(Debug)]
pub(crate) struct Output {
    /// JSON instead of text.
    pub(crate) json: bool,
    /// Colours, if standard output is a terminal and `NO_COLOR` is not set.
    pub(crate) paint: Paint,
    /// Standard output is a terminal, on which lines can be redrawn.
    pub(crate) live: bool,
    /// A status line is currently displayed.
    live_line: bool,
    /// With several targets: the one that the text is about, printed before its first line.
    subject: Option<String>,
    /// The subject printed last.
    printed_subject: Option<String>,
}

impl Output {
    /// Settings for the current standard output.
    pub(crate) fn new(json: bool) -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let live = std::io::stdout().is_terminal() && !dumb && !json;
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let paint = if live && !no_colour { Paint::COLOURED } else { Paint::PLAIN };
        Self { json, paint, live, live_line: false, subject: None, printed_subject: None }
    }

    /// Sets which of several targets the following text is about.
    pub(crate) fn set_subject(&mut self, subject: Option<String>) {
        self.subject = subject;
    }

    /// Prints permanent text; nothing in JSON mode.
    pub(crate) fn say(&mut self, text: &str) {
        if !self.json {
            let erase = if std::mem::take(&mut self.live_line) { "\r\x1b[2K" } else { "" };
            let mut heading = String::new();
            if !text.is_empty() && self.subject != self.printed_subject {
                self.printed_subject.clone_from(&self.subject);
                heading = self.subject.as_ref().map_or_else(String::new, |it| format!("{}\n", self.paint.strong(it)));
            }
            write(&format!("{erase}{}", self.paint.visible(&format!("{heading}{text}"))));
        }
    }

    /// Prints a status line, replaced by the next output; only on a terminal.
    pub(crate) fn live_line(&mut self, text: &str) {
        if self.live {
            self.live_line = true;
            let line = self.paint.visible(text.trim_end()).replace('\n', "");
            let line = self.subject.as_ref().map_or(line.clone(), |subject| format!("{line}  [{subject}]"));
            // Line wrapping is switched off temporarily: a long line is cut off instead of scrolling the screen.
            write(&format!("\r\x1b[2K\x1b[?7l{line}\x1b[?7h"));
        }
    }

    /// Redraws the whole screen; only on a terminal.
    pub(crate) fn redraw(&mut self, text: &str) {
        let lines = self.paint.visible(text).replace('\n', "\x1b[K\n");
        write(&format!("\x1b[H{lines}\x1b[J"));
    }

    /// Prints the result in JSON mode.
    pub(crate) fn document(&self, answer: &impl Serialize) {
        if self.json {
            let text =
                serde_json::to_string_pretty(answer).unwrap_or_else(|error| format!("{{\"error\": \"{error}\"}}"));
            write(&format!("{}\n", visible_json(&text)));
        }
    }

    /// Prints a command's result: the response in JSON mode, otherwise its text.
    pub(crate) fn result(&mut self, answer: &impl Serialize, text: impl FnOnce(Paint) -> String) {
        self.document(answer);
        if !self.json {
            let text = text(self.paint);
            self.say(&text);
        }
    }

    /// Prints the response to a command in JSON mode; if its end is awaited, as the first of several events.
    pub(crate) fn asked(&self, answer: &impl Serialize, is_awaited: bool) {
        if is_awaited {
            self.event("asked", answer);
        } else {
            self.document(answer);
        }
    }

    /// Prints one event of a running operation in JSON mode, a line each.
    pub(crate) fn event(&self, name: &str, event: impl Serialize) {
        if self.json {
            write(&format!("{}\n", visible_json(&json!({name: event}).to_string())));
        }
    }

    /// Prints a failure, and returns its exit code.
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

/// Asks a yes-or-no question on the terminal; `hint` says how to proceed without a terminal.
pub(crate) fn confirm(question: &str, hint: &str, output: &Output) -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() || output.json {
        return Err(Failure::Usage(format!("stdin is not a terminal: {hint}")));
    }
    let broken = |error: std::io::Error| Failure::Unexpected(format!("the answer cannot be read: {error}"));
    let mut out = std::io::stdout();
    write!(out, "{} [y/N] ", visible_lines(question)).and_then(|()| out.flush()).map_err(broken)?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).map_err(broken)?;
    Ok(matches!(line.trim(), "y" | "Y" | "yes"))
}

/// Prints a line on standard error.
pub(crate) fn warn(text: &str) {
    let _ = writeln!(std::io::stderr(), "{}", visible_lines(text));
}

fn write(text: &str) {
    // A reader that closed the pipe (`| head`) affects neither the request nor the exit code.
    let mut out = std::io::stdout();
    let _ = out.write_all(text.as_bytes());
    let _ = out.flush();
}
