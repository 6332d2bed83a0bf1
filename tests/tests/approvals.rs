//! What people answer, over the whole loop in virtual time: a deployment that waits at its gates, answers by Slack and by
//! signed link, and what becomes of both.

use api::approval_links::{self, LinkKey};
use api::approvals::link_pages::{self, Page};
use api::approvals::slack::{self, ButtonPress, ButtonValue};
use api::approvals::{ApprovalDecision, ApprovalReceipt, ApprovalSubmission, DeduplicationKey, submit_decision};
use api::{CommandService, Refusal};
use futures::FutureExt as _;
use futures::task::noop_waker;
use rollout::entry::{ApprovalDefault, ApprovalPolicy, Person};
use rollout::policy::Trigger;
use rollout::verdict::Verdict;
use rollout::{Actor, DeployOptions, Fact, Instruction, Name, Overrides, PlanId, Policy, Seconds, TargetId, Timestamp};
use simulation::virtual_time::{Faults, PushAnnouncement, SimClock, SimLedger, SimWakeQueue, Simulation};
use simulation::world::Settings;
use simulation::world::scene::PairSetup;
use std::task::{Context, Poll};

const ADA: &str = "U012AB3CD";
const BOB: &str = "U045EF6GH";
const TOPIC: &str = "arn:aws:sns:eu-central-1:111122223333:switchback-approve";
const ALICE: &str = "arn:aws:sts::111122223333:assumed-role/deployer/alice";

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

/// `shop/api/prod`: two of ada, bob and carol have to say yes within four hours.
struct TestBench {
    simulation: Simulation,
    policy: Policy,
    target: TargetId,
}

type TestCommandService<'a> = CommandService<'a, SimLedger, SimWakeQueue, SimClock>;

impl TestBench {
    fn new() -> Self {
        Self::with(Faults::default())
    }

    fn with(faults: Faults) -> Self {
        let built = PairSetup::new("shop", "api", "prod").build(Settings::default());
        let mut policy = built.application();
        let person = |slack: &str, iam: &[&str]| Person {
            slack: Some(slack.to_owned()),
            iam: iam.iter().map(|arn| (*arn).to_owned()).collect(),
            mail: Some(TOPIC.to_owned()),
            ..Person::default()
        };
        policy.people = [
            (name("ada"), person(ADA, &[])),
            (name("bob"), person(BOB, &[])),
            (name("carol"), person("U078IJ9KL", &[ALICE])),
        ]
        .into();
        let environment = policy.environments.get_mut(&name("prod")).expect("prod");
        environment.trigger = Trigger::Manual;
        environment.entry.approval = Some(ApprovalPolicy {
            required: 2,
            from: ["ada", "bob", "carol"].map(name).to_vec(),
            expires: Seconds(4 * 3600),
            default: ApprovalDefault::Reject,
        });
        let simulation = Simulation::new(built, faults);
        simulation.apply_policy(&policy, "with approval");
        let target = simulation.target().clone();
        Self { simulation, policy, target }
    }

    /// Asks for release `number`, and waits until it is at its gates.
    fn request_deployment(&mut self, number: u64, by: &str) {
        let release = self.simulation.push(number, PushAnnouncement::Event);
        self.simulation.run_for(10);
        let deploy = Instruction::Deploy {
            release: release.id.clone(),
            image: release.image,
            tag: release.tag,
            overrides: Overrides::default(),
            options: DeployOptions { pushed_at: Some(release.pushed_at), ..DeployOptions::default() },
        };
        let (target, actor) = (self.target.clone(), Actor::Person { name: by.to_owned() });
        self.simulation.send_command_to(&target, deploy, actor, "");
        self.simulation.run_for(30);
        assert_eq!(self.simulation.stage_name(), Some("gated"), "{}", self.simulation.journal_text());
    }

