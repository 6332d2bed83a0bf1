//! What people answer, over the whole loop in virtual time: a deployment that waits at its gates, answers by Slack and by
//! signed link, and what becomes of both.

use engine::approving::mail::{self, Page};
use engine::approving::slack::{self, ButtonValue, Press};
use engine::approving::{Answer, Once, Taken, Word, answer};
use engine::desk::{Desk, Refusal};
use engine::links::{self, LinkKey};
use futures::FutureExt as _;
use futures::task::noop_waker;
use rollout::entry::{ApprovalDefault, ApprovalPolicy, Person};
use rollout::policy::Trigger;
use rollout::stage::Verdict;
use rollout::{Actor, Fact, Instruction, Name, Overrides, PlanId, Policy, Seconds, TargetId, Terms, Timestamp};
use simulation::virtual_time::{Faults, SimClock, SimLedger, SimWakeQueue, Simulation, Started};
use simulation::world::Settings;
use simulation::world::scene::Scene;
use std::task::{Context, Poll};

const ADA: &str = "U012AB3CD";
const BOB: &str = "U045EF6GH";
const TOPIC: &str = "arn:aws:sns:eu-central-1:111122223333:switchback-approve";
const ALICE: &str = "arn:aws:sts::111122223333:assumed-role/deployer/alice";

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

/// `shop/api/prod`: two of ada, bob and carol have to say yes within four hours.
struct Stand {
    simulation: Simulation,
    policy: Policy,
    target: TargetId,
}

type OurDesk<'a> = Desk<'a, SimLedger, SimWakeQueue, SimClock>;

impl Stand {
    fn new() -> Self {
        Self::with(Faults::default())
    }

