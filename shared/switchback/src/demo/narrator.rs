//! Reports the demo's progress: in the terminal, on the page, and as JSON lines.

use super::driver_loop::WallClock;
use super::page_renderer::PageRenderer;
use super::tally::Tally;
use super::terminal::{Status, Terminal};
use super::web::PageJson;
use engine::{Brakes, Clock as _, LedgerError, Targets};
use rollout::snapshot::Weights;
use rollout::{JournalEntry, TargetId};
use std::io::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use view::journal::sentence;

/// Interval between two polls.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Maximum number of journal entries read per poll.
const MAX_ENTRIES: usize = 100;

/// Terminal output, shared by story and narrator.
#[derive(Clone)]
pub(crate) struct Console {
    terminal: Arc<Mutex<Terminal>>,
    began: Instant,
}

impl Console {
    /// Standard output, or standard error if standard output carries JSON.
    pub(crate) fn new(to_stderr: bool) -> Self {
        Self { terminal: Arc::new(Mutex::new(Terminal::new(to_stderr))), began: Instant::now() }
    }

    /// Prints a permanent line.
    pub(crate) fn say(&self, text: &str) {
        self.terminal().say(text);
    }

    /// Prints a chapter's heading.
    pub(crate) fn heading(&self, text: &str) {
        self.terminal().heading(text);
    }

    /// Time since the demo began.
    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Locks the terminal.
    pub(crate) fn terminal(&self) -> MutexGuard<'_, Terminal> {
        // A panic while writing leaves at most an incomplete line.
        self.terminal.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Polls the ledger and reports changes.
pub(crate) struct Narrator<L> {
    pub(crate) ledger: Arc<L>,
    pub(crate) target: TargetId,
    pub(crate) page_renderer: Arc<PageRenderer>,
    pub(crate) tally: Arc<Tally>,
    pub(crate) console: Console,
    /// Print the journal as JSON lines on standard output.
    pub(crate) json: bool,
    pub(crate) page_updates: watch::Sender<PageJson>,
    /// Sequence of the last journal entry that was reported.
    pub(crate) reported: u64,
}

impl<L: Brakes + Targets> Narrator<L> {
    /// Reports until `stop` is true, and then once more.
    pub(crate) async fn report(mut self, mut stop: watch::Receiver<bool>) -> Result<Self, LedgerError> {
        let clock = WallClock::default();
        let mut polls = tokio::time::interval(POLL_INTERVAL);
        polls.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let over = tokio::select! {
                _ = polls.tick() => false,
                _ = stop.wait_for(|stop| *stop) => true,
            };
            self.journal().await?;
            let rendered = self.page_renderer.render(&*self.ledger, clock.now()).await?;
            if let Ok(json) = serde_json::to_vec(&rendered.page) {
                self.page_updates.send_replace(json.into());
            }
            if over {
                return Ok(self);
            }
            let [blue, green] = &rendered.page.sides;
            self.console.terminal().status(&Status {
                elapsed: self.console.elapsed(),
                weights: Weights { blue: blue.share.into(), green: green.share.into() },
                stage: if rendered.stage.is_empty() { "Steady".to_owned() } else { rendered.stage },
                waiting: rendered.page.waiting.first().cloned().unwrap_or_default(),
                requests: rendered.last_second.requests(),
                errors: rendered.last_second.failed(),
                lost: self.tally.totals().lost,
            });
        }
    }

    async fn journal(&mut self) -> Result<(), LedgerError> {
        loop {
            let entries = self.ledger.journal(&self.target, self.reported, MAX_ENTRIES).await?;
            let Some(last) = entries.last() else { return Ok(()) };
            self.reported = last.sequence;
            for entry in &entries {
                let (tone, text) = sentence(&entry.fact);
                self.console.terminal().journal(self.console.elapsed(), tone, &text);
                if self.json {
                    print_json(entry);
                }
            }
        }
    }
}

fn print_json(entry: &JournalEntry) {
    if let Ok(line) = serde_json::to_string(entry) {
        // A reader that closed the pipe changes neither the demo nor its verdict.
        let _ = writeln!(std::io::stdout(), "{line}");
    }
}
