//! What a deployment would do.

use crate::journal::{Tone, stage_words};
use crate::layout::{beside, table};
use crate::paint::Paint;
use crate::when::lasts;
use rollout::plan::{Outlook, Plan, PlannedSide};
use rollout::snapshot::AlarmReading;

/// The plan, from whether it would start to how long it takes.
#[must_use]
pub fn plan(plan: &Plan, paint: Paint) -> String {
    let mut text = String::new();
    let (tone, outlook) = match plan.outlook {
        Outlook::Starts => (Tone::Good, "would start at once"),
        Outlook::Gated => (Tone::Warning, "would wait at its gates"),
        Outlook::Blocked => (Tone::Warning, "would not start yet"),
        Outlook::Queued => (Tone::Warning, "would wait"),
        Outlook::Refused => (Tone::Bad, "would be refused"),
        Outlook::LiveAlready => (Tone::Plain, "is live already"),
    };
    let (target, release, version) = (&plan.target, &plan.release.tag, plan.policy_version);
    let digest = plan.release.id.digest.short();
    text.push_str(&format!(
        "{}  {release} ({digest}) {}, policy version {version}\n",
        paint.strong(&target.to_string()),
        paint.tone(tone, outlook)
    ));
    for blocker in &plan.blockers {
        text.push_str(&format!("{}\n", beside(&format!("  {} ", paint.mark(tone)), 4, blocker)));
    }
    for (name, planned) in [("stable", &plan.stable), ("candidate", &plan.candidate)] {
        if let Some(planned) = planned {
            text.push_str(&format!("  {name:<10} {}\n", side(planned)));
        }
    }
    for (name, reading) in plan.alarms.iter().flatten() {
        let (tone, words) = match reading {
            AlarmReading::Ok => (Tone::Good, "OK".to_owned()),
            AlarmReading::Firing { reason } => (Tone::Bad, format!("fires: {reason}")),
            AlarmReading::NoData => (Tone::Warning, "has no data".to_owned()),
            AlarmReading::NotEvaluated { reason } => (Tone::Warning, format!("is not evaluated: {reason}")),
            AlarmReading::Absent => (Tone::Bad, "there is no such alarm".to_owned()),
        };
        let head = format!("  {:<10} ", "alarm");
        let sees = plan.alarm_sides.get(name).map(|slot| format!(" (sees {slot} alone)")).unwrap_or_default();
        text.push_str(&format!("{}\n", paint.tone(tone, &beside(&head, 13, &format!("{name}{sees}: {words}")))));
    }
    if !plan.steps.is_empty() {
        let rows: Vec<_> = plan
            .steps
            .iter()
            .map(|step| {
                let what = match &step.hook {
                    Some(hook) => format!("{}: {hook}", stage_words(&step.stage)),
                    None => stage_words(&step.stage),
                };
                vec![
                    String::new(),
                    what,
                    step.traffic.map_or_else(String::new, |share| format!("{} %", share.value())),
                    step.tasks.map_or_else(String::new, |tasks| tasks.to_string()),
                    if step.takes.0 == 0 { String::new() } else { lasts(step.takes) },
                    lasts(step.at_most),
                ]
            })
            .collect();
        text.push('\n');
        text.push_str(&table(&["", "STAGE", "TRAFFIC", "TASKS", "TAKES", "GIVES UP AFTER"], &rows));
        text.push_str(&format!("\n  at least {}, if nothing has to be waited for\n", lasts(plan.takes)));
    }
    text
}

fn side(side: &PlannedSide) -> String {
    let definition = side.task_definition.as_deref().and_then(|arn| arn.rsplit('/').next()).unwrap_or("unknown");
    format!(
        "{}: service {}, {} tasks running, {} healthy, {definition}",
        side.slot, side.service, side.running, side.healthy
    )
}
