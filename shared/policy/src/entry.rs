//! What a release must pass before its deployment may begin in an environment.

use crate::calendar::calendar;
use crate::names::{Kind, Known, Named, known_name, known_names};
use crate::people::People;
use crate::problem::Found;
use crate::target::SHORTEST_DEADLINE;
use crate::tree::Value;
use crate::walk::{self, At, Fields, Shape};
use rollout::entry::{After, ApprovalDefault, ApprovalPolicy, EntryRules, Gate};
use rollout::policy::Trigger;
use rollout::{Name, Seconds};
use std::collections::BTreeSet;

/// How many environments may come before one.
const MOST_BEFORE: usize = 20;
/// How many names an approval may have, and how many people these may mean: every target's state has them all.
const MOST_APPROVERS: usize = 50;
/// More than this nobody gathers.
const MOST_APPROVALS: u8 = 20;
/// How long approvers have where the file does not say.
const APPROVAL_EXPIRES: Seconds = Seconds(24 * 3600);

pub(crate) const AFTER: Shape = Shape { name: "AfterSome", keys: &["all", "any"], required: &[] };
pub(crate) const APPROVAL: Shape =
    Shape { name: "Approval", keys: &["required", "from", "expires", "default"], required: &["from"] };
pub(crate) const HOTFIX: Shape = Shape { name: "Hotfix", keys: &["skips"], required: &["skips"] };
pub(crate) const TRAINS: Shape = Shape { name: "Trains", keys: &["rollback"], required: &["rollback"] };

/// What silence is taken for, in the file's words.
pub(crate) const DEFAULT_ANSWERS: [(&str, ApprovalDefault); 2] =
    [("reject", ApprovalDefault::Reject), ("approve", ApprovalDefault::Approve)];

/// The gates that a hotfix may pass by; not the train's, which keeps services of one set in order.
const SKIPPABLE: [(&str, Gate); 6] = [
    ("after", Gate::After),
    ("soak", Gate::Soak),
    ("approval", Gate::Approval),
    ("window", Gate::Window),
    ("freeze", Gate::Freeze),
    ("stop_the_line", Gate::StopTheLine),
];

/// The environments before one, and where the file names them.
#[derive(Debug, Clone)]
pub(crate) struct Before {
    /// One of them is enough.
    pub(crate) any: bool,
    pub(crate) names: Vec<Named>,
}

/// Reads what an environment asks of a release. What `after` says is handed back too, for [`order`](crate::order).
pub(crate) fn entry_rules(
    environment: &Fields<'_>,
    own: &Name,
    known: Known<'_>,
    people: &People,
    found: &mut Found,
) -> (Option<EntryRules>, Option<Before>) {
    let count = found.count();
    let before = environment.read("after", found, |at, path, found| after(at, path, own, known, found));
    let mut duration = |key: &str, least: Seconds| {
        environment.read(key, found, |at, path, found| walk::duration(at, path, least, found))
    };
    let soak = duration("soak", Seconds(0));
    let give_up_after = duration("give_up_after", SHORTEST_DEADLINE).unwrap_or(EntryRules::GIVE_UP_AFTER);
    if let (Some((at, path)), None) = (environment.get("soak"), environment.get("after")) {
        let message = "`soak` counts from when the environments in `after` have verified a release: add `after`, or take `soak` away";
        found.add(at.mark, &path, message);
    }
    let soak = soak.unwrap_or_default();
    let approval = environment.read("approval", found, |at, path, found| approval(at, path, people, found));
    check_time(environment, soak, approval.as_ref(), give_up_after, found);
    let calendar = calendar(environment, found);
    let hotfix_skips = environment.read("hotfix", found, hotfix);
    let together = environment.read("trains", found, |at, path, found| {
        let fields = Fields::new(at, path, &TRAINS, found)?;
        fields.read("rollback", found, |at, path, found| {
            walk::choice(at, path, &[("alone", false), ("together", true)], found)
        })
    });
    let after = before.as_ref().map(|before| {
        let names = before.names.iter().cloned().map(Named::into_name).collect();
        if before.any { After::Any(names) } else { After::All(names) }
    });
    let Some(calendar) = calendar.filter(|_| found.count() == count) else { return (None, before) };
    let rules = EntryRules {
        after,
        soak,
        approval,
        time_zone: calendar.time_zone,
        windows: calendar.windows,
        freezes: calendar.freezes,
        hotfix_skips: hotfix_skips.unwrap_or_default(),
        train_goes_back_together: together.unwrap_or_default(),
        give_up_after,
    };
    (Some(rules), before)
}

/// What starts a deployment, and whether that fits the order of environments.
pub(crate) fn trigger(environment: &Fields<'_>, found: &mut Found) -> Option<Trigger> {
    let Some((at, path)) = environment.get("trigger") else { return Some(Trigger::Manual) };
    let choices = [("push", Trigger::Push), ("manual", Trigger::Manual), ("promotion", Trigger::Promotion)];
    let trigger = walk::choice(at, &path, &choices, found)?;
    let message = match (trigger, environment.get("after").is_some()) {
        (Trigger::Push, true) => {
            "`push` brings every new release at once, and `after` lets in what other environments have verified: write \
             `promotion` (by itself) or `manual` (when it is asked for), or take `after` away"
        }
        (Trigger::Promotion, false) => "`promotion` brings what the environments in `after` have verified: add `after`",
        _ => return Some(trigger),
    };
    found.add(at.mark, &path, message);
    None
}

