//! Requirements that a release must meet before its deployment may begin in an environment.

use crate::calendar::read_calendar;
use crate::file;
use crate::names::{KnownNames, LocatedName, NameKind, read_known_name, read_known_names};
use crate::people::People;
use crate::problem::ProblemCollector;
use crate::tree::Value;
use crate::values::{self, Fields, LocatedNode, MIN_DEADLINE};
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

/// What starts a deployment, in the file's notation.
pub(crate) const TRIGGERS: [(&str, Trigger); 3] =
    [("push", Trigger::Push), ("manual", Trigger::Manual), ("promotion", Trigger::Promotion)];

/// Whether a release train rolls back together, in the file's notation.
pub(crate) const TRAIN_ROLLBACKS: [(&str, bool); 2] = [("alone", false), ("together", true)];

/// What an expired approval counts as, in the file's notation.
pub(crate) const DEFAULT_ANSWERS: [(&str, ApprovalDefault); 2] =
    [("reject", ApprovalDefault::Reject), ("approve", ApprovalDefault::Approve)];

/// Gates that a hotfix may skip; the release train's order is not among them, since it keeps the services of a set in order.
const SKIPPABLE_GATES: [(&str, Gate); 7] = [
    ("after", Gate::After),
    ("soak", Gate::Soak),
    ("approval", Gate::Approval),
    ("window", Gate::Window),
    ("freeze", Gate::Freeze),
    ("stop_the_line", Gate::StopTheLine),
    ("one_at_a_time", Gate::OneAtATime),
];

/// The parsed `after` of an environment: the environments that must have verified a release before it.
#[derive(Debug, Clone)]
pub(crate) struct Upstream {
    /// `true` for `after: {any: …}`: one verified environment is enough. `false`: all of `names` are required.
    pub(crate) any: bool,
    /// The environments, each with its location in the file.
    pub(crate) names: Vec<LocatedName>,
}

/// Reads an environment's requirements. The contents of `after` are also returned separately, for [`order`](crate::order).
pub(crate) fn read_entry_rules(
    environment: &Fields<'_>,
    own: &Name,
    known: KnownNames<'_>,
    people: &People,
    problems: &mut ProblemCollector,
) -> (Option<EntryRules>, Option<Upstream>) {
    let count = problems.count();
    let upstream =
        environment.read("after", problems, |node, path, problems| read_after(node, path, own, known, problems));
    let mut duration = |key: &str, min: Seconds| {
        environment.read(key, problems, |node, path, problems| values::duration(node, path, min, problems))
    };
    let soak = duration("soak", Seconds(0));
    let give_up_after = duration("give_up_after", MIN_DEADLINE).unwrap_or(EntryRules::GIVE_UP_AFTER);
    if let (Some((node, path)), None) = (environment.get("soak"), environment.get("after")) {
        let message = "`soak` counts from when the environments in `after` have verified a release: add `after`, or take `soak` away";
        problems.add(node.mark, &path, message);
    }
    let soak = soak.unwrap_or_default();
    let approval =
        environment.read("approval", problems, |node, path, problems| read_approval(node, path, people, problems));
    check_give_up_after(environment, soak, approval.as_ref(), give_up_after, problems);
    let calendar = read_calendar(environment, problems);
    let hotfix_skips = environment.read("hotfix", problems, read_hotfix);
    let together = environment.read("trains", problems, |node, path, problems| {
        let fields = Fields::new(node, path, file::Trains::KEYS, problems)?;
        fields.read("rollback", problems, |node, path, problems| values::choice(node, path, &TRAIN_ROLLBACKS, problems))
    });
    let one_at_a_time = environment.read("one_at_a_time", problems, values::boolean);
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
        one_at_a_time: one_at_a_time.unwrap_or_default(),
        give_up_after,
    };
    (Some(rules), upstream)
}

/// Reads what starts a deployment, and checks it against `after`.
pub(crate) fn read_trigger(environment: &Fields<'_>, problems: &mut ProblemCollector) -> Option<Trigger> {
    let Some((node, path)) = environment.get("trigger") else { return Some(Trigger::Manual) };
    let trigger = values::choice(node, &path, &TRIGGERS, problems)?;
    let message = match (trigger, environment.get("after").is_some()) {
        (Trigger::Push, true) => {
            "`push` brings every new release at once, and `after` lets in what other environments have verified: write \
             `promotion` (by itself) or `manual` (when it is asked for), or take `after` away"
        }
        (Trigger::Promotion, false) => "`promotion` brings what the environments in `after` have verified: add `after`",
        _ => return Some(trigger),
    };
    problems.add(node.mark, &path, message);
    None
}

