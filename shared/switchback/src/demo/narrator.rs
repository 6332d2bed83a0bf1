//! Tells the story as it happens: to the terminal, to the page, and as JSON lines.

use super::portrait::Portrait;
use super::rounds::WallClock;
use super::tally::Tally;
use super::terminal::{Status, Terminal};
use super::web::Drawn;
use engine::{Clock as _, Ledger, LedgerError};
use rollout::snapshot::Weights;
use rollout::{JournalEntry, TargetId};
use std::io::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use view::journal::sentence;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Journal entries that one look takes in.
const ENTRIES: usize = 100;

/// Says things in the terminal; shared by the story and the narrator.
#[derive(Clone)]
pub(crate) struct Voice {
    terminal: Arc<Mutex<Terminal>>,
    began: Instant,
}

impl Voice {
    /// Standard output, or standard error where standard output is for machines.
    pub(crate) fn new(to_stderr: bool) -> Self {
        Self { terminal: Arc::new(Mutex::new(Terminal::new(to_stderr))), began: Instant::now() }
    }

    /// A line that stays.
    pub(crate) fn say(&self, text: &str) {
        self.terminal().say(text);
    }

    /// A chapter begins.
    pub(crate) fn heading(&self, text: &str) {
        self.terminal().heading(text);
    }

    /// Since the demo began.
    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// The terminal itself.
    pub(crate) fn terminal(&self) -> MutexGuard<'_, Terminal> {
        // A panic in the middle of a line leaves half a line, no more.
        self.terminal.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks, and tells what is new.
pub(crate) struct Narrator<L> {
    pub(crate) ledger: Arc<L>,
    pub(crate) target: TargetId,
    pub(crate) portrait: Arc<Portrait>,
    pub(crate) tally: Arc<Tally>,
    pub(crate) voice: Voice,
    /// Standard output gets the journal as JSON lines.
    pub(crate) json: bool,
    pub(crate) pictures: watch::Sender<Drawn>,
    /// Sequence of the last journal entry that was told.
    pub(crate) told: u64,
}

impl<L: Ledger> Narrator<L> {
    /// Tells until `stop` is true, and then all that is left.
    pub(crate) async fn tell(mut self, mut stop: watch::Receiver<bool>) -> Result<Self, LedgerError> {
        let clock = WallClock::default();
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let over = tokio::select! {
                _ = looks.tick() => false,
                _ = stop.wait_for(|stop| *stop) => true,
            };
            self.journal().await?;
            let drawing = self.portrait.draw(&*self.ledger, clock.now()).await?;
            if let Ok(json) = serde_json::to_vec(&drawing.page) {
                self.pictures.send_replace(json.into());
            }
            if over {
                return Ok(self);
            }
            let [blue, green] = &drawing.page.sides;
            self.voice.terminal().status(&Status {
                elapsed: self.voice.elapsed(),
                weights: Weights { blue: blue.share.into(), green: green.share.into() },
                stage: if drawing.stage.is_empty() { "Steady".to_owned() } else { drawing.stage },
                waiting: drawing.page.waiting.first().cloned().unwrap_or_default(),
                requests: drawing.last_second.requests(),
                errors: drawing.last_second.failed(),
                lost: self.tally.totals().lost,
            });
        }
    }

    async fn journal(&mut self) -> Result<(), LedgerError> {
        loop {
            let entries = self.ledger.journal(&self.target, self.told, ENTRIES).await?;
            let Some(last) = entries.last() else { return Ok(()) };
            self.told = last.sequence;
            for entry in &entries {
                let (tone, text) = sentence(&entry.fact);
                self.voice.terminal().journal(self.voice.elapsed(), tone, &text);
                if self.json {
                    print_json(entry);
                }
            }
        }
    }
}

fn print_json(entry: &JournalEntry) {
    if let Ok(line) = serde_json::to_string(entry) {
        // A reader that went away ends neither the story nor its verdict.
        let _ = writeln!(std::io::stdout(), "{line}");
    }
}
