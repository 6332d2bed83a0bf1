//! `status`: all targets, or one of them; once, or watched.

use super::client::{Client, Remote};
use super::exit::Exit;
use super::failure::Failure;
use super::follow::Changes;
use super::output::{Output, warn};
use super::{pause, target_path};
use engine::operate::{Held, TargetStatus, TargetSummary, TargetsAnswer};
use rollout::{Name, TargetId};
use std::time::{Duration, Instant};
use view::status::{Known, Row};

/// Say how targets are.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct StatusArguments {
    /// application/service/environment; without it, all targets.
    target: Option<TargetId>,
    /// Only the targets of this application.
    #[arg(long, conflicts_with = "target", value_name = "NAME")]
    application: Option<Name>,
    /// Keep watching: redrawn on a terminal, one line per change elsewhere. Ends with Ctrl-C.
    #[arg(long)]
    watch: bool,
    /// Interval between two looks, with --watch.
    #[arg(long, default_value = "2s", value_parser = pause, value_name = "PAUSE")]
    every: Duration,
    /// Stop watching once the target is idle.
    #[arg(long, requires = "watch", requires = "target")]
    until_rest: bool,
    /// Print JSON; with --watch, a line for each change.
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    remote: Remote,
}

/// `switchback status`
pub(super) async fn status(arguments: &StatusArguments, output: &mut Output) -> Result<Exit, Failure> {
    let client = Client::new(&arguments.remote).await?;
    match (&arguments.target, arguments.watch) {
        (None, false) => {
            let answer = targets(&client, arguments).await?;
            output.document(&answer);
            output.say(&list(&answer));
        }
        (Some(target), false) => {
            let answer: TargetStatus = client.get(&target_path(target, "")).await?;
            output.document(&answer);
            output.say(&detail(&answer, output));
        }
        (None, true) => watch_all(&client, arguments, output).await?,
        (Some(target), true) => watch_one(&client, target, arguments, output).await?,
    }
    Ok(Exit::Done)
}

async fn targets(client: &Client, arguments: &StatusArguments) -> Result<TargetsAnswer, Failure> {
    let query = arguments.application.as_ref().map_or_else(String::new, |name| format!("?application={name}"));
    client.get(&format!("/v1/targets{query}")).await
}

fn row(summary: &TargetSummary) -> Row {
    Row {
        target: summary.target.to_string(),
        stable: summary.stable.clone().unwrap_or_default(),
        running: summary
            .running
            .as_ref()
            .map(|running| (running.number, running.tag.clone(), running.stage.clone(), running.since)),
        queued: summary.queued.clone(),
        trigger: summary.trigger,
        held: summary.held.iter().map(|held| held_words(*held).to_owned()).collect(),
    }
}

fn held_words(held: Held) -> &'static str {
    match held {
        Held::LineStopped => "line stopped",
        Held::Freeze => "frozen",
        Held::Undecided => "needs a decision",
        Held::Promotion => "promotion held",
        Held::Changed => "changed by somebody else",
    }
}

fn list(answer: &TargetsAnswer) -> String {
    let rows: Vec<Row> = answer.targets.iter().map(row).collect();
    view::status::targets(&rows, answer.at)
}

fn detail(answer: &TargetStatus, output: &Output) -> String {
    view::status::target(known(answer), output.paint)
}

/// An answer as the words want it.
pub(super) fn known(answer: &TargetStatus) -> Known<'_> {
    Known {
        state: &answer.state,
        policy: answer.policy_version.zip(answer.trigger),
        commands: &answer.commands,
        brakes: &answer.brakes,
        now: answer.at,
    }
}

/// All targets: the table again and again, or a line of it when its target has changed.
async fn watch_all(client: &Client, arguments: &StatusArguments, output: &mut Output) -> Result<(), Failure> {
    let mut seen: Vec<TargetSummary> = Vec::new();
    let mut silence = Silence::default();
    loop {
        if let Some(answer) = silence.hears(targets(client, arguments).await, output)? {
            if output.live {
                output.screen(&list(&answer));
            } else {
                let changed: Vec<TargetSummary> =
                    answer.targets.iter().filter(|target| !seen.contains(target)).cloned().collect();
                for summary in &changed {
                    output.event("target", summary);
                }
                if !changed.is_empty() {
                    let lines = list(&TargetsAnswer { targets: changed, at: answer.at });
                    let heading = usize::from(!seen.is_empty());
                    output.say(&lines.lines().skip(heading).map(|line| format!("{line}\n")).collect::<String>());
                }
                seen = answer.targets;
            }
        }
        tokio::time::sleep(arguments.every).await;
    }
}

/// One target: its page again and again, or first its page and then what happens.
async fn watch_one(
    client: &Client,
    target: &TargetId,
    arguments: &StatusArguments,
    output: &mut Output,
) -> Result<(), Failure> {
    let mut silence = Silence::default();
    let mut changes: Option<Changes> = None;
    loop {
        let answer = client.get::<TargetStatus>(&target_path(target, "")).await;
        if let Some(answer) = silence.hears(answer, output)? {
            if output.live {
                let page = detail(&answer, output);
                output.screen(&page);
            } else {
                match &mut changes {
                    None => {
                        output.event("status", &answer);
                        output.say(&detail(&answer, output));
                        changes = Some(Changes::since(answer.state.last_entry));
                    }
                    Some(changes) => changes.tell(client, &answer, output).await?,
                }
            }
            let state = &answer.state;
            let rests = state.running.is_none() && state.queued.is_empty() && answer.commands.is_empty();
            if arguments.until_rest && rests {
                return Ok(());
            }
        }
        tokio::time::sleep(arguments.every).await;
    }
}

/// A control plane that does not answer for a while does not end a watch.
#[derive(Debug, Default)]
pub(super) struct Silence {
    since: Option<Instant>,
}

impl Silence {
    /// How long it may last.
    const LONGEST: Duration = Duration::from_secs(300);

    /// The answer, if there is one; the error, if it will not go away or has lasted too long.
    pub(super) fn hears<T>(&mut self, answer: Result<T, Failure>, output: &mut Output) -> Result<Option<T>, Failure> {
        match answer {
            Ok(answer) => {
                self.since = None;
                Ok(Some(answer))
            }
            Err(Failure::Unreachable(why)) => {
                let began = self.since.is_none();
                let since = *self.since.get_or_insert_with(Instant::now);
                if since.elapsed() > Self::LONGEST {
                    return Err(Failure::Unreachable(why));
                }
                if began {
                    output.say("");
                    warn(&format!("switchback: {why}; asking again"));
                }
                Ok(None)
            }
            Err(failure) => Err(failure),
        }
    }
}
