//! What becomes of what was asked, on one target or on several that go together: looked at again and again, told where
//! something is new, until each has its verdict or the time is over.

use super::super::exit::Exit;
use super::super::failure::Failure;
use super::super::output::warn;
use super::client::Client;
use super::report::{Report, harmless};
use engine::operate::{CommandAnswer, HistoryAnswer, JournalAnswer, MOST_LISTED, TargetStatus};
use rollout::stage::Verdict;
use rollout::target::{DeploymentRecord, Purpose, ReleaseRef, WaitingOn};
use rollout::{Actor, CommandId, Fact, JournalEntry, ReleaseId, Seconds, TargetId};
use std::time::{Duration, Instant};

/// How long to wait, and how often to look.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// Until when.
    pub(super) until: Instant,
    /// How long that is in all.
    pub(super) whole: Seconds,
    /// Between two looks.
    pub(super) every: Duration,
}

/// How often a command may be found neither waiting nor answered before that is an error: an index of the ledger may be
/// a moment behind its items.
const MOST_RIDDLES: u32 = 10;
/// How long a control plane may be silent that has been heard before.
const LONGEST_SILENCE: Duration = Duration::from_secs(300);

/// The release that is waited for.
#[derive(Debug, Clone)]
enum Wanted {
    /// This one.
    Exactly(ReleaseId),
    /// The one of this tag, digest, or beginning of a digest.
    Named(String),
}

impl Wanted {
    fn is(&self, release: &ReleaseRef) -> bool {
        match self {
            Self::Exactly(id) => &release.id == id,
            Self::Named(name) => self.names(name, release.id.digest.as_str(), &release.tag),
        }
    }

    /// The same of a release that a journal entry names.
    fn is_told(&self, digest: &str, tag: &str) -> bool {
        match self {
            Self::Exactly(id) => id.digest.as_str() == digest,
            Self::Named(name) => self.names(name, digest, tag),
        }
    }

    fn names(&self, name: &str, digest: &str, tag: &str) -> bool {
        let digits = name.strip_prefix("sha256:").unwrap_or(name).to_ascii_lowercase();
        tag == name || digits.len() >= 7 && digest.trim_start_matches("sha256:").starts_with(&digits)
    }
}

/// How it ended.
#[derive(Debug, Clone)]
pub(super) enum End {
    /// There was a deployment, and it has a verdict.
    Over(Box<DeploymentRecord>, Verdict),
    /// It gave way to a newer one before it started.
    Superseded {
        /// The newer one's tag.
        by_tag: String,
    },
    /// It changed nothing.
    Refused(String),
    /// The time is over; it goes on.
    StillRunning,
}

impl End {
    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::Over(_, verdict) => Exit::of(*verdict),
            Self::Superseded { .. } => Exit::Superseded,
            Self::Refused(_) => Exit::Refused,
            Self::StillRunning => Exit::StillRunning,
        }
    }
}

/// One target that is watched.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) target: TargetId,
    /// Tag of the release, for people: as it was asked for, until it is known better.
    pub(super) tag: String,
    /// The deployment, once it is known.
    pub(super) number: Option<u64>,
    /// The name of its stage, as it was seen last; empty before it began.
    pub(super) stage: String,
    /// How it ended, once it has.
    pub(super) end: Option<End>,
    wanted: Wanted,
    /// The command that asks for it, and who asked; none: somebody else does.
    asked: Option<(CommandId, Actor)>,
    /// Deployments up to this one are not ours.
    after_deployment: u64,
    /// Journal entries up to this one were read.
    seen: Option<u64>,
    entries: Vec<JournalEntry>,
    waiting: Option<WaitingOn>,
    riddles: u32,
}

