//! Content of a job's log, summary and outputs (GitHub Actions, "Workflow commands").
//!
//! Much of it comes from outside: reasons, tags, AWS messages. GitHub's runner interprets log lines as commands, so
//! nothing is printed unescaped.

use super::super::commands::accepted_command;
use super::super::exit::Exit;
use super::super::failure::Failure;
use super::super::output::warn;
use super::watch::{End, Watched};
use api::CommandResponse;
use rollout::entry::Permission;
use rollout::explanation::WaitingOn;
use rollout::{Fact, JournalEntry, Seconds, TargetId, Timestamp};
use serde_json::{Value, json};
use std::fs::OpenOptions;
use std::io::Write as _;
use view::Paint;
use view::outcome::accepted;

/// Environment variables with the files for a step's summary and outputs.
const SUMMARY: &str = "GITHUB_STEP_SUMMARY";
const OUTPUT: &str = "GITHUB_OUTPUT";

/// The report of one command.
#[derive(Debug)]
pub(super) struct Report {
    /// `promote`
    title: &'static str,
    targets: Vec<String>,
    group_is_open: bool,
    rows: Vec<Row>,
}

/// One target in the summary.
#[derive(Debug)]
struct Row {
    target: String,
    tag: String,
    deployment: Option<u64>,
    stage: String,
    verdict: &'static str,
    why: String,
}

impl Report {
    pub(super) fn new(title: &'static str, targets: Vec<String>) -> Self {
        Self { title, targets, group_is_open: false, rows: Vec::new() }
    }

    /// Reports that the request was accepted.
    pub(super) fn accepted(&mut self, permission: Permission, asked: &CommandResponse, followed: bool) {
        let verb = match permission {
            Permission::Promote => "promote",
            Permission::Deploy => "deploy",
            Permission::Hotfix => "hotfix",
        };
        self.note(&accepted(accepted_command(verb, asked), followed));
    }

    /// Reports that a target runs its release already.
    pub(super) fn already_there(&mut self, target: &TargetId) {
        self.note(&format!("{target} runs that release already: nothing was requested."));
        self.rows.push(Row {
            target: target.to_string(),
            tag: String::new(),
            deployment: None,
            stage: String::new(),
            verdict: SUCCEEDED,
            why: "it was there already".to_owned(),
        });
    }

    /// Prints text outside of all groups.
    pub(super) fn note(&mut self, text: &str) {
        self.close();
        print(&defuse_commands(text));
    }

    /// Prints a journal entry. Each stage starts a group, of which GitHub shows only the first line while collapsed;
    /// entries that need attention are printed outside.
    pub(super) fn entry(&mut self, entry: &JournalEntry) {
        let line = view::history::entry(entry, Paint::PLAIN);
        if matches!(entry.fact, Fact::StageEntered { .. } | Fact::Started { .. }) {
            self.close();
            let number = entry.deployment.map_or_else(String::new, |number| format!("#{number}"));
            let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
            print(&format!("::group::{}{number}  {}", entry.target, escaped(&line)));
            self.group_is_open = true;
        } else if entry.fact.needs_attention() && !matches!(entry.fact, Fact::Ended { .. }) {
            self.note(&line);
        } else {
            print(&defuse_commands(&line));
        }
    }

    /// Prints the current wait. Waits for people are printed where they are visible without opening a group.
    pub(super) fn waits(&mut self, target: &TargetId, on: &WaitingOn, now: Timestamp) {
        let line = view::outcome::waits(on, now, Paint::PLAIN);
        if matches!(on, WaitingOn::Approval { .. } | WaitingOn::AwaitingOperator { .. }) {
            let words = view::waiting(on, now);
            print(&format!("::notice title={}::waiting for {}", property(&target.to_string()), escaped(&words)));
        } else {
            print(&defuse_commands(&line));
        }
    }

    /// Reports the end of one target's deployment.
    pub(super) fn ended(&mut self, one: &Watched) {
        let words = match &one.end {
            Some(End::Finished(record, _)) => view::outcome::ended(record, Paint::PLAIN),
            Some(End::Superseded { by_tag }) => view::outcome::superseded(&one.tag, by_tag, &one.target, Paint::PLAIN),
            Some(End::Refused(reason)) => format!("{} refused {}: {reason}", one.target, one.tag),
            Some(End::StillRunning) | None => return,
        };
        self.note(&words);
        if one.end.as_ref().is_some_and(|end| end.exit() != Exit::Done) {
            annotate("error", &one.target.to_string(), &words);
        }
    }

