//! Journal facts as sentences.

use crate::evidence::evidence;
use crate::people::{display_name, names, with_short_names};
use crate::template::template_sentence;
use crate::time_format::instant;
use rollout::effect::EffectKind;
use rollout::journal::{Fact, JournalEntry};
use rollout::snapshot::{ApiCall, Snapshot, Weights};
use rollout::text::visible;
use rollout::verdict::{Cause, Verdict};
use rollout::{Actor, Gate, Name, PlanId, Slot, Stage, Timestamp};
use serde::Serialize;

/// Tone of a line, shown as a colour or a mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Tone {
    /// Normal progress.
    Plain,
    /// A goal was reached.
    Good,
    /// Progress is blocked or at risk.
    Warning,
    /// A failure.
    Bad,
}

/// A journal fact as a sentence, with its tone.
#[must_use]
pub fn sentence(fact: &Fact) -> (Tone, String) {
    let (tone, text) = raw_sentence(fact);
    (tone, visible(&with_short_names(&text)))
}

/// What an alarm does that does not roll the deployment back.
fn alarm_sentence(fact: &Fact) -> (Tone, String) {
    use Tone::{Bad, Good, Plain, Warning};
    match fact {
        Fact::AlarmFiring { alarm, reason, holds: false } => {
            (Warning, format!("Alarm {alarm} is firing, and does not stop the deployment{}", after_colon(reason)))
        }
        Fact::AlarmFiring { alarm, reason, .. } => {
            (Bad, format!("Holding: alarm {alarm} is firing{}", after_colon(reason)))
        }
        Fact::AlarmCleared { alarm } => (Good, format!("Alarm {alarm} has cleared")),
        Fact::AlarmPassed { alarm, reason } => (
            Warning,
            format!("Started although alarm {alarm} is firing; it counts once it has been OK{}", after_colon(reason)),
        ),
        Fact::StableAlarm { alarm, reason } => {
            (Bad, format!("Holding: the stable side's alarm {alarm} is firing{}", after_colon(reason)))
        }
        Fact::StableAlarmCleared { alarm } => (Good, format!("The stable side's alarm {alarm} has cleared; resuming")),
        other => (Plain, other.name().replace('_', " ")),
    }
}

fn hook_sentence(fact: &Fact) -> (Tone, String) {
    match fact {
        Fact::HookStarted { hook } => (Tone::Plain, format!("Hook {hook} started")),
        Fact::HookSucceeded { hook } => (Tone::Good, format!("Hook {hook} passed")),
        Fact::HookFailed { hook, reason } => (Tone::Bad, format!("Hook {hook} failed: {reason}")),
        other => (Tone::Plain, other.name().replace('_', " ")),
    }
}

/// What happened to a workload that changes its version in place.
fn in_place_sentence(fact: &Fact) -> (Tone, String) {
    match fact {
        Fact::FirstDeployment { slot, count } => {
            let on = slot.map_or_else(String::new, |slot| format!(" on {slot}"));
            let tasks = counted(*count, "task");
            (Tone::Warning, format!("The first deployment here: {tasks}{on}, and nothing to roll back to"))
        }
        Fact::WorkloadFound { version, running } => {
            (Tone::Plain, format!("Running: {} ({})", resource_name(version), counted(*running, "task")))
        }
        Fact::ReplacementStarted { version } => (Tone::Plain, format!("Setting {}", resource_name(version))),
        Fact::Replaced { version, running } => {
            (Tone::Good, format!("Everything runs {}: {}", resource_name(version), counted(*running, "task")))
        }
        Fact::ForeignVersionReplaced { found, cause } => (
            Tone::Warning,
            format!("Replacing {}, which was set outside Switchback; reason: {cause}", resource_name(found)),
        ),
        other => (Tone::Plain, other.name().replace('_', " ")),
    }
}

