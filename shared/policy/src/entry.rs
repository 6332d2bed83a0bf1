//! Requirements that a release must meet before its deployment may begin in an environment.

use crate::calendar::calendar;
use crate::names::{KnownNames, LocatedName, NameKind, known_name, known_names};
use crate::people::People;
use crate::problem::ProblemCollector;
use crate::target::MIN_DEADLINE;
use crate::tree::Value;
use crate::values::{self, Fields, LocatedNode, Shape};
use rollout::entry::{After, ApprovalDefault, ApprovalPolicy, EntryRules, Gate};
use rollout::policy::Trigger;
use rollout::{Name, Seconds};
use std::collections::BTreeSet;

/// Maximum number of environments in `after`.
const MAX_UPSTREAM_ENVIRONMENTS: usize = 20;
/// Maximum number of names in an approval, and of people that they resolve to: every target's state stores them all.
const MAX_APPROVERS: usize = 50;
/// Maximum of `required`: nobody gathers more approvals than this.
const MAX_APPROVALS: u8 = 20;
/// Time for approvers to decide, where the file sets none.
const DEFAULT_APPROVAL_EXPIRY: Seconds = Seconds(24 * 3600);

pub(crate) const AFTER: Shape = Shape { name: "AfterSome", keys: &["all", "any"], required: &[] };
pub(crate) const APPROVAL: Shape =
    Shape { name: "Approval", keys: &["required", "from", "expires", "default"], required: &["from"] };
pub(crate) const HOTFIX: Shape = Shape { name: "Hotfix", keys: &["skips"], required: &["skips"] };
pub(crate) const TRAINS: Shape = Shape { name: "Trains", keys: &["rollback"], required: &["rollback"] };

/// What an expired approval counts as, in the file's notation.
pub(crate) const DEFAULT_ANSWERS: [(&str, ApprovalDefault); 2] =
    [("reject", ApprovalDefault::Reject), ("approve", ApprovalDefault::Approve)];

/// Gates that a hotfix may skip; the release train's order is not among them, since it keeps the services of a set in order.
const SKIPPABLE_GATES: [(&str, Gate); 6] = [
    ("after", Gate::After),
    ("soak", Gate::Soak),
    ("approval", Gate::Approval),
    ("window", Gate::Window),
    ("freeze", Gate::Freeze),
    ("stop_the_line", Gate::StopTheLine),
];

/// The environments in `after`, and where the file names them.
#[derive(Debug, Clone)]
pub(crate) struct Upstream {
    /// Whether one of them is enough (`any`).
    pub(crate) any: bool,
    pub(crate) names: Vec<LocatedName>,
}

/// Reads an environment's requirements. The contents of `after` are also returned separately, for [`order`](crate::order).
pub(crate) fn entry_rules(
    environment: &Fields<'_>,
    own: &Name,
    known: KnownNames<'_>,
    people: &People,
    problems: &mut ProblemCollector,
) -> (Option<EntryRules>, Option<Upstream>) {
    let count = problems.count();
    let upstream = environment.read("after", problems, |at, path, problems| after(at, path, own, known, problems));
    let mut duration = |key: &str, min: Seconds| {
        environment.read(key, problems, |at, path, problems| values::duration(at, path, min, problems))
    };
    let soak = duration("soak", Seconds(0));
    let give_up_after = duration("give_up_after", MIN_DEADLINE).unwrap_or(EntryRules::GIVE_UP_AFTER);
    if let (Some((at, path)), None) = (environment.get("soak"), environment.get("after")) {
        let message = "`soak` counts from when the environments in `after` have verified a release: add `after`, or take `soak` away";
        problems.add(at.mark, &path, message);
    }
    let soak = soak.unwrap_or_default();
    let approval = environment.read("approval", problems, |at, path, problems| approval(at, path, people, problems));
    check_give_up_after(environment, soak, approval.as_ref(), give_up_after, problems);
    let calendar = calendar(environment, problems);
    let hotfix_skips = environment.read("hotfix", problems, hotfix);
    let together = environment.read("trains", problems, |at, path, problems| {
        let fields = Fields::new(at, path, &TRAINS, problems)?;
        fields.read("rollback", problems, |at, path, problems| {
            values::choice(at, path, &[("alone", false), ("together", true)], problems)
        })
    });
    let after = upstream.as_ref().map(|upstream| {
        let names = upstream.names.iter().cloned().map(LocatedName::into_name).collect();
        if upstream.any { After::Any(names) } else { After::All(names) }
    });
    let Some(calendar) = calendar.filter(|_| problems.count() == count) else { return (None, upstream) };
    let rules = EntryRules {
        after,
        soak,
        approval,
        time_zone: calendar.time_zone,
        windows: calendar.windows,
        freezes: calendar.freezes,
        hotfix_skips: hotfix_skips.unwrap_or_default(),
        rollback_train_together: together.unwrap_or_default(),
        give_up_after,
    };
    (Some(rules), upstream)
}

