//! `--wait`: finds the deployment that a command leads to, and reports its progress and its verdict.
//!
//! A command first waits to be consumed; then its release may be queued, superseded by a newer one, or refused; only
//! after that is there a deployment with a number. The target's state tells which of these applies; the journal is read
//! only for a refusal's reason, and only entries newer than the request count.

use super::client::Client;
use super::exit::Exit;
use super::failure::Failure;
use super::output::Output;
use super::status::Outage;
use super::{duration, interval, target_path};
use api::{CommandResponse, HistoryResponse, JournalResponse, MAX_LISTED, Refusal, TargetStatus};
use rollout::deployment::{DeploymentRecord, Purpose};
use rollout::explanation::WaitingOn;
use rollout::verdict::Verdict;
use rollout::{Actor, Fact, JournalEntry, Seconds, TargetId};
use serde_json::json;
use std::time::{Duration, Instant};

/// How long to wait, and how often to look.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct WaitOptions {
    /// Longest wait; the deployment itself continues.
    #[arg(long, default_value = "1h", value_parser = duration, value_name = "DURATION")]
    timeout: Seconds,
    /// Interval between two looks while waiting.
    #[arg(long, default_value = "2s", value_parser = interval, value_name = "PAUSE")]
    every: Duration,
}

/// Kind of command, as far as it determines the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CommandKind {
    /// Make a release live.
    Deploy,
    /// Same, for a release verified in the preceding environments.
    Promote,
    /// Same, through the hotfix lane.
    Hotfix,
    /// End the running deployment.
    Abort,
    /// Go back to the previous release.
    Rollback,
}

impl CommandKind {
    /// The verb in URLs.
    pub(crate) fn verb(self) -> &'static str {
        match self {
            Self::Deploy => "deploy",
            Self::Promote => "promote",
            Self::Hotfix => "hotfix",
            Self::Abort => "abort",
            Self::Rollback => "rollback",
        }
    }

    /// The name in journal entries.
    fn journal_name(self) -> &'static str {
        match self {
            Self::Deploy | Self::Promote | Self::Hotfix => "deploy",
            Self::Abort => "abort",
            Self::Rollback => "rollback",
        }
    }

    /// Whether the command is to make a release live.
    fn deploys_a_release(self) -> bool {
        matches!(self, Self::Deploy | Self::Promote | Self::Hotfix)
    }

    /// Exit code for a deployment's verdict. `was_running`: the command was to end this deployment, which was running
    /// already; the command did not start it.
    fn exit_for(self, verdict: Verdict, was_running: bool) -> Exit {
        match verdict {
            Verdict::RolledBack | Verdict::Cancelled if !self.deploys_a_release() && was_running => Exit::Done,
            // The deployment succeeded before it could be ended, so the command failed.
            Verdict::Succeeded if !self.deploys_a_release() && was_running => Exit::Failed,
            verdict => Exit::of(verdict),
        }
    }
}

/// Number of polls in which a command may be neither waiting nor answered before that is an error: an index of the
/// ledger may lag behind its items.
const MAX_UNEXPLAINED_POLLS: u32 = 10;

/// Follows commands from acceptance to their end. Of several commands the first that failed determines the exit code:
/// the others failed because of it, or were not carried out.
pub(crate) async fn follow(
    client: &Client,
    kind: CommandKind,
    asked: &[CommandResponse],
    wait_options: &WaitOptions,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let started = Instant::now();
    let mut outage = Outage::default();
    let mut followed: Vec<FollowedCommand<'_>> =
        asked.iter().map(|asked| FollowedCommand::of(client, kind, asked)).collect();
    let several = followed.len() > 1;
    let mut first_failed_exit = None;
    loop {
        let mut unfinished = Vec::new();
        for mut followed_command in followed {
            let target = &followed_command.asked.target;
            output.set_subject(several.then(|| target.to_string()));
            let polled = followed_command.poll(output).await;
            match outage.tolerate(polled, output)? {
                Some(Some(end)) => {
                    let exit = match followed_command.report_end(end, output) {
                        // If one of several commands is refused, the others are still reported.
                        Err(failure) if several => output.failed(&failure),
                        result => result?,
                    };
                    first_failed_exit = first_failed_exit.or((exit != Exit::Done).then_some(exit));
                }
                _ => unfinished.push(followed_command),
            }
        }
        output.set_subject(None);
        if unfinished.is_empty() {
            return Ok(first_failed_exit.unwrap_or(Exit::Done));
        }
        followed = unfinished;
        if started.elapsed() >= Duration::from_secs(wait_options.timeout.0) {
            for followed_command in &followed {
                let target = &followed_command.asked.target;
                output.say(&view::outcome::still_running(target, wait_options.timeout, output.paint));
                let exit = Exit::StillRunning;
                output.event("ended", json!({"target": target, "exit": exit.code(), "outcome": exit.name()}));
            }
            return Ok(first_failed_exit.unwrap_or(Exit::StillRunning));
        }
        tokio::time::sleep(wait_options.every).await;
    }
}

