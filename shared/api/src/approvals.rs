//! Approval decisions on a deployment that waits for approval, from any channel: Slack, a signed link, the command line. The
//! channel has authenticated the person; this module checks whether the person may decide and whether the deployment still waits.
//!
//! Nothing is decided here: a valid submission becomes a command, which the target's next pass judges again on the state at that
//! time. An invalid one is refused with a reason, which is also written to the target's journal, at most once an hour.
//!
//! | module | what it does |
//! |---|---|
//! | [`slack`] | verifies and reads Slack requests, and builds the reply |
//! | [`link_pages`] | the pages behind a signed link: the approval form, and the confirmation |

#[cfg(feature = "link_pages")]
pub mod link_pages;
pub mod slack;

use crate::command_service::{ApprovalLedger, authorize_request_key};
use crate::{CommandResponse, CommandService, MAX_REASON_CHARS, Refusal};
use engine::log_context;
use engine::ports::{Clock, WakeQueue};
use futures::future::try_join;
use rollout::command_checks;
use rollout::deployment::GateProgress;
use rollout::policy::AppliedTarget;
use rollout::promotion::{GateInput, plan_id, rules};
use rollout::text::{clip, visible_lines};
use rollout::{
    Actor, Command, CommandId, CommandRefusal, Deployment, Instruction, Name, PlanId, TargetId, TargetState, Timestamp,
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
    /// Name of the entry point: `slack`, `link`, `operations`.
    pub entry_point: &'static str,
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

/// Writes the decision as a command if the deployment waits for approval and the policy lets this person decide.
///
/// # Errors
/// [`Refusal`], with the reason for the person: an unknown target (not journalled); over or superseded, another plan, not an
/// approver, the requester, too late (journalled); already decided (journalled only for a link). Or a ledger that did not submission.
pub async fn submit_decision<L: ApprovalLedger, D: WakeQueue, K: Clock>(
    command_service: &CommandService<'_, L, D, K>,
    submission: &ApprovalSubmission<'_>,
) -> Result<ApprovalReceipt, Refusal> {
    let now = command_service.clock.now();
    log_context::set_target(submission.target);
    log_context::about(Some(submission.deployment), None);
    let (applied, state) = load_target(command_service, submission.target).await?;
    if let Some(running) = state.running.as_ref().filter(|running| running.number == submission.deployment) {
        log_context::about(None, Some(&running.release.id.digest));
    }
    match validate(command_service, &state, &applied, submission, now).await? {
        Ok(valid) => write_command(command_service, &state, submission, valid, now).await,
        Err(refusal) => {
            // Repeating a decision is harmless; a link used twice may have fallen into other hands.
            let repeated = matches!(refusal, CommandRefusal::AlreadyApproved { .. });
            if !repeated || matches!(submission.deduplication_key, DeduplicationKey::Link(_)) {
                let ApprovalSubmission { entry_point, target, decision, actor, .. } = submission;
                // Numbers of nonexistent deployments are unlimited: all of them share one journal entry.
                let number = Some(submission.deployment).filter(|number| *number <= state.last_deployment);
                let about = format!("{} {number:?}", refusal.code());
                command_service
                    .note_refusal_with_key(entry_point, target, decision.name(), actor, &refusal.to_string(), &about)
                    .await;
            }
            Err(Refusal::of_command(submission.target, &refusal))
        }
    }
}

/// Error code of an approval that was already given ([`CommandRefusal::AlreadyApproved`]).
pub(crate) const ALREADY_APPROVED: &str = "already_approved";

/// The policy and the state of a target that a policy names. Other targets' names are not revealed to the caller.
async fn load_target<L: ApprovalLedger, D: WakeQueue, K: Clock>(
    command_service: &CommandService<'_, L, D, K>,
    target: &TargetId,
) -> Result<(AppliedTarget, TargetState), Refusal> {
    let policy = async { command_service.ledger.policy(&target.application).await.map_err(Refusal::from) };
    let (applied, state) = try_join(policy, command_service.state(target)).await?;
    let applied = applied.and_then(|applied| applied.policy.applied(target, applied.version));
    let unknown = || Refusal::new(404, "unknown_target", format!("no applied policy names the target {target}"));
    Ok((applied.ok_or_else(unknown)?, state))
}

/// What validation found: the person's name in the policy, the number of approvals required and of those given with this one, the
/// release's tag, and when approval was requested.
struct ValidatedDecision {
    person: Name,
    required: u8,
    tag: String,
    approvals: usize,
    requested_at: Option<Timestamp>,
}

/// Validates the submission; the inner error is shown to the person and journalled.
async fn validate<L: ApprovalLedger, D: WakeQueue, K: Clock>(
    command_service: &CommandService<'_, L, D, K>,
    state: &TargetState,
    applied: &AppliedTarget,
    submission: &ApprovalSubmission<'_>,
    now: Timestamp,
) -> Result<Result<ValidatedDecision, CommandRefusal>, Refusal> {
    let number = submission.deployment;
    let running = match command_checks::gated_deployment(state, number) {
        Ok(running) => running,
        Err(CommandRefusal::Over { .. } | CommandRefusal::Followed { .. }) => {
            let history = command_service.ledger.history(submission.target, MAX_HISTORY).await?;
            let record = history.into_iter().find(|record| record.number == number);
            let ended = record.and_then(|record| Some((record.release.tag, record.verdict?, record.reason)));
            return Ok(Err(CommandRefusal::Over { deployment: number, ended }));
        }
        Err(refusal) => return Ok(Err(refusal)),
    };
    let Some(gate_input) = GateInput::of(state, running, applied, None, now) else {
        return Ok(Err(CommandRefusal::PastItsGates { deployment: number, stage: running.stage() }));
    };
    Ok(check_rules(state, running, &gate_input, submission))
}

/// The rules of `decide`, on the policy that the target's next pass adopts.
fn check_rules(
    state: &TargetState,
    running: &Deployment,
    gate_input: &GateInput<'_>,
    submission: &ApprovalSubmission<'_>,
) -> Result<ValidatedDecision, CommandRefusal> {
    let current = current_plan_id(state, running, gate_input);
    // Approval of a plan that the policy has changed meanwhile would be void: the next pass requests it again.
    let plan = if &gate_input.gates.plan == submission.plan { current } else { gate_input.gates.plan.clone() };
    let gates = GateProgress { plan, ..gate_input.gates.clone() };
    let gate_input = GateInput { gates: &gates, ..*gate_input };
    let approves = submission.decision == ApprovalDecision::Approve;
    let (person, required) =
        rules::validate_approval_decision(&gate_input, submission.plan, submission.actor, approves)?;
    if gate_input.now >= running.phase.deadline() {
        return Err(CommandRefusal::ApprovalExpired { after: gate_input.applied.entry.rules.give_up_after });
    }
    let approvals = rules::valid_votes(&gate_input).len() + usize::from(approves);
    let tag = running.release.tag.clone();
    Ok(ValidatedDecision { person, required, tag, approvals, requested_at: gate_input.gates.requested_at })
}

/// The plan under the current policy: the target's next pass adopts that policy, and requests approval again if the plan differs.
fn current_plan_id(state: &TargetState, running: &Deployment, gate_input: &GateInput<'_>) -> PlanId {
    let replaces = state.stable.as_ref().and_then(|stable| stable.release.as_ref()).map(|release| &release.id.digest);
    plan_id(gate_input.target, gate_input.release, gate_input.options, &running.overrides, gate_input.applied, replaces)
}

async fn write_command<L: ApprovalLedger, D: WakeQueue, K: Clock>(
    command_service: &CommandService<'_, L, D, K>,
    state: &TargetState,
    submission: &ApprovalSubmission<'_>,
    valid: ValidatedDecision,
    now: Timestamp,
) -> Result<ApprovalReceipt, Refusal> {
    let ApprovalSubmission { target, deployment, plan, decision, actor, reason, deduplication_key, .. } = *submission;
    let instruction = match decision {
        ApprovalDecision::Approve => Instruction::Approve { deployment, plan: plan.clone() },
        ApprovalDecision::Reject => Instruction::Reject { deployment, plan: plan.clone() },
    };
    let id = match deduplication_key {
        // The key includes the decision: a rejection with the key of an earlier approval is not a repetition of it.
        DeduplicationKey::Key(Some(key)) => format!("{}:{}", decision.name(), authorize_request_key(key, actor)?),
        DeduplicationKey::Key(None) => format!("asked:{}", command_service.clock.unique_id().0),
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
        command_service.note_refusal(submission.entry_point, target, decision.name(), actor, message).await;
        return Err(Refusal::conflict("link_used", message));
    }
    let ValidatedDecision { person, required, tag, approvals, .. } = valid;
    Ok(ApprovalReceipt { person, decision, tag, approvals, required, command })
}

/// Free text from a person as a command keeps it: plain text, cut to [`MAX_REASON_CHARS`].
#[must_use]
pub fn clean_reason(words: &str) -> String {
    visible_lines(clip(words.trim(), MAX_REASON_CHARS)).trim_end().to_owned()
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
