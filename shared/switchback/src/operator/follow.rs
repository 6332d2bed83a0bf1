//! `--wait`: finds the deployment that a command becomes, tells what happens to it, and how it ended.
//!
//! A command is nothing yet. It waits to be taken in, may be queued, may give way to a newer one, may be refused; only
//! then there is a deployment with a number. What is remembered of the target says which of these it is; the journal is
//! asked only for a reason, and only entries are looked at that are younger than the asking.

use super::client::Client;
use super::exit::Exit;
use super::failure::Failure;
use super::output::Output;
use super::status::Silence;
use super::{duration, pause, target_path};
use engine::operate::{CommandAnswer, HistoryAnswer, JournalAnswer, MOST_LISTED, Refusal, TargetStatus};
use rollout::stage::Verdict;
use rollout::target::{DeploymentRecord, Purpose, WaitingOn};
use rollout::{Actor, Fact, JournalEntry, Seconds, TargetId};
use serde_json::json;
use std::time::{Duration, Instant};

/// How long to wait, and how often to look.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Patience {
    /// Longest wait; the deployment itself continues.
    #[arg(long, default_value = "1h", value_parser = duration, value_name = "DURATION")]
    timeout: Seconds,
    /// Interval between two looks while waiting.
    #[arg(long, default_value = "2s", value_parser = pause, value_name = "PAUSE")]
    every: Duration,
}

/// What was asked for, as far as its end has to be judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// A release to be live.
    Deploy,
    /// The same, of what the environments before have verified.
    Promote,
    /// The same, by the short way.
    Hotfix,
    /// What runs to be ended.
    Abort,
    /// What was there before.
    Rollback,
}

impl Wish {
    /// As routes have it.
    pub(crate) fn verb(self) -> &'static str {
        match self {
            Self::Deploy => "deploy",
            Self::Promote => "promote",
            Self::Hotfix => "hotfix",
            Self::Abort => "abort",
            Self::Rollback => "rollback",
        }
    }

    /// As the journal has it.
    fn journalled(self) -> &'static str {
        match self {
            Self::Deploy | Self::Promote | Self::Hotfix => "deploy",
            Self::Abort => "abort",
            Self::Rollback => "rollback",
        }
    }

    /// Whether a release is to be live.
    fn brings(self) -> bool {
        matches!(self, Self::Deploy | Self::Promote | Self::Hotfix)
    }

    /// What the end of a deployment means to whoever wished this. `ended_here`: the deployment ran when it was asked, and
    /// was to be ended; not one that the command began.
    fn judged(self, verdict: Verdict, ended_here: bool) -> Exit {
        match verdict {
            Verdict::RolledBack | Verdict::Cancelled if !self.brings() && ended_here => Exit::Done,
            // It was over before it could be ended: what was asked for did not come.
            Verdict::Succeeded if !self.brings() && ended_here => Exit::Failed,
            verdict => Exit::of(verdict),
        }
    }
}

/// How often a command may be found neither waiting nor answered before that is an error: an index of the ledger may be
/// a moment behind its items.
const MOST_RIDDLES: u32 = 10;