/// What happened at the gates.
fn gate_sentence(fact: &Fact) -> (Tone, String) {
    use Tone::{Good, Plain, Warning};
    match fact {
        Fact::BlockedByGate { gate, reason, until } => blocked_by_gate(*gate, reason, *until),
        Fact::GateOpened { gate, how } => (Good, format!("Gate {gate} opened{}", after_colon(how))),
        Fact::GateOverridden { gate, reason } => (Warning, format!("Gate {gate} overridden{}", after_colon(reason))),
        Fact::HotfixStarted { skips, reason } => {
            (Warning, format!("Hotfix, {}{}", past_gates(skips), after_colon(reason)))
        }
        Fact::ApprovalRequested { plan, tag, digest, required, approvers, expires_at, with } => {
            let others = with.iter().map(|(service, tag)| format!(", {service} {tag}")).collect::<String>();
            let what = format!("{}{others}", release(tag, digest));
            approval_requested(&what, plan, *required, approvers, *expires_at)
        }
        Fact::ApprovedWithTrain { service, people } => {
            let by = if people.is_empty() { String::new() } else { format!(", by {}", names(people)) };
            (Good, format!("Approved with its train, as {service} was{by}"))
        }
        Fact::Approved { person, approvals, required, reason, .. } => {
            (Good, format!("Approved by {person} ({approvals} of {required}){}", after_colon(reason)))
        }
        Fact::PlanChanged { plan, policy_version, voided } => plan_changed(plan, *policy_version, *voided),
        other => (Plain, other.name().replace('_', " ")),
    }
}

fn raw_sentence(fact: &Fact) -> (Tone, String) {
    use Tone::{Bad, Good, Plain, Warning};
    match fact {
        Fact::Started { digest, tag, reason, despite_alarms, .. } => started(tag, digest, reason, despite_alarms),
        Fact::CommandRefused { command, reason } => (Warning, format!("Refused {command}: {reason}")),
        Fact::Queued { digest, tag } => {
            (Plain, format!("{} is queued behind the running deployment", release(tag, digest)))
        }
        Fact::Superseded { digest, tag, by_tag } => {
            (Plain, format!("{} was superseded by {by_tag}", release(tag, digest)))
        }
        Fact::ReleaseNamed { digest, tag, before } => {
            (Plain, format!("{before} is also tagged {}", release(tag, digest)))
        }
        Fact::SidesDetermined { stable, stable_running, candidate } => {
            (Plain, format!("Stable: {stable} ({}). Candidate: {candidate}", counted(*stable_running, "task")))
        }
        Fact::StageEntered { stage, detail } => stage_entered(*stage, detail),
        Fact::TemplateChosen { template } => (Plain, capitalised(&template_sentence(template))),
        Fact::TemplateFound { template } => (Warning, format!("Not deployed yet: {}", template_sentence(template))),
        Fact::VersionReady { version, reused } => task_definition_ready(version, *reused),
        Fact::FirstDeployment { .. }
        | Fact::WorkloadFound { .. }
        | Fact::ReplacementStarted { .. }
        | Fact::Replaced { .. }
        | Fact::ForeignVersionReplaced { .. } => in_place_sentence(fact),
        Fact::WeightsDecided { weights } => (Plain, format!("Setting traffic to {}", traffic_split(*weights))),
        Fact::WeightsVerified { weights } => (Good, format!("Verified live: {}", traffic_split(*weights))),
        Fact::AutoscalingOverridden { slot, min, max } => {
            (Plain, format!("Autoscaling of {slot} suspended (it was {min} to {max} tasks)"))
        }
        Fact::AutoscalingRestored { slot, min, max, scheduled } => autoscaling_restored(*slot, *min, *max, scheduled),
        Fact::CandidateHealthy { healthy } => (Good, format!("Candidate healthy: {}", counted(*healthy, "target"))),
        Fact::HookStarted { .. } | Fact::HookSucceeded { .. } | Fact::HookFailed { .. } => hook_sentence(fact),
        Fact::Blocked { reason } => (Warning, format!("Not started yet: {reason}")),
        Fact::Halted { reason } => (Bad, format!("Halted by a change outside Switchback: {reason}")),
        Fact::Resumed => (Good, "The change outside Switchback is undone; resuming".to_owned()),
        Fact::EffectFailed { effect, reason, refused } => effect_failed(*effect, reason, *refused),
        Fact::RollbackStarted { cause } => rollback_started(cause),
        Fact::RollbackBlocked { reason } => {
            (Bad, format!("Rollback is waiting: the stable side cannot serve: {reason}"))
        }
        Fact::ForeignWeightsReplaced { found, cause } => {
            (Warning, format!("Replacing weights set outside Switchback: {found}; reason: {cause}"))
        }
        Fact::AlarmFiring { .. }
        | Fact::AlarmCleared { .. }
        | Fact::AlarmPassed { .. }
        | Fact::StableAlarm { .. }
        | Fact::StableAlarmCleared { .. } => alarm_sentence(fact),
        Fact::Ended { verdict, reason, live } => ended(*verdict, reason, *live),
        Fact::CleanupIncomplete { what } => (Warning, format!("Not cleaned up: {what}")),
        Fact::BlockedByGate { .. }
        | Fact::GateOpened { .. }
        | Fact::GateOverridden { .. }
        | Fact::HotfixStarted { .. }
        | Fact::ApprovalRequested { .. }
        | Fact::ApprovedWithTrain { .. }
        | Fact::Approved { .. }
        | Fact::PlanChanged { .. } => gate_sentence(fact),
        Fact::Verified { digest, tag } => (Good, format!("{} is verified and can be promoted", release(tag, digest))),
        Fact::VerificationRevoked { digest, tag, reason } => {
            (Warning, format!("{} is no longer verified{}", release(tag, digest), after_colon(reason)))
        }
        Fact::PromotionHeld { reason } => (Warning, format!("Automatic promotion held{}", after_colon(reason))),
        Fact::PromotionResumed => (Good, "Automatic promotion resumed".to_owned()),
        Fact::PromotionSkipped { digest, tag, reason } => {
            (Warning, format!("{} was not promoted{}", release(tag, digest), after_colon(reason)))
        }
        Fact::AwaitingOperator { cause, evidence } => awaiting_operator(cause, evidence),
        Fact::DriftDetected { reason, by, kept } => drift_detected(reason, by.as_ref(), kept.as_deref()),
        Fact::DriftResolved => (Good, "Drift resolved: everything is as the last deployment left it".to_owned()),
        Fact::OperatorResumed { reason } => (Good, format!("Resumed{}", after_colon(reason))),
    }
}

