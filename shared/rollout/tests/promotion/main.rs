//! Gates: may a release be deployed here now, who may approve it, and what its approval covers.

mod cases;
mod clock;

use rollout::brake::{Brake, Scope};
use rollout::command::Vote;
use rollout::deployment::GateProgress;
use rollout::entry::{After, ApprovalDefault, ApprovalPolicy, EntryRules, Person, TargetEntryRules};
use rollout::policy::{Deadlines, Drift, Strategy};
use rollout::promotion::{GateContext, GateInput, GateResult, RelatedTarget, evaluate_gates, plan_id, rules};
use rollout::release::ReleaseRef;
use rollout::target::{OperatorHold, Verified};
use rollout::{
    Actor, AppliedTarget, CommandRefusal, Concurrency, DeployOptions, EcsPair, ImageDigest, Leg, Name, Overrides,
    Percent, PlanId, Platform, Reading, ReleaseId, Seconds, TargetId, TargetPolicy, TargetResources, Timestamp,
};
use std::collections::{BTreeMap, BTreeSet};

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

fn at(text: &str) -> Timestamp {
    text.parse().expect("a timestamp")
}

fn digest(of: u8) -> ImageDigest {
    ImageDigest::new(format!("sha256:{of:064x}")).expect("a digest")
}

fn release() -> ReleaseId {
    ReleaseId { application: name("shop"), service: name("api"), digest: digest(2) }
}

fn prod() -> TargetId {
    TargetId::parse("shop/api/prod").expect("a target")
}

fn person(slack: &str) -> Actor {
    Actor::Person { name: format!("slack:{slack}") }
}

fn policy() -> TargetPolicy {
    let seconds = Seconds(60);
    TargetPolicy {
        template: rollout::template::TemplateSource::Live,
        configuration: rollout::template::ConfigurationTrigger::Manual,
        resources: TargetResources {
            platform: Platform::EcsPair(EcsPair {
                cluster: "c".to_owned(),
                container: "api".to_owned(),
                blue: "blue".to_owned(),
                green: "green".to_owned(),
            }),
            traffic: vec![Leg {
                blue: "blue".to_owned(),
                green: "green".to_owned(),
                rules: vec!["rule".to_owned()],
                test_rule: None,
            }],
        },
        strategy: Strategy {
            steps: vec![rollout::policy::Step { traffic: Percent::ALL, hold: seconds }],
            bake: seconds,
            keep_warm: seconds,
            green_capacity: Percent::ALL,
            drain: seconds,
            task_failures: rollout::policy::TaskFailures::default(),
        },
        alarms: vec![],
        hooks: vec![],
        deadlines: Deadlines {
            preflight: seconds,
            register: seconds,
            healthy: seconds,
            shift: seconds,
            retire: seconds,
            rollback: seconds,
        },
        drift: Drift::Tell,
        recovery_time: None,
    }
}

/// What the gates are asked; by default all of them are open.
struct GateCase {
    options: DeployOptions,
    requester: Actor,
    applied: AppliedTarget,
    gates: GateProgress,
    operator_hold: Option<OperatorHold>,
    gate_context: Option<GateContext>,
    now: Timestamp,
}

impl GateCase {
    fn new() -> Self {
        Self {
            options: DeployOptions::default(),
            requester: Actor::Workflow { name: "github:shop@1".to_owned(), actor_id: Some("77".to_owned()) },
            applied: AppliedTarget {
                version: 1,
                concurrency: Concurrency::default(),
                policy: policy(),
                entry: TargetEntryRules::default(),
            },
            gates: GateProgress {
                plan: PlanId("p".to_owned()),
                requested_at: None,
                approved_with: None,
                votes: vec![],
                skipped: BTreeSet::new(),
                overridden: BTreeMap::new(),
                journalled: BTreeMap::new(),
                waits_for_lock: false,
            },
            operator_hold: None,
            gate_context: Some(GateContext::empty()),
            now: at("2026-11-20T12:00:00Z"),
        }
    }

    fn rules(&mut self) -> &mut EntryRules {
        &mut self.applied.entry.rules
    }

    fn gate_context(&mut self) -> &mut GateContext {
        self.gate_context.get_or_insert_with(GateContext::empty)
    }

    fn after(mut self, after: After) -> Self {
        self.rules().after = Some(after);
        self
    }