/// Tells what happens from the commands' taking down to their ends. Of several the first that did not do what was wished
/// says how it ended: the others did not make it because of that one, or would not have been touched.
pub(crate) async fn follow(
    client: &Client,
    wish: Wish,
    asked: &[CommandAnswer],
    patience: &Patience,
    output: &mut Output,
) -> Result<Exit, Failure> {
    let began = Instant::now();
    let mut silence = Silence::default();
    let mut pursuits: Vec<Pursuit<'_>> = asked.iter().map(|asked| Pursuit::of(client, wish, asked)).collect();
    let several = pursuits.len() > 1;
    let mut first_bad = None;
    loop {
        let mut open = Vec::new();
        for mut pursuit in pursuits {
            let target = &pursuit.asked.target;
            output.about(several.then(|| target.to_string()));
            let looked = pursuit.look(output).await;
            match silence.hears(looked, output)? {
                Some(Some(end)) => {
                    let exit = match pursuit.tell_end(end, output) {
                        // One of several that was refused does not end the telling of the others.
                        Err(failure) if several => output.failed(&failure),
                        told => told?,
                    };
                    first_bad = first_bad.or((exit != Exit::Done).then_some(exit));
                }
                _ => open.push(pursuit),
            }
        }
        output.about(None);
        if open.is_empty() {
            return Ok(first_bad.unwrap_or(Exit::Done));
        }
        pursuits = open;
        if began.elapsed() >= Duration::from_secs(patience.timeout.0) {
            for pursuit in &pursuits {
                let target = &pursuit.asked.target;
                output.say(&view::outcome::still_running(target, patience.timeout, output.paint));
                let exit = Exit::StillRunning;
                output.event("ended", json!({"target": target, "exit": exit.code(), "outcome": exit.name()}));
            }
            return Ok(first_bad.unwrap_or(Exit::StillRunning));
        }
        tokio::time::sleep(patience.every).await;
    }
}

/// How it ended.
enum End {
    /// There was a deployment, and it has a verdict.
    Over(Box<DeploymentRecord>, Verdict),
    /// A newer release took the queue's place.
    Superseded { tag: String, by_tag: String },
    /// It changed nothing.
    Refused(String),
}

struct Pursuit<'a> {
    client: &'a Client,
    wish: Wish,
    asked: &'a CommandAnswer,
    /// The deployment that the command has become, or is about.
    ours: Option<u64>,
    changes: Changes,
    riddles: u32,
}

impl<'a> Pursuit<'a> {
    fn of(client: &'a Client, wish: Wish, asked: &'a CommandAnswer) -> Self {
        let changes = Changes::since(asked.last_entry);
        Self { client, wish, asked, ours: asked.deployment, changes, riddles: 0 }
    }