/// How the command ended.
enum End {
    /// Its deployment has a verdict.
    Finished(Box<DeploymentRecord>, Verdict),
    /// A newer release took its place in the queue.
    Superseded { tag: String, by_tag: String },
    /// The command was refused and changed nothing.
    Refused(String),
}

struct FollowedCommand<'a> {
    client: &'a Client,
    kind: CommandKind,
    asked: &'a CommandResponse,
    /// Number of the deployment that the command started, or refers to.
    ours: Option<u64>,
    changes: ChangeReporter,
    unexplained_polls: u32,
}

impl<'a> FollowedCommand<'a> {
    fn of(client: &'a Client, kind: CommandKind, asked: &'a CommandResponse) -> Self {
        let changes = ChangeReporter::since(asked.last_entry);
        Self { client, kind, asked, ours: asked.deployment, changes, unexplained_polls: 0 }
    }

    /// One poll: reports what is new; returns the end, if reached.
    async fn poll(&mut self, output: &mut Output) -> Result<Option<End>, Failure> {
        let target = &self.asked.target;
        let status: TargetStatus = self.client.get(&target_path(target, "")).await?;
        self.changes.report_new(self.client, &status, output).await?;
        let waits = status.commands.iter().any(|command| command.id == self.asked.command);
        if waits {
            return Ok(None);
        }
        if !self.kind.deploys_a_release()
            && let Some(reason) = self.refusal(false)
        {
            return Ok(Some(End::Refused(reason)));
        }
        if self.ours.is_none() {
            self.ours = self.find(&status).await?;
        }
        if let Some(number) = self.ours {
            if status.state.running.as_ref().is_some_and(|running| running.number == number) {
                return Ok(None);
            }
            let record = self.history().await?.into_iter().find(|record| record.number == number);
            return match record {
                Some(record) => Ok(record.verdict.map(|verdict| End::Finished(Box::new(record), verdict))),
                None => Err(Failure::Unexpected(format!("deployment #{number} of {target} is in no history"))),
            };
        }
        if status.state.queued.iter().any(|queued| queued.command == self.asked.command) {
            return Ok(None);
        }
        let end = self.superseded().or_else(|| self.refusal(true).map(End::Refused));
        if end.is_none() {
            self.unexplained_polls += 1;
            if self.unexplained_polls > MAX_UNEXPLAINED_POLLS {
                return Err(Failure::Unexpected(format!(
                    "the command {} was accepted, and neither history nor journal of {target} show its outcome",
                    self.asked.command.0
                )));
            }
        }
        Ok(end)
    }

    /// The deployment that the command started, if it has.
    async fn find(&self, status: &TargetStatus) -> Result<Option<u64>, Failure> {
        let last_before = self.asked.last_deployment;
        if status.state.last_deployment <= last_before {
            return Ok(None);
        }
        let release = self.asked.release.as_ref().map(|release| &release.id);
        if let Some(running) = status.state.running.as_ref().filter(|running| running.number > last_before) {
            let fits = match self.kind {
                CommandKind::Deploy | CommandKind::Promote | CommandKind::Hotfix => {
                    running.purpose == Purpose::Deploy && Some(&running.release.id) == release
                }
                CommandKind::Rollback => running.purpose != Purpose::Deploy,
                CommandKind::Abort => true,
            };
            if fits {
                return Ok(Some(running.number));
            }
        }
        let fits = |record: &&DeploymentRecord| {
            let ours = match self.kind {
                CommandKind::Deploy | CommandKind::Promote | CommandKind::Hotfix => Some(&record.release.id) == release,
                CommandKind::Rollback => record.actor == self.asked.actor,
                CommandKind::Abort => true,
            };
            record.number > last_before && ours
        };
        // The oldest match: a later one belongs to another request.
        Ok(self.history().await?.iter().rev().find(fits).map(|record| record.number))
    }

    async fn history(&self) -> Result<Vec<DeploymentRecord>, Failure> {
        let path = target_path(&self.asked.target, &format!("history?limit={MAX_LISTED}"));
        let answer: HistoryResponse = self.client.get(&path).await?;
        Ok(answer.deployments)
    }

