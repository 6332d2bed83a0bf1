//! A yes or a no to a deployment that waits for approval, by whichever door it comes: Slack, a signed link, the command
//! line. The door has proven who says it; here it is checked whether they may, and whether it is still asked.
//!
//! Nothing is decided here: what may be said becomes a command, and the target's next pass judges it again, on what
//! stands then. What may not be said is told to the person with the reason, and to the target's journal, once an hour.
//!
//! | module | what it does |
//! |---|---|
//! | [`slack`] | whether a request is Slack's, what was pressed, and the answer to it |
//! | [`mail`] | the pages behind a signed link: one that asks, and one that has decided |

pub mod mail;
pub mod slack;

use crate::desk::{CommandAnswer, Desk, LONGEST_REASON, Refusal, own_key};
use crate::ports::{Clock, Ledger, WakeQueue};
use crate::story;
use futures::future::try_join;
use rollout::promotion::{Question, plan_id, rules, waiting};
use rollout::target::AppliedTarget;
use rollout::text::visible_lines;
use rollout::{
    Actor, Command, CommandId, DeploymentRecord, Instruction, Name, PlanId, TargetId, TargetState, Timestamp, Verdict,
};

/// How many deployments are looked through for how the one in question has ended.
const LOOKED_BACK: usize = 50;

/// Yes or no.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// It may begin.
    Yes,
    /// It may not.
    No,
}

impl Word {
    /// What is asked for by it, in a word, as the journal and the command line have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Yes => "approve",
            Self::No => "reject",
        }
    }
}

/// What makes two answers one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Once<'a> {
    /// The same word of the same person to the same asking: their identity at the door, `slack:U012AB3CD`.
    Asking(&'a str),
    /// Any word, as long as it is said by this link: its nonce.
    Link(&'a str),
    /// The asker's own key; none: every answer is one of its own.
    Key(Option<&'a str>),
}

/// Somebody's answer to a deployment that asks.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    /// Where.
    pub target: &'a TargetId,
    /// Which deployment.
    pub deployment: u64,
    /// What they have looked at.
    pub plan: &'a PlanId,
    /// What they say.
    pub word: Word,
    /// Who they are, as the door has proven it.
    pub actor: &'a Actor,
    /// Why, in their words; may be empty.
    pub reason: &'a str,
    /// The door, in a word: `slack`, `link`, `operations`.
    pub door: &'static str,
    /// What makes it the same answer when it comes again.
    pub once: Once<'a>,
}

/// An answer that was taken down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Who has said it, by the policy's name.
    pub person: Name,
    /// What they said.
    pub word: Word,
    /// Tag of the release that it is about.
    pub tag: String,
    /// How many have said yes by now, this one included.
    pub approvals: usize,
    /// How many are needed.
    pub required: u8,
    /// The command that it became.
    pub command: CommandAnswer,
}

impl Taken {
    /// What the person is told.
    #[must_use]
    pub fn sentence(&self) -> String {
        let Self { tag, approvals, required, .. } = self;
        let target = &self.command.target;
        let number = self.command.deployment.map(|number| format!(" #{number}")).unwrap_or_default();
        match self.word {
            Word::Yes => format!("You approved {target}{number} ({tag}): {approvals} of {required} approvals."),
            Word::No => format!("You rejected {target}{number} ({tag})."),
        }
    }
}

/// Takes an answer down, if it is asked for and may be given.
///
/// # Errors
/// [`Refusal`]: why not, for the person (unknown target, over or superseded, another plan, not an approver, the requester,
/// too late, said already), and the journal has it, too; or a ledger that did not answer.
pub async fn answer<L: Ledger, D: WakeQueue, K: Clock>(
    desk: &Desk<'_, L, D, K>,
    answer: &Answer<'_>,
) -> Result<Taken, Refusal> {
    let now = desk.clock.now();
    story::of_target(answer.target);
    story::about(Some(answer.deployment), None);
    let (applied, state) = read(desk, answer.target).await?;
    if let Some(running) = state.running.as_ref().filter(|running| running.number == answer.deployment) {
        story::about(None, Some(&running.release.id.digest));
    }
    match admit(desk, &state, &applied, answer, now).await? {
        Ok(admitted) => take(desk, &state, answer, admitted, now).await,
        Err(refusal) => {
            // Saying the same twice is no attempt at anything; a link that is used twice may be in other hands by now.
            if refusal.code != SAID_ALREADY || matches!(answer.once, Once::Link(_)) {
                let Answer { door, target, word, actor, .. } = answer;
                // Numbers of deployments that there are not are without end: those are all one.
                let number = Some(answer.deployment).filter(|number| *number <= state.last_deployment);
                let about = format!("{} {number:?}", refusal.code);
                desk.note_refusal_once(door, target, word.name(), actor, &refusal.message, &about).await;
            }
            Err(refusal)
        }
    }
}

