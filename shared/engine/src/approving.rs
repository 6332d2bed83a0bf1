//! Approval decisions on a deployment that waits for approval, from any channel: Slack, a signed link, the command line. The
//! channel has authenticated the person; this module checks whether the person may decide and whether the deployment still waits.
//!
//! Nothing is decided here: a valid submission becomes a command, which the target's next pass judges again on the state at that
//! time. An invalid one is refused with a reason, which is also written to the target's journal, at most once an hour.
//!
//! | module | what it does |
//! |---|---|
//! | [`slack`] | verifies and reads Slack requests, and builds the reply |
//! | [`mail`] | the pages behind a signed link: the approval form, and the confirmation |

pub mod mail;
pub mod slack;

use crate::command_service::{CommandResponse, CommandService, MAX_REASON_CHARS, Refusal, own_key};
use crate::log_context;
use crate::ports::{Clock, Ledger, WakeQueue};
use futures::future::try_join;
use rollout::policy::AppliedTarget;
use rollout::promotion::{GateInput, plan_id, rules, waiting};
use rollout::text::visible_lines;
use rollout::{
    Actor, Command, CommandId, DeploymentRecord, Instruction, Name, PlanId, TargetId, TargetState, Timestamp, Verdict,
};

/// How many deployments are searched to find how the one in question ended.
const MAX_HISTORY: usize = 50;

/// An approval decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApprovalDecision {
    /// The deployment may start.
    Approve,
    /// The deployment may not start.
    Reject,
}

impl ApprovalDecision {
    /// The decision as a verb, as used in the journal and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Reject => "reject",
        }
    }
}

/// What makes two submissions duplicates of each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeduplicationKey<'a> {
    /// The same decision by the same person on the same approval request: their identity at the channel, `slack:U012AB3CD`.
    Person(&'a str),
    /// Any decision submitted through this link: the link's nonce.
    Link(&'a str),
    /// The caller's own request key; `None`: every submission is a new one.
    Key(Option<&'a str>),
}

/// A person's decision on a deployment that waits for approval.
#[derive(Debug, Clone, Copy)]
pub struct ApprovalSubmission<'a> {
    /// The target that the deployment belongs to.
    pub target: &'a TargetId,
    /// The deployment's number.
    pub deployment: u64,
    /// The plan that the person reviewed.
    pub plan: &'a PlanId,
    /// Approve or reject.
    pub decision: ApprovalDecision,
    /// The person, as authenticated by the channel.
    pub actor: &'a Actor,
    /// Free text from the person; may be empty.
    pub reason: &'a str,
    /// The channel's name: `slack`, `link`, `operations`.
    pub channel: &'static str,
    /// Identifies repetitions of this submission.
    pub deduplication_key: DeduplicationKey<'a>,
}

/// A recorded approval decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApprovalReceipt {
    /// The person's name in the policy.
    pub person: Name,
    /// Approve or reject.
    pub decision: ApprovalDecision,
    /// Tag of the release that the decision is about.
    pub tag: String,
    /// Number of approvals so far, this one included.
    pub approvals: usize,
    /// Number of approvals required.
    pub required: u8,
    /// The command that records the decision.
    pub command: CommandResponse,
}

impl ApprovalReceipt {
    /// The confirmation shown to the person.
    #[must_use]
    pub fn sentence(&self) -> String {
        let Self { tag, approvals, required, .. } = self;
        let target = &self.command.target;
        let number = self.command.deployment.map(|number| format!(" #{number}")).unwrap_or_default();
        match self.decision {
            ApprovalDecision::Approve => {
                format!("You approved {target}{number} ({tag}): {approvals} of {required} approvals.")
            }
            ApprovalDecision::Reject => format!("You rejected {target}{number} ({tag})."),
        }
    }
}

/// Records an approval decision if it is pending and the person may give it.
///
/// # Errors
/// [`Refusal`]: the reason for the person, also journalled (unknown target, over or superseded, another plan, not an approver,
/// the requester, too late, already decided); or a ledger that did not answer.
pub async fn answer<L: Ledger, D: WakeQueue, K: Clock>(
    command_service: &CommandService<'_, L, D, K>,
    answer: &ApprovalSubmission<'_>,
) -> Result<ApprovalReceipt, Refusal> {
    let now = command_service.clock.now();
    log_context::set_target(answer.target);
    log_context::about(Some(answer.deployment), None);
    let (applied, state) = read(command_service, answer.target).await?;
    if let Some(running) = state.running.as_ref().filter(|running| running.number == answer.deployment) {
        log_context::about(None, Some(&running.release.id.digest));
    }
    match validate(command_service, &state, &applied, answer, now).await? {
        Ok(valid) => take(command_service, &state, answer, valid, now).await,
        Err(refusal) => {
            // Repeating a decision is harmless; a link used twice may have fallen into other hands.
            if refusal.code != ALREADY_APPROVED || matches!(answer.deduplication_key, DeduplicationKey::Link(_)) {
                let ApprovalSubmission { channel, target, decision, actor, .. } = answer;
                // Numbers of nonexistent deployments are unlimited: all of them share one journal entry.
                let number = Some(answer.deployment).filter(|number| *number <= state.last_deployment);
                let about = format!("{} {number:?}", refusal.code);
                command_service
                    .note_refusal_with_key(channel, target, decision.name(), actor, &refusal.message, &about)
                    .await;
            }
            Err(refusal)
        }
    }
}