    /// Why the command was refused, if the journal says so. `once_queued`: a queued release can still be refused by
    /// Switchback itself when its turn comes.
    fn refusal(&self, once_queued: bool) -> Option<String> {
        self.changes.entries.iter().find_map(|entry| match &entry.fact {
            Fact::CommandRefused { command, reason }
                if command == self.kind.journal_name()
                    && (entry.actor == self.asked.actor || once_queued && entry.actor == Actor::Switchback) =>
            {
                Some(reason.to_string())
            }
            _ => None,
        })
    }

    fn superseded(&self) -> Option<End> {
        let release = self.asked.release.as_ref()?;
        self.changes.entries.iter().find_map(|entry| match &entry.fact {
            Fact::Superseded { digest, tag, by_tag } if digest == release.id.digest.as_str() => {
                Some(End::Superseded { tag: tag.clone(), by_tag: by_tag.clone() })
            }
            _ => None,
        })
    }

    fn report_end(&self, end: End, output: &mut Output) -> Result<Exit, Failure> {
        let target = &self.asked.target;
        match end {
            End::Finished(record, verdict) => {
                let exit = self.kind.exit_for(verdict, self.asked.deployment.is_some());
                output.say(&view::outcome::ended(&record, output.paint));
                let end = json!({"target": target, "exit": exit.code(), "outcome": exit.name(), "deployment": record});
                output.event("ended", end);
                Ok(exit)
            }
            End::Superseded { tag, by_tag } => {
                let exit = Exit::Superseded;
                output.say(&view::outcome::superseded(&tag, &by_tag, target, output.paint));
                let end = json!({"target": target, "exit": exit.code(), "outcome": exit.name(), "by": by_tag});
                output.event("ended", end);
                Ok(exit)
            }
            End::Refused(reason) => {
                let message = format!("{target} refused to {}: {reason}", self.kind.verb());
                Err(Failure::Refused(Refusal::new(409, "command_refused", message)))
            }
        }
    }
}

/// Reports what is new on a target exactly once: journal entries, and changed waits.
#[derive(Debug)]
pub(crate) struct ChangeReporter {
    seen: u64,
    waiting: Option<WaitingOn>,
    no_pending_commands: bool,
    /// All entries since the reporter was created.
    entries: Vec<JournalEntry>,
}

impl ChangeReporter {
    /// Starts after the entry with this sequence.
    pub(crate) fn since(seen: u64) -> Self {
        Self { seen, waiting: None, no_pending_commands: true, entries: Vec::new() }
    }

    /// Prints what is new.
    pub(crate) async fn report_new(
        &mut self,
        client: &Client,
        status: &TargetStatus,
        output: &mut Output,
    ) -> Result<(), Failure> {
        let target: &TargetId = &status.state.target;
        while self.seen < status.state.last_entry {
            let path = target_path(target, &format!("journal?after={}&limit={MAX_LISTED}", self.seen));
            let JournalResponse { entries } = client.get(&path).await?;
            let Some(last) = entries.last() else { break };
            self.seen = last.sequence;
            for entry in &entries {
                output.event("entry", entry);
                output.say(&view::history::entry(entry, output.paint));
            }
            self.entries.extend(entries);
        }
        let waiting = status.state.explanation.waiting_on.first();
        let waiting = waiting.filter(|_| status.state.running.is_some());
        let note = match waiting {
            Some(on) => view::outcome::waits(on, status.at, output.paint),
            None if !status.commands.is_empty() => view::outcome::note("waits to be taken in", output.paint),
            None => String::new(),
        };
        let no_pending_commands = status.commands.is_empty();
        let changed = match waiting {
            Some(on) => self.waiting.as_ref().is_none_or(|before| !is_same_wait(before, on)),
            None => !no_pending_commands && self.no_pending_commands,
        };
        if output.live {
            output.live_line(&note);
        } else if changed && !note.is_empty() {
            output.say(&note);
        }
        if changed && let Some(on) = waiting {
            output.event("waiting", json!({"target": target, "on": on, "at": status.at}));
        }
        self.waiting = waiting.cloned();
        self.no_pending_commands = no_pending_commands;
        Ok(())
    }
}

/// Whether only numbers have changed, which is not worth another line.
fn is_same_wait(before: &WaitingOn, now: &WaitingOn) -> bool {
    match (before, now) {
        (WaitingOn::Healthy { deadline: before, .. }, WaitingOn::Healthy { deadline: now, .. })
        | (WaitingOn::Stopping { deadline: before, .. }, WaitingOn::Stopping { deadline: now, .. }) => before == now,
        // The journal reports each approval.
        (WaitingOn::Approval { plan: before, .. }, WaitingOn::Approval { plan: now, .. }) => before == now,
        (before, now) => before == now,
    }
}