    fn waiting_deployment(&mut self) -> (u64, PlanId) {
        let running = self.simulation.state().and_then(|state| state.running).expect("one waits");
        (running.number, running.gates.expect("it has gates").plan)
    }

    fn with_command_service<T>(&mut self, mut asks: impl AsyncFnMut(&TestCommandService<'_>) -> T) -> T {
        let (ledger, _, wake_queue, clock) = self.simulation.ports();
        let command_service = CommandService { ledger: &ledger, wake_queue: &wake_queue, clock: &clock };
        let mut answer = Box::pin(asks(&command_service));
        for _ in 0..1000 {
            if let Poll::Ready(answer) = answer.as_mut().poll(&mut Context::from_waker(&noop_waker())) {
                return answer;
            }
            self.simulation.run_for(1);
        }
        panic!("never answered");
    }

    fn press_for(
        &mut self,
        user: &str,
        decision: ApprovalDecision,
        number: u64,
        plan: &PlanId,
    ) -> Result<ApprovalReceipt, Refusal> {
        let on = ButtonValue { target: self.target.clone(), deployment: number, plan: plan.clone() };
        let press =
            ButtonPress { user: user.to_owned(), on, decision, reason: "as discussed".to_owned(), response_url: None };
        let outcome = self.with_command_service(async |command_service| slack::pressed(command_service, &press).await);
        self.simulation.run_for(20);
        outcome
    }

    fn press(&mut self, user: &str, decision: ApprovalDecision) -> Result<ApprovalReceipt, Refusal> {
        let (number, plan) = self.waiting_deployment();
        self.press_for(user, decision, number, &plan)
    }

    /// Follows the link of a person to what waits now, and presses a button there.
    fn open_link(&mut self, person: &str, form: Option<&str>) -> Page {
        let key = LinkKey::new("k7Gq2mX9vB4nT1sLwE8yRzC5uH0jD3pA").expect("a key");
        let (number, plan) = self.waiting_deployment();
        let expires = Seconds(3600).after(self.simulation.now());
        let token = approval_links::mint(&key, &self.target, number, &plan, &name(person), TOPIC, expires);
        let link = approval_links::verify(&key, &token, self.simulation.now()).expect("ours");
        let page = self.with_command_service(async |command_service| match form {
            Some(form) => link_pages::decide(command_service, &link, form.as_bytes()).await,
            None => link_pages::show(command_service, &link).await,
        });
        self.simulation.run_for(20);
        page
    }

    fn verdict_of(&mut self, number: u64) -> Option<(Verdict, String)> {
        let mut verdicts = self.simulation.verdicts().into_iter();
        verdicts.find(|(ended, ..)| *ended == number).map(|(_, verdict, reason)| (verdict, reason))
    }

    fn refusals(&self) -> Vec<(String, String)> {
        let entries = self.simulation.journal().into_iter();
        let refused = entries.filter_map(|entry| match entry.fact {
            Fact::CommandRefused { reason, .. } => Some((entry.actor.to_string(), reason.to_string())),
            _ => None,
        });
        refused.collect()
    }
}

/// The code and the words of a refusal.
fn refused(outcome: Result<ApprovalReceipt, Refusal>) -> (String, String) {
    let refusal = outcome.expect_err("it is refused");
    (refusal.code, refusal.message)
}

#[test]
fn approvals_by_slack_and_by_link_add_up() {
    let mut bench = TestBench::new();
    bench.request_deployment(1, "somebody");
    let first = bench.press(ADA, ApprovalDecision::Approve).expect("taken");
    assert_eq!((first.person.as_str(), first.approvals, first.required), ("ada", 1, 2));
    assert_eq!(bench.simulation.stage_name(), Some("gated"), "one yes is not two");

    let shown = bench.open_link("bob", None);
    assert_eq!(shown.status, 200);
    assert!(shown.html.contains("<dt>Approved by</dt><dd>ada (1 of 2)</dd>"), "{}", shown.html);
    assert_eq!(bench.simulation.stage_name(), Some("gated"), "looking is not answering");
    let second = bench.open_link("bob", Some("decision=approve&reason=looks+good"));
    assert!(second.html.contains("2 of 2 approvals"), "{}", second.html);

    assert!(bench.simulation.run_until_idle(7200), "{}", bench.simulation.journal_text());
    assert_eq!(bench.verdict_of(1).map(|(verdict, _)| verdict), Some(Verdict::Succeeded));
    let approved: Vec<(String, String, String)> = bench
        .simulation
        .journal()
        .into_iter()
        .filter_map(|entry| match entry.fact {
            Fact::Approved { person, reason, .. } => Some((person.to_string(), entry.actor.to_string(), reason)),
            _ => None,
        })
        .collect();
    let line = |person: &str, actor: &str, why: &str| (person.to_owned(), actor.to_owned(), why.to_owned());
    let (ada, bob) = (line("ada", &format!("slack:{ADA}"), "as discussed"), line("bob", "mail:bob", "looks good"));
    assert_eq!(approved, [ada, bob]);
}

#[test]
fn one_person_counts_once_across_slack_and_mail() {
    let mut bench = TestBench::new();
    bench.request_deployment(1, "somebody");
    // Both before any pass has seen either.
    let (number, plan) = bench.waiting_deployment();
    let (by_slack, by_mail) = (Actor::Person { name: format!("slack:{ADA}") }, link_pages::link_actor(&name("ada")));
    let target = bench.target.clone();
    for (actor, entry_point, deduplication_key) in [
        (&by_slack, "slack", DeduplicationKey::Person("slack:U012AB3CD")),
        (&by_mail, "link", DeduplicationKey::Link("00")),
    ] {
        let vote = ApprovalSubmission {
            target: &target,
            deployment: number,
            plan: &plan,
            decision: ApprovalDecision::Approve,
            actor,
            reason: "",
            entry_point,
            deduplication_key,
        };
        let (ledger, clock) = (bench.simulation.ledger().clone(), FixedClock(bench.simulation.now()));
        let command_service = CommandService { ledger: &ledger, wake_queue: &LostWakeQueue, clock: &clock };
        let outcome = submit_decision(&command_service, &vote).now_or_never();
        let outcome = outcome.expect("memory answers at once").expect("taken down");
        assert_eq!(outcome.approvals, 1);
    }
    bench.simulation.run_for(120);
    assert_eq!(bench.simulation.stage_name(), Some("gated"), "{}", bench.simulation.journal_text());
    let state = bench.simulation.state().and_then(|state| state.running).and_then(|running| running.gates);
    assert_eq!(state.expect("gates").votes.len(), 1);
}

#[test]
fn the_requester_cannot_approve_by_slack_or_mail() {
    for by in [format!("slack:{ADA}"), "mail:ada".to_owned()] {
        let mut bench = TestBench::new();
        bench.request_deployment(1, &by);
        let (code, words) = refused(bench.press(ADA, ApprovalDecision::Approve));
        assert_eq!(code, "requester_approves");
        assert!(words.contains("requesters do not approve"), "{words}");
        let page = bench.open_link("ada", Some("decision=approve"));
        assert_eq!(page.status, 403);
        assert_eq!(bench.open_link("ada", None).status, 403);
        assert_eq!(bench.refusals().len(), 2, "{:?}", bench.refusals());
    }
    let mut bench = TestBench::new();
    bench.request_deployment(1, ALICE);
    assert_eq!(
        refused(bench.press("U078IJ9KL", ApprovalDecision::Approve)).0,
        "requester_approves",
        "carol is alice, at another door"
    );
}

#[test]
fn a_non_approver_is_refused_and_journalled_once_an_hour() {
    let mut bench = TestBench::new();
    bench.request_deployment(1, "somebody");
    for _ in 0..5 {
        for decision in [ApprovalDecision::Approve, ApprovalDecision::Reject] {
            assert_eq!(refused(bench.press("U0MALLORY", decision)).0, "not_an_approver");
        }
    }
    let refusals = bench.refusals();
    assert_eq!(refusals.len(), 2, "one an hour for each thing that was tried: {refusals:?}");
    assert!(refusals.iter().all(|(actor, _)| actor == "slack:U0MALLORY"), "{refusals:?}");
    assert_eq!(bench.simulation.stage_name(), Some("gated"));
    bench.simulation.run_for(3600);
    assert_eq!(refused(bench.press("U0MALLORY", ApprovalDecision::Approve)).0, "not_an_approver");
    assert_eq!(bench.refusals().len(), 3);
}

#[test]
fn a_rejection_ends_the_deployment_with_its_reason() {
    let mut bench = TestBench::new();
    bench.request_deployment(1, "somebody");
    bench.press(ADA, ApprovalDecision::Approve).expect("taken");
    bench.press(BOB, ApprovalDecision::Reject).expect("taken");
    let (verdict, reason) = bench.verdict_of(1).expect("it is over");
    assert_eq!((verdict, reason.as_str()), (Verdict::Rejected, "by bob: as discussed"));
}

#[test]
fn approving_a_superseded_deployment_is_refused() {
    let mut bench = TestBench::new();
    bench.request_deployment(1, "somebody");
    let (number, plan) = bench.waiting_deployment();
    bench.press(ADA, ApprovalDecision::Approve).expect("taken");
    bench.request_deployment(2, "somebody");
    assert_eq!(bench.verdict_of(number).map(|(verdict, _)| verdict), Some(Verdict::Superseded));
    let (code, words) = refused(bench.press_for(BOB, ApprovalDecision::Approve, number, &plan));
    assert_eq!(code, "superseded");
    assert!(words.contains("was superseded by a newer release"), "{words}");
    // What was said to the old one counts for nothing.
    let second = bench.press(BOB, ApprovalDecision::Approve).expect("taken");
    assert_eq!(second.approvals, 1);
    assert!(bench.refusals().iter().any(|(actor, _)| actor == &format!("slack:{BOB}")), "{:?}", bench.refusals());
    // Neither does the old plan's number with the new deployment's, nor the other way round.
    let (newer, _) = bench.waiting_deployment();
    assert_eq!(refused(bench.press_for(BOB, ApprovalDecision::Reject, newer, &plan)).0, "plan_changed");
}

#[test]
fn a_changed_plan_needs_new_approvals() {
    let mut bench = TestBench::new();
    bench.request_deployment(1, "somebody");
    let (number, plan) = bench.waiting_deployment();
    bench.press(ADA, ApprovalDecision::Approve).expect("taken");
    let original = bench.policy.clone();
    let api = name("api");
    let target = bench.policy.environments.get_mut(&name("prod")).and_then(|prod| prod.targets.get_mut(&api));
    target.expect("the target").strategy.bake = Seconds(17);
    bench.simulation.apply_policy(&bench.policy, "another bake");
    // Before the target has seen it, too.
    assert_eq!(refused(bench.press_for(BOB, ApprovalDecision::Approve, number, &plan)).0, "plan_changed");
    bench.simulation.run_for(120);
    let (same, other) = bench.waiting_deployment();
    assert!(same == number && other != plan, "{}", bench.simulation.journal_text());
    assert_eq!(refused(bench.press_for(BOB, ApprovalDecision::Approve, number, &plan)).0, "plan_changed");
    let bob = bench.press(BOB, ApprovalDecision::Approve).expect("taken");
    assert_eq!(bob.approvals, 1, "ada's yes was to another plan");

    // The first plan comes back: whoever answered it before is asked again, and their answer counts again.
    bench.simulation.apply_policy(&original, "the first one again");
    bench.simulation.run_for(120);
    assert_eq!(bench.waiting_deployment().1, plan, "{}", bench.simulation.journal_text());
    let again = bench.press(ADA, ApprovalDecision::Approve).expect("taken");
    assert!(again.command.new && again.approvals == 1, "{again:?}");
    bench.press(BOB, ApprovalDecision::Approve).expect("taken");
    assert_ne!(bench.simulation.stage_name(), Some("gated"), "{}", bench.simulation.journal_text());
}

#[test]
fn an_approval_after_expiry_is_refused() {
    let mut bench = TestBench::new();
    bench.request_deployment(1, "somebody");
    let (number, plan) = bench.waiting_deployment();
    let requested_at = bench.simulation.state().and_then(|state| state.running?.gates?.requested_at).expect("asked");
    bench.simulation.run_until(Seconds(4 * 3600 - 2).after(requested_at));
    assert_eq!(bench.simulation.stage_name(), Some("gated"));
    bench.simulation.run_for(120);
    let (verdict, _) = bench.verdict_of(number).expect("it is over");
    assert_eq!(verdict, Verdict::Expired);
    let (code, words) = refused(bench.press_for(ADA, ApprovalDecision::Approve, number, &plan));
    assert_eq!(code, "not_waiting");
    assert!(words.contains("(expired"), "{words}");
}

#[test]
fn a_started_deployment_takes_no_more_votes() {
    let mut bench = TestBench::new();
    bench.request_deployment(1, "somebody");
    let (number, plan) = bench.waiting_deployment();
    bench.press(ADA, ApprovalDecision::Approve).expect("taken");
    bench.press(BOB, ApprovalDecision::Approve).expect("taken");
    assert!(bench.simulation.run_until_condition(600, |simulation| simulation.stage_name() != Some("gated")));
    let (code, words) = refused(bench.press_for("U078IJ9KL", ApprovalDecision::Reject, number, &plan));
    assert_eq!(code, "not_waiting");
    assert!(words.contains("is past its gates"), "{words}");
    assert!(bench.simulation.run_until_idle(7200));
    let (_, words) = refused(bench.press_for("U078IJ9KL", ApprovalDecision::Reject, number, &plan));
    assert!(words.contains("is over (succeeded"), "{words}");
    assert_eq!(
        refused(bench.press_for(ADA, ApprovalDecision::Approve, 99, &plan)).1,
        "shop/api/prod: there is no deployment #99"
    );
}

#[test]
fn votes_without_a_target_or_approval_rule_are_refused() {
    let mut bench = TestBench::new();
    bench.request_deployment(1, "somebody");
    let (number, plan) = bench.waiting_deployment();
    bench.policy.environments.get_mut(&name("prod")).expect("prod").entry.approval = None;
    bench.simulation.apply_policy(&bench.policy, "nobody is asked");
    assert_eq!(refused(bench.press_for(ADA, ApprovalDecision::Reject, number, &plan)).0, "no_approval_needed");
    bench.target = TargetId::parse("shop/web/prod").expect("a target");
    let refusal = bench.press_for(ADA, ApprovalDecision::Approve, 1, &plan).expect_err("no such target");
    assert_eq!((refusal.status, refusal.code.as_str()), (404, "unknown_target"));
    assert!(!refusal.message.contains("shop/api"), "{}", refusal.message);
    assert!(
        bench.simulation.ledger().store().commands(&bench.target).is_empty(),
        "nothing is written of what is not there"
    );
}

struct FixedClock(Timestamp);

impl engine::Clock for FixedClock {
    fn now(&self) -> Timestamp {
        self.0
    }

    fn unique_id(&self) -> engine::LeaseId {
        engine::LeaseId("lease".to_owned())
    }
}

/// A wake that is lost: the sweeper finds the command.
struct LostWakeQueue;

impl engine::WakeQueue for LostWakeQueue {
    async fn send(&self, _: &engine::Wake, _: Seconds) -> Result<(), String> {
        Err("lost".to_owned())
    }
}