    /// One look: what happened is told; the end, if it is there.
    async fn look(&mut self, output: &mut Output) -> Result<Option<End>, Failure> {
        let target = &self.asked.target;
        let status: TargetStatus = self.client.get(&target_path(target, "")).await?;
        self.changes.tell(self.client, &status, output).await?;
        let waits = status.commands.iter().any(|command| command.id == self.asked.command);
        if waits {
            return Ok(None);
        }
        if !self.wish.brings()
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
                Some(record) => Ok(record.verdict.map(|verdict| End::Over(Box::new(record), verdict))),
                None => Err(Failure::Unexpected(format!("deployment #{number} of {target} is in no history"))),
            };
        }
        if status.state.queued.iter().any(|queued| queued.command == self.asked.command) {
            return Ok(None);
        }
        let end = self.superseded().or_else(|| self.refusal(true).map(End::Refused));
        if end.is_none() {
            self.riddles += 1;
            if self.riddles > MOST_RIDDLES {
                return Err(Failure::Unexpected(format!(
                    "the command {} was accepted, and neither history nor journal of {target} show its outcome",
                    self.asked.command.0
                )));
            }
        }
        Ok(end)
    }

    /// The deployment that the command has become, if it has.
    async fn find(&self, status: &TargetStatus) -> Result<Option<u64>, Failure> {
        let newest = self.asked.last_deployment;
        if status.state.last_deployment <= newest {
            return Ok(None);
        }
        let release = self.asked.release.as_ref().map(|release| &release.id);
        if let Some(running) = status.state.running.as_ref().filter(|running| running.number > newest) {
            let fits = match self.wish {
                Wish::Deploy | Wish::Promote | Wish::Hotfix => {
                    running.purpose == Purpose::Deploy && Some(&running.release.id) == release
                }
                Wish::Rollback => running.purpose != Purpose::Deploy,
                Wish::Abort => true,
            };
            if fits {
                return Ok(Some(running.number));
            }
        }
        let fits = |record: &&DeploymentRecord| {
            let ours = match self.wish {
                Wish::Deploy | Wish::Promote | Wish::Hotfix => Some(&record.release.id) == release,
                Wish::Rollback => record.actor == self.asked.actor,
                Wish::Abort => true,
            };
            record.number > newest && ours
        };
        // The oldest that fits: a later one is another asking's.
        Ok(self.history().await?.iter().rev().find(fits).map(|record| record.number))
    }

    async fn history(&self) -> Result<Vec<DeploymentRecord>, Failure> {
        let path = target_path(&self.asked.target, &format!("history?limit={MOST_LISTED}"));
        let answer: HistoryAnswer = self.client.get(&path).await?;
        Ok(answer.deployments)
    }

    /// Why the command was refused, if the journal says so. `once_queued`: a release that waited can be refused when its
    /// turn comes, by Switchback itself.
    fn refusal(&self, once_queued: bool) -> Option<String> {
        self.changes.entries.iter().find_map(|entry| match &entry.fact {
            Fact::CommandRefused { command, reason }
                if command == self.wish.journalled()
                    && (entry.actor == self.asked.actor || once_queued && entry.actor == Actor::Switchback) =>
            {
                Some(reason.clone())
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

    fn tell_end(&self, end: End, output: &mut Output) -> Result<Exit, Failure> {
        let target = &self.asked.target;
        match end {
            End::Over(record, verdict) => {
                let exit = self.wish.judged(verdict, self.asked.deployment.is_some());
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
                let message = format!("{target} refused to {}: {reason}", self.wish.verb());
                Err(Failure::Refused(Refusal::new(409, "command_refused", message)))
            }
        }
    }
}

/// What is new on a target, told once: journal entries, and what is waited for when that changes.
#[derive(Debug)]
pub(crate) struct Changes {
    seen: u64,
    waiting: Option<WaitingOn>,
    taken_in: bool,
    /// All entries since the beginning of the telling.
    entries: Vec<JournalEntry>,
}

impl Changes {
    /// What comes after the entry of that sequence.
    pub(crate) fn since(seen: u64) -> Self {
        Self { seen, waiting: None, taken_in: true, entries: Vec::new() }
    }

    /// Tells what is new.
    pub(crate) async fn tell(
        &mut self,
        client: &Client,
        status: &TargetStatus,
        output: &mut Output,
    ) -> Result<(), Failure> {
        let target: &TargetId = &status.state.target;
        while self.seen < status.state.last_entry {
            let path = target_path(target, &format!("journal?after={}&limit={MOST_LISTED}", self.seen));
            let JournalAnswer { entries } = client.get(&path).await?;
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
        let taken_in = status.commands.is_empty();
        let changed = match waiting {
            Some(on) => self.waiting.as_ref().is_none_or(|before| !same_wait(before, on)),
            None => !taken_in && self.taken_in,
        };
        if output.live {
            output.living(&note);
        } else if changed && !note.is_empty() {
            output.say(&note);
        }
        if changed && let Some(on) = waiting {
            output.event("waiting", json!({"target": target, "on": on, "at": status.at}));
        }
        self.waiting = waiting.cloned();
        self.taken_in = taken_in;
        Ok(())
    }
}

/// Only the numbers have moved: not worth another line.
fn same_wait(before: &WaitingOn, now: &WaitingOn) -> bool {
    match (before, now) {
        (WaitingOn::Healthy { deadline: before, .. }, WaitingOn::Healthy { deadline: now, .. })
        | (WaitingOn::Stopping { deadline: before, .. }, WaitingOn::Stopping { deadline: now, .. }) => before == now,
        // The journal tells of it.
        (WaitingOn::Approval { plan: before, .. }, WaitingOn::Approval { plan: now, .. }) => before == now,
        (before, now) => before == now,
    }
}
