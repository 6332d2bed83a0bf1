//! Why a target waits, until when, and what happens at that time.

use crate::brake::brake;
use crate::history::entries;
use crate::journal::resource_name;
use crate::layout::{WIDTH, hanging_indent, wrap};
use crate::paint::Paint;
use crate::people::{names, with_short_names};
use crate::status::{TargetDetail, drift_at_rest, drift_words, headline, stage, timers_paused, traffic};
use crate::time_format::{ago, format_duration, instant, until};
use crate::waiting::waiting;
use jiff::Timestamp;
use rollout::deployment::Deployment;
use rollout::explanation::WaitingOn;
use rollout::in_place::InPlace;
use rollout::stage::Stage;
use rollout::target::TargetState;
use rollout::weighted::{Forward, ForwardStep, Weighted, WeightedStage};
use rollout::{Brake, Command, JournalEntry, Seconds};

/// The full explanation; `last` is the end of the journal.
#[must_use]
pub fn explain(known: TargetDetail<'_>, last: &[JournalEntry], paint: Paint) -> String {
    let TargetDetail { state, commands, brakes, now, .. } = known;
    let mut text = format!("{}  {}\n\n", paint.strong(&state.target.to_string()), headline(state));
    match &state.running {
        Some(running) => explain_deployment(&mut text, state, running, now),
        None => explain_idle_target(&mut text, state, commands, now),
    }
    explain_holds(&mut text, state, brakes, now);
    if let Some(words) = traffic(state, now) {
        say(&mut text, &format!("Traffic: {words}."));
    }
    explain_requests(&mut text, state, commands, now);
    if let Some(again) = state.explanation.next_check_at.filter(|_| state.running.is_some()) {
        say(&mut text, &format!("Next look {} at the latest; events trigger one sooner.", until(again, now)));
    }
    if !last.is_empty() {
        text.push_str(&format!("\n{}\n{}", paint.strong("Recent events"), entries(last, paint)));
    }
    text
}

/// The running deployment: its stage, its waits, its deadline, and what a person can do.
fn explain_deployment(text: &mut String, state: &TargetState, running: &Deployment, now: Timestamp) {
    let time_in_stage = format_duration(Seconds::between(running.stage_entered_at, now));
    say(text, &format!("Stage: {} (for {time_in_stage}).", stage(running)));
    match state.explanation.waiting_on.as_slice() {
        [] => say(text, "Waiting for nothing: the next look continues."),
        [on] => say(text, &format!("Waiting for {}.", waiting(on, now))),
        several => {
            say(text, "Waiting for:");
            for on in several {
                bullet(text, &waiting(on, now));
            }
        }
    }
    if timers_paused(state) {
        say(text, "Rollouts are stopped (stop-the-line); timers are paused. Alarms still roll back.");
    } else {
        let (deadline, then) = on_deadline(running);
        let by = format!("If this takes until {} ({})", instant(deadline), until(deadline, now));
        say(text, &format!("{by}: {then}."));
    }
    if let Some(effect_failure) = &running.effect_failure {
        let again = if effect_failure.refused { "not retrying" } else { "retrying" };
        let (effect, consecutive_failures, reason) =
            (effect_failure.effect.kind, effect_failure.consecutive_failures, &effect_failure.reason);
        say(text, &format!("{effect} failed {consecutive_failures} times in a row, {again}: {reason}"));
    }
    say(text, &rollback_path(state, running));
    for words in available_commands(state, running) {
        say(text, &words);
    }
}

/// A target without a running deployment: its drift, or that nothing was requested.
fn explain_idle_target(text: &mut String, state: &TargetState, commands: &[Command], now: Timestamp) {
    let target = &state.target;
    if let Some(drift) = drift_at_rest(state) {
        say(text, &format!("Changed {}.", drift_words(drift, now)));
        let words = if drift.moves_traffic {
            format!(
                "`switchback rollback {target} --reason …` moves all traffic back to the stable side; restoring the \
                 rule by hand works, too. With `drift: revert` in the environment the weights are restored \
                 automatically."
            )
        } else {
            "Traffic is unaffected. The next deployment replaces the change on the side that it deploys to.".to_owned()
        };
        say(text, &words);
    } else if state.drift().is_some() {
        let stable = state.stable.as_ref().and_then(|stable| stable.slot);
        let stable = stable.map(|slot| slot.to_string()).unwrap_or_default();
        let words = format!(
            "Not all traffic is on {stable}, the stable side. `switchback rollback {target} --reason …` moves it there."
        );
        say(text, &words);
    } else if state.operator_hold.is_none() && state.queued.is_empty() && commands.is_empty() {
        say(text, "Idle: no deployment requested.");
    }
}

