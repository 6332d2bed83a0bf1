//! The demo's words in the terminal: lines that stay (what happened), and one line that lives (how it is now).
//!
//! On a terminal the living line is redrawn in place, in colour unless `NO_COLOR` is set. Anywhere else there are
//! only plain lines, and the living one is written now and then.

use rollout::snapshot::Weights;
use std::io::{IsTerminal as _, Write};
use std::time::{Duration, Instant};
use view::journal::Tone;
use view::page::share_of_blue;

/// Between two living lines where they cannot be redrawn.
const PLAIN_EVERY: Duration = Duration::from_secs(2);

/// Width of the bar of weights, in characters.
const BAR: usize = 20;

/// How it is now.
#[derive(Debug, Clone)]
pub(crate) struct Status {
    /// Since the demo began.
    pub(crate) elapsed: Duration,
    /// Live weights.
    pub(crate) weights: Weights,
    /// The stage, or what else goes on.
    pub(crate) stage: String,
    /// What is waited for; may be empty.
    pub(crate) waiting: String,
    /// In the last whole second.
    pub(crate) requests: u64,
    /// In the last whole second.
    pub(crate) errors: u64,
    /// Of the whole run.
    pub(crate) lost: u64,
}

/// Where the words go.
pub(crate) struct Terminal {
    out: Box<dyn Write + Send>,
    live: bool,
    colour: bool,
    last_plain: Option<Instant>,
    living: bool,
}

impl Terminal {
    /// Standard output, or standard error where standard output is for machines.
    pub(crate) fn new(to_stderr: bool) -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let (is_terminal, out): (bool, Box<dyn Write + Send>) = if to_stderr {
            (std::io::stderr().is_terminal(), Box::new(std::io::stderr()))
        } else {
            (std::io::stdout().is_terminal(), Box::new(std::io::stdout()))
        };
        let live = is_terminal && !dumb;
        let colour = live && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { out, live, colour, last_plain: None, living: false }
    }

    /// A line that stays.
    pub(crate) fn say(&mut self, text: &str) {
        let erase = if self.living { "\r\x1b[2K" } else { "" };
        self.living = false;
        self.write(&format!("{erase}{text}\n"));
    }

    /// A line of the journal, which stays.
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

    /// A heading, which stays.
    pub(crate) fn heading(&mut self, text: &str) {
        let line = format!("\n{}", self.paint("1", text));
        self.say(&line);
    }

    /// How it is now.
    pub(crate) fn status(&mut self, status: &Status) {
        if !self.live {
            let due = self.last_plain.is_none_or(|last| last.elapsed() >= PLAIN_EVERY);
            if due {
                self.last_plain = Some(Instant::now());
                let line = self.status_line(status);
                self.write(&format!("{line}\n"));
            }
            return;
        }
        let line = self.status_line(status);
        self.living = true;
        // Wrapping is off for the line's time: what does not fit is cut off instead of scrolling the screen.
        self.write(&format!("\r\x1b[2K\x1b[?7l{line}\x1b[?7h"));
    }

    fn status_line(&self, status: &Status) -> String {
        let blue = share_of_blue(status.weights);
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
        let cells = (usize::from(blue) * BAR + 50) / 100;
        // A share that is not zero is seen, however small.
        let cells = if blue > 0 { cells.max(1) } else { 0 };
        let cells = if blue < 100 { cells.min(BAR - 1) } else { BAR };
        if self.colour {
            let (left, right) = ("█".repeat(cells), "█".repeat(BAR - cells));
            format!("{}{}", self.paint("34", &left), self.paint("32", &right))
        } else {
            format!("[{}{}]", "B".repeat(cells), "G".repeat(BAR - cells))
        }
    }

    /// `text` in a colour, where there are colours.
    pub(crate) fn paint(&self, colour: &str, text: &str) -> String {
        if self.colour && !text.is_empty() { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn write(&mut self, text: &str) {
        // A reader that went away (`| head`) ends neither the story nor its verdict.
        let _ = self.out.write_all(text.as_bytes());
        let _ = self.out.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_line_says_it_all() {
        let terminal =
            Terminal { out: Box::new(Vec::new()), live: false, colour: false, last_plain: None, living: false };
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
