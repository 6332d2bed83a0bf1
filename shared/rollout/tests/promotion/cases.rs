//! Questions to the gates of a target: may the release begin here now, and if not, why?

use super::{GateCase, at, digest, name, person};
use rollout::brake::Scope;
use rollout::deployment::GateOverride;
use rollout::entry::{After, ApprovalDefault, FreezePeriod, Gate};
use rollout::promotion::RelatedTarget;
use rollout::target::OperatorHold;
use rollout::{Lane, Reading, TargetId, Train};
use std::collections::{BTreeMap, BTreeSet};

/// A label, what is asked, and what the gates that are not open say.
type Case = (&'static str, GateCase, &'static str);

/// Every case, gate by gate.
pub(crate) fn all_cases() -> Vec<Case> {
    [order(), soak(), brakes(), approvals(), trains(), skipped_gates()].into_iter().flatten().collect()
}

fn all(names: &[&str]) -> After {
    After::All(names.iter().map(|text| name(text)).collect())
}

fn any(names: &[&str]) -> After {
    After::Any(names.iter().map(|text| name(text)).collect())
}

fn shop() -> Scope {
    Scope::Application { application: name("shop") }
}

fn environment(environment: &str) -> Scope {
    Scope::Environment { application: name("shop"), environment: name(environment) }
}

/// `after`: where the release must be verified before.
fn order() -> Vec<Case> {
    vec![
        ("no rule, nothing against it", GateCase::new(), ""),
        (
            "verified where it has to be",
            GateCase::new().after(all(&["staging"])).upstream("staging", Some("2026-11-20T09:00:00Z")),
            "",
        ),
        (
            "not verified there",
            GateCase::new().after(all(&["staging"])).upstream("staging", None),
            "after never, Failed: it is not verified in staging: deploy it there first, until its bake is over",
        ),
        (
            "what could not be read is no yes and no no",
            GateCase::new().after(all(&["staging"])),
            "after waits: what staging has verified was not read yet",
        ),
        (
            "all of two, one lacks",
            GateCase::new()
                .after(all(&["dev", "qa"]))
                .upstream("dev", Some("2026-11-20T09:00:00Z"))
                .upstream("qa", None),
            "after never, Failed: it is not verified in qa: deploy it there first, until its bake is over",
        ),
        (
            "one of two is enough",
            GateCase::new()
                .after(any(&["dev", "qa"]))
                .upstream("dev", None)
                .upstream("qa", Some("2026-11-20T09:00:00Z")),
            "",
        ),
        (
            "one of two, neither",
            GateCase::new().after(any(&["dev", "qa"])).upstream("dev", None).upstream("qa", None),
            "after never, Failed: it is verified in none of dev, qa: deploy it in one of them first, until its bake is over",
        ),
    ]
}

/// `soak`: for how long.
fn soak() -> Vec<Case> {
    vec![
        (
            "verified, and not for long enough",
            GateCase::new().after(all(&["staging"])).soak(3600).upstream("staging", Some("2026-11-20T11:30:00Z")),
            "soak waits: verified for less than 1h (until 2026-11-20T12:30:00Z)",
        ),
        (
            "the soak's last second is over",
            GateCase::new().after(all(&["staging"])).soak(1800).upstream("staging", Some("2026-11-20T11:30:00Z")),
            "",
        ),
        (
            "of all, the latest counts",
            GateCase::new()
                .after(all(&["dev", "qa"]))
                .soak(3600)
                .upstream("dev", Some("2026-11-20T09:00:00Z"))
                .upstream("qa", Some("2026-11-20T11:45:00Z")),
            "soak waits: verified for less than 1h (until 2026-11-20T12:45:00Z)",
        ),
        (
            "of one of several, the first counts",
            GateCase::new()
                .after(any(&["dev", "qa"]))
                .soak(3600)
                .upstream("dev", Some("2026-11-20T09:00:00Z"))
                .upstream("qa", Some("2026-11-20T11:45:00Z")),
            "",
        ),
    ]
}

/// Stops of the line and freezes, by hand and by the policy.
fn brakes() -> Vec<Case> {
    vec![
        (
            "the line is stopped",
            GateCase::new().brake(Scope::Everything, None),
            "stop_the_line waits: the line is stopped by slack:U0: an incident",
        ),
        (
            "the application is frozen, for a while",
            GateCase::new().brake(shop(), Some("2026-11-20T18:00:00Z")),
            "freeze waits: frozen by slack:U0: an incident (until 2026-11-20T18:00:00Z)",
        ),
        (
            "the environment is frozen",
            GateCase::new().brake(environment("prod"), None),
            "freeze waits: frozen by slack:U0: an incident",
        ),
        ("another environment is frozen", GateCase::new().brake(environment("dev"), None), ""),
        ("the freeze is over", GateCase::new().brake(shop(), Some("2026-11-20T12:00:00Z")), ""),
        (
            "brakes that cannot be read hold",
            GateCase::new().with(|case| case.gate_context().brakes = Reading::Unknown("throttled".to_owned())),
            "stop_the_line waits: freezes could not be read: throttled; freeze waits: freezes could not be read: throttled",
        ),
        (
            "a forward-only release left the target to a person",
            GateCase::new().with(|case| {
                let since = at("2026-11-19T00:00:00Z");
                case.operator_hold = Some(OperatorHold { since, deployment: 4, reason: "alarm 5xx fired".to_owned() });
            }),
            "freeze waits: the target awaits an operator since deployment #4: alarm 5xx fired",
        ),
        (
            "the policy's freeze",
            GateCase::new().with(|case| {
                case.rules().freezes = vec![FreezePeriod {
                    from: "2026-11-20T00:00".parse().expect("a time"),
                    until: "2026-11-21T00:00".parse().expect("a time"),
                    reason: "black friday".to_owned(),
                }];
            }),
            "freeze waits: the policy's freeze: black friday (until 2026-11-21T00:00:00Z)",
        ),
    ]
}