/// Everything that keeps deployments from starting.
fn explain_holds(text: &mut String, state: &TargetState, brakes: &[Brake], now: Timestamp) {
    let target = &state.target;
    if let Some(hold) = &state.operator_hold {
        let (number, reason, since) = (hold.deployment, &hold.reason, ago(hold.since, now));
        let words = format!(
            "On hold since deployment #{number} ({since}): {reason}. Nothing starts until `switchback resume {target} \
             --reason …`."
        );
        say(text, &words);
    }
    if let Some(hold) = &state.promotion_hold {
        let (reason, since) = (&hold.reason, ago(hold.since, now));
        let words = format!(
            "Automatic promotion is on hold ({since}): {reason}. It resumes when somebody promotes or deploys a \
             release that is not older: `switchback promote {target}`."
        );
        say(text, &words);
    }
    for on in brakes {
        say(text, &format!("Brake: {}. Rollbacks are not held.", brake(on, now)));
    }
}

/// The queue, and the commands that no decision has consumed yet.
fn explain_requests(text: &mut String, state: &TargetState, commands: &[Command], now: Timestamp) {
    let mut before = "this deployment".to_owned();
    for queued in &state.queued {
        let (tag, requested) = (&queued.release.tag, ago(queued.at, now));
        say(text, &format!("Queued: {tag}, requested {requested}; starts when {before} has ended."));
        before = format!("the deployment of {tag}");
    }
    if let Some(oldest) = commands.iter().map(|command| command.at).min() {
        let pending = if commands.len() == 1 { "1 request".to_owned() } else { format!("{} requests", commands.len()) };
        let oldest = ago(oldest, now);
        say(text, &format!("{pending} pending, the oldest from {oldest}: the next look handles it."));
    }
}

/// Appends a sentence, wrapped.
fn say(text: &mut String, words: &str) {
    text.push_str(&format!("{}\n", wrap(&with_short_names(words), WIDTH, 0)));
}

/// Appends one item of a list.
fn bullet(text: &mut String, words: &str) {
    text.push_str(&format!("{}\n", hanging_indent("  - ", 4, words)));
}

/// The deadline of the current wait, and what happens when it is reached.
fn on_deadline(running: &Deployment) -> (Timestamp, String) {
    if let Some(halt) = running.halted() {
        let then = match running.in_place() {
            Some(_) => "the deployment ends and leaves the version that somebody else set",
            None => "the deployment ends and leaves the edited rule as it is",
        };
        return (halt.deadline, then.to_owned());
    }
    if let Some(awaiting_operator) = running.awaiting_operator() {
        let then = "the deployment ends and leaves everything as it is; nothing starts until `switchback resume`";
        return (awaiting_operator.deadline, then.to_owned());
    }
    let back = || match running.stable_at_start() {
        None if running.traffic_moved() && !running.is_forward_only() => {
            "the version before is set again, verdict rolled back".to_owned()
        }
        None if running.traffic_moved() => "it stays as it is and awaits an operator".to_owned(),
        Some(_) if running.traffic_moved() && running.is_forward_only() => {
            "it stays as it is and awaits an operator".to_owned()
        }
        Some(sides) if running.traffic_moved() => {
            format!("traffic rolls back to {}, verdict rolled back", sides.stable)
        }
        _ => "the attempt ends before any traffic moved, verdict failed".to_owned(),
    };
    let held = || format!("if missing data or failing health checks held it until then, {}", back());
    let holds = |weighted: &Weighted| {
        matches!(&weighted.at, WeightedStage::Forward(Forward { step: ForwardStep::Holding { .. }, .. }))
    };
    let then = match running.stage() {
        Stage::Gated => "the request expires; nothing was changed".to_owned(),
        Stage::Preflight => "the deployment fails; nothing was changed".to_owned(),
        Stage::Registering => "the deployment fails; no traffic moved".to_owned(),
        Stage::Shifting if running.weighted().is_some_and(holds) => held(),
        Stage::BeforeTraffic
        | Stage::Scaling
        | Stage::Replacing
        | Stage::Testing
        | Stage::AfterTraffic
        | Stage::Shifting => back(),
        Stage::Baking => held(),
        Stage::KeepingWarm => "the old side is scaled down".to_owned(),
        Stage::Retiring => "the deployment succeeds, and the journal lists what is left to do by hand".to_owned(),
        Stage::RollingBack if running.in_place().is_some() => {
            "the rollback fails if the version before is not set and up; one that AWS never took is retried".to_owned()
        }
        Stage::RollingBack => {
            "the rollback fails if AWS refuses the weights or the stable side is not healthy; otherwise it keeps \
             retrying"
                .to_owned()
        }
        Stage::Abandoning => "the deployment fails, and the journal lists what is left to do by hand".to_owned(),
    };
    (running.phase.deadline(), then)
}

