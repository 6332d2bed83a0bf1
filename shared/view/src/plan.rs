//! What a deployment would do.

use crate::journal::{Tone, stage_words};
use crate::layout::{hanging_indent, table};
use crate::paint::Paint;
use crate::template::template_lines;
use crate::time_format::format_duration;
use rollout::plan::{Plan, PlanStatus, PlannedSide};
use rollout::snapshot::AlarmReading;

/// The plan of a deployment, from whether it can start to how long it takes.
#[must_use]
pub fn plan(plan: &Plan, paint: Paint) -> String {
    let mut text = String::new();
    let (tone, status) = match plan.status {
        PlanStatus::Starts => (Tone::Good, "would start at once"),
        PlanStatus::Gated => (Tone::Warning, "would wait at its gates"),
        PlanStatus::Blocked => (Tone::Warning, "would not start yet"),
        PlanStatus::Queued => (Tone::Warning, "would wait"),
        PlanStatus::Refused => (Tone::Bad, "would be refused"),
        PlanStatus::AlreadyLive => (Tone::Plain, "is live already"),
    };
    let (target, release, version) = (&plan.target, &plan.release.tag, plan.policy_version);
    let digest = plan.release.id.digest.short();
    text.push_str(&format!(
        "{}  {release} ({digest}) {}, policy version {version}\n",
        paint.strong(&target.to_string()),
        paint.tone(tone, status)
    ));
    for blocker in &plan.blockers {
        text.push_str(&format!("{}\n", hanging_indent(&format!("  {} ", paint.mark(tone)), 4, blocker)));
    }
    for (name, planned) in [("stable", &plan.stable), ("candidate", &plan.candidate)] {
        if let Some(planned) = planned {
            text.push_str(&format!("  {name:<10} {}\n", side(planned)));
        }
    }
    for (index, words) in plan.template.iter().flat_map(template_lines).enumerate() {
        let head = format!("  {:<10} ", if index == 0 { "template" } else { "" });
        text.push_str(&format!("{}\n", hanging_indent(&head, 13, &words)));
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
        text.push_str(&format!(
            "{}\n",
            paint.tone(tone, &hanging_indent(&head, 13, &format!("{name}{sees}: {words}")))
        ));
    }
    if !plan.steps.is_empty() {
        let rows: Vec<_> = plan
            .steps
            .iter()
            .map(|step| {
                let what = match &step.hook {
                    Some(hook) => format!("{}: {hook}", stage_words(step.stage)),
                    None => stage_words(step.stage),
                };
                vec![
                    String::new(),
                    what,
                    step.traffic.map_or_else(String::new, |share| format!("{} %", share.value())),
                    step.tasks.map_or_else(String::new, |tasks| tasks.to_string()),
                    if step.duration.0 == 0 { String::new() } else { format_duration(step.duration) },
                    format_duration(step.max_duration),
                ]
            })
            .collect();
        text.push('\n');
        text.push_str(&table(&["", "STAGE", "TRAFFIC", "TASKS", "TAKES", "GIVES UP AFTER"], &rows));
        text.push_str(&format!("\n  at least {}, if nothing has to be waited for\n", format_duration(plan.duration)));
        let deadline = format_duration(plan.rollback_deadline);
        let back =
            format!("rolls back within seconds of a firing alarm; where AWS fails, by the deadline of {deadline}");
        match plan.recovery_time {
            Some(stated) if plan.rollback_deadline > stated => {
                let words = format!("{back}: longer than recovery_time, {}", format_duration(stated));
                text.push_str(&format!("  {}\n", paint.tone(Tone::Warning, &words)));
            }
            _ => text.push_str(&format!("  {back}\n")),
        }
    }
    text
}

fn side(side: &PlannedSide) -> String {
    let definition = side.version.as_deref().and_then(|arn| arn.rsplit('/').next()).unwrap_or("unknown");
    let slot = side.slot.map_or_else(String::new, |slot| format!("{slot}: "));
    format!("{slot}service {}, {} tasks running, {} healthy, {definition}", side.service, side.running, side.healthy)
}
