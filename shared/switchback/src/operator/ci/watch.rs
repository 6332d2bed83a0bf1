//! Follows the requested deployments on one or several targets: polls them, and reports changes, until each has its
//! verdict or the time is over.

use super::super::exit::Exit;
use super::super::failure::Failure;
use super::super::output::warn;
use super::client::Client;
use super::report::{Report, defuse_commands};
use api::{CommandResponse, HistoryResponse, JournalResponse, MAX_LISTED, TargetStatus};
use rollout::deployment::{DeploymentRecord, Purpose};
use rollout::explanation::WaitingOn;
use rollout::release::ReleaseRef;
use rollout::verdict::Verdict;
use rollout::{Actor, CommandId, Fact, JournalEntry, ReleaseId, Seconds, TargetId};
use std::time::{Duration, Instant};

/// Wait limit and polling interval.
#[derive(Debug, Clone, Copy)]
pub(super) struct WaitLimit {
    /// Time at which waiting ends.
    pub(super) until: Instant,
    /// The whole waiting time.
    pub(super) total: Seconds,
    /// Polling interval.
    pub(super) every: Duration,
}

/// Number of polls in which a command may be neither waiting nor answered before that is an error: an index of the
/// ledger may lag behind its items.
const MAX_UNEXPLAINED_POLLS: u32 = 10;
/// How long a control plane that has responded before may be unreachable.
const MAX_OUTAGE: Duration = Duration::from_secs(300);

/// The release that is waited for.
#[derive(Debug, Clone)]
enum ReleaseMatcher {
    /// With this id.
    Id(ReleaseId),
    /// With this tag, digest, or prefix of a digest.
    Name(String),
}

impl ReleaseMatcher {
    fn matches_ref(&self, release: &ReleaseRef) -> bool {
        match self {
            Self::Id(id) => &release.id == id,
            Self::Name(name) => self.matches_name(name, release.id.digest.as_str(), &release.tag),
        }
    }

    /// Same, for a release named by a journal entry.
    fn matches_entry(&self, digest: &str, tag: &str) -> bool {
        match self {
            Self::Id(id) => id.digest.as_str() == digest,
            Self::Name(name) => self.matches_name(name, digest, tag),
        }
    }

    fn matches_name(&self, name: &str, digest: &str, tag: &str) -> bool {
        let digits = name.strip_prefix("sha256:").unwrap_or(name).to_ascii_lowercase();
        tag == name || digits.len() >= 7 && digest.trim_start_matches("sha256:").starts_with(&digits)
    }
}

/// How the request ended.
#[derive(Debug, Clone)]
pub(super) enum End {
    /// Its deployment has a verdict.
    Finished(Box<DeploymentRecord>, Verdict),
    /// It was superseded by a newer release before it started.
    Superseded {
        /// Tag of the newer release.
        by_tag: String,
    },
    /// The request was refused and changed nothing.
    Refused(String),
    /// The wait has timed out; the deployment continues.
    StillRunning,
}

impl End {
    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::Finished(_, verdict) => Exit::of(*verdict),
            Self::Superseded { .. } => Exit::Superseded,
            Self::Refused(_) => Exit::Refused,
            Self::StillRunning => Exit::StillRunning,
        }
    }
}

/// One watched target.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) target: TargetId,
    /// Tag of the release for display: as requested, until the actual one is known.
    pub(super) tag: String,
    /// Number of the deployment, once known.
    pub(super) number: Option<u64>,
    /// Name of the stage observed last; empty before the start.
    pub(super) stage: String,
    /// How the request ended, once it has.
    pub(super) end: Option<End>,
    wanted: ReleaseMatcher,
    /// The command and the requester; none: the deployment was requested elsewhere.
    asked: Option<(CommandId, Actor)>,
    /// Only deployments with a higher number can match.
    after_deployment: u64,
    /// Sequence of the last journal entry that was read.
    last_read: Option<u64>,
    entries: Vec<JournalEntry>,
    waiting: Option<WaitingOn>,
    unexplained_polls: u32,
}

impl Watched {
    /// Watches a target for the deployment requested by this job.
    pub(super) fn asked(answer: &CommandResponse) -> Self {
        let (tag, wanted) = match &answer.release {
            Some(release) => (release.tag.clone(), ReleaseMatcher::Id(release.id.clone())),
            // From another version, whose name for the release is unknown: the deployment is found by its number.
            None => (String::new(), ReleaseMatcher::Name(String::new())),
        };
        Self {
            number: answer.deployment,
            asked: Some((answer.command.clone(), answer.actor.clone())),
            after_deployment: answer.last_deployment,
            last_read: Some(answer.last_entry),
            ..Self::new(answer.target.clone(), tag, wanted)
        }
    }

    /// Watches a target for a deployment requested elsewhere, in the past or the future.
    pub(super) fn named(target: TargetId, release: &str) -> Self {
        Self::new(target, release.to_owned(), ReleaseMatcher::Name(release.to_owned()))
    }