fn after(at: At<'_>, path: &str, own: &Name, known: Known<'_>, found: &mut Found) -> Option<Before> {
    const OTHERWISE: &str = "name environments, or take the key away to let in every release";
    let kind = known.environments();
    let before = match &at.node.value {
        Value::Broken => return None,
        Value::Scalar { .. } => Before { any: false, names: vec![known_name(at, path, kind, found)?] },
        Value::List(_) => Before { any: false, names: known_names(at, path, kind, MOST_BEFORE, OTHERWISE, found)? },
        Value::Map(_) => {
            let fields = Fields::new(at, path, &AFTER, found)?;
            let (all, any) = (fields.get("all"), fields.get("any"));
            let (any, (at, path)) = match (all, any) {
                (Some(all), None) => (false, all),
                (None, Some(any)) => (true, any),
                (all, _) => {
                    let found_so = if all.is_some() { "both" } else { "neither" };
                    found.add(at.mark, path, format!("there is {found_so}: write exactly one of `all` and `any`"));
                    return None;
                }
            };
            Before { any, names: known_names(at, &path, kind, MOST_BEFORE, OTHERWISE, found)? }
        }
    };
    for Named { name, mark, path } in &before.names {
        if name == own {
            found.add(*mark, path, format!("`{name}` cannot come after itself: take it away"));
        }
    }
    Some(before)
}

fn approval(at: At<'_>, path: &str, people: &People, found: &mut Found) -> Option<ApprovalPolicy> {
    let fields = Fields::new(at, path, &APPROVAL, found)?;
    let required = match fields.get("required") {
        Some((at, path)) => walk::count(at, &path, "how many people have to say yes", 1..=MOST_APPROVALS, found),
        None => Some(1),
    };
    let from = fields.read("from", found, |at, path, found| {
        let otherwise = "name people or groups, or take `approval` away";
        known_names(at, path, people.kind(), MOST_APPROVERS, otherwise, found)
    });
    let expires = match fields.get("expires") {
        Some((at, path)) => walk::duration(at, &path, SHORTEST_DEADLINE, found),
        None => Some(APPROVAL_EXPIRES),
    };
    let default = match fields.get("default") {
        Some((at, path)) => walk::choice(at, &path, &DEFAULT_ANSWERS, found),
        None => Some(ApprovalDefault::default()),
    };
    let from: Vec<Name> = from?.into_iter().map(Named::into_name).collect();
    if let Some(approvers) = people.resolved(from.iter()) {
        if approvers.len() > MOST_APPROVERS {
            let message = format!("there are {} people in `from`, at most {MOST_APPROVERS} are asked", approvers.len());
            found.add(at.mark, path, message);
        }
        for (name, person) in &approvers {
            people.check_door(name, person, found);
        }
        if let Some(required) = required.filter(|required| usize::from(*required) > approvers.len()) {
            let are = if approvers.len() == 1 { "is 1 person" } else { &format!("are {} people", approvers.len()) };
            let message = format!(
                "{required} have to say yes, and there {are} in `from`: name more, or require less (whoever asks for a \
                 deployment does not approve it)"
            );
            found.add(at.mark, path, message);
        }
    }
    Some(ApprovalPolicy { required: required?, from, expires: expires?, default: default? })
}

/// A wait that always ends by being given up is a slip.
fn check_time(
    environment: &Fields<'_>,
    soak: Seconds,
    approval: Option<&ApprovalPolicy>,
    give_up_after: Seconds,
    found: &mut Found,
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
    found.add(at.mark, &path, message);
}

fn hotfix(at: At<'_>, path: &str, found: &mut Found) -> Option<BTreeSet<Gate>> {
    let fields = Fields::new(at, path, &HOTFIX, found)?;
    fields.read("skips", found, |at, path, found| {
        let nodes = walk::list(at, path, "gates", SKIPPABLE.len(), found)?;
        if nodes.is_empty() {
            let message = "the list is empty: name the gates that a hotfix is not asked at, or take `hotfix` away";
            found.add(at.mark, path, message);
            return None;
        }
        let mut skips = BTreeSet::new();
        for (at, path) in nodes {
            if matches!(&at.node.value, Value::Scalar { text, .. } if text == Gate::Train.name()) {
                let message =
                    "no hotfix passes by `train`: it keeps the services of one train in their order; take it away";
                found.add(at.mark, &path, message);
                continue;
            }
            let Some(gate) = walk::choice(at, &path, &SKIPPABLE, found) else { continue };
            if !skips.insert(gate) {
                found.add(at.mark, &path, format!("`{gate}` is there already: take one away"));
            }
        }
        Some(skips)
    })
}

/// Reads the services that one depends on.
pub(crate) fn depends_on(
    at: At<'_>,
    path: &str,
    own: &Name,
    known: Option<&[Name]>,
    most: usize,
    found: &mut Found,
) -> Option<Vec<Named>> {
    let otherwise = "name services, or take the key away";
    let names = known_names(at, path, Kind::services(known), most, otherwise, found)?;
    for Named { name, mark, path } in &names {
        if name == own {
            found.add(*mark, path, format!("`{name}` cannot depend on itself: take it away"));
        }
    }
    Some(names)
}