fn started(tag: &str, digest: &str, reason: &str, despite_alarms: &[String]) -> (Tone, String) {
    let mut text = format!("Deployment of {} started{}", release(tag, digest), after_colon(reason));
    if !despite_alarms.is_empty() {
        text = format!("{text} (accepted although firing: {})", despite_alarms.join(", "));
    }
    (Tone::Plain, text)
}

fn stage_entered(stage: Stage, detail: &str) -> (Tone, String) {
    (Tone::Plain, format!("{}{}", stage_words(stage), after_colon(detail)))
}

fn task_definition_ready(arn: &str, reused: bool) -> (Tone, String) {
    let how = if reused { "reused" } else { "registered" };
    (Tone::Plain, format!("Task definition {} {how}", resource_name(arn)))
}

fn autoscaling_restored(slot: Slot, min: u32, max: u32, scheduled: &[String]) -> (Tone, String) {
    let scheduled = match scheduled {
        [] => String::new(),
        actions => format!(", as set by scheduled actions meanwhile ({})", actions.join(", ")),
    };
    (Tone::Plain, format!("Autoscaling of {slot} restored ({min} to {max} tasks){scheduled}"))
}

fn effect_failed(effect: EffectKind, reason: &str, refused: bool) -> (Tone, String) {
    let again = if refused { "not retrying" } else { "retrying" };
    (Tone::Warning, format!("{effect} failed, {again}: {reason}"))
}

fn rollback_started(cause: &Cause) -> (Tone, String) {
    let tone = if matches!(cause, Cause::Superseded { .. }) { Tone::Warning } else { Tone::Bad };
    (tone, format!("Rolling back: {}", cause.summary()))
}

fn ended(verdict: Verdict, reason: &str, live: Option<Slot>) -> (Tone, String) {
    let tone = if verdict == Verdict::Succeeded { Tone::Good } else { Tone::Bad };
    let live = live.map_or_else(String::new, |slot| format!(" ({slot} carries all traffic)"));
    (tone, format!("{}{}{live}", capitalised(verdict_words(verdict)), after_colon(reason)))
}

fn blocked_by_gate(gate: Gate, reason: &str, until: Option<Timestamp>) -> (Tone, String) {
    let until = until.map_or_else(String::new, |until| format!(" (opens at {})", instant(until)));
    (Tone::Plain, format!("Waiting at gate {gate}: {reason}{until}"))
}

fn approval_requested(
    release: &str,
    plan: &PlanId,
    required: u8,
    approvers: &[Name],
    expires_at: Timestamp,
) -> (Tone, String) {
    let (from, until) = (names(approvers), instant(expires_at));
    (Tone::Warning, format!("Approval requested for {release}: {required} of {from}, by {until} (plan {})", plan.0))
}