    fn with(faults: Faults) -> Self {
        let built = Scene::new("shop", "api", "prod").build(Settings::default());
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
    fn asked(&mut self, number: u64, by: &str) {
        let release = self.simulation.push(number, Started::Event);
        self.simulation.run_for(10);
        let deploy = Instruction::Deploy {
            release: release.id.clone(),
            image: release.image,
            tag: release.tag,
            overrides: Overrides::default(),
            terms: Terms { pushed_at: Some(release.pushed_at), ..Terms::default() },
        };
        let (target, actor) = (self.target.clone(), Actor::Person { name: by.to_owned() });
        self.simulation.ask_of(&target, deploy, actor, "");
        self.simulation.run_for(30);
        assert_eq!(self.simulation.stage_name(), Some("gated"), "{}", self.simulation.story());
    }

    fn waits(&mut self) -> (u64, PlanId) {
        let running = self.simulation.state().and_then(|state| state.running).expect("one waits");
        (running.number, running.gates.expect("it has gates").plan)
    }

    fn at_the_desk<T>(&mut self, mut asks: impl AsyncFnMut(&OurDesk<'_>) -> T) -> T {
        let (ledger, _, wake_queue, clock) = self.simulation.ports();
        let desk = Desk { ledger: &ledger, wake_queue: &wake_queue, clock: &clock };
        let mut answer = Box::pin(asks(&desk));
        for _ in 0..1000 {
            if let Poll::Ready(answer) = answer.as_mut().poll(&mut Context::from_waker(&noop_waker())) {
                return answer;
            }
            self.simulation.run_for(1);
        }
        panic!("never answered");
    }

    fn press_on(&mut self, user: &str, word: Word, number: u64, plan: &PlanId) -> Result<Taken, Refusal> {
        let on = ButtonValue { target: self.target.clone(), deployment: number, plan: plan.clone() };
        let press = Press { user: user.to_owned(), on, word, reason: "as discussed".to_owned(), response_url: None };
        let outcome = self.at_the_desk(async |desk| slack::pressed(desk, &press).await);
        self.simulation.run_for(20);
        outcome
    }

    fn press(&mut self, user: &str, word: Word) -> Result<Taken, Refusal> {
        let (number, plan) = self.waits();
        self.press_on(user, word, number, &plan)
    }

    /// Follows the link of a person to what waits now, and presses a button there.
    fn follow(&mut self, person: &str, form: Option<&str>) -> Page {
        let key = LinkKey::new("k7Gq2mX9vB4nT1sLwE8yRzC5uH0jD3pA").expect("a key");
        let (number, plan) = self.waits();
        let expires = Seconds(3600).after(self.simulation.now());
        let token = links::mint(&key, &self.target, number, &plan, &name(person), TOPIC, expires);
        let link = links::verify(&key, &token, self.simulation.now()).expect("ours");
        let page = self.at_the_desk(async |desk| match form {
            Some(form) => mail::decide(desk, &link, form.as_bytes()).await,
            None => mail::show(desk, &link).await,
        });
        self.simulation.run_for(20);
        page
    }

    fn ends_as(&mut self, number: u64) -> Option<(Verdict, String)> {
        let mut verdicts = self.simulation.verdicts().into_iter();
        verdicts.find(|(ended, ..)| *ended == number).map(|(_, verdict, reason)| (verdict, reason))
    }

    fn refusals(&self) -> Vec<(String, String)> {
        let entries = self.simulation.journal().into_iter();
        let refused = entries.filter_map(|entry| match entry.fact {
            Fact::CommandRefused { reason, .. } => Some((entry.actor.to_string(), reason)),
            _ => None,
        });
        refused.collect()
    }
}

/// The code and the words of a refusal.
fn refused(outcome: Result<Taken, Refusal>) -> (String, String) {
    let refusal = outcome.expect_err("it is refused");
    (refusal.code, refusal.message)
}

#[test]
fn two_people_say_yes_by_two_doors_and_the_release_goes_out() {
    let mut stand = Stand::new();
    stand.asked(1, "somebody");
    let first = stand.press(ADA, Word::Yes).expect("taken");
    assert_eq!((first.person.as_str(), first.approvals, first.required), ("ada", 1, 2));
    assert_eq!(stand.simulation.stage_name(), Some("gated"), "one yes is not two");

    let shown = stand.follow("bob", None);
    assert_eq!(shown.status, 200);
    assert!(shown.html.contains("<dt>Approved by</dt><dd>ada (1 of 2)</dd>"), "{}", shown.html);
    assert_eq!(stand.simulation.stage_name(), Some("gated"), "looking is not answering");
    let second = stand.follow("bob", Some("decision=approve&reason=looks+good"));
    assert!(second.html.contains("2 of 2 approvals"), "{}", second.html);

    assert!(stand.simulation.run_until_rest(7200), "{}", stand.simulation.story());
    assert_eq!(stand.ends_as(1).map(|(verdict, _)| verdict), Some(Verdict::Succeeded));
    let approved: Vec<(String, String, String)> = stand
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
fn one_person_is_one_vote_whatever_doors_they_use() {
    let mut stand = Stand::new();
    stand.asked(1, "somebody");
    // Both before any pass has seen either.
    let (number, plan) = stand.waits();
    let (by_slack, by_mail) = (Actor::Person { name: format!("slack:{ADA}") }, mail::holder(&name("ada")));
    let target = stand.target.clone();
    for (actor, door, once) in
        [(&by_slack, "slack", Once::Asking("slack:U012AB3CD")), (&by_mail, "link", Once::Link("00"))]
    {
        let said =
            Answer { target: &target, deployment: number, plan: &plan, word: Word::Yes, actor, reason: "", door, once };
        let (ledger, clock) = (stand.simulation.ledger().clone(), Fixed(stand.simulation.now()));
        let desk = Desk { ledger: &ledger, wake_queue: &Silent, clock: &clock };
        let outcome = answer(&desk, &said).now_or_never().expect("memory answers at once").expect("taken down");
        assert_eq!(outcome.approvals, 1);
    }
    stand.simulation.run_for(120);
    assert_eq!(stand.simulation.stage_name(), Some("gated"), "{}", stand.simulation.story());
    let state = stand.simulation.state().and_then(|state| state.running).and_then(|running| running.gates);
    assert_eq!(state.expect("gates").votes.len(), 1);
}

#[test]
fn whoever_asks_does_not_approve_by_any_door() {
    for by in [format!("slack:{ADA}"), "mail:ada".to_owned()] {
        let mut stand = Stand::new();
        stand.asked(1, &by);
        let (code, words) = refused(stand.press(ADA, Word::Yes));
        assert_eq!(code, "asked_for_it");
        assert!(words.contains("whoever asks does not approve"), "{words}");
        let page = stand.follow("ada", Some("decision=approve"));
        assert_eq!(page.status, 403);
        assert_eq!(stand.follow("ada", None).status, 403);
        assert_eq!(stand.refusals().len(), 2, "{:?}", stand.refusals());
    }
    let mut stand = Stand::new();
    stand.asked(1, ALICE);
    assert_eq!(refused(stand.press("U078IJ9KL", Word::Yes)).0, "asked_for_it", "carol is alice, at another door");
}

#[test]
fn who_is_no_approver_is_refused_and_the_journal_says_so_once_an_hour() {
    let mut stand = Stand::new();
    stand.asked(1, "somebody");
    for _ in 0..5 {
        for word in [Word::Yes, Word::No] {
            assert_eq!(refused(stand.press("U0MALLORY", word)).0, "not_an_approver");
        }
    }
    let refusals = stand.refusals();
    assert_eq!(refusals.len(), 2, "one an hour for each thing that was tried: {refusals:?}");
    assert!(refusals.iter().all(|(actor, _)| actor == "slack:U0MALLORY"), "{refusals:?}");
    assert_eq!(stand.simulation.stage_name(), Some("gated"));
    stand.simulation.run_for(3600);
    assert_eq!(refused(stand.press("U0MALLORY", Word::Yes)).0, "not_an_approver");
    assert_eq!(stand.refusals().len(), 3);
}

#[test]
fn a_no_ends_it_at_once_with_its_reason() {
    let mut stand = Stand::new();
    stand.asked(1, "somebody");
    stand.press(ADA, Word::Yes).expect("taken");
    stand.press(BOB, Word::No).expect("taken");
    let (verdict, reason) = stand.ends_as(1).expect("it is over");
    assert_eq!((verdict, reason.as_str()), (Verdict::Rejected, "by bob: as discussed"));
}

#[test]
fn a_yes_to_what_a_newer_release_has_displaced_is_refused() {
    let mut stand = Stand::new();
    stand.asked(1, "somebody");
    let (number, plan) = stand.waits();
    stand.press(ADA, Word::Yes).expect("taken");
    stand.asked(2, "somebody");
    assert_eq!(stand.ends_as(number).map(|(verdict, _)| verdict), Some(Verdict::Superseded));
    let (code, words) = refused(stand.press_on(BOB, Word::Yes, number, &plan));
    assert_eq!(code, "superseded");
    assert!(words.contains("has given way to a newer release"), "{words}");
    // What was said to the old one counts for nothing.
    let second = stand.press(BOB, Word::Yes).expect("taken");
    assert_eq!(second.approvals, 1);
    assert!(stand.refusals().iter().any(|(actor, _)| actor == &format!("slack:{BOB}")), "{:?}", stand.refusals());
    // Neither does the old plan's number with the new deployment's, nor the other way round.
    let (newer, _) = stand.waits();
    assert_eq!(refused(stand.press_on(BOB, Word::No, newer, &plan)).0, "plan_changed");
}

#[test]
fn a_changed_plan_is_answered_anew() {
    let mut stand = Stand::new();
    stand.asked(1, "somebody");
    let (number, plan) = stand.waits();
    stand.press(ADA, Word::Yes).expect("taken");
    let original = stand.policy.clone();
    let api = name("api");
    let target = stand.policy.environments.get_mut(&name("prod")).and_then(|prod| prod.targets.get_mut(&api));
    target.expect("the target").strategy.bake = Seconds(17);
    stand.simulation.apply_policy(&stand.policy, "another bake");
    // Before the target has seen it, too.
    assert_eq!(refused(stand.press_on(BOB, Word::Yes, number, &plan)).0, "plan_changed");
    stand.simulation.run_for(120);
    let (same, other) = stand.waits();
    assert!(same == number && other != plan, "{}", stand.simulation.story());
    assert_eq!(refused(stand.press_on(BOB, Word::Yes, number, &plan)).0, "plan_changed");
    let bob = stand.press(BOB, Word::Yes).expect("taken");
    assert_eq!(bob.approvals, 1, "ada's yes was to another plan");

    // The first plan comes back: whoever answered it before is asked again, and their answer counts again.
    stand.simulation.apply_policy(&original, "the first one again");
    stand.simulation.run_for(120);
    assert_eq!(stand.waits().1, plan, "{}", stand.simulation.story());
    let again = stand.press(ADA, Word::Yes).expect("taken");
    assert!(again.command.new && again.approvals == 1, "{again:?}");
    stand.press(BOB, Word::Yes).expect("taken");
    assert_ne!(stand.simulation.stage_name(), Some("gated"), "{}", stand.simulation.story());
}

#[test]
fn too_late_is_too_late() {
    let mut stand = Stand::new();
    stand.asked(1, "somebody");
    let (number, plan) = stand.waits();
    let asked_at = stand.simulation.state().and_then(|state| state.running?.gates?.asked_at).expect("asked");
    stand.simulation.run_until(Seconds(4 * 3600 - 2).after(asked_at));
    assert_eq!(stand.simulation.stage_name(), Some("gated"));
    stand.simulation.run_for(120);
    let (verdict, _) = stand.ends_as(number).expect("it is over");
    assert_eq!(verdict, Verdict::Expired);
    let (code, words) = refused(stand.press_on(ADA, Word::Yes, number, &plan));
    assert_eq!(code, "not_waiting");
    assert!(words.contains("(expired"), "{words}");
}

#[test]
fn what_has_begun_is_not_asked_about_any_more() {
    let mut stand = Stand::new();
    stand.asked(1, "somebody");
    let (number, plan) = stand.waits();
    stand.press(ADA, Word::Yes).expect("taken");
    stand.press(BOB, Word::Yes).expect("taken");
    assert!(stand.simulation.run_until_that(600, |simulation| simulation.stage_name() != Some("gated")));
    let (code, words) = refused(stand.press_on("U078IJ9KL", Word::No, number, &plan));
    assert_eq!(code, "not_waiting");
    assert!(words.contains("is past its gates"), "{words}");
    assert!(stand.simulation.run_until_rest(7200));
    let (_, words) = refused(stand.press_on("U078IJ9KL", Word::No, number, &plan));
    assert!(words.contains("is over (succeeded"), "{words}");
    assert_eq!(refused(stand.press_on(ADA, Word::Yes, 99, &plan)).1, "there is no deployment #99 of shop/api/prod");
}

#[test]
fn a_target_that_is_no_more_and_an_environment_that_asks_nobody() {
    let mut stand = Stand::new();
    stand.asked(1, "somebody");
    let (number, plan) = stand.waits();
    stand.policy.environments.get_mut(&name("prod")).expect("prod").entry.approval = None;
    stand.simulation.apply_policy(&stand.policy, "nobody is asked");
    assert_eq!(refused(stand.press_on(ADA, Word::No, number, &plan)).0, "no_approval");
    stand.target = TargetId::parse("shop/web/prod").expect("a target");
    let refusal = stand.press_on(ADA, Word::Yes, 1, &plan).expect_err("no such target");
    assert_eq!((refusal.status, refusal.code.as_str()), (404, "unknown_target"));
    assert!(!refusal.message.contains("shop/api"), "{}", refusal.message);
    assert!(
        stand.simulation.ledger().store().commands(&stand.target).is_empty(),
        "nothing is written of what is not there"
    );
}

struct Fixed(Timestamp);

impl engine::Clock for Fixed {
    fn now(&self) -> Timestamp {
        self.0
    }

    fn lease_id(&self) -> engine::LeaseId {
        engine::LeaseId("lease".to_owned())
    }
}

/// A wake that is lost: the sweeper finds the command.
struct Silent;

impl engine::WakeQueue for Silent {
    async fn send(&self, _: &engine::Wake, _: Seconds) -> Result<(), String> {
        Err("lost".to_owned())
    }
}