/// `approval`
fn approvals() -> Vec<Case> {
    vec![
        (
            "nobody has said anything yet",
            GateCase::new().approval(2),
            "approval waits: 0 of 2 approvals (until 2026-11-20T12:30:00Z)",
        ),
        (
            "one of two",
            GateCase::new().approval(2).vote("bob"),
            "approval waits: 1 of 2 approvals (until 2026-11-20T12:30:00Z)",
        ),
        ("two of two", GateCase::new().approval(2).vote("bob").vote("carol"), ""),
        (
            "whoever asked for it does not count, however the vote came in",
            GateCase::new().approval(2).vote("ada").vote("bob"),
            "approval waits: 1 of 2 approvals (until 2026-11-20T12:30:00Z)",
        ),
        (
            "who is not among them any more does not count",
            GateCase::new().approval(1).vote("dora"),
            "approval waits: 0 of 1 approvals (until 2026-11-20T12:30:00Z)",
        ),
        (
            "people are not asked before the release may come at all",
            GateCase::new().approval(1).with(|case| case.gates.requested_at = None),
            "approval waits: 0 of 1 approvals; nobody was asked yet",
        ),
        (
            "nobody answered, and that is a no",
            GateCase::new().approval(2).vote("bob").with(|case| case.now = at("2026-11-20T12:30:00Z")),
            "approval never, Expired: 1 of 2 approvals within 1h, and silence is taken for a no",
        ),
        (
            "nobody answered, and that is a yes",
            GateCase::new().approval(2).with(|case| {
                case.now = at("2026-11-20T12:30:00Z");
                if let Some(policy) = &mut case.rules().approval {
                    policy.default = ApprovalDefault::Approve;
                }
            }),
            "",
        ),
    ]
}

/// Members of a train that go first.
fn trains() -> Vec<Case> {
    vec![
        (
            "the services that it depends on go first",
            GateCase::new().with(|case| {
                case.applied.entry.depends_on = BTreeSet::from([name("users"), name("other")]);
                let members = [("api", 2), ("users", 7), ("web", 8)];
                let members = members.into_iter().map(|(service, of)| (name(service), digest(of))).collect();
                case.options.train =
                    Some(Box::new(Train { id: "t".to_owned(), members, rollback_together: true, ..Train::default() }));
            }),
            "train waits: its train brings users first",
        ),
        (
            "what it depends on is there already",
            GateCase::new().with(|case| {
                case.applied.entry.depends_on = BTreeSet::from([name("users")]);
                let members = BTreeMap::from([(name("users"), digest(7))]);
                case.options.train =
                    Some(Box::new(Train { id: "t".to_owned(), members, rollback_together: true, ..Train::default() }));
                let id = TargetId::parse("shop/users/prod").expect("a target");
                case.gate_context()
                    .related_targets
                    .insert(id, RelatedTarget { stable: Some(digest(7)), ..RelatedTarget::default() });
            }),
            "",
        ),
    ]
}

/// Gates that a hotfix skips, or that somebody opened by hand.
fn skipped_gates() -> Vec<Case> {
    vec![
        (
            "a hotfix is not asked at the gates that the policy names, and at the others it is",
            GateCase::new().after(all(&["staging"])).upstream("staging", None).approval(1).brake(shop(), None).with(
                |case| {
                    case.options.lane = Lane::Hotfix;
                    case.rules().hotfix_skips = BTreeSet::from([Gate::After, Gate::Soak, Gate::Approval]);
                },
            ),
            "freeze waits: frozen by slack:U0: an incident",
        ),
        (
            "what others ask is asked at all of them",
            GateCase::new().approval(1).with(|case| case.rules().hotfix_skips = BTreeSet::from([Gate::Approval])),
            "approval waits: 0 of 1 approvals (until 2026-11-20T12:30:00Z)",
        ),
        (
            "a gate that was opened by hand is open",
            GateCase::new().brake(shop(), None).with(|case| {
                let opened = GateOverride { actor: person("U1"), reason: "fixes it".to_owned(), at: case.now };
                case.gates.overridden.insert(Gate::Freeze, opened);
            }),
            "",
        ),
    ]
}