fn plan_changed(plan: &PlanId, policy_version: u64, voided: u8) -> (Tone, String) {
    let void = match voided {
        0 => String::new(),
        1 => "; 1 approval voided".to_owned(),
        several => format!("; {several} approvals voided"),
    };
    (Tone::Warning, format!("Plan changed by policy version {policy_version} (plan {}){void}", plan.0))
}

fn awaiting_operator(cause: &Cause, observed: &Snapshot) -> (Tone, String) {
    let summary = cause.summary();
    let mut text = format!("Awaiting an operator: {}", summary.trim_end_matches('.'));
    let mut readings = evidence(observed);
    if let Cause::Alarm { name, .. } = cause {
        // The sentence names this alarm already.
        readings.retain(|line| !line.starts_with(&format!("alarm {name} fires")));
    }
    if !readings.is_empty() {
        text = format!("{text}. Evidence: {}", readings.join("; "));
    }
    (Tone::Bad, text)
}

fn drift_detected(reason: &str, by: Option<&ApiCall>, kept: Option<&str>) -> (Tone, String) {
    let by = by.map_or_else(String::new, |call| format!(" by {}", caller(call)));
    let kept = kept.map_or_else(String::new, |why| format!(". Not reverted: {why}"));
    (Tone::Bad, format!("Drift: changed{by} while nothing was deployed: {reason}{kept}"))
}

/// An entry as a sentence, with its tone: the fact, and its actor if that is a person or a workflow that the fact does
/// not name.
#[must_use]
pub fn description(entry: &JournalEntry) -> (Tone, String) {
    let (tone, text) = sentence(&entry.fact);
    let by_a_caller = matches!(entry.actor, Actor::Person { .. } | Actor::Workflow { .. });
    if let Fact::CommandRefused { command, reason } = &entry.fact
        && by_a_caller
    {
        let by = display_name(&entry.actor.to_string());
        return (tone, visible(&with_short_names(&format!("Refused {command} by {by}: {reason}"))));
    }
    let omits_actor = matches!(
        entry.fact,
        Fact::GateOverridden { .. }
            | Fact::HotfixStarted { .. }
            | Fact::PromotionResumed
            | Fact::OperatorResumed { .. }
    );
    if by_a_caller && omits_actor {
        (tone, format!("{text} (by {})", display_name(&entry.actor.to_string())))
    } else {
        (tone, text)
    }
}

/// Caller and operation of an API call: `ci (ModifyRule)`.
pub(crate) fn caller(call: &ApiCall) -> String {
    format!("{} ({})", display_name(&call.by), call.operation)
}

fn after_colon(words: &str) -> String {
    if words.is_empty() { String::new() } else { format!(": {words}") }
}

/// `past soak and approval`.
fn past_gates(skips: &[Gate]) -> String {
    if skips.is_empty() { "past no gate".to_owned() } else { format!("past {}", names(skips)) }
}

/// The text with an upper-case first letter.
pub(crate) fn capitalised(words: &str) -> String {
    let mut words = words.to_owned();
    if let Some(first) = words.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    words
}

/// A verdict in words, in lower case.
#[must_use]
pub fn verdict_words(verdict: Verdict) -> &'static str {
    verdict.words()
}

/// A stage as a heading: `Shifting traffic`.
#[must_use]
pub fn stage_words(stage: Stage) -> String {
    match stage {
        Stage::Gated => "Waiting at gates",
        Stage::Preflight => "Preflight",
        Stage::Registering => "Registering the new version",
        Stage::BeforeTraffic => "Hooks before traffic",
        Stage::Scaling => "Starting the candidate",
        Stage::Replacing => "Replacing what runs",
        Stage::Testing => "Testing",
        Stage::Shifting => "Shifting traffic",
        Stage::AfterTraffic => "Hooks after traffic",
        Stage::Baking => "Baking",
        Stage::KeepingWarm => "Keeping the old side warm",
        Stage::Retiring => "Scaling down the old side",
        Stage::RollingBack => "Rolling back",
        Stage::Abandoning => "Restoring autoscaling",
    }
    .to_owned()
}

/// `blue 90 % · green 10 %`, normalised whatever the weights sum to.
#[must_use]
pub fn traffic_split(weights: Weights) -> String {
    let total = u32::from(weights.blue) + u32::from(weights.green);
    let share = |weight: u16| (u32::from(weight) * 100 + total / 2).checked_div(total).unwrap_or(0);
    format!("blue {} % · green {} %", share(weights.blue), share(weights.green))
}