/// Error code of an approval that was already given.
pub(crate) const ALREADY_APPROVED: &str = "said_already";

/// The policy and the state of a target that a policy names. Other targets' names are not revealed to the caller.
async fn read<L: Ledger, D: WakeQueue, K: Clock>(
    command_service: &CommandService<'_, L, D, K>,
    target: &TargetId,
) -> Result<(AppliedTarget, TargetState), Refusal> {
    let policy = async { command_service.ledger.policy(&target.application).await.map_err(Refusal::from) };
    let (applied, state) = try_join(policy, command_service.state(target)).await?;
    let applied = applied.and_then(|applied| applied.policy.applied(target, applied.version));
    let unknown = || Refusal::new(404, "unknown_target", format!("no applied policy names the target {target}"));
    Ok((applied.ok_or_else(unknown)?, state))
}

/// The person and the resulting command of a submission that passed validation.
struct ValidSubmission {
    person: Name,
    required: u8,
    tag: String,
    approvals: usize,
    requested_at: Option<Timestamp>,
}

/// Validates the submission; the inner error is shown to the person and journalled.
async fn validate<L: Ledger, D: WakeQueue, K: Clock>(
    command_service: &CommandService<'_, L, D, K>,
    state: &TargetState,
    applied: &AppliedTarget,
    answer: &ApprovalSubmission<'_>,
    now: Timestamp,
) -> Result<Result<ValidSubmission, Refusal>, Refusal> {
    let number = answer.deployment;
    let gate_input = match &state.running {
        Some(running) if running.number == number => waiting(state, applied, None, now),
        _ => None,
    };
    let Some(gate_input) = gate_input else {
        let ended = if number <= state.last_deployment {
            let history = command_service.ledger.history(answer.target, MAX_HISTORY).await?;
            history.into_iter().find(|record| record.number == number)
        } else {
            None
        };
        return Ok(Err(not_waiting(state, number, ended.as_ref())));
    };
    Ok(check_rules(state, &gate_input, answer))
}

/// Why the deployment does not wait for approval.
fn not_waiting(state: &TargetState, number: u64, ended: Option<&DeploymentRecord>) -> Refusal {
    let target = &state.target;
    match (&state.running, ended.and_then(|record| Some((record, record.verdict?)))) {
        (Some(running), _) if running.number == number => {
            let stage = view::journal::stage_words(running.stage()).to_lowercase();
            let message =
                format!("deployment #{number} of {target} is past its gates ({stage}): nobody is asked any more");
            Refusal::conflict("not_waiting", message)
        }
        (_, Some((record, Verdict::Superseded))) => {
            let tag = &record.release.tag;
            let message =
                format!("deployment #{number} of {target} ({tag}) has given way to a newer release: look at that one");
            Refusal::conflict("superseded", message)
        }
        (_, Some((record, verdict))) => {
            let how = view::journal::verdict_words(verdict);
            let because = if record.reason.is_empty() { String::new() } else { format!(": {}", record.reason) };
            Refusal::conflict("not_waiting", format!("deployment #{number} of {target} is over ({how}{because})"))
        }
        _ if number > state.last_deployment => {
            Refusal::conflict("not_waiting", format!("there is no deployment #{number} of {target}"))
        }
        _ => Refusal::conflict("not_waiting", format!("deployment #{number} of {target} is over")),
    }
}

