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
            say(&mut text, &format!("It is here: {}, for {here}.", stage(running)));
            match state.explanation.waiting_on.as_slice() {
                [] => say(&mut text, "It waits for nothing: the next look goes on."),
                [on] => say(&mut text, &format!("It waits for {}.", waiting(on, now))),
                several => {
                    say(&mut text, "It waits for:");
                    for on in several {
                        item(&mut text, &waiting(on, now));
                    }
                }
            }
            if stands_still(state) {
                say(
                    &mut text,
                    "Traffic stays as it is while the line is stopped, and its times stand still; alarms still switch back.",
                );
            } else {
                let (deadline, then) = what_then(running);
                let at = format!("At {} ({}) at the latest", instant(deadline), until(deadline, now));
                say(&mut text, &format!("{at}: {then}."));
            }
            if let Some(trouble) = &running.trouble {
                let again = if trouble.refused { "AWS will say no again" } else { "it is tried again" };
                let (effect, times, reason) = (&trouble.effect, trouble.times, &trouble.reason);
                say(&mut text, &format!("{effect} did not work {times} times in a row, {again}: {reason}"));
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
                        "`switchback rollback {target} --reason …` puts all traffic back on the stable side. It also ends when the \
                         rule is put in order by hand. With `drift: revert` in the environment the weights go back by themselves."
                    )
                } else {
                    "Traffic is where it was left. The next deployment replaces what was changed on the side that it goes to."
                        .to_owned()
                };
                say(&mut text, &words);
            }
        }
        None if state.drift().is_some() => {
            let stable = state.stable.as_ref().map(|stable| stable.slot.to_string()).unwrap_or_default();
            let words = format!(
                "Not all traffic is on {stable}, the stable side. `switchback rollback {} --reason …` puts all of it there.",
                state.target
            );
            say(&mut text, &words);
        }
        None if state.frozen.is_some() => {}
        None if state.queued.is_empty() && commands.is_empty() => {
            say(&mut text, "Nothing is asked for, so it waits for nothing.")
        }
        None => {}
    }
    if let Some(frozen) = &state.frozen {
        let (number, reason, since) = (frozen.deployment, &frozen.reason, ago(frozen.since, now));
        say(
            &mut text,
            &format!(
                "The target is frozen since deployment #{number} ({since}): {reason}. Nothing starts until `switchback resume {} \
             --reason …`.",
                state.target
            ),
        );
    }
    if let Some(hold) = &state.promotion_hold {
        let (reason, since) = (&hold.reason, ago(hold.since, now));
        say(
            &mut text,
            &format!(
                "Nothing is promoted here by itself ({since}): {reason}. That ends when somebody promotes or deploys a release \
             that is not older: `switchback promote {}`.",
                state.target
            ),
        );
    }
    for on in brakes {
        say(&mut text, &format!("A brake is on: {}. Rollbacks are not held.", brake(on, now)));
    }
    if let Some(words) = traffic(state, now) {
        say(&mut text, &format!("Traffic: {words}."));
    }
    let mut before = "this deployment".to_owned();
    for queued in &state.queued {
        let (tag, asked) = (&queued.release.tag, ago(queued.at, now));
        say(&mut text, &format!("{tag} was asked for {asked}, and starts when {before} has ended."));
        before = format!("the one of {tag}");
    }
    if !commands.is_empty() {
        let oldest = commands.iter().map(|command| command.at).min().unwrap_or(now);
        say(
            &mut text,
            &format!(
                "{} not taken in yet, the oldest was asked {}: the next look takes it in.",
                if commands.len() == 1 {
                    "A command is".to_owned()
                } else {
                    format!("{} commands are", commands.len())
                },
                ago(oldest, now)
            ),
        );
    }
    if let Some(again) = state.explanation.look_again_at.filter(|_| state.running.is_some()) {
        say(
            &mut text,
            &format!("The next look is {} at the latest, and every event brings one sooner.", until(again, now)),
        );
    }
    if !last.is_empty() {
        text.push_str(&format!("\n{}\n{}", paint.strong("What happened last"), entries(last, paint)));
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
        let then = "it ends without touching the rule that somebody else has edited";
        return (halt.deadline, then.to_owned());
    }
    if let Some(frozen) = &running.frozen {
        let then = "it lets go and leaves everything as it is; the target stays frozen until somebody resumes it";
        return (frozen.deadline, then.to_owned());
    }
    let back = || match &running.sides {
        Some(_) if running.traffic_moved && is_forward_only(running) => {
            "it freezes as it is, and a person decides".to_owned()
        }
        Some(sides) if running.traffic_moved => format!("traffic goes back to {}, verdict rolled back", sides.stable),
        _ => "it is taken back before any traffic moved, verdict failed".to_owned(),
    };
    let then = match &running.stage {
        Stage::Gated { .. } => "it expires, and nothing was touched".to_owned(),
        Stage::Preflight { .. } => "it has failed, and nothing was touched".to_owned(),
        Stage::Registering { .. } => "it has failed, and no traffic moved".to_owned(),
        Stage::BeforeTraffic { .. }
        | Stage::Scaling { .. }
        | Stage::Testing { .. }
        | Stage::AfterTraffic { .. }
        | Stage::Shifting { phase: ShiftPhase::Writing { .. }, .. } => back(),
        Stage::Shifting { phase: ShiftPhase::Holding { .. }, .. } | Stage::Baking { .. } => {
            format!("if silence or ill health kept it from going on until then, {}", back())
        }
        Stage::KeepingWarm { .. } => "the old side is taken down".to_owned(),
        Stage::Retiring { .. } => "it has succeeded, and the journal says what is left to do by hand".to_owned(),
        Stage::RollingBack { .. } => {
            "it fails if AWS refuses the weights or the stable side is not healthy; otherwise it goes on trying"
                .to_owned()
        }
        Stage::LettingGo { .. } => "it has failed, and the journal says what is left to do by hand".to_owned(),
    };
    (running.stage.deadline(), then)
}