fn rollback_path(state: &TargetState, running: &Deployment) -> String {
    if let Some(in_place) = running.in_place() {
        return in_place_rollback_path(state, running, in_place);
    }
    let retiring = running.stage() == Stage::Retiring;
    match running.rollback_path() {
        Some(_) if running.is_forward_only() && running.traffic_moved() && running.awaiting_operator().is_none() => {
            format!(
                "Forward-only: no automatic rollback; in trouble it awaits an operator. `switchback rollback {} \
                 --reason …` rolls it back.",
                state.target
            )
        }
        Some(rollback_path) if running.awaiting_operator().is_some() => {
            format!("Rollback to {} is possible.", rollback_path.stable())
        }
        Some(rollback_path) if running.stage() != Stage::RollingBack => format!(
            "Rollback is possible: {} is still up ({} tasks at the start). `switchback rollback {} --reason …`",
            rollback_path.stable(),
            rollback_path.count(),
            state.target
        ),
        Some(rollback_path) => format!("Rolling back to {}.", rollback_path.stable()),
        None if retiring => {
            "No rollback any more: the old side is scaling down. Once this has ended, a rollback deploys the previous \
             release."
                .to_owned()
        }
        None if running.stage() == Stage::Gated => "Nothing to roll back: it has not begun.".to_owned(),
        None => "Nothing to roll back yet: nothing was changed.".to_owned(),
    }
}

/// The same where versions replace one another in place.
fn in_place_rollback_path(state: &TargetState, running: &Deployment, in_place: &InPlace) -> String {
    let path = in_place.rollback_path();
    let version = resource_name(path.version());
    if running.stage() == Stage::RollingBack {
        return format!("Rolling back to {version}.");
    }
    if !in_place.has_replaced() {
        return "Nothing to roll back yet: nothing was changed.".to_owned();
    }
    if running.awaiting_operator().is_some() {
        return format!("Rollback to {version} is possible.");
    }
    if running.is_forward_only() {
        return format!(
            "Forward-only: no automatic rollback; in trouble it awaits an operator. `switchback rollback {} --reason …` \
             sets {version} again.",
            state.target
        );
    }
    format!(
        "Rollback is possible: {version} is set again, and the platform replaces what runs. `switchback rollback {} \
         --reason …`",
        state.target
    )
}

/// Commands with which a person can end the wait; empty: it ends without a person.
fn available_commands(state: &TargetState, running: &Deployment) -> Vec<String> {
    let (target, number) = (&state.target, running.number);
    if running.awaiting_operator().is_some() {
        return vec![format!(
            "`switchback rollback {target} --reason …` rolls back, `switchback resume {target} --reason …` continues, \
             `switchback abort {target} --reason …` ends it and leaves everything as it is."
        )];
    }
    if running.stable_alarm().is_some() {
        return vec![format!(
            "`switchback resume {target} --reason …` continues in spite of the stable side's alarm, `switchback \
             rollback {target} --reason …` rolls back to it."
        )];
    }
    if running.stage() != Stage::Gated {
        return Vec::new();
    }
    let mut hints = Vec::new();
    let mut closed_gates = Vec::new();
    for on in &state.explanation.waiting_on {
        match on {
            WaitingOn::Approval { plan, .. } => hints.push(format!(
                "`switchback approve {target} --deployment {number} --plan {}` approves; `switchback reject` with a \
                 reason rejects.",
                plan.0
            )),
            WaitingOn::Gate { gate, .. } => closed_gates.push(*gate),
            _ => {}
        }
    }
    if !closed_gates.is_empty() {
        let flags: Vec<String> = closed_gates.iter().map(|gate| format!("--gate {gate}")).collect();
        hints.push(format!(
            "`switchback override {target} {} --reason …` opens {}, for those who are permitted to.",
            flags.join(" "),
            names(&closed_gates)
        ));
    }
    hints
}