/// The same rules as in `decide`, each with an error code of its own. Rules known only to `decide` are reported in its own words.
fn check_rules(
    state: &TargetState,
    gate_input: &GateInput<'_>,
    answer: &ApprovalSubmission<'_>,
) -> Result<ValidSubmission, Refusal> {
    let (target, number) = (answer.target, answer.deployment);
    let Some(policy) = &gate_input.applied.entry.rules.approval else {
        let message = format!("deployments to {} need no approval: nobody is asked", target.environment);
        return Err(Refusal::conflict("no_approval", message));
    };
    let approvers = &gate_input.applied.entry.approvers;
    let known = approvers.iter().any(|(name, person)| person.is(name, answer.actor));
    let person = rules::approver(gate_input, answer.actor).map_err(|reason| {
        let code = if known { "asked_for_it" } else { "not_an_approver" };
        Refusal::new(403, code, format!("{reason} (deployment #{number} of {target})"))
    })?;
    if &gate_input.gates.plan != answer.plan || &present_plan(state, gate_input) != answer.plan {
        let message = format!(
            "what deployment #{number} of {target} would do has changed since you were asked: look at it anew, as it \
             stands now"
        );
        return Err(Refusal::conflict("plan_changed", message));
    }
    let deadline = state.running.as_ref().map(|running| running.phase.deadline());
    let expires = gate_input.gates.requested_at.map(|requested_at| policy.expires.after(requested_at));
    if [deadline, expires].into_iter().flatten().any(|end| gate_input.now >= end) {
        let message = format!("the time to answer deployment #{number} of {target} is over");
        return Err(Refusal::conflict("expired", message));
    }
    if answer.decision == ApprovalDecision::Approve && rules::has_approved(gate_input, person) {
        let message = format!("{person} has approved deployment #{number} of {target} already: it counts once");
        return Err(Refusal::conflict(ALREADY_APPROVED, message));
    }
    let (person, required) = rules::validate_approval_decision(
        gate_input,
        answer.plan,
        answer.actor,
        answer.decision == ApprovalDecision::Approve,
    )
    .map_err(|reason| Refusal::conflict("not_now", format!("{reason} (deployment #{number} of {target})")))?;
    let said = rules::valid_votes(gate_input).len();
    let approvals = said + usize::from(answer.decision == ApprovalDecision::Approve);
    let tag = state.running.as_ref().map(|running| running.release.tag.clone()).unwrap_or_default();
    Ok(ValidSubmission { person, required, tag, approvals, requested_at: gate_input.gates.requested_at })
}

/// The plan under the current policy: the target's next pass adopts that policy, and requests approval again if the plan differs.
fn present_plan(state: &TargetState, gate_input: &GateInput<'_>) -> PlanId {
    let replaces = state.stable.as_ref().and_then(|stable| stable.release.as_ref()).map(|release| &release.id.digest);
    let overrides = state.running.as_ref().map(|running| running.overrides.clone()).unwrap_or_default();
    plan_id(gate_input.target, gate_input.release, gate_input.options, &overrides, gate_input.applied, replaces)
}

async fn take<L: Ledger, D: WakeQueue, K: Clock>(
    command_service: &CommandService<'_, L, D, K>,
    state: &TargetState,
    answer: &ApprovalSubmission<'_>,
    valid: ValidSubmission,
    now: Timestamp,
) -> Result<ApprovalReceipt, Refusal> {
    let ApprovalSubmission { target, deployment, plan, decision, actor, reason, deduplication_key, .. } = *answer;
    let instruction = match decision {
        ApprovalDecision::Approve => Instruction::Approve { deployment, plan: plan.clone() },
        ApprovalDecision::Reject => Instruction::Reject { deployment, plan: plan.clone() },
    };
    let id = match deduplication_key {
        // The key includes the decision: a rejection with the key of an earlier approval is not a repetition of it.
        DeduplicationKey::Key(Some(key)) => format!("{}:{}", decision.name(), own_key(key, actor)?),
        DeduplicationKey::Key(None) => format!("asked:{}", command_service.clock.lease_id().0),
        DeduplicationKey::Link(nonce) => format!("link:{nonce}"),
        // The key includes the time of the request: when an earlier plan returns, approval is requested and given anew.
        DeduplicationKey::Person(identity) => {
            let requested_at = valid.requested_at.map_or(0, Timestamp::as_second);
            let (channel, user) = identity.split_once(':').unwrap_or(("", identity));
            let said = if decision == ApprovalDecision::Approve { "yes" } else { "no" };
            format!("{channel}:{target}#{deployment}:{}:{requested_at}:{user}:{said}", plan.0)
        }
    };
    let command = Command {
        id: CommandId(id),
        target: target.clone(),
        instruction,
        actor: actor.clone(),
        reason: reason.to_owned(),
        at: now,
    };
    let command = command_service.submit_command(state, command, None).await?;
    if let (DeduplicationKey::Link(_), false) = (deduplication_key, command.new) {
        let message = "this link has been used already: what was said with it first is what counts";
        command_service.note_refusal(answer.channel, target, decision.name(), actor, message).await;
        return Err(Refusal::conflict("link_used", message));
    }
    let ValidSubmission { person, required, tag, approvals, .. } = valid;
    Ok(ApprovalReceipt { person, decision, tag, approvals, required, command })
}

/// Free text from a person as a command keeps it: plain text, cut to [`MAX_REASON_CHARS`].
#[must_use]
pub fn clean_reason(words: &str) -> String {
    visible_lines(words.trim()).chars().take(MAX_REASON_CHARS).collect::<String>().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_stored_as_plain_text() {
        assert_eq!(clean_reason("  looks good\r\nto me\u{7} \n"), "looks good \nto me\u{fffd}");
        assert_eq!(clean_reason(&"ä".repeat(600)).chars().count(), MAX_REASON_CHARS);
        assert_eq!(clean_reason(" \n\t"), "");
        assert_eq!(clean_reason("v1\u{202e}2v\u{2028}"), "v1\u{fffd}2v", "nothing that turns what follows");
    }
}