    /// Reports that the wait has timed out.
    pub(super) fn still_running(&mut self, one: &Watched, wait_limit: Seconds) {
        let words = view::outcome::still_running(&one.target, wait_limit, Paint::PLAIN);
        self.note(&words);
        annotate("warning", &one.target.to_string(), &words);
    }

    /// Records each target's final state, for the summary.
    pub(super) fn left(&mut self, watched: &[Watched]) {
        for one in watched {
            let (verdict, why) = match &one.end {
                Some(end @ End::Finished(record, _)) => (verdict_name(end.exit()), record.reason.clone()),
                Some(End::Superseded { by_tag }) => ("superseded", format!("by {by_tag}, before it started")),
                Some(End::Refused(reason)) => ("refused", reason.clone()),
                Some(End::StillRunning) => (Exit::StillRunning.name(), "still running, no longer watched".to_owned()),
                None => (ASKED, String::new()),
            };
            self.rows.push(Row {
                target: one.target.to_string(),
                tag: one.tag.clone(),
                deployment: one.number,
                stage: one.stage.clone(),
                verdict,
                why,
            });
        }
    }

    /// Writes summary and outputs.
    pub(super) fn finish(&mut self, exit: Exit) {
        self.close();
        let asked = !self.rows.is_empty() && self.rows.iter().all(|row| row.verdict == ASKED);
        self.write(if asked { ASKED } else { verdict_name(exit) });
    }

    /// Same, for a failed command.
    pub(super) fn failed(&mut self, failure: &Failure) {
        self.close();
        warn(&defuse_commands(&format!("switchback: {failure}")));
        annotate("error", &format!("switchback ci {}", self.title), &failure.to_string());
        let verdict = failure.exit().name();
        for row in self.rows.iter_mut().filter(|row| row.verdict == ASKED) {
            (row.verdict, row.why) = (verdict, failure.to_string());
        }
        if self.rows.is_empty() {
            self.rows = self
                .targets
                .iter()
                .map(|target| Row {
                    target: target.clone(),
                    tag: String::new(),
                    deployment: None,
                    stage: String::new(),
                    verdict,
                    why: failure.to_string(),
                })
                .collect();
        }
        self.write(verdict);
    }

    fn close(&mut self) {
        if std::mem::take(&mut self.group_is_open) {
            print("::endgroup::");
        }
    }

    fn write(&self, verdict: &str) {
        append(SUMMARY, &self.summary());
        append(OUTPUT, &self.outputs(verdict));
    }

    fn summary(&self) -> String {
        let mut text = format!("### switchback ci {}\n\n", self.title);
        text.push_str("| target | release | deployment | verdict | why |\n|---|---|---|---|---|\n");
        for row in &self.rows {
            let deployment = row.deployment.map_or_else(String::new, |number| format!("#{number}"));
            let mark = match row.verdict {
                SUCCEEDED => "✅ ",
                ASKED | "still_running" => "⏳ ",
                _ => "❌ ",
            };
            text.push_str(&format!(
                "| {} | {} | {deployment} | {mark}{} | {} |\n",
                cell(&row.target),
                cell(&row.tag),
                cell(&row.verdict.replace('_', " ")),
                cell(&row.why)
            ));
        }
        text.push('\n');
        text
    }

    fn outputs(&self, verdict: &str) -> String {
        let one = match self.rows.as_slice() {
            [row] => Some(row),
            _ => None,
        };
        let deployment = one.and_then(|row| row.deployment).map_or_else(String::new, |number| number.to_string());
        let targets: Value = self
            .rows
            .iter()
            .map(|row| {
                let facts = json!({
                    "deployment": row.deployment, "release": row.tag, "stage": row.stage, "verdict": row.verdict,
                });
                (row.target.clone(), facts)
            })
            .collect::<serde_json::Map<_, _>>()
            .into();
        let release = one.map_or("", |row| row.tag.as_str());
        let lines = [
            ("verdict", verdict.to_owned()),
            ("deployment", deployment),
            ("release", release.to_owned()),
            ("targets", targets.to_string()),
        ];
        lines.iter().map(|(name, value)| format!("{name}={}\n", value.replace(['\r', '\n'], " "))).collect()
    }
}

