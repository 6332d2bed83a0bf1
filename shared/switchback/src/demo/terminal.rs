//! The demo's terminal output: permanent lines (events) and one status line that is updated in place.
//!
//! On a terminal the status line is redrawn, in colour unless `NO_COLOR` is set. Elsewhere all lines are plain, and the
//! status line is printed from time to time.

use rollout::snapshot::Weights;
use std::io::{IsTerminal as _, Write};
use std::time::{Duration, Instant};
use view::journal::Tone;
use view::page::blue_percent;

/// Interval between two status lines where they cannot be redrawn.
const PLAIN_INTERVAL: Duration = Duration::from_secs(2);

/// Width of the traffic bar, in characters.
const BAR_WIDTH: usize = 20;

/// Content of the status line.
#[derive(Debug, Clone)]
pub(crate) struct Status {
    /// Time since the demo began.
    pub(crate) elapsed: Duration,
    /// Live weights.
    pub(crate) weights: Weights,
    /// Stage of the deployment, or other activity.
    pub(crate) stage: String,
    /// Current wait; may be empty.
    pub(crate) waiting: String,
    /// Requests in the last complete second.
    pub(crate) requests: u64,
    /// Failures in the last complete second.
    pub(crate) errors: u64,
    /// Lost requests in the whole run.
    pub(crate) lost: u64,
}

/// The terminal output.
pub(crate) struct Terminal {
    out: Box<dyn Write + Send>,
    live: bool,
    colour: bool,
    last_plain: Option<Instant>,
    status_line_shown: bool,
}

impl Terminal {
    /// Standard output, or standard error if standard output carries JSON.
    pub(crate) fn new(to_stderr: bool) -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let (is_terminal, out): (bool, Box<dyn Write + Send>) = if to_stderr {
            (std::io::stderr().is_terminal(), Box::new(std::io::stderr()))
        } else {
            (std::io::stdout().is_terminal(), Box::new(std::io::stdout()))
        };
        let live = is_terminal && !dumb;
        let colour = live && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { out, live, colour, last_plain: None, status_line_shown: false }
    }

    /// Prints a permanent line.
    pub(crate) fn say(&mut self, text: &str) {
        let erase = if self.status_line_shown { "\r\x1b[2K" } else { "" };
        self.status_line_shown = false;
        self.write(&format!("{erase}{text}\n"));
    }

    /// Prints a journal entry as a permanent line.
    pub(crate) fn journal(&mut self, elapsed: Duration, tone: Tone, text: &str) {
        let (mark, colour) = match tone {
            Tone::Plain => ("·", "2"),
            Tone::Good => ("✓", "32"),
            Tone::Warning => ("!", "33"),
            Tone::Bad => ("✗", "31"),
        };
        let line = format!("{:>6.1}s  {} {text}", elapsed.as_secs_f64(), self.paint(colour, mark));
        self.say(&line);
    }

    /// Prints a heading as a permanent line.
    pub(crate) fn heading(&mut self, text: &str) {
        let line = format!("\n{}", self.paint("1", text));
        self.say(&line);
    }

    /// Updates the status line.
    pub(crate) fn status(&mut self, status: &Status) {
        if !self.live {
            let due = self.last_plain.is_none_or(|last| last.elapsed() >= PLAIN_INTERVAL);
            if due {
                self.last_plain = Some(Instant::now());
                let line = self.status_line(status);
                self.write(&format!("{line}\n"));
            }
            return;
        }
        let line = self.status_line(status);
        self.status_line_shown = true;
        // Line wrapping is switched off temporarily: a long line is cut off instead of scrolling the screen.
        self.write(&format!("\r\x1b[2K\x1b[?7l{line}\x1b[?7h"));
    }

    fn status_line(&self, status: &Status) -> String {
        let blue = blue_percent(status.weights);
        let errors = format!("5xx {}/s", status.errors);
        let errors = if status.errors > 0 { self.paint("31", &errors) } else { errors };
        let lost = if status.lost > 0 { self.paint("31", &status.lost.to_string()) } else { "0".to_owned() };
        let waiting =
            if status.waiting.is_empty() { String::new() } else { format!(", waiting for {}", status.waiting) };
        format!(
            "{:>6.1}s  {} {blue:>3}/{:<3}  {:>3} req/s  {errors}  lost {lost}  {}{waiting}",
            status.elapsed.as_secs_f64(),
            self.bar(blue),
            100 - blue,
            status.requests,
            status.stage,
        )
    }

    /// The split as a bar: blue from the left, green from the right.
    fn bar(&self, blue: u8) -> String {
        let cells = (usize::from(blue) * BAR_WIDTH + 50) / 100;
        // A share above zero gets at least one cell.
        let cells = if blue > 0 { cells.max(1) } else { 0 };
        let cells = if blue < 100 { cells.min(BAR_WIDTH - 1) } else { BAR_WIDTH };
        if self.colour {
            let (left, right) = ("█".repeat(cells), "█".repeat(BAR_WIDTH - cells));
            format!("{}{}", self.paint("34", &left), self.paint("32", &right))
        } else {
            format!("[{}{}]", "B".repeat(cells), "G".repeat(BAR_WIDTH - cells))
        }
    }

    /// `text` in a colour, if colours are on.
    pub(crate) fn paint(&self, colour: &str, text: &str) -> String {
        if self.colour && !text.is_empty() { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn write(&mut self, text: &str) {
        // A reader that closed the pipe (`| head`) changes neither the demo nor its verdict.
        let _ = self.out.write_all(text.as_bytes());
        let _ = self.out.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_status_line_shows_every_figure() {
        let terminal = Terminal {
            out: Box::new(Vec::new()),
            live: false,
            colour: false,
            last_plain: None,
            status_line_shown: false,
        };
        let line = terminal.status_line(&Status {
            elapsed: Duration::from_millis(12_340),
            weights: Weights { blue: 90, green: 10 },
            stage: "Shifting traffic".to_owned(),
            waiting: "the end of the hold at 10 % (3s left)".to_owned(),
            requests: 200,
            errors: 8,
            lost: 0,
        });
        assert_eq!(
            line,
            "  12.3s  [BBBBBBBBBBBBBBBBBBGG]  90/10   200 req/s  5xx 8/s  lost 0  \
             Shifting traffic, waiting for the end of the hold at 10 % (3s left)"
        );
        assert_eq!(terminal.bar(99), "[BBBBBBBBBBBBBBBBBBBG]", "one per cent is seen");
    }
}