impl Watched {
    /// What was asked for just now.
    pub(super) fn asked(answer: &CommandAnswer) -> Self {
        let (tag, wanted) = match &answer.release {
            Some(release) => (release.tag.clone(), Wanted::Exactly(release.id.clone())),
            // Not of this version: what it calls a release is not known, and its deployment is found by the number.
            None => (String::new(), Wanted::Named(String::new())),
        };
        Self {
            number: answer.deployment,
            asked: Some((answer.command.clone(), answer.actor.clone())),
            after_deployment: answer.last_deployment,
            seen: Some(answer.last_entry),
            ..Self::new(answer.target.clone(), tag, wanted)
        }
    }

    /// What somebody else asks for, or has asked for.
    pub(super) fn named(target: TargetId, release: &str) -> Self {
        Self::new(target, release.to_owned(), Wanted::Named(release.to_owned()))
    }

    fn new(target: TargetId, tag: String, wanted: Wanted) -> Self {
        Self {
            target,
            tag,
            number: None,
            stage: String::new(),
            end: None,
            wanted,
            asked: None,
            after_deployment: 0,
            seen: None,
            entries: Vec::new(),
            waiting: None,
            riddles: 0,
        }
    }

    fn path(&self, what: &str) -> String {
        let slash = if what.is_empty() { "" } else { "/" };
        format!("/v1/promotions/{}{slash}{what}", self.target)
    }

    /// One look: what is new is told; the end, if it is there.
    async fn look(&mut self, client: &mut Client, report: &mut Report) -> Result<(), Failure> {
        let status: TargetStatus = client.get(&self.path("")).await?;
        let new = self.read(client, &status).await?;
        self.end = self.became(client, &status).await?;
        if let Some(running) = status.state.running.as_ref().filter(|running| Some(running.number) == self.number) {
            self.tag.clone_from(&running.release.tag);
            running.stage.name().clone_into(&mut self.stage);
        }
        for entry in new {
            // Of what was there before only what is about this deployment is news.
            if entry.deployment.is_none() || self.number.is_none() || entry.deployment == self.number {
                report.entry(&entry);
            }
        }
        self.tell_wait(&status, report);
        Ok(())
    }

    /// Reads what is new in the journal; answers what is to be told of it.
    async fn read(&mut self, client: &mut Client, status: &TargetStatus) -> Result<Vec<JournalEntry>, Failure> {
        let mut new: Vec<JournalEntry> = Vec::new();
        let first = self.seen.is_none();
        let mut seen = match self.seen {
            Some(seen) => seen,
            None => {
                // Somebody else's deployment may be under way, or over: the journal's end has it.
                let path = self.path(&format!("journal?limit={MOST_LISTED}"));
                let JournalAnswer { entries } = client.get(&path).await?;
                let seen = entries.last().map_or(0, |last| last.sequence);
                self.entries.extend(entries.iter().cloned());
                let running = status.state.running.as_ref().filter(|running| self.wanted.is(&running.release));
                let ours = running.map(|running| running.number);
                new.extend(entries.into_iter().filter(|entry| ours.is_some() && entry.deployment == ours));
                seen
            }
        };
        while !first && seen < status.state.last_entry {
            let path = self.path(&format!("journal?after={seen}&limit={MOST_LISTED}"));
            let JournalAnswer { entries } = client.get(&path).await?;
            let Some(last) = entries.last() else { break };
            seen = last.sequence;
            self.entries.extend(entries.iter().cloned());
            new.extend(entries);
        }
        self.seen = Some(seen);
        Ok(new)
    }

