//! `status`: all targets or one of them, once or continuously.

use super::client::{Client, Remote};
use super::exit::Exit;
use super::failure::Failure;
use super::follow::ChangeReporter;
use super::output::{Output, warn};
use super::{interval, target_path};
use api::{HoldReason, TargetStatus, TargetSummary, TargetsResponse};
use rollout::{Name, TargetId};
use std::time::{Duration, Instant};
use view::Paint;
use view::status::{TargetDetail, TargetRow};

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
    #[arg(long, default_value = "2s", value_parser = interval, value_name = "PAUSE")]
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
            output.result(&answer, |_| list(&answer));
        }
        (Some(target), false) => {
            let answer: TargetStatus = client.get(&target_path(target, "")).await?;
            output.result(&answer, |paint| detail(&answer, paint));
        }
        (None, true) => watch_all(&client, arguments, output).await?,
        (Some(target), true) => watch_one(&client, target, arguments, output).await?,
    }
    Ok(Exit::Done)
}

async fn targets(client: &Client, arguments: &StatusArguments) -> Result<TargetsResponse, Failure> {
    let query = arguments.application.as_ref().map_or_else(String::new, |name| format!("?application={name}"));
    client.get(&format!("/v1/targets{query}")).await
}

fn row(summary: &TargetSummary) -> TargetRow {
    TargetRow {
        target: summary.target.to_string(),
        stable: summary.stable.clone().unwrap_or_default(),
        running: summary
            .running
            .as_ref()
            .map(|running| (running.number, running.tag.clone(), running.stage, running.since)),
        queued: summary.queued.clone(),
        trigger: summary.trigger,
        held: summary.held.iter().map(|held| held_words(*held).to_owned()).collect(),
    }
}

fn held_words(held: HoldReason) -> &'static str {
    match held {
        HoldReason::LineStopped => "line stopped",
        HoldReason::Freeze => "frozen",
        HoldReason::AwaitingOperator => "needs a decision",
        HoldReason::PromotionHold => "promotion held",
        HoldReason::Drifted => "changed by somebody else",
    }
}

fn list(answer: &TargetsResponse) -> String {
    let rows: Vec<TargetRow> = answer.targets.iter().map(row).collect();
    view::status::targets(&rows, answer.at)
}

fn detail(answer: &TargetStatus, paint: Paint) -> String {
    view::status::target(target_detail(answer), paint)
}

/// Converts a response for `view`.
pub(super) fn target_detail(answer: &TargetStatus) -> TargetDetail<'_> {
    TargetDetail {
        state: &answer.state,
        policy: answer.policy_version.zip(answer.trigger),
        commands: &answer.commands,
        brakes: &answer.brakes,
        now: answer.at,
    }
}

/// Watches all targets: redraws the table, or prints a line for each changed target.
async fn watch_all(client: &Client, arguments: &StatusArguments, output: &mut Output) -> Result<(), Failure> {
    let mut seen: Vec<TargetSummary> = Vec::new();
    let mut outage = Outage::default();
    loop {
        if let Some(answer) = outage.tolerate(targets(client, arguments).await, output)? {
            if output.live {
                output.redraw(&list(&answer));
            } else {
                let changed: Vec<TargetSummary> =
                    answer.targets.iter().filter(|target| !seen.contains(target)).cloned().collect();
                for summary in &changed {
                    output.event("target", summary);
                }
                if !changed.is_empty() {
                    let lines = list(&TargetsResponse { targets: changed, at: answer.at });
                    let heading = usize::from(!seen.is_empty());
                    output.say(&lines.lines().skip(heading).map(|line| format!("{line}\n")).collect::<String>());
                }
                seen = answer.targets;
            }
        }
        tokio::time::sleep(arguments.every).await;
    }
}

/// Watches one target: redraws its page, or prints the page once and then the events.
async fn watch_one(
    client: &Client,
    target: &TargetId,
    arguments: &StatusArguments,
    output: &mut Output,
) -> Result<(), Failure> {
    let mut outage = Outage::default();
    let mut changes: Option<ChangeReporter> = None;
    loop {
        let answer = client.get::<TargetStatus>(&target_path(target, "")).await;
        if let Some(answer) = outage.tolerate(answer, output)? {
            if output.live {
                let page = detail(&answer, output.paint);
                output.redraw(&page);
            } else {
                match &mut changes {
                    None => {
                        output.event("status", &answer);
                        output.say(&detail(&answer, output.paint));
                        changes = Some(ChangeReporter::since(answer.state.last_entry));
                    }
                    Some(changes) => changes.report_new(client, &answer, output).await?,
                }
            }
            let state = &answer.state;
            let is_idle = state.running.is_none() && state.queued.is_empty() && answer.commands.is_empty();
            if arguments.until_rest && is_idle {
                return Ok(());
            }
        }
        tokio::time::sleep(arguments.every).await;
    }
}

/// Tolerates a control plane that does not respond for a while during a watch.
#[derive(Debug, Default)]
pub(super) struct Outage {
    since: Option<Instant>,
}

impl Outage {
    /// Maximum duration of an outage.
    const MAX_DURATION: Duration = Duration::from_secs(300);

    /// The response, if there is one; the error, if it is permanent or has lasted too long.
    pub(super) fn tolerate<T>(
        &mut self,
        answer: Result<T, Failure>,
        output: &mut Output,
    ) -> Result<Option<T>, Failure> {
        match answer {
            Ok(answer) => {
                self.since = None;
                Ok(Some(answer))
            }
            Err(Failure::Unreachable(why)) => {
                let began = self.since.is_none();
                let since = *self.since.get_or_insert_with(Instant::now);
                if since.elapsed() > Self::MAX_DURATION {
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