    /// `environment` was read; it has verified the release at these times, if at all.
    fn upstream(mut self, environment: &str, verified: Option<&str>) -> Self {
        let verified = verified.map(|since| Verified {
            release: ReleaseRef { id: release(), image: "i".to_owned(), tag: "v2".to_owned(), pushed_at: None },
            deployment: 1,
            at: at(since),
            forward_only: false,
        });
        let id = TargetId { environment: name(environment), ..prod() };
        self.gate_context()
            .related_targets
            .insert(id, RelatedTarget { verified: verified.into_iter().collect(), ..RelatedTarget::default() });
        self
    }

    fn soak(mut self, seconds: u64) -> Self {
        self.rules().soak = Seconds(seconds);
        self
    }

    fn brake(mut self, scope: Scope, until: Option<&str>) -> Self {
        let brake = Brake {
            scope,
            by: person("U0"),
            reason: "an incident".to_owned(),
            since: at("2026-11-20T11:00:00Z"),
            until: until.map(at),
        };
        if let Reading::Known(brakes) = &mut self.gate_context().brakes {
            brakes.push(brake);
        }
        self
    }

    /// Ada, Bob and Carol may approve; `required` of them have to.
    fn approval(mut self, required: u8) -> Self {
        self.rules().approval = Some(ApprovalPolicy {
            required,
            from: vec![name("ada"), name("bob"), name("carol")],
            expires: Seconds(3600),
            default: ApprovalDefault::Reject,
        });
        for (key, slack, github) in [("ada", "UADA", "77"), ("bob", "UBOB", "78"), ("carol", "UCAROL", "79")] {
            let known = Person { slack: Some(slack.to_owned()), github: Some(github.to_owned()), ..Person::default() };
            self.applied.entry.approvers.insert(name(key), known);
        }
        self.gates.requested_at = Some(at("2026-11-20T11:30:00Z"));
        self
    }

    fn vote(mut self, of: &str) -> Self {
        self.gates.votes.push(Vote {
            person: name(of),
            actor: person(&format!("U{}", of.to_uppercase())),
            at: self.now,
        });
        self
    }

    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    fn gate_input<'a>(&'a self, target: &'a TargetId, release: &'a ReleaseId) -> GateInput<'a> {
        GateInput {
            target,
            release,
            options: &self.options,
            requester: &self.requester,
            applied: &self.applied,
            gates: &self.gates,
            operator_hold: self.operator_hold.as_ref(),
            asleep: false,
            gate_context: self.gate_context.as_ref(),
            started_at: self.now,
            now: self.now,
        }
    }

    /// What the gates that are not open say, in one line.
    fn blockers(&self) -> String {
        let (target, release) = (prod(), release());
        let gate_results = evaluate_gates(&self.gate_input(&target, &release));
        let lines = gate_results.results.iter().filter_map(|(gate, result)| match result {
            GateResult::Open(_) => None,
            GateResult::Waits { reason, until: None } => Some(format!("{gate} waits: {reason}")),
            GateResult::Waits { reason, until: Some(until) } => Some(format!("{gate} waits: {reason} (until {until})")),
            GateResult::Never { reason, verdict } => Some(format!("{gate} never, {verdict:?}: {reason}")),
        });
        lines.collect::<Vec<_>>().join("; ")
    }
}

#[test]
fn each_case_is_blocked_by_exactly_its_gates() {
    for (label, case, expected) in cases::all_cases() {
        assert_eq!(case.blockers(), expected, "{label}");
    }
}

#[test]
fn only_eligible_approvers_can_decide() {
    let (target, release, plan) = (prod(), release(), PlanId("p".to_owned()));
    let case = GateCase::new().approval(2).vote("bob");
    let answer = |case: &GateCase, actor: &Actor, yes: bool| {
        rules::validate_approval_decision(&case.gate_input(&target, &release), &plan, actor, yes)
            .map(|(name, _)| name.to_string())
    };
    let not_an_approver = |actor: &Actor| Err(CommandRefusal::NotAnApprover { actor: actor.clone() });
    assert_eq!(answer(&case, &person("UCAROL"), true), Ok("carol".to_owned()));
    assert_eq!(answer(&case, &person("UBOB"), true), Err(CommandRefusal::AlreadyApproved { person: name("bob") }));
    assert_eq!(answer(&case, &person("UBOB"), false), Ok("bob".to_owned()), "minds may change to a no");
    let mallory = person("UMALLORY");
    assert_eq!(answer(&case, &mallory, true), not_an_approver(&mallory));
    let ada = Err(CommandRefusal::RequesterApproves { person: name("ada") });
    assert_eq!(answer(&case, &person("UADA"), true), ada, "her workflow asked, by her GitHub number");
    let spoofed = Actor::Person { name: "UCAROL".to_owned() };
    assert_eq!(answer(&case, &spoofed, true), not_an_approver(&spoofed), "an identity without its channel is nobody's");
    let mail = Actor::Person { name: "mail:carol".to_owned() };
    assert_eq!(answer(&case, &mail, true), not_an_approver(&mail), "carol has no mail in the policy");
    let gate_input = case.gate_input(&target, &release);
    let other = rules::validate_approval_decision(&gate_input, &PlanId("q".to_owned()), &person("UCAROL"), true);
    assert_eq!(other, Err(CommandRefusal::PlanChanged));
    let late = GateCase::new().approval(2).with(|case| case.now = at("2026-11-20T12:30:00Z"));
    assert_eq!(answer(&late, &person("UCAROL"), true), Err(CommandRefusal::ApprovalExpired { after: Seconds(3600) }));
    let open = GateCase::new();
    let not_needed = Err(CommandRefusal::NoApprovalNeeded { environment: name("prod") });
    assert_eq!(answer(&open, &person("UCAROL"), true), not_needed);
}

