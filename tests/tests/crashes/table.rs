//! The table of results: a row for every call, a column for every fault, and in each cell what came of a run.

use super::call_site::CallSite;
use super::fault_injector::CallFault;
use super::run::SHORT;
use super::scenario::Scenario;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where it is kept.
pub(crate) const RESULTS: &str = "tests/crashes.md";

/// What came of one run with a fault.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Cell {
    /// It ended as the undisturbed run does; the deployment went on so long after the fault.
    Recovered(Duration),
    /// It ended as the undisturbed run does: it was over when the fault happened.
    AlreadyOver,
    /// It did not: why.
    Differs(String),
}

impl Cell {
    fn to_markdown(&self) -> String {
        match self {
            Self::Recovered(after) => format!("{:.1} s", after.as_secs_f64()),
            Self::AlreadyOver => "was over".to_owned(),
            Self::Differs(why) => format!("**{}**", why.replace(['|', '\n'], " ")),
        }
    }

    /// As it is in the table.
    fn read(text: &str) -> Option<Self> {
        let text = text.trim();
        if text == "was over" {
            return Some(Self::AlreadyOver);
        }
        if let Some(why) = text.strip_prefix("**").and_then(|rest| rest.strip_suffix("**")) {
            return Some(Self::Differs(why.to_owned()));
        }
        let seconds: f64 = text.strip_suffix(" s")?.parse().ok()?;
        Some(Self::Recovered(Duration::from_secs_f64(seconds)))
    }
}

/// A row: a call, how often it is made, and what came of each fault.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    pub(crate) scenario: Scenario,
    pub(crate) call_site: CallSite,
    pub(crate) times: usize,
    pub(crate) cells: [Option<Cell>; CallFault::ALL.len()],
}

impl Row {
    fn to_markdown(&self) -> String {
        let cells: Vec<String> = self
            .cells
            .iter()
            .map(|cell| cell.as_ref().map_or_else(|| "**no run**".to_owned(), Cell::to_markdown))
            .collect();
        format!("{} {} | {} |", self.call_site.row_prefix(), self.times, cells.join(" | "))
    }

    /// The cells of a line of the table, if it is this row's.
    pub(crate) fn fill(&mut self, line: &str) -> bool {
        let Some(rest) = line.strip_prefix(&self.call_site.row_prefix()) else { return false };
        let texts: Vec<&str> = rest.trim().trim_end_matches('|').split('|').skip(1).collect();
        for (cell, text) in self.cells.iter_mut().zip(texts) {
            *cell = Cell::read(text);
        }
        true
    }

    /// It has a good end in every column.
    pub(crate) fn is_good(&self) -> bool {
        self.cells.iter().all(|cell| matches!(cell, Some(Cell::Recovered(_) | Cell::AlreadyOver)))
    }
}

/// The whole file.
pub(crate) fn text(rows: &[Row]) -> String {
    let runs = rows.iter().flat_map(|row| &row.cells).flatten().count();
    let good =
        rows.iter().flat_map(|row| &row.cells).flatten().filter(|cell| !matches!(cell, Cell::Differs(_))).count();
    let (time_out, visibility) = (SHORT.time_out.as_secs(), SHORT.visibility.as_secs());
    let mut text = format!(
        "# A crash at every AWS call

Written by `cargo crash-table`: in every cell the real `rollout-driver` has run a whole deployment against the wire front
(DynamoDB is ministack's), and this was done to it at this call. {good} of {runs} runs ended as the undisturbed one does:
weights, tasks, images, autoscaling, verdict, the journal without a gap and fact by fact the same (but for what it says of the
fault itself), hooks run once, people notified once, no request lost, nothing held, nothing in the dead-letter queue.

{}

- **killed before**: `kill -9` when the call has come, before anything of it is done. **killed after**: when it is done, before
  its answer is sent. **answer lost**: it is done, and the connection is closed. **throttled**: the service's own error, once.
- In the cell: how long after the fault the deployment went on. For the killed: until the next process has written a decision.
- A call that is made again for the same purpose in the same stage is one row; the fault hits the first one, and `times` says
  how many there were. What is read at once to see where everything stands is one row, a *look*: the kill is in the midst of
  it, and answers are lost, or throttled, for each of its calls. Up to the alarm the rollback is the rollout: what is the same is
  not repeated, and neither is what is called behind one load balancer as behind two.
- Nobody helps: no sweep, and from the fault until the deployment goes on every event is lost. It heals by its own wakes.
  The driver's time-out is {time_out} s here, and a message that is looked at comes again after {visibility} s; in
  `template.yaml` it is 60 s and 360 s. A pass that was about to act has scheduled a takeover, which comes when the time-out and 5 s
  are over. One that only looked is found when its message comes again, or by the sweep of the minute.
",
        summary(rows)
    );
    for scenario in Scenario::ALL {
        let head: Vec<&str> = CallFault::ALL.iter().map(|fault| fault.name()).collect();
        text.push_str(&format!(
            "\n## A {}\n\n| stage | call | what for | times | {} |\n|---|---|---|---|{}\n",
            scenario.name(),
            head.join(" | "),
            "---|".repeat(head.len())
        ));
        for row in rows.iter().filter(|row| row.scenario == scenario) {
            text.push_str(&row.to_markdown());
            text.push('\n');
        }
    }
    text
}

/// How long healing took, fault by fault.
pub(crate) fn summary(rows: &[Row]) -> String {
    let mut lines =
        vec!["| fault | runs | ended well | median | worst |".to_owned(), "|---|---|---|---|---|".to_owned()];
    for (column, fault) in CallFault::ALL.iter().enumerate() {
        let cells: Vec<&Cell> = rows.iter().filter_map(|row| row.cells[column].as_ref()).collect();
        let well = cells.iter().filter(|cell| !matches!(cell, Cell::Differs(_))).count();
        let mut times: Vec<f64> = cells
            .iter()
            .filter_map(|cell| match cell {
                Cell::Recovered(after) => Some(after.as_secs_f64()),
                Cell::AlreadyOver | Cell::Differs(_) => None,
            })
            .collect();
        times.sort_by(f64::total_cmp);
        let median = times.get(times.len() / 2).copied().unwrap_or_default();
        let worst = times.last().copied().unwrap_or_default();
        lines.push(format!("| {} | {} | {well} | {median:.1} s | {worst:.1} s |", fault.name(), cells.len()));
    }
    lines.join("\n")
}

/// The first row that begins like this, and the story that it is of.
pub(crate) fn find(stored_table: &str, prefix: &str) -> Option<(Scenario, CallSite)> {
    let line = stored_table.lines().find(|line| line.starts_with(prefix))?;
    let before = &stored_table[..stored_table.find(line)?];
    let heads = Scenario::ALL.map(|scenario| (before.rfind(&format!("## A {}\n", scenario.name())), scenario));
    let (_, scenario) = heads.into_iter().max_by_key(|(at, _)| *at)?;
    let mut parts = line.trim_matches('|').split(" | ");
    let mut next = || parts.next().map(|part| part.trim().trim_matches('`').to_owned());
    Some((scenario, CallSite { stage: next()?, call: next()?, purpose: next()? }))
}

pub(crate) fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("crashes.md")
}

/// The table as it is kept.
pub(crate) fn stored_table() -> String {
    std::fs::read_to_string(path()).unwrap_or_default()
}