/// Reads what starts a deployment, and checks it against `after`.
pub(crate) fn trigger(environment: &Fields<'_>, problems: &mut ProblemCollector) -> Option<Trigger> {
    let Some((at, path)) = environment.get("trigger") else { return Some(Trigger::Manual) };
    let choices = [("push", Trigger::Push), ("manual", Trigger::Manual), ("promotion", Trigger::Promotion)];
    let trigger = values::choice(at, &path, &choices, problems)?;
    let message = match (trigger, environment.get("after").is_some()) {
        (Trigger::Push, true) => {
            "`push` brings every new release at once, and `after` lets in what other environments have verified: write \
             `promotion` (by itself) or `manual` (when it is asked for), or take `after` away"
        }
        (Trigger::Promotion, false) => "`promotion` brings what the environments in `after` have verified: add `after`",
        _ => return Some(trigger),
    };
    problems.add(at.mark, &path, message);
    None
}

fn after(
    at: LocatedNode<'_>,
    path: &str,
    own: &Name,
    known: KnownNames<'_>,
    problems: &mut ProblemCollector,
) -> Option<Upstream> {
    const EMPTY_HINT: &str = "name environments, or take the key away to let in every release";
    let name_kind = known.environments();
    let upstream = match &at.node.value {
        Value::Broken => return None,
        Value::Scalar { .. } => Upstream { any: false, names: vec![known_name(at, path, name_kind, problems)?] },
        Value::List(_) => Upstream {
            any: false,
            names: known_names(at, path, name_kind, MAX_UPSTREAM_ENVIRONMENTS, EMPTY_HINT, problems)?,
        },
        Value::Map(_) => {
            let fields = Fields::new(at, path, &AFTER, problems)?;
            let (all, any) = (fields.get("all"), fields.get("any"));
            let (any, (at, path)) = match (all, any) {
                (Some(all), None) => (false, all),
                (None, Some(any)) => (true, any),
                (all, _) => {
                    let both_or_neither = if all.is_some() { "both" } else { "neither" };
                    problems.add(
                        at.mark,
                        path,
                        format!("there is {both_or_neither}: write exactly one of `all` and `any`"),
                    );
                    return None;
                }
            };
            Upstream { any, names: known_names(at, &path, name_kind, MAX_UPSTREAM_ENVIRONMENTS, EMPTY_HINT, problems)? }
        }
    };
    for LocatedName { name, mark, path } in &upstream.names {
        if name == own {
            problems.add(*mark, path, format!("`{name}` cannot come after itself: take it away"));
        }
    }
    Some(upstream)
}