fn read_after(
    node: LocatedNode<'_>,
    path: &str,
    own: &Name,
    known: KnownNames<'_>,
    problems: &mut ProblemCollector,
) -> Option<Upstream> {
    const EMPTY_HINT: &str = "name environments, or take the key away to let in every release";
    let name_kind = known.environments();
    let upstream = match &node.inner.value {
        Value::Broken => return None,
        Value::Scalar { .. } => Upstream { any: false, names: vec![read_known_name(node, path, name_kind, problems)?] },
        Value::List(_) => Upstream {
            any: false,
            names: read_known_names(node, path, name_kind, MAX_UPSTREAM_ENVIRONMENTS, EMPTY_HINT, problems)?,
        },
        Value::Map(_) => {
            let fields = Fields::new(node, path, file::AfterSome::KEYS, problems)?;
            let (all, any) = (fields.get("all"), fields.get("any"));
            let (any, (node, path)) = match (all, any) {
                (Some(all), None) => (false, all),
                (None, Some(any)) => (true, any),
                (all, _) => {
                    let both_or_neither = if all.is_some() { "both" } else { "neither" };
                    problems.add(
                        node.mark,
                        path,
                        format!("there is {both_or_neither}: write exactly one of `all` and `any`"),
                    );
                    return None;
                }
            };
            let names = read_known_names(node, &path, name_kind, MAX_UPSTREAM_ENVIRONMENTS, EMPTY_HINT, problems)?;
            Upstream { any, names }
        }
    };
    for LocatedName { name, mark, path } in &upstream.names {
        if name == own {
            problems.add(*mark, path, format!("`{name}` cannot come after itself: take it away"));
        }
    }
    Some(upstream)
}

fn read_approval(
    node: LocatedNode<'_>,
    path: &str,
    people: &People,
    problems: &mut ProblemCollector,
) -> Option<ApprovalPolicy> {
    let fields = Fields::new(node, path, file::Approval::KEYS, problems)?;
    let required = fields.read_or("required", 1, problems, |node, path, problems| {
        values::count(node, path, "how many people have to say yes", 1..=MAX_APPROVALS, problems)
    });
    let from = fields.read("from", problems, |node, path, problems| {
        let empty_hint = "name people or groups, or take `approval` away";
        read_known_names(node, path, people.name_kind(), MAX_APPROVERS, empty_hint, problems)
    });
    let expires = fields.read_or("expires", DEFAULT_APPROVAL_EXPIRY, problems, |node, path, problems| {
        values::duration(node, path, MIN_DEADLINE, problems)
    });
    let default = fields.choice_or("default", &DEFAULT_ANSWERS, ApprovalDefault::default(), problems);
    let from: Vec<Name> = from?.into_iter().map(LocatedName::into_name).collect();
    if let Some(approvers) = people.resolve(from.iter()) {
        if approvers.len() > MAX_APPROVERS {
            let message = format!("there are {} people in `from`, at most {MAX_APPROVERS} are asked", approvers.len());
            problems.add(node.mark, path, message);
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
            problems.add(node.mark, path, message);
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
    let Some((node, path)) = key else { return };
    let waits = match (soak, expires) {
        (soak, Seconds(0)) => format!("`soak` takes {soak}"),
        (Seconds(0), expires) => format!("approvers have {expires}"),
        (soak, expires) => format!("`soak` takes {soak}, and approvers have {expires} after that"),
    };
    let message = format!(
        "{waits}, but a deployment is given up after {give_up_after}: write a longer `give_up_after`, or make the others shorter"
    );
    problems.add(node.mark, &path, message);
}

fn read_hotfix(node: LocatedNode<'_>, path: &str, problems: &mut ProblemCollector) -> Option<BTreeSet<Gate>> {
    let fields = Fields::new(node, path, file::Hotfix::KEYS, problems)?;
    fields.read("skips", problems, |node, path, problems| {
        let nodes = values::list(node, path, "gates", SKIPPABLE_GATES.len(), problems)?;
        if nodes.is_empty() {
            let message = "the list is empty: name the gates that a hotfix is not asked at, or take `hotfix` away";
            problems.add(node.mark, path, message);
            return None;
        }
        let mut skips = BTreeSet::new();
        for (node, path) in nodes {
            if matches!(&node.inner.value, Value::Scalar { text, .. } if text == Gate::Train.name()) {
                let message =
                    "no hotfix passes by `train`: it keeps the services of one train in their order; take it away";
                problems.add(node.mark, &path, message);
                continue;
            }
            let Some(gate) = values::choice(node, &path, &SKIPPABLE_GATES, problems) else { continue };
            if !skips.insert(gate) {
                problems.add(node.mark, &path, format!("`{gate}` is there already: take one away"));
            }
        }
        Some(skips)
    })
}

/// Reads a service's dependencies.
pub(crate) fn read_depends_on(
    node: LocatedNode<'_>,
    path: &str,
    own: &Name,
    known: Option<&[Name]>,
    max: usize,
    problems: &mut ProblemCollector,
) -> Option<Vec<LocatedName>> {
    let empty_hint = "name services, or take the key away";
    let names = read_known_names(node, path, NameKind::services(known), max, empty_hint, problems)?;
    for LocatedName { name, mark, path } in &names {
        if name == own {
            problems.add(*mark, path, format!("`{name}` cannot depend on itself: take it away"));
        }
    }
    Some(names)
}