/// The code of a yes that was said before.
pub(crate) const SAID_ALREADY: &str = "said_already";

/// The policy and the state of a target that a policy names. The caller is told of no other names.
async fn read<L: Ledger, D: WakeQueue, K: Clock>(
    desk: &Desk<'_, L, D, K>,
    target: &TargetId,
) -> Result<(AppliedTarget, TargetState), Refusal> {
    let policy = async { desk.ledger.policy(&target.application).await.map_err(Refusal::from) };
    let (applied, state) = try_join(policy, desk.state(target)).await?;
    let applied = applied.and_then(|applied| applied.policy.applied(target, applied.version));
    let unknown = || Refusal::new(404, "unknown_target", format!("no applied policy names the target {target}"));
    Ok((applied.ok_or_else(unknown)?, state))
}

/// Who answers, and what the answer amounts to.
struct Admitted {
    person: Name,
    required: u8,
    tag: String,
    approvals: usize,
    asked_at: Option<Timestamp>,
}

/// Whether the answer is one; the inner error is for the person and for the journal.
async fn admit<L: Ledger, D: WakeQueue, K: Clock>(
    desk: &Desk<'_, L, D, K>,
    state: &TargetState,
    applied: &AppliedTarget,
    answer: &Answer<'_>,
    now: Timestamp,
) -> Result<Result<Admitted, Refusal>, Refusal> {
    let number = answer.deployment;
    let question = match &state.running {
        Some(running) if running.number == number => waiting(state, applied, None, now),
        _ => None,
    };
    let Some(question) = question else {
        let ended = if number <= state.last_deployment {
            let history = desk.ledger.history(answer.target, LOOKED_BACK).await?;
            history.into_iter().find(|record| record.number == number)
        } else {
            None
        };
        return Ok(Err(over(state, number, ended.as_ref())));
    };
    Ok(judge(state, &question, answer))
}