fn approval(
    at: LocatedNode<'_>,
    path: &str,
    people: &People,
    problems: &mut ProblemCollector,
) -> Option<ApprovalPolicy> {
    let fields = Fields::new(at, path, &APPROVAL, problems)?;
    let required = match fields.get("required") {
        Some((at, path)) => values::count(at, &path, "how many people have to say yes", 1..=MAX_APPROVALS, problems),
        None => Some(1),
    };
    let from = fields.read("from", problems, |at, path, problems| {
        let empty_hint = "name people or groups, or take `approval` away";
        known_names(at, path, people.name_kind(), MAX_APPROVERS, empty_hint, problems)
    });
    let expires = match fields.get("expires") {
        Some((at, path)) => values::duration(at, &path, MIN_DEADLINE, problems),
        None => Some(DEFAULT_APPROVAL_EXPIRY),
    };
    let default = match fields.get("default") {
        Some((at, path)) => values::choice(at, &path, &DEFAULT_ANSWERS, problems),
        None => Some(ApprovalDefault::default()),
    };
    let from: Vec<Name> = from?.into_iter().map(LocatedName::into_name).collect();
    if let Some(approvers) = people.resolve(from.iter()) {
        if approvers.len() > MAX_APPROVERS {
            let message = format!("there are {} people in `from`, at most {MAX_APPROVERS} are asked", approvers.len());
            problems.add(at.mark, path, message);
        }
        for (name, person) in &approvers {
            people.check_can_approve(name, person, problems);
        }
        if let Some(required) = required.filter(|required| usize::from(*required) > approvers.len()) {
            let are = if approvers.len() == 1 { "is 1 person" } else { &format!("are {} people", approvers.len()) };
            let message = format!(
                "{required} have to say yes, and there {are} in `from`: name more, or require less (whoever asks for a \
                 deployment does not approve it)"
            );
            problems.add(at.mark, path, message);
        }
    }
    Some(ApprovalPolicy { required: required?, from, expires: expires?, default: default? })
}

/// A wait that always ends by giving up is a mistake in the file.
fn check_give_up_after(
    environment: &Fields<'_>,
    soak: Seconds,
    approval: Option<&ApprovalPolicy>,
    give_up_after: Seconds,
    problems: &mut ProblemCollector,
) {
    let expires = approval.map_or(Seconds(0), |approval| approval.expires);
    if soak.0 + expires.0 <= give_up_after.0 {
        return;
    }
    let key = ["give_up_after", "approval", "soak"].into_iter().find_map(|key| environment.get(key));
    let Some((at, path)) = key else { return };
    let waits = match (soak, expires) {
        (soak, Seconds(0)) => format!("`soak` takes {soak}"),
        (Seconds(0), expires) => format!("approvers have {expires}"),
        (soak, expires) => format!("`soak` takes {soak}, and approvers have {expires} after that"),
    };
    let message = format!(
        "{waits}, but a deployment is given up after {give_up_after}: write a longer `give_up_after`, or make the others shorter"
    );
    problems.add(at.mark, &path, message);
}

fn hotfix(at: LocatedNode<'_>, path: &str, problems: &mut ProblemCollector) -> Option<BTreeSet<Gate>> {
    let fields = Fields::new(at, path, &HOTFIX, problems)?;
    fields.read("skips", problems, |at, path, problems| {
        let nodes = values::list(at, path, "gates", SKIPPABLE_GATES.len(), problems)?;
        if nodes.is_empty() {
            let message = "the list is empty: name the gates that a hotfix is not asked at, or take `hotfix` away";
            problems.add(at.mark, path, message);
            return None;
        }
        let mut skips = BTreeSet::new();
        for (at, path) in nodes {
            if matches!(&at.node.value, Value::Scalar { text, .. } if text == Gate::Train.name()) {
                let message =
                    "no hotfix passes by `train`: it keeps the services of one train in their order; take it away";
                problems.add(at.mark, &path, message);
                continue;
            }
            let Some(gate) = values::choice(at, &path, &SKIPPABLE_GATES, problems) else { continue };
            if !skips.insert(gate) {
                problems.add(at.mark, &path, format!("`{gate}` is there already: take one away"));
            }
        }
        Some(skips)
    })
}

/// Reads a service's dependencies.
pub(crate) fn depends_on(
    at: LocatedNode<'_>,
    path: &str,
    own: &Name,
    known: Option<&[Name]>,
    max: usize,
    problems: &mut ProblemCollector,
) -> Option<Vec<LocatedName>> {
    let empty_hint = "name services, or take the key away";
    let names = known_names(at, path, NameKind::services(known), max, empty_hint, problems)?;
    for LocatedName { name, mark, path } in &names {
        if name == own {
            problems.add(*mark, path, format!("`{name}` cannot depend on itself: take it away"));
        }
    }
    Some(names)
}