    /// What has become of it; none: it is not over.
    async fn became(&mut self, client: &mut Client, status: &TargetStatus) -> Result<Option<End>, Failure> {
        let command = self.asked.as_ref().map(|(command, _)| command);
        if status.commands.iter().any(|waiting| Some(&waiting.id) == command) {
            return Ok(None);
        }
        if self.number.is_none() {
            self.number = self.find(client, status).await?;
        }
        if let Some(number) = self.number {
            if status.state.running.as_ref().is_some_and(|running| running.number == number) {
                return Ok(None);
            }
            let record = self.history(client).await?.into_iter().find(|record| record.number == number);
            let Some(record) = record else {
                let target = &self.target;
                return Err(Failure::Unexpected(format!("deployment #{number} of {target} is in no history")));
            };
            self.tag.clone_from(&record.release.tag);
            return Ok(record.verdict.map(|verdict| End::Over(Box::new(record), verdict)));
        }
        let queued = status
            .state
            .queued
            .iter()
            .any(|queued| Some(&queued.command) == command || self.wanted.is(&queued.release));
        if queued {
            return Ok(None);
        }
        if let Some(end) = self.superseded().or_else(|| self.refusal()) {
            return Ok(Some(end));
        }
        if let Some((command, _)) = &self.asked {
            self.riddles += 1;
            if self.riddles > MOST_RIDDLES {
                return Err(Failure::Unexpected(format!(
                    "the command {} was accepted, and neither history nor journal of {} show its outcome",
                    command.0, self.target
                )));
            }
        }
        Ok(None)
    }

    /// The deployment of the release that is waited for, if there is one yet.
    async fn find(&self, client: &mut Client, status: &TargetStatus) -> Result<Option<u64>, Failure> {
        let running = status.state.running.as_ref();
        let running = running.filter(|running| running.purpose == Purpose::Deploy && self.wanted.is(&running.release));
        if let Some(running) = running {
            // Whoever asked for it: a second deployment of the same release would not be begun.
            return Ok(Some(running.number));
        }
        if status.state.last_deployment <= self.after_deployment {
            return Ok(None);
        }
        let history = self.history(client).await?;
        let mut fits =
            history.iter().filter(|record| record.number > self.after_deployment && self.wanted.is(&record.release));
        // What was asked for is the oldest that fits, a later one is another asking's; without an asking, the newest.
        let found = if self.asked.is_some() { fits.next_back() } else { fits.next() };
        Ok(found.map(|record| record.number))
    }

    async fn history(&self, client: &mut Client) -> Result<Vec<DeploymentRecord>, Failure> {
        let answer: HistoryAnswer = client.get(&self.path(&format!("history?limit={MOST_LISTED}"))).await?;
        Ok(answer.deployments)
    }

    fn superseded(&self) -> Option<End> {
        self.entries.iter().rev().find_map(|entry| match &entry.fact {
            Fact::Superseded { digest, tag, by_tag } if self.wanted.is_told(digest, tag) => {
                Some(End::Superseded { by_tag: by_tag.clone() })
            }
            _ => None,
        })
    }

    /// Why what was asked changed nothing, if the journal says so. A release that waited can be refused when its turn
    /// comes, by Switchback itself.
    fn refusal(&self) -> Option<End> {
        let (_, actor) = self.asked.as_ref()?;
        self.entries.iter().find_map(|entry| match &entry.fact {
            Fact::CommandRefused { command, reason }
                if command == "deploy" && (&entry.actor == actor || entry.actor == Actor::Switchback) =>
            {
                Some(End::Refused(reason.clone()))
            }
            _ => None,
        })
    }

    /// What it waits for, where that is something else than before.
    fn tell_wait(&mut self, status: &TargetStatus, report: &mut Report) {
        let ours = self.number.is_some() && status.state.running.as_ref().map(|running| running.number) == self.number;
        let waiting = status.state.explanation.waiting_on.first().filter(|_| ours);
        if let Some(on) = waiting
            && self.waiting.as_ref().is_none_or(|before| !same_wait(before, on))
        {
            report.waits(&self.target, on, status.at);
        }
        self.waiting = waiting.cloned();
    }
}

/// Only the numbers have moved: not worth another line.
fn same_wait(before: &WaitingOn, now: &WaitingOn) -> bool {
    match (before, now) {
        (WaitingOn::Healthy { deadline: before, .. }, WaitingOn::Healthy { deadline: now, .. })
        | (WaitingOn::Stopping { deadline: before, .. }, WaitingOn::Stopping { deadline: now, .. }) => before == now,
        (before, now) => before == now,
    }
}

