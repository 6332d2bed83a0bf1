//! May a release begin here now? One row a question.

mod clock;

use rollout::brake::{Brake, Scope};
use rollout::entry::{After, ApprovalDefault, ApprovalPolicy, Entry, EntryRules, FreezePeriod, Gate, Person};
use rollout::policy::{Deadlines, Drift, Side, Strategy};
use rollout::promotion::{Neighbour, Opinion, Question, Surroundings, judge, plan_id, rules};
use rollout::target::{Gates, Overridden, ReleaseRef, TargetFreeze, Verified, Vote};
use rollout::{
    Actor, AppliedTarget, Concurrency, EcsPair, ImageDigest, Lane, Name, Overrides, Percent, PlanId, Reading,
    ReleaseId, Seconds, TargetId, TargetPolicy, Terms, Timestamp, Train,
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
    let side = |name: &str| Side { service: name.to_owned(), target_group: name.to_owned() };
    let seconds = Seconds(60);
    TargetPolicy {
        pair: EcsPair {
            cluster: "c".to_owned(),
            container: "api".to_owned(),
            blue: side("blue"),
            green: side("green"),
            rules: vec!["rule".to_owned()],
            test_rule: None,
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
    }
}

/// A question in the making; the usual one has nothing against it.
struct Case {
    terms: Terms,
    requester: Actor,
    applied: AppliedTarget,
    gates: Gates,
    frozen: Option<TargetFreeze>,
    around: Option<Surroundings>,
    now: Timestamp,
}

impl Case {
    fn new() -> Self {
        Self {
            terms: Terms::default(),
            requester: Actor::Workflow { name: "github:shop@1".to_owned(), actor_id: Some("77".to_owned()) },
            applied: AppliedTarget {
                version: 1,
                concurrency: Concurrency::default(),
                policy: policy(),
                entry: Entry::default(),
            },
            gates: Gates {
                plan: PlanId("p".to_owned()),
                asked_at: None,
                votes: vec![],
                skipped: BTreeSet::new(),
                overridden: BTreeMap::new(),
                told: BTreeMap::new(),
            },
            frozen: None,
            around: Some(Surroundings::quiet()),
            now: at("2026-11-20T12:00:00Z"),
        }
    }

    fn rules(&mut self) -> &mut EntryRules {
        &mut self.applied.entry.rules
    }

    fn around(&mut self) -> &mut Surroundings {
        self.around.get_or_insert_with(Surroundings::quiet)
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
        self.around().neighbours.insert(id, Neighbour { verified: verified.into_iter().collect(), stable: None });
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
        if let Reading::Known(brakes) = &mut self.around().brakes {
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
        self.gates.asked_at = Some(at("2026-11-20T11:30:00Z"));
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

    fn question<'a>(&'a self, target: &'a TargetId, release: &'a ReleaseId) -> Question<'a> {
        Question {
            target,
            release,
            terms: &self.terms,
            requester: &self.requester,
            applied: &self.applied,
            gates: &self.gates,
            frozen: self.frozen.as_ref(),
            asleep: false,
            around: self.around.as_ref(),
            now: self.now,
        }
    }

    /// What the gates that are not open say, in one line.
    fn says(&self) -> String {
        let (target, release) = (prod(), release());
        let ruling = judge(&self.question(&target, &release));
        let lines = ruling.opinions.iter().filter_map(|(gate, opinion)| match opinion {
            Opinion::Open(_) => None,
            Opinion::Waits { reason, until: None } => Some(format!("{gate} waits: {reason}")),
            Opinion::Waits { reason, until: Some(until) } => Some(format!("{gate} waits: {reason} (until {until})")),
            Opinion::Never { reason, verdict } => Some(format!("{gate} never, {verdict:?}: {reason}")),
        });
        lines.collect::<Vec<_>>().join("; ")
    }
}

fn all(names: &[&str]) -> After {
    After::All(names.iter().map(|text| name(text)).collect())
}

fn any(names: &[&str]) -> After {
    After::Any(names.iter().map(|text| name(text)).collect())
}

#[test]
fn every_row_has_its_answer() {
    let everything = || Scope::Everything;
    let shop = || Scope::Application { application: name("shop") };
    let of = |environment: &str| Scope::Environment { application: name("shop"), environment: name(environment) };
    let rows: Vec<(&str, Case, &str)> = vec![
        ("no rule, nothing against it", Case::new(), ""),
        // --- order ---
        (
            "verified where it has to be",
            Case::new().after(all(&["staging"])).upstream("staging", Some("2026-11-20T09:00:00Z")),
            "",
        ),
        (
            "not verified there",
            Case::new().after(all(&["staging"])).upstream("staging", None),
            "after never, Failed: it is not verified in staging: deploy it there first, until its bake is over",
        ),
        (
            "what could not be read is no yes and no no",
            Case::new().after(all(&["staging"])),
            "after waits: what staging has verified was not read yet",
        ),
        (
            "all of two, one lacks",
            Case::new().after(all(&["dev", "qa"])).upstream("dev", Some("2026-11-20T09:00:00Z")).upstream("qa", None),
            "after never, Failed: it is not verified in qa: deploy it there first, until its bake is over",
        ),
        (
            "one of two is enough",
            Case::new().after(any(&["dev", "qa"])).upstream("dev", None).upstream("qa", Some("2026-11-20T09:00:00Z")),
            "",
        ),
        (
            "one of two, neither",
            Case::new().after(any(&["dev", "qa"])).upstream("dev", None).upstream("qa", None),
            "after never, Failed: it is verified in none of dev, qa: deploy it in one of them first, until its bake is over",
        ),
        // --- soak ---
        (
            "verified, and not for long enough",
            Case::new().after(all(&["staging"])).soak(3600).upstream("staging", Some("2026-11-20T11:30:00Z")),
            "soak waits: verified for less than 1h (until 2026-11-20T12:30:00Z)",
        ),
        (
            "the soak's last second is over",
            Case::new().after(all(&["staging"])).soak(1800).upstream("staging", Some("2026-11-20T11:30:00Z")),
            "",
        ),
        (
            "of all, the latest counts",
            Case::new()
                .after(all(&["dev", "qa"]))
                .soak(3600)
                .upstream("dev", Some("2026-11-20T09:00:00Z"))
                .upstream("qa", Some("2026-11-20T11:45:00Z")),
            "soak waits: verified for less than 1h (until 2026-11-20T12:45:00Z)",
        ),
        (
            "of one of several, the first counts",
            Case::new()
                .after(any(&["dev", "qa"]))
                .soak(3600)
                .upstream("dev", Some("2026-11-20T09:00:00Z"))
                .upstream("qa", Some("2026-11-20T11:45:00Z")),
            "",
        ),
        // --- brakes ---
        (
            "the line is stopped",
            Case::new().brake(everything(), None),
            "stop_the_line waits: the line is stopped by slack:U0: an incident",
        ),
        (
            "the application is frozen, for a while",
            Case::new().brake(shop(), Some("2026-11-20T18:00:00Z")),
            "freeze waits: frozen by slack:U0: an incident (until 2026-11-20T18:00:00Z)",
        ),
        (
            "the environment is frozen",
            Case::new().brake(of("prod"), None),
            "freeze waits: frozen by slack:U0: an incident",
        ),
        ("another environment is frozen", Case::new().brake(of("dev"), None), ""),
        ("the freeze is over", Case::new().brake(shop(), Some("2026-11-20T12:00:00Z")), ""),
        (
            "brakes that cannot be read hold",
            Case::new().with(|case| case.around().brakes = Reading::Unknown("throttled".to_owned())),
            "stop_the_line waits: freezes could not be read: throttled; freeze waits: freezes could not be read: throttled",
        ),
        (
            "a forward-only release left the target to a person",
            Case::new().with(|case| {
                let since = at("2026-11-19T00:00:00Z");
                case.frozen = Some(TargetFreeze { since, deployment: 4, reason: "alarm 5xx fired".to_owned() });
            }),
            "freeze waits: the target is frozen since deployment #4: alarm 5xx fired",
        ),
        (
            "the policy's freeze",
            Case::new().with(|case| {
                case.rules().freezes = vec![FreezePeriod {
                    from: "2026-11-20T00:00".parse().expect("a time"),
                    until: "2026-11-21T00:00".parse().expect("a time"),
                    reason: "black friday".to_owned(),
                }];
            }),
            "freeze waits: the policy's freeze: black friday (until 2026-11-21T00:00:00Z)",
        ),
        // --- people ---
        (
            "nobody has said anything yet",
            Case::new().approval(2),
            "approval waits: 0 of 2 approvals (until 2026-11-20T12:30:00Z)",
        ),
        (
            "one of two",
            Case::new().approval(2).vote("bob"),
            "approval waits: 1 of 2 approvals (until 2026-11-20T12:30:00Z)",
        ),
        ("two of two", Case::new().approval(2).vote("bob").vote("carol"), ""),
        (
            "whoever asked for it does not count, however the vote came in",
            Case::new().approval(2).vote("ada").vote("bob"),
            "approval waits: 1 of 2 approvals (until 2026-11-20T12:30:00Z)",
        ),
        (
            "who is not among them any more does not count",
            Case::new().approval(1).vote("dora"),
            "approval waits: 0 of 1 approvals (until 2026-11-20T12:30:00Z)",
        ),
        (
            "people are not asked before the release may come at all",
            Case::new().approval(1).with(|case| case.gates.asked_at = None),
            "approval waits: 0 of 1 approvals; nobody was asked yet",
        ),
        (
            "nobody answered, and that is a no",
            Case::new().approval(2).vote("bob").with(|case| case.now = at("2026-11-20T12:30:00Z")),
            "approval never, Expired: 1 of 2 approvals within 1h, and silence is taken for a no",
        ),
        (
            "nobody answered, and that is a yes",
            Case::new().approval(2).with(|case| {
                case.now = at("2026-11-20T12:30:00Z");
                if let Some(policy) = &mut case.rules().approval {
                    policy.default = ApprovalDefault::Approve;
                }
            }),
            "",
        ),
        // --- trains ---
        (
            "the services that it depends on go first",
            Case::new().with(|case| {
                case.applied.entry.depends_on = BTreeSet::from([name("users"), name("other")]);
                let members = [("api", 2), ("users", 7), ("web", 8)];
                let members = members.into_iter().map(|(service, of)| (name(service), digest(of))).collect();
                case.terms.train = Some(Train { id: "t".to_owned(), members, together: true });
            }),
            "train waits: its train brings users first",
        ),
        (
            "what it depends on is there already",
            Case::new().with(|case| {
                case.applied.entry.depends_on = BTreeSet::from([name("users")]);
                let members = BTreeMap::from([(name("users"), digest(7))]);
                case.terms.train = Some(Train { id: "t".to_owned(), members, together: true });
                let id = TargetId::parse("shop/users/prod").expect("a target");
                case.around().neighbours.insert(id, Neighbour { verified: vec![], stable: Some(digest(7)) });
            }),
            "",
        ),
        // --- the short way, and the override ---
        (
            "a hotfix is not asked at the gates that the policy names, and at the others it is",
            Case::new().after(all(&["staging"])).upstream("staging", None).approval(1).brake(shop(), None).with(
                |case| {
                    case.terms.lane = Lane::Hotfix;
                    case.rules().hotfix_skips = BTreeSet::from([Gate::After, Gate::Soak, Gate::Approval]);
                },
            ),
            "freeze waits: frozen by slack:U0: an incident",
        ),
        (
            "what others ask is asked at all of them",
            Case::new().approval(1).with(|case| case.rules().hotfix_skips = BTreeSet::from([Gate::Approval])),
            "approval waits: 0 of 1 approvals (until 2026-11-20T12:30:00Z)",
        ),
        (
            "a gate that was opened by hand is open",
            Case::new().brake(shop(), None).with(|case| {
                let opened = Overridden { actor: person("U1"), reason: "fixes it".to_owned(), at: case.now };
                case.gates.overridden.insert(Gate::Freeze, opened);
            }),
            "",
        ),
    ];
    for (what, case, expected) in rows {
        assert_eq!(case.says(), expected, "{what}");
    }
}

#[test]
fn an_answer_is_taken_of_whoever_may_give_it_and_of_nobody_else() {
    let (target, release, plan) = (prod(), release(), PlanId("p".to_owned()));
    let case = Case::new().approval(2).vote("bob");
    let answer = |case: &Case, actor: &Actor, yes: bool| {
        rules::answerable(&case.question(&target, &release), &plan, actor, yes).map(|(name, _)| name.to_string())
    };
    let no = |text: &str| Err(text.to_owned());
    assert_eq!(answer(&case, &person("UCAROL"), true), Ok("carol".to_owned()));
    assert_eq!(answer(&case, &person("UBOB"), true), no("bob has approved already"));
    assert_eq!(answer(&case, &person("UBOB"), false), Ok("bob".to_owned()), "minds may change to a no");
    let mallory = person("UMALLORY");
    assert_eq!(answer(&case, &mallory, true), no("slack:UMALLORY is none of those who may approve here"));
    let ada = no("ada asked for this deployment, and whoever asks does not approve");
    assert_eq!(answer(&case, &person("UADA"), true), ada, "her workflow asked, by her GitHub number");
    let spoofed = Actor::Person { name: "UCAROL".to_owned() };
    assert_eq!(
        answer(&case, &spoofed, true),
        no("UCAROL is none of those who may approve here"),
        "a door's word counts"
    );
    let mail = Actor::Person { name: "mail:carol".to_owned() };
    assert_eq!(
        answer(&case, &mail, true),
        no("mail:carol is none of those who may approve here"),
        "carol has no mail in the policy"
    );
    let question = case.question(&target, &release);
    let other = rules::answerable(&question, &PlanId("q".to_owned()), &person("UCAROL"), true);
    assert_eq!(other, Err("the plan has changed since that was asked: look at the present one".to_owned()));
    let late = Case::new().approval(2).with(|case| case.now = at("2026-11-20T12:30:00Z"));
    assert_eq!(answer(&late, &person("UCAROL"), true), no("the time for it (1h) is over"));
    let open = Case::new();
    assert_eq!(answer(&open, &person("UCAROL"), true), no("no approval is needed here"));
}

#[test]
fn a_yes_counts_as_long_as_whoever_said_it_is_still_that_person() {
    let (target, release, plan) = (prod(), release(), PlanId("p".to_owned()));
    let moved = |case: &mut Case| {
        // Bob's account was taken over, and he has a new one.
        case.applied.entry.approvers.get_mut(&name("bob")).expect("bob").slack = Some("UBOBAGAIN".to_owned());
    };
    let case = Case::new().approval(2).vote("bob").with(moved);
    let question = case.question(&target, &release);
    assert_eq!(rules::counted(&question), Vec::<&Vote>::new(), "who said it is nobody any more");
    assert!(rules::may_approve(&question).contains(&&name("bob")), "he is asked again");
    let again = rules::answerable(&question, &plan, &person("UBOBAGAIN"), true);
    assert_eq!(again.map(|(name, _)| name), Ok(name("bob")));
    assert!(rules::answerable(&question, &plan, &person("UBOB"), true).is_err(), "the former account says nothing");
    // Two names change their owners: one person's two voices are one.
    let swapped = Case::new().approval(2).vote("bob").with(|case| {
        let approvers = &mut case.applied.entry.approvers;
        let (bob, carol) = (approvers[&name("bob")].clone(), approvers[&name("carol")].clone());
        approvers.insert(name("bob"), carol);
        approvers.insert(name("carol"), bob);
    });
    assert_eq!(rules::counted(&swapped.question(&target, &release)).len(), 0);
}

#[test]
fn a_plan_is_another_one_when_anything_that_it_would_do_is() {
    let (target, release) = (prod(), release());
    let applied = Case::new().applied;
    let (terms, overrides) = (Terms::default(), Overrides::default());
    let plan = plan_id(&target, &release, &terms, &overrides, &applied, Some(&digest(1)));
    assert_eq!(plan.0.len(), 16);
    assert_eq!(
        plan,
        plan_id(&target, &release, &terms, &overrides, &applied, Some(&digest(1))),
        "the same is the same"
    );

    let mut slower = applied.clone();
    slower.policy.strategy.bake = Seconds(61);
    let elsewhere = TargetId::parse("shop/api/staging").expect("a target");
    let newer = ReleaseId { digest: digest(3), ..release.clone() };
    let forward_only = Terms { forward_only: true, ..Terms::default() };
    let despite = Overrides { firing_alarms: BTreeSet::from(["5xx".to_owned()]) };
    let others = [
        ("another policy", plan_id(&target, &release, &terms, &overrides, &slower, Some(&digest(1)))),
        ("another target", plan_id(&elsewhere, &release, &terms, &overrides, &applied, Some(&digest(1)))),
        ("another release", plan_id(&target, &newer, &terms, &overrides, &applied, Some(&digest(1)))),
        ("no way back", plan_id(&target, &release, &forward_only, &overrides, &applied, Some(&digest(1)))),
        ("despite an alarm", plan_id(&target, &release, &terms, &despite, &applied, Some(&digest(1)))),
        ("something else is replaced", plan_id(&target, &release, &terms, &overrides, &applied, Some(&digest(9)))),
    ];
    for (what, other) in others {
        assert_ne!(plan, other, "{what}");
    }
    let mut version = applied;
    version.version = 2;
    let same = plan_id(&target, &release, &terms, &overrides, &version, Some(&digest(1)));
    assert_eq!(plan, same, "a version of the policy that changes nothing here");
}