    fn new(target: TargetId, tag: String, wanted: ReleaseMatcher) -> Self {
        Self {
            target,
            tag,
            number: None,
            stage: String::new(),
            end: None,
            wanted,
            asked: None,
            after_deployment: 0,
            last_read: None,
            entries: Vec::new(),
            waiting: None,
            unexplained_polls: 0,
        }
    }

    fn path(&self, what: &str) -> String {
        let slash = if what.is_empty() { "" } else { "/" };
        format!("/v1/promotions/{}{slash}{what}", self.target)
    }

    /// One poll: reports what is new, and records the end if reached.
    async fn poll(&mut self, client: &mut Client, report: &mut Report) -> Result<(), Failure> {
        let status: TargetStatus = client.get(&self.path("")).await?;
        let new = self.read_journal(client, &status).await?;
        self.end = self.outcome(client, &status).await?;
        if let Some(running) = status.state.running.as_ref().filter(|running| Some(running.number) == self.number) {
            self.tag.clone_from(&running.release.tag);
            running.stage().name().clone_into(&mut self.stage);
        }
        for entry in new {
            // Of earlier entries, only those of this deployment are reported.
            if entry.deployment.is_none() || self.number.is_none() || entry.deployment == self.number {
                report.entry(&entry);
            }
        }
        self.report_wait(&status, report);
        Ok(())
    }

    /// Reads new journal entries; returns those to report.
    async fn read_journal(&mut self, client: &mut Client, status: &TargetStatus) -> Result<Vec<JournalEntry>, Failure> {
        let mut new: Vec<JournalEntry> = Vec::new();
        let first = self.last_read.is_none();
        let mut last_read = match self.last_read {
            Some(last_read) => last_read,
            None => {
                // A deployment requested elsewhere may be running or finished: the end of the journal contains it.
                let path = self.path(&format!("journal?limit={MAX_LISTED}"));
                let JournalResponse { entries } = client.get(&path).await?;
                let last_read = entries.last().map_or(0, |last| last.sequence);
                self.entries.extend(entries.iter().cloned());
                let running = status.state.running.as_ref().filter(|running| self.wanted.matches_ref(&running.release));
                let ours = running.map(|running| running.number);
                new.extend(entries.into_iter().filter(|entry| ours.is_some() && entry.deployment == ours));
                last_read
            }
        };
        while !first && last_read < status.state.last_entry {
            let path = self.path(&format!("journal?after={last_read}&limit={MAX_LISTED}"));
            let JournalResponse { entries } = client.get(&path).await?;
            let Some(last) = entries.last() else { break };
            last_read = last.sequence;
            self.entries.extend(entries.iter().cloned());
            new.extend(entries);
        }
        self.last_read = Some(last_read);
        Ok(new)
    }

    /// The outcome; none: not finished.
    async fn outcome(&mut self, client: &mut Client, status: &TargetStatus) -> Result<Option<End>, Failure> {
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
            return Ok(record.verdict.map(|verdict| End::Finished(Box::new(record), verdict)));
        }
        let queued = status
            .state
            .queued
            .iter()
            .any(|queued| Some(&queued.command) == command || self.wanted.matches_ref(&queued.release));
        if queued {
            return Ok(None);
        }
        if let Some(end) = self.superseded().or_else(|| self.refusal()) {
            return Ok(Some(end));
        }
        if let Some((command, _)) = &self.asked {
            self.unexplained_polls += 1;
            if self.unexplained_polls > MAX_UNEXPLAINED_POLLS {
                return Err(Failure::Unexpected(format!(
                    "the command {} was accepted, and neither history nor journal of {} show its outcome",
                    command.0, self.target
                )));
            }
        }
        Ok(None)
    }

    /// The deployment of the requested release, if there is one yet.
    async fn find(&self, client: &mut Client, status: &TargetStatus) -> Result<Option<u64>, Failure> {
        let running = status.state.running.as_ref();
        let running =
            running.filter(|running| running.purpose == Purpose::Deploy && self.wanted.matches_ref(&running.release));
        if let Some(running) = running {
            // Whoever requested it: a second deployment of the same release would not be started.
            return Ok(Some(running.number));
        }
        if status.state.last_deployment <= self.after_deployment {
            return Ok(None);
        }
        let history = self.history(client).await?;
        let mut fits = history
            .iter()
            .filter(|record| record.number > self.after_deployment && self.wanted.matches_ref(&record.release));
        // For a request by this job the oldest match, since a later one belongs to another request; otherwise the
        // newest.
        let found = if self.asked.is_some() { fits.next_back() } else { fits.next() };
        Ok(found.map(|record| record.number))
    }

    async fn history(&self, client: &mut Client) -> Result<Vec<DeploymentRecord>, Failure> {
        let answer: HistoryResponse = client.get(&self.path(&format!("history?limit={MAX_LISTED}"))).await?;
        Ok(answer.deployments)
    }

    fn superseded(&self) -> Option<End> {
        self.entries.iter().rev().find_map(|entry| match &entry.fact {
            Fact::Superseded { digest, tag, by_tag } if self.wanted.matches_entry(digest, tag) => {
                Some(End::Superseded { by_tag: by_tag.clone() })
            }
            _ => None,
        })
    }

    /// Why the request was refused, if the journal says so. A queued release can still be refused by Switchback itself
    /// when its turn comes.
    fn refusal(&self) -> Option<End> {
        let (_, actor) = self.asked.as_ref()?;
        self.entries.iter().find_map(|entry| match &entry.fact {
            Fact::CommandRefused { command, reason }
                if command == "deploy" && (&entry.actor == actor || entry.actor == Actor::Switchback) =>
            {
                Some(End::Refused(reason.to_string()))
            }
            _ => None,
        })
    }

    /// Reports the current wait, if it has changed.
    fn report_wait(&mut self, status: &TargetStatus, report: &mut Report) {
        let ours = self.number.is_some() && status.state.running.as_ref().map(|running| running.number) == self.number;
        let waiting = status.state.explanation.waiting_on.first().filter(|_| ours);
        if let Some(on) = waiting
            && self.waiting.as_ref().is_none_or(|before| !is_same_wait(before, on))
        {
            report.waits(&self.target, on, status.at);
        }
        self.waiting = waiting.cloned();
    }
}