/// Watches until all have ended, or the time is over.
pub(super) async fn watch(
    client: &mut Client,
    watched: &mut [Watched],
    patience: &Patience,
    report: &mut Report,
) -> Result<Exit, Failure> {
    let watching = until_over(client, watched, patience, report).await;
    report.left(watched);
    watching?;
    Ok(together(watched.iter().filter_map(|one| one.end.as_ref()).map(End::exit)))
}

async fn until_over(
    client: &mut Client,
    watched: &mut [Watched],
    patience: &Patience,
    report: &mut Report,
) -> Result<(), Failure> {
    // What was asked for has been heard by the control plane; what is only waited for shows it with the first answer.
    let mut silence = Silence { heard: watched.iter().any(|one| one.asked.is_some()), since: None };
    loop {
        for one in watched.iter_mut().filter(|one| one.end.is_none()) {
            silence.hears(one.look(client, report).await)?;
            if one.end.is_some() {
                report.ended(one);
            }
        }
        if watched.iter().all(|one| one.end.is_some()) {
            return Ok(());
        }
        let left = patience.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            for one in watched.iter_mut().filter(|one| one.end.is_none()) {
                one.end = Some(End::StillRunning);
                report.still_running(one, patience.whole);
            }
            return Ok(());
        }
        tokio::time::sleep(patience.every.min(left)).await;
    }
}

/// A control plane that does not answer for a while ends no watch that has begun.
struct Silence {
    heard: bool,
    since: Option<Instant>,
}

impl Silence {
    fn hears(&mut self, looked: Result<(), Failure>) -> Result<(), Failure> {
        match looked {
            Ok(()) => {
                (self.heard, self.since) = (true, None);
                Ok(())
            }
            Err(Failure::Unreachable(why)) if self.heard => {
                let since = *self.since.get_or_insert_with(|| {
                    warn(&harmless(&format!("switchback: {why}; asking again")));
                    Instant::now()
                });
                if since.elapsed() > LONGEST_SILENCE { Err(Failure::Unreachable(why)) } else { Ok(()) }
            }
            Err(failure) => Err(failure),
        }
    }
}

/// What several ends are together: the one that most needs somebody to look.
fn together(ends: impl Iterator<Item = Exit>) -> Exit {
    const GRAVEST_FIRST: [Exit; 9] = [
        Exit::RolledBack,
        Exit::Failed,
        Exit::Refused,
        Exit::Rejected,
        Exit::Expired,
        Exit::Cancelled,
        Exit::Superseded,
        Exit::StillRunning,
        Exit::Done,
    ];
    let place = |exit: &Exit| GRAVEST_FIRST.iter().position(|known| known == exit);
    ends.min_by_key(place).unwrap_or(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_waited_for_by_tag_digest_or_its_beginning() {
        let digest = format!("sha256:{}", "3fa90c1e".repeat(8));
        for (name, fits) in [
            ("v3", true),
            (digest.as_str(), true),
            ("sha256:3fa90c1", true),
            ("3FA90C1", true),
            ("3fa90c", false),
            ("v30", false),
            ("", false),
        ] {
            assert_eq!(Wanted::Named(name.to_owned()).is_told(&digest, "v3"), fits, "{name}");
        }
    }

    #[test]
    fn of_several_ends_the_gravest_is_told() {
        assert_eq!(together([Exit::Done, Exit::Failed, Exit::RolledBack].into_iter()), Exit::RolledBack);
        assert_eq!(together([Exit::Done, Exit::StillRunning].into_iter()), Exit::StillRunning);
        assert_eq!(together([Exit::Done, Exit::Done].into_iter()), Exit::Done);
        assert_eq!(together(std::iter::empty()), Exit::Done);
    }
}