/// Why nobody is asked about this deployment.
fn over(state: &TargetState, number: u64, ended: Option<&DeploymentRecord>) -> Refusal {
    let target = &state.target;
    match (&state.running, ended.and_then(|record| Some((record, record.verdict?)))) {
        (Some(running), _) if running.number == number => {
            let stage = view::journal::stage_words(running.stage.name()).to_lowercase();
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

/// The same rules that the decision has, each with a code of its own. What they know beyond these is said in their words.
fn judge(state: &TargetState, question: &Question<'_>, answer: &Answer<'_>) -> Result<Admitted, Refusal> {
    let (target, number) = (answer.target, answer.deployment);
    let Some(policy) = &question.applied.entry.rules.approval else {
        let message = format!("deployments to {} need no approval: nobody is asked", target.environment);
        return Err(Refusal::conflict("no_approval", message));
    };
    let approvers = &question.applied.entry.approvers;
    let known = approvers.iter().any(|(name, person)| person.is(name, answer.actor));
    let person = rules::approver(question, answer.actor).map_err(|reason| {
        let code = if known { "asked_for_it" } else { "not_an_approver" };
        Refusal::new(403, code, format!("{reason} (deployment #{number} of {target})"))
    })?;
    if &question.gates.plan != answer.plan || &present_plan(state, question) != answer.plan {
        let message = format!(
            "what deployment #{number} of {target} would do has changed since you were asked: look at it anew, as it \
             stands now"
        );
        return Err(Refusal::conflict("plan_changed", message));
    }
    let deadline = state.running.as_ref().map(|running| running.stage.deadline());
    let expires = question.gates.asked_at.map(|asked_at| policy.expires.after(asked_at));
    if [deadline, expires].into_iter().flatten().any(|end| question.now >= end) {
        let message = format!("the time to answer deployment #{number} of {target} is over");
        return Err(Refusal::conflict("expired", message));
    }
    if answer.word == Word::Yes && rules::has_said_yes(question, person) {
        let message = format!("{person} has approved deployment #{number} of {target} already: it counts once");
        return Err(Refusal::conflict(SAID_ALREADY, message));
    }
    let (person, required) = rules::answerable(question, answer.plan, answer.actor, answer.word == Word::Yes)
        .map_err(|reason| Refusal::conflict("not_now", format!("{reason} (deployment #{number} of {target})")))?;
    let said = rules::counted(question).len();
    let approvals = said + usize::from(answer.word == Word::Yes);
    let tag = state.running.as_ref().map(|running| running.release.tag.clone()).unwrap_or_default();
    Ok(Admitted { person, required, tag, approvals, asked_at: question.gates.asked_at })
}

/// The plan by the policy as it stands: the target's next pass takes that over, and asks anew if it is another one.
fn present_plan(state: &TargetState, question: &Question<'_>) -> PlanId {
    let replaces = state.stable.as_ref().and_then(|stable| stable.release.as_ref()).map(|release| &release.id.digest);
    let overrides = state.running.as_ref().map(|running| running.overrides.clone()).unwrap_or_default();
    plan_id(question.target, question.release, question.terms, &overrides, question.applied, replaces)
}

async fn take<L: Ledger, D: WakeQueue, K: Clock>(
    desk: &Desk<'_, L, D, K>,
    state: &TargetState,
    answer: &Answer<'_>,
    admitted: Admitted,
    now: Timestamp,
) -> Result<Taken, Refusal> {
    let Answer { target, deployment, plan, word, actor, reason, once, .. } = *answer;
    let instruction = match word {
        Word::Yes => Instruction::Approve { deployment, plan: plan.clone() },
        Word::No => Instruction::Reject { deployment, plan: plan.clone() },
    };
    let id = match once {
        // The word belongs to it: a no with the key of a former yes is no repetition of that.
        Once::Key(Some(key)) => format!("{}:{}", word.name(), own_key(key, actor)?),
        Once::Key(None) => format!("asked:{}", desk.clock.lease_id().0),
        Once::Link(nonce) => format!("link:{nonce}"),
        // When people were asked belongs to it: a plan that comes back is asked anew, and answered anew.
        Once::Asking(identity) => {
            let asked_at = admitted.asked_at.map_or(0, Timestamp::as_second);
            let (door, user) = identity.split_once(':').unwrap_or(("", identity));
            let said = if word == Word::Yes { "yes" } else { "no" };
            format!("{door}:{target}#{deployment}:{}:{asked_at}:{user}:{said}", plan.0)
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
    let command = desk.hand_in(state, command, None).await?;
    if let (Once::Link(_), false) = (once, command.new) {
        let message = "this link has been used already: what was said with it first is what counts";
        desk.note_refusal(answer.door, target, word.name(), actor, message).await;
        return Err(Refusal::conflict("link_used", message));
    }
    let Admitted { person, required, tag, approvals, .. } = admitted;
    Ok(Taken { person, word, tag, approvals, required, command })
}

/// Words that a person wrote, as a command keeps them: plain text, cut to [`LONGEST_REASON`].
#[must_use]
pub fn kept(words: &str) -> String {
    visible_lines(words.trim()).chars().take(LONGEST_REASON).collect::<String>().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_person_wrote_is_kept_as_plain_text() {
        assert_eq!(kept("  looks good\r\nto me\u{7} \n"), "looks good \nto me\u{fffd}");
        assert_eq!(kept(&"ä".repeat(600)).chars().count(), LONGEST_REASON);
        assert_eq!(kept(" \n\t"), "");
        assert_eq!(kept("v1\u{202e}2v\u{2028}"), "v1\u{fffd}2v", "nothing that turns what follows");
    }
}
