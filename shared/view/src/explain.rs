//! Why a target waits, until when, and what happens then.

use crate::brake::brake;
use crate::history::entries;
use crate::layout::{WIDTH, beside, wrap};
use crate::paint::Paint;
use crate::people::{names, with_short_names};
use crate::status::{Known, changed, drifted, headline, is_forward_only, stage, stands_still, traffic};
use crate::waiting::waiting;
use crate::when::{ago, instant, lasts, until};
use jiff::Timestamp;
use rollout::stage::{RetirePhase, ShiftPhase, Stage};
use rollout::target::{Deployment, TargetState, WaitingOn};
use rollout::{JournalEntry, Seconds};

/// The whole explanation; `last` is what happened last.
#[must_use]
pub fn explain(known: Known<'_>, last: &[JournalEntry], paint: Paint) -> String {
    let Known { state, commands, brakes, now, .. } = known;
    let mut text = format!("{}  {}\n\n", paint.strong(&state.target.to_string()), headline(state));
    let say =
        |text: &mut String, words: &str| text.push_str(&format!("{}\n", wrap(&with_short_names(words), WIDTH, 0)));
    match &state.running {
        Some(running) => {
            let here = lasts(Seconds::between(running.stage_entered_at, now));
            say(&mut text, &format!("Stage: {} (for {here}).", stage(running)));
            match state.explanation.waiting_on.as_slice() {
                [] => say(&mut text, "Waiting for nothing: the next look continues."),
                [on] => say(&mut text, &format!("Waiting for {}.", waiting(on, now))),
                several => {
                    say(&mut text, "Waiting for:");
                    for on in several {
                        item(&mut text, &waiting(on, now));
                    }
                }
            }
            if stands_still(state) {
                say(&mut text, "Rollouts are stopped (stop-the-line); timers are paused. Alarms still roll back.");
            } else {
                let (deadline, then) = what_then(running);
                let by = format!("If this takes until {} ({})", instant(deadline), until(deadline, now));
                say(&mut text, &format!("{by}: {then}."));
            }
            if let Some(trouble) = &running.trouble {
                let again = if trouble.refused { "not retrying" } else { "retrying" };
                let (effect, times, reason) = (&trouble.effect, trouble.times, &trouble.reason);
                say(&mut text, &format!("{effect} failed {times} times in a row, {again}: {reason}"));
            }
            say(&mut text, &way_back(state, running));
            for words in what_to_do(state, running) {
                say(&mut text, &words);
            }
        }
        None if drifted(state).is_some() => {
            if let Some(drift) = drifted(state) {
                say(&mut text, &format!("Changed {}.", changed(drift, now)));
                let target = &state.target;
                let words = if drift.moves_traffic {
                    format!(
                        "`switchback rollback {target} --reason …` moves all traffic back to the stable side; restoring the rule by hand \
                         works, too. With `drift: revert` in the environment the weights are restored automatically."
                    )
                } else {
                    "Traffic is unaffected. The next deployment replaces the change on the side that it deploys to."
                        .to_owned()
                };
                say(&mut text, &words);
            }
        }
        None if state.drift().is_some() => {
            let stable = state.stable.as_ref().map(|stable| stable.slot.to_string()).unwrap_or_default();
            let words = format!(
                "Not all traffic is on {stable}, the stable side. `switchback rollback {} --reason …` moves it there.",
                state.target
            );
            say(&mut text, &words);
        }
        None if state.frozen.is_some() => {}
        None if state.queued.is_empty() && commands.is_empty() => say(&mut text, "Idle: no deployment requested."),
        None => {}
    }
    if let Some(frozen) = &state.frozen {
        let (number, reason, since) = (frozen.deployment, &frozen.reason, ago(frozen.since, now));
        say(
            &mut text,
            &format!(
                "Frozen since deployment #{number} ({since}): {reason}. Nothing starts until `switchback resume {} --reason …`.",
                state.target
            ),
        );
    }
    if let Some(hold) = &state.promotion_hold {
        let (reason, since) = (&hold.reason, ago(hold.since, now));
        say(
            &mut text,
            &format!(
                "Automatic promotion is on hold ({since}): {reason}. It resumes when somebody promotes or deploys a release that is \
             not older: `switchback promote {}`.",
                state.target
            ),
        );
    }
    for on in brakes {
        say(&mut text, &format!("Brake: {}. Rollbacks are not held.", brake(on, now)));
    }
    if let Some(words) = traffic(state, now) {
        say(&mut text, &format!("Traffic: {words}."));
    }
    let mut before = "this deployment".to_owned();
    for queued in &state.queued {
        let (tag, asked) = (&queued.release.tag, ago(queued.at, now));
        say(&mut text, &format!("Queued: {tag}, requested {asked}; starts when {before} has ended."));
        before = format!("the deployment of {tag}");
    }
    if !commands.is_empty() {
        let oldest = commands.iter().map(|command| command.at).min().unwrap_or(now);
        say(
            &mut text,
            &format!(
                "{} pending, the oldest from {}: the next look handles it.",
                if commands.len() == 1 { "1 request".to_owned() } else { format!("{} requests", commands.len()) },
                ago(oldest, now)
            ),
        );
    }
    if let Some(again) = state.explanation.look_again_at.filter(|_| state.running.is_some()) {
        say(&mut text, &format!("Next look {} at the latest; events trigger one sooner.", until(again, now)));
    }
    if !last.is_empty() {
        text.push_str(&format!("\n{}\n{}", paint.strong("Recent events"), entries(last, paint)));
    }
    text
}

