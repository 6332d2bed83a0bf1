//! The journal in words: one sentence a fact.

use rollout::journal::Fact;
use rollout::snapshot::Weights;
use rollout::stage::{Cause, Verdict};
use serde::Serialize;

/// How a line is meant to be taken; a colour or a mark where it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Tone {
    /// Things go on.
    Plain,
    /// Something was reached.
    Good,
    /// Something is in the way.
    Warning,
    /// Something went wrong.
    Bad,
}

/// A fact of the journal as a person reads it, and how it is meant.
#[must_use]
pub fn sentence(fact: &Fact) -> (Tone, String) {
    match fact {
        Fact::Started { digest, tag, reason, despite_alarms, .. } => {
            let mut text = format!("Deployment of {} began", release(tag, digest));
            if !reason.is_empty() {
                text = format!("{text}: {reason}");
            }
            if !despite_alarms.is_empty() {
                text = format!("{text} (despite {})", despite_alarms.join(", "));
            }
            (Tone::Plain, text)
        }
        Fact::CommandRefused { command, reason } => (Tone::Warning, format!("Refused to {command}: {reason}")),
        Fact::Queued { digest, tag } => {
            (Tone::Plain, format!("{} waits for the running deployment to end", release(tag, digest)))
        }
        Fact::Superseded { digest, tag, by_tag } => {
            (Tone::Plain, format!("{} gave way to {by_tag}", release(tag, digest)))
        }
        Fact::SidesSettled { stable, stable_running, candidate } => (
            Tone::Plain,
            format!("{stable} is stable with {}; the release goes to {candidate}", count(*stable_running, "task")),
        ),
        Fact::StageEntered { stage, detail } => {
            let stage = stage_words(stage);
            (Tone::Plain, if detail.is_empty() { stage } else { format!("{stage}: {detail}") })
        }
        Fact::TaskDefinitionReady { task_definition, reused } => {
            let how = if *reused { "was there already" } else { "was registered" };
            (Tone::Plain, format!("Task definition {} {how}", last_part(task_definition)))
        }
        Fact::WeightsDecided { weights } => (Tone::Plain, format!("Traffic shall be {}", split(*weights))),
        Fact::WeightsVerified { weights } => (Tone::Good, format!("Traffic is {}, seen live", split(*weights))),
        Fact::AutoscalingBorrowed { slot, min, max } => {
            (Tone::Plain, format!("Took over the autoscaling of {slot} ({min} to {max} tasks)"))
        }
        Fact::AutoscalingReturned { slot, min, max } => {
            (Tone::Plain, format!("Gave the autoscaling of {slot} back ({min} to {max} tasks)"))
        }
        Fact::CandidateHealthy { healthy } => {
            (Tone::Good, format!("All targets of the candidate are healthy ({healthy})"))
        }
        Fact::HookStarted { hook } => (Tone::Plain, format!("Hook {hook} began")),
        Fact::HookSucceeded { hook } => (Tone::Good, format!("Hook {hook} said yes")),
        Fact::HookFailed { hook, reason } => (Tone::Bad, format!("Hook {hook} failed: {reason}")),
        Fact::Blocked { reason } => (Tone::Warning, format!("Not started yet: {reason}")),
        Fact::Halted { reason } => (Tone::Bad, format!("Halted, somebody else edited the rule: {reason}")),
        Fact::Resumed => (Tone::Good, "The rule is as it was; going on".to_owned()),
        Fact::EffectFailed { effect, reason } => {
            (Tone::Warning, format!("{effect} did not work, and is tried again: {reason}"))
        }
        Fact::RollbackStarted { cause } => {
            let tone = if matches!(cause, Cause::Superseded { .. }) { Tone::Warning } else { Tone::Bad };
            (tone, format!("Switching back: {}", cause.sentence()))
        }
        Fact::WayBackUnfit { reason } => (Tone::Bad, format!("The way back waits: {reason}")),
        Fact::Ended { verdict, reason, live } => {
            let tone = if *verdict == Verdict::Succeeded { Tone::Good } else { Tone::Bad };
            let mut text = verdict_words(*verdict).to_owned();
            if let Some(first) = text.get_mut(..1) {
                first.make_ascii_uppercase();
            }
            if !reason.is_empty() {
                text = format!("{text}: {reason}");
            }
            if let Some(slot) = live {
                text = format!("{text} ({slot} carries all traffic)");
            }
            (tone, text)
        }
        Fact::LeftBehind { what } => (Tone::Warning, format!("Left undone: {what}")),
    }
}

/// A verdict in words, in lower case.
#[must_use]
pub fn verdict_words(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Succeeded => "succeeded",
        Verdict::RolledBack => "rolled back",
        Verdict::Rejected => "rejected",
        Verdict::Superseded => "superseded",
        Verdict::Cancelled => "cancelled",
        Verdict::Expired => "expired",
        Verdict::Failed => "failed",
    }
}

/// A stage's snake-case name as a heading.
#[must_use]
pub fn stage_words(stage: &str) -> String {
    match stage {
        "preflight" => "Preflight",
        "registering" => "Registering the task definition",
        "before_traffic" => "Hooks before traffic",
        "scaling" => "Starting the candidate's tasks",
        "testing" => "Testing",
        "shifting" => "Shifting traffic",
        "after_traffic" => "Hooks after traffic",
        "baking" => "Baking",
        "keeping_warm" => "Keeping the old side warm",
        "retiring" => "Retiring the old side",
        "rolling_back" => "Switching back",
        "letting_go" => "Giving back what was borrowed",
        other => other,
    }
    .to_owned()
}

/// `blue 90 % · green 10 %`, whatever the weights sum to.
#[must_use]
pub fn split(weights: Weights) -> String {
    let total = u32::from(weights.blue) + u32::from(weights.green);
    let share = |weight: u16| (u32::from(weight) * 100 + total / 2).checked_div(total).unwrap_or(0);
    format!("blue {} % · green {} %", share(weights.blue), share(weights.green))
}

fn release(tag: &str, digest: &str) -> String {
    if tag.is_empty() { digest.chars().take("sha256:".len() + 12).collect() } else { tag.to_owned() }
}

fn count(number: u32, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

fn last_part(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap_or(arn)
}