const SUCCEEDED: &str = "succeeded";
/// Verdict in the summary when a request was sent but not waited for.
const ASKED: &str = "asked";

/// Name of an exit code that corresponds to a verdict.
fn verdict_name(exit: Exit) -> &'static str {
    if exit == Exit::Done { SUCCEEDED } else { exit.name() }
}

fn annotate(level: &str, title: &str, text: &str) {
    // It is shown on one line, so line breaks are removed.
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    print(&format!("::{level} title={}::{}", property(title), escaped(&line)));
}

/// Escapes a command's text (`@actions/core`, `escapeData`), and the prefix of the older command syntax.
fn escaped(text: &str) -> String {
    text.replace("##[", "# #[").replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// Escapes a command's property (`@actions/core`, `escapeProperty`).
fn property(text: &str) -> String {
    escaped(text).replace(':', "%3A").replace(',', "%2C")
}

/// Text as log lines that the runner does not interpret as commands: neither `::name::` at the start of a line nor the
/// older `##[name]` anywhere in it.
pub(super) fn defuse_commands(text: &str) -> String {
    let line = |line: &str| {
        let line = line.replace("##[", "# #[");
        let start = line.len() - line.trim_start().len();
        if line[start..].starts_with("::") { format!("{}: {}", &line[..start], &line[start + 1..]) } else { line }
    };
    // Everything that a terminal or the runner treats as a line break counts as one.
    text.trim_end().split(['\n', '\r']).map(line).collect::<Vec<_>>().join("\n")
}

/// Escapes text for a cell of a Markdown table: no markup, no HTML, one line.
fn cell(text: &str) -> String {
    let mut cell = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => cell.push_str("&amp;"),
            '<' => cell.push_str("&lt;"),
            '>' => cell.push_str("&gt;"),
            '\r' | '\n' => cell.push(' '),
            '\\' | '|' | '`' | '*' | '_' | '[' | ']' | '!' | '#' | '~' | '@' => {
                cell.push('\\');
                cell.push(character);
            }
            other => cell.push(other),
        }
    }
    cell
}

fn print(text: &str) {
    let mut out = std::io::stdout();
    // A closed log does not affect the result.
    let _ = writeln!(out, "{}", rollout::text::visible_lines(text));
    let _ = out.flush();
}

fn append(variable: &str, text: &str) {
    let Some(path) = std::env::var_os(variable).filter(|path| !path.is_empty()) else { return };
    let written = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .and_then(|mut file| file.write_all(rollout::text::visible_lines(text).as_bytes()));
    if let Err(error) = written {
        warn(&format!("switchback: {variable} could not be written: {error}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_cannot_be_a_workflow_command() {
        for (text, line) in [
            ("::set-output name=verdict::succeeded", ": :set-output name=verdict::succeeded"),
            ("  ::stop-commands::x", "  : :stop-commands::x"),
            ("03:00  ##[set-output name=verdict]succeeded", "03:00  # #[set-output name=verdict]succeeded"),
            ("fine\r::error::x", "fine\n: :error::x"),
            ("a::b", "a::b"),
        ] {
            assert_eq!(defuse_commands(text), line);
        }
        assert_eq!(escaped("100%\n::error::x"), "100%25%0A::error::x");
        assert_eq!(property("a:b,c"), "a%3Ab%2Cc");
    }

    #[test]
    fn foreign_text_is_escaped_in_markdown() {
        assert_eq!(cell("a|b\n<img> [x](y) `c` @you"), "a\\|b &lt;img&gt; \\[x\\](y) \\`c\\` \\@you");
    }

    #[test]
    fn each_output_is_one_line() {
        let row = |target: &str| Row {
            target: target.to_owned(),
            tag: "v3\nverdict=x".to_owned(),
            deployment: Some(12),
            stage: "baking".to_owned(),
            verdict: "still_running",
            why: String::new(),
        };
        let mut report = Report { rows: vec![row("shop/api/prod")], ..Report::new("promote", Vec::new()) };
        let outputs = report.outputs("still_running");
        assert_eq!(outputs.lines().count(), 4, "{outputs}");
        assert!(
            outputs.starts_with("verdict=still_running\ndeployment=12\nrelease=v3 verdict=x\ntargets={"),
            "{outputs}"
        );
        report.rows.push(row("shop/web/prod"));
        assert!(report.outputs("failed").contains("\ndeployment=\n"));
    }
}