fn release(tag: &str, digest: &str) -> String {
    if tag.is_empty() { digest.chars().take("sha256:".len() + 12).collect() } else { tag.to_owned() }
}

fn counted(number: u32, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

pub(crate) fn resource_name(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap_or(arn)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rollout::{CommandRefusal, Seconds, TargetId};

    fn describe_fact(actor: Actor, fact: Fact) -> (Tone, String) {
        description(&JournalEntry {
            target: TargetId::parse("shop/api/prod").expect("a target"),
            sequence: 1,
            deployment: Some(12),
            at: Timestamp::UNIX_EPOCH,
            actor,
            fact,
        })
    }

    fn alice() -> Actor {
        Actor::Person { name: "arn:aws:sts::111122223333:assumed-role/deployer/alice".to_owned() }
    }

    fn name(text: &str) -> Name {
        Name::new(text).expect("a name")
    }

    #[test]
    fn gate_and_approval_facts_read_as_sentences() {
        let at = Timestamp::from_second(1_795_316_400).expect("a time");
        let (digest, tag) = ("sha256:0".to_owned(), "v2".to_owned());
        let plan = PlanId("0123456789abcdef".to_owned());
        let reason = || "the sale".to_owned();
        let facts = [
            Fact::BlockedByGate { gate: Gate::Soak, reason: "verified for less than 5m".to_owned(), until: Some(at) },
            Fact::GateOverridden { gate: Gate::Freeze, reason: reason() },
            Fact::HotfixStarted { skips: vec![Gate::Soak, Gate::Window], reason: reason() },
            Fact::ApprovalRequested {
                plan: plan.clone(),
                digest: digest.clone(),
                tag: tag.clone(),
                required: 2,
                approvers: vec![name("ada"), name("bob"), name("carol")],
                expires_at: at,
                with: std::collections::BTreeMap::new(),
            },
            Fact::Approved {
                person: name("bob"),
                plan: plan.clone(),
                approvals: 1,
                required: 2,
                reason: String::new(),
            },
            Fact::PlanChanged { plan, policy_version: 4, voided: 2 },
            Fact::VerificationRevoked {
                digest: digest.clone(),
                tag: tag.clone(),
                reason: format!("aborted by {}: no", alice()),
            },
            Fact::PromotionSkipped { digest, tag, reason: "automatic promotion is held".to_owned() },
            Fact::CommandRefused {
                command: "approve".to_owned(),
                reason: CommandRefusal::ApprovalExpired { after: Seconds(4 * 3600) },
            },
        ];
        let description: Vec<String> = facts.into_iter().map(|fact| describe_fact(alice(), fact).1).collect();
        assert_eq!(
            description,
            [
                "Waiting at gate soak: verified for less than 5m (opens at 2026-11-22 03:00:00 UTC)",
                "Gate freeze overridden: the sale (by alice)",
                "Hotfix, past soak and window: the sale (by alice)",
                "Approval requested for v2: 2 of ada, bob and carol, by 2026-11-22 03:00:00 UTC (plan \
                 0123456789abcdef)",
                "Approved by bob (1 of 2)",
                "Plan changed by policy version 4 (plan 0123456789abcdef); 2 approvals voided",
                "v2 is no longer verified: aborted by alice: no",
                "v2 was not promoted: automatic promotion is held",
                "Refused approve by alice: the time to answer (4h) is over",
            ]
        );
    }

    #[test]
    fn a_failed_effect_says_whether_it_is_retried() {
        for (refused, words) in [(true, "failed, not retrying: "), (false, "failed, retrying: ")] {
            let reason = "ModifyRule: AccessDenied".to_owned();
            let fact = Fact::EffectFailed { effect: EffectKind::SetWeights, reason, refused };
            let (tone, text) = describe_fact(Actor::Switchback, fact);
            assert_eq!(tone, Tone::Warning);
            assert!(text.contains(words) && text.contains("AccessDenied"), "{text}");
        }
    }

    #[test]
    fn switchbacks_own_refusals_name_no_actor() {
        let refused = Fact::CommandRefused { command: "deploy".to_owned(), reason: CommandRefusal::NoEarlierRelease };
        let expected = format!("Refused deploy: {}", CommandRefusal::NoEarlierRelease);
        assert_eq!(describe_fact(Actor::Switchback, refused), (Tone::Warning, expected));
    }
}