#[test]
fn an_approval_counts_only_while_its_account_is_the_approvers() {
    let (target, release, plan) = (prod(), release(), PlanId("p".to_owned()));
    let with_new_account = |case: &mut GateCase| {
        // Bob's account was taken over, and he has a new one.
        case.applied.entry.approvers.get_mut(&name("bob")).expect("bob").slack = Some("UBOBAGAIN".to_owned());
    };
    let case = GateCase::new().approval(2).vote("bob").with(with_new_account);
    let gate_input = case.gate_input(&target, &release);
    assert_eq!(rules::valid_votes(&gate_input), Vec::<&Vote>::new(), "who said it is nobody any more");
    assert!(rules::eligible_approvers(&gate_input).contains(&&name("bob")), "he is asked again");
    let again = rules::validate_approval_decision(&gate_input, &plan, &person("UBOBAGAIN"), true);
    assert_eq!(again.map(|(name, _)| name), Ok(name("bob")));
    assert!(
        rules::validate_approval_decision(&gate_input, &plan, &person("UBOB"), true).is_err(),
        "the former account says nothing"
    );
    // Two names change their owners: one person's two voices are one.
    let swapped = GateCase::new().approval(2).vote("bob").with(|case| {
        let approvers = &mut case.applied.entry.approvers;
        let (bob, carol) = (approvers[&name("bob")].clone(), approvers[&name("carol")].clone());
        approvers.insert(name("bob"), carol);
        approvers.insert(name("carol"), bob);
    });
    assert_eq!(rules::valid_votes(&swapped.gate_input(&target, &release)).len(), 0);
}

#[test]
fn the_plan_id_changes_with_anything_the_plan_does() {
    let (target, release) = (prod(), release());
    let applied = GateCase::new().applied;
    let (options, overrides) = (DeployOptions::default(), Overrides::default());
    let plan = plan_id(&target, &release, &options, &overrides, &applied, Some(&digest(1)));
    assert_eq!(plan.0.len(), 16);
    assert_eq!(
        plan,
        plan_id(&target, &release, &options, &overrides, &applied, Some(&digest(1))),
        "the same is the same"
    );

    let mut slower = applied.clone();
    slower.policy.strategy.bake = Seconds(61);
    let elsewhere = TargetId::parse("shop/api/staging").expect("a target");
    let newer = ReleaseId { digest: digest(3), ..release.clone() };
    let forward_only = DeployOptions { forward_only: true, ..DeployOptions::default() };
    let overriding_alarm = Overrides { firing_alarms: BTreeSet::from(["5xx".to_owned()]) };
    let others = [
        ("another policy", plan_id(&target, &release, &options, &overrides, &slower, Some(&digest(1)))),
        ("another target", plan_id(&elsewhere, &release, &options, &overrides, &applied, Some(&digest(1)))),
        ("another release", plan_id(&target, &newer, &options, &overrides, &applied, Some(&digest(1)))),
        ("no automatic rollback", plan_id(&target, &release, &forward_only, &overrides, &applied, Some(&digest(1)))),
        ("despite an alarm", plan_id(&target, &release, &options, &overriding_alarm, &applied, Some(&digest(1)))),
        ("something else is replaced", plan_id(&target, &release, &options, &overrides, &applied, Some(&digest(9)))),
    ];
    for (label, other) in others {
        assert_ne!(plan, other, "{label}");
    }
    let mut version = applied;
    version.version = 2;
    let same = plan_id(&target, &release, &options, &overrides, &version, Some(&digest(1)));
    assert_eq!(plan, same, "a version of the policy that changes nothing here");
}