/// Whether only numbers have changed, which is not worth another line.
fn is_same_wait(before: &WaitingOn, now: &WaitingOn) -> bool {
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
    wait_limit: &WaitLimit,
    report: &mut Report,
) -> Result<Exit, Failure> {
    let watching = watch_until_done(client, watched, wait_limit, report).await;
    report.left(watched);
    watching?;
    Ok(worst_exit(watched.iter().filter_map(|one| one.end.as_ref()).map(End::exit)))
}

async fn watch_until_done(
    client: &mut Client,
    watched: &mut [Watched],
    wait_limit: &WaitLimit,
    report: &mut Report,
) -> Result<(), Failure> {
    // A command of this job has reached the control plane already; a mere wait proves that with its first response.
    let mut outage = Outage { reached_before: watched.iter().any(|one| one.asked.is_some()), since: None };
    loop {
        for one in watched.iter_mut().filter(|one| one.end.is_none()) {
            outage.tolerate(one.poll(client, report).await)?;
            if one.end.is_some() {
                report.ended(one);
            }
        }
        if watched.iter().all(|one| one.end.is_some()) {
            return Ok(());
        }
        let left = wait_limit.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            for one in watched.iter_mut().filter(|one| one.end.is_none()) {
                one.end = Some(End::StillRunning);
                report.still_running(one, wait_limit.total);
            }
            return Ok(());
        }
        tokio::time::sleep(wait_limit.every.min(left)).await;
    }
}

/// Tolerates a control plane that does not respond for a while, once it has responded before.
struct Outage {
    reached_before: bool,
    since: Option<Instant>,
}

impl Outage {
    fn tolerate(&mut self, polled: Result<(), Failure>) -> Result<(), Failure> {
        match polled {
            Ok(()) => {
                (self.reached_before, self.since) = (true, None);
                Ok(())
            }
            Err(Failure::Unreachable(why)) if self.reached_before => {
                let since = *self.since.get_or_insert_with(|| {
                    warn(&defuse_commands(&format!("switchback: {why}; asking again")));
                    Instant::now()
                });
                if since.elapsed() > MAX_OUTAGE { Err(Failure::Unreachable(why)) } else { Ok(()) }
            }
            Err(failure) => Err(failure),
        }
    }
}

/// Combines the exit codes of several targets: the one that most needs attention.
fn worst_exit(ends: impl Iterator<Item = Exit>) -> Exit {
    const WORST_FIRST: [Exit; 9] = [
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
    let severity = |exit: &Exit| WORST_FIRST.iter().position(|known| known == exit);
    ends.min_by_key(severity).unwrap_or(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn release_matches_by_tag_digest_or_digest_prefix() {
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
            assert_eq!(ReleaseMatcher::Name(name.to_owned()).matches_entry(&digest, "v3"), fits, "{name}");
        }
    }

    #[test]
    fn worst_exit_wins() {
        assert_eq!(worst_exit([Exit::Done, Exit::Failed, Exit::RolledBack].into_iter()), Exit::RolledBack);
        assert_eq!(worst_exit([Exit::Done, Exit::StillRunning].into_iter()), Exit::StillRunning);
        assert_eq!(worst_exit([Exit::Done, Exit::Done].into_iter()), Exit::Done);
        assert_eq!(worst_exit(std::iter::empty()), Exit::Done);
    }
}