fn way_back(state: &TargetState, running: &Deployment) -> String {
    let retiring = matches!(running.stage, Stage::Retiring { phase: RetirePhase::ScalingDown, .. });
    match running.way_back() {
        Some(_) if is_forward_only(running) && running.traffic_moved && running.frozen.is_none() => format!(
            "It is forward-only: trouble freezes it. Only `switchback rollback {} --reason …` goes back, by a person's hand.",
            state.target
        ),
        Some(way_back) if running.frozen.is_some() => format!("The way back to {} is open.", way_back.stable()),
        Some(way_back) if !matches!(running.stage, Stage::RollingBack { .. }) => format!(
            "The way back is open: {} is still up ({} tasks at the start). `switchback rollback {} --reason …` takes it.",
            way_back.stable(),
            way_back.count(),
            state.target
        ),
        Some(way_back) => format!("It is on its way back to {}.", way_back.stable()),
        None if retiring => "The way back is closed: the old side is going down. After the end, a rollback brings the \
                             release before."
            .to_owned(),
        None if matches!(running.stage, Stage::Gated { .. }) => {
            "There is nothing to go back from: nothing of it has begun.".to_owned()
        }
        None => "There is no way back yet: nothing was touched.".to_owned(),
    }
}

/// What a person can do about it, where it waits for one.
fn what_to_do(state: &TargetState, running: &Deployment) -> Vec<String> {
    let (target, number) = (&state.target, running.number);
    if running.frozen.is_some() {
        return vec![format!(
            "`switchback rollback {target} --reason …` goes back, `switchback resume {target} --reason …` goes on, \
             `switchback abort {target} --reason …` lets go and leaves everything as it is."
        )];
    }
    if running.stable_alarm.is_some() {
        return vec![format!(
            "`switchback resume {target} --reason …` goes on in spite of the stable side's alarm, `switchback rollback {target} \
             --reason …` goes back to it."
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
                "`switchback approve {target} --deployment {number} --plan {}` says yes, with `reject` and a reason it is a no.",
                plan.0
            )),
            WaitingOn::Gate { gate, .. } => shut.push(*gate),
            _ => {}
        }
    }
    if !shut.is_empty() {
        let flags: Vec<String> = shut.iter().map(|gate| format!("--gate {gate}")).collect();
        told.push(format!(
            "`switchback override {target} {} --reason …` opens {} by hand, for whoever may do that.",
            flags.join(" "),
            names(&shut)
        ));
    }
    told
}