/// One of several.
fn item(text: &mut String, words: &str) {
    text.push_str(&format!("{}\n", beside("  - ", 4, words)));
}

/// The instant at which the present wait ends whatever is seen, and what happens then.
fn what_then(running: &Deployment) -> (Timestamp, String) {
    if let Some(halt) = &running.halted {
        let then = "the deployment ends and leaves the edited rule as it is";
        return (halt.deadline, then.to_owned());
    }
    if let Some(frozen) = &running.frozen {
        let then =
            "the deployment ends and leaves everything as it is; the target stays frozen until somebody resumes it";
        return (frozen.deadline, then.to_owned());
    }
    let back = || match &running.sides {
        Some(_) if running.traffic_moved && is_forward_only(running) => {
            "it freezes where it is, and a person decides".to_owned()
        }
        Some(sides) if running.traffic_moved => format!("traffic rolls back to {}, verdict rolled back", sides.stable),
        _ => "the attempt ends before any traffic moved, verdict failed".to_owned(),
    };
    let then = match &running.stage {
        Stage::Gated { .. } => "the request expires; nothing was changed".to_owned(),
        Stage::Preflight { .. } => "the deployment fails; nothing was changed".to_owned(),
        Stage::Registering { .. } => "the deployment fails; no traffic moved".to_owned(),
        Stage::BeforeTraffic { .. }
        | Stage::Scaling { .. }
        | Stage::Testing { .. }
        | Stage::AfterTraffic { .. }
        | Stage::Shifting { phase: ShiftPhase::Writing { .. }, .. } => back(),
        Stage::Shifting { phase: ShiftPhase::Holding { .. }, .. } | Stage::Baking { .. } => {
            format!("if missing data or failing health checks held it until then, {}", back())
        }
        Stage::KeepingWarm { .. } => "the old side is scaled down".to_owned(),
        Stage::Retiring { .. } => "the deployment succeeds, and the journal lists what is left to do by hand".to_owned(),
        Stage::RollingBack { .. } => {
            "the rollback fails if AWS refuses the weights or the stable side is not healthy; otherwise it keeps retrying"
                .to_owned()
        }
        Stage::LettingGo { .. } => "the deployment fails, and the journal lists what is left to do by hand".to_owned(),
    };
    (running.stage.deadline(), then)
}

fn way_back(state: &TargetState, running: &Deployment) -> String {
    let retiring = matches!(running.stage, Stage::Retiring { phase: RetirePhase::ScalingDown, .. });
    match running.way_back() {
        Some(_) if is_forward_only(running) && running.traffic_moved && running.frozen.is_none() => format!(
            "Forward-only: trouble freezes it, and only a person rolls it back: `switchback rollback {} --reason …`.",
            state.target
        ),
        Some(way_back) if running.frozen.is_some() => format!("Rollback to {} is possible.", way_back.stable()),
        Some(way_back) if !matches!(running.stage, Stage::RollingBack { .. }) => format!(
            "Rollback is possible: {} is still up ({} tasks at the start). `switchback rollback {} --reason …`",
            way_back.stable(),
            way_back.count(),
            state.target
        ),
        Some(way_back) => format!("Rolling back to {}.", way_back.stable()),
        None if retiring => {
            "No rollback any more: the old side is scaling down. Once this has ended, a rollback deploys the previous \
                             release."
                .to_owned()
        }
        None if matches!(running.stage, Stage::Gated { .. }) => "Nothing to roll back: it has not begun.".to_owned(),
        None => "Nothing to roll back yet: nothing was changed.".to_owned(),
    }
}

/// What a person can do about it, where it waits for one.
fn what_to_do(state: &TargetState, running: &Deployment) -> Vec<String> {
    let (target, number) = (&state.target, running.number);
    if running.frozen.is_some() {
        return vec![format!(
            "`switchback rollback {target} --reason …` rolls back, `switchback resume {target} --reason …` continues, \
             `switchback abort {target} --reason …` ends it and leaves everything as it is."
        )];
    }
    if running.stable_alarm.is_some() {
        return vec![format!(
            "`switchback resume {target} --reason …` continues in spite of the stable side's alarm, `switchback rollback {target} \
             --reason …` rolls back to it."
        )];
    }
    if !matches!(running.stage, Stage::Gated { .. }) {
        return Vec::new();
    }
    let mut told = Vec::new();
    let mut shut = Vec::new();
    for on in &state.explanation.waiting_on {
        match on {
            WaitingOn::Approval { plan, .. } => told.push(format!(
                "`switchback approve {target} --deployment {number} --plan {}` approves; `switchback reject` with a reason rejects.",
                plan.0
            )),
            WaitingOn::Gate { gate, .. } => shut.push(*gate),
            _ => {}
        }
    }
    if !shut.is_empty() {
        let flags: Vec<String> = shut.iter().map(|gate| format!("--gate {gate}")).collect();
        told.push(format!(
            "`switchback override {target} {} --reason …` opens {}, for those who are permitted to.",
            flags.join(" "),
            names(&shut)
        ));
    }
    told
}
