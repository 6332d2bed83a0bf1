//! Chats: one thread a release, one message a deployment in it, edited in place; buttons while people are asked.

use crate::ports::{Dies, Ports, Said};
use crate::street::{HOUR, Plan, Street, target};
use engine::approving::slack::{APPROVE, ButtonValue, REJECT};
use engine::{PATIENCE_WITH_CHATS, SendError};
use rollout::journal::{Fact, JournalEntry};
use rollout::policy::{Facts, NotificationPolicy, Receiver};
use rollout::stage::Verdict;
use rollout::{Instruction, TargetId};
use simulation::world::ImageBehaviour;
use std::collections::BTreeMap;

const ROOM: &str = "C012AB3CD";

fn chat(facts: Facts, environments: &[&str]) -> NotificationPolicy {
    NotificationPolicy {
        receiver: Receiver::Slack(ROOM.to_owned()),
        environments: environments.iter().map(|it| crate::street::name(it)).collect(),
        services: vec![],
        facts,
    }
}

fn targets() -> [TargetId; 2] {
    [target("shop/api/dev"), target("shop/api/prod")]
}

/// dev by push, prod by itself where two people say yes; a chat is told of both.
fn street(routes: Vec<NotificationPolicy>) -> Street {
    let plan = Plan::of(&["api/dev", "api/prod"]).promoted("prod", "dev", 0).approved("prod");
    plan.policy(move |policy| policy.notifications = routes).build()
}

/// The notifier, beside a street: told of what was written since it was last told.
struct Listener {
    ports: Ports,
    heard: BTreeMap<TargetId, usize>,
}

impl Listener {
    fn of(street: &Street) -> Self {
        Self { ports: Ports::over(street.simulation.ledger()), heard: BTreeMap::new() }
    }

    fn news(&mut self, street: &Street) -> Vec<Vec<JournalEntry>> {
        self.ports.world().now = Some(street.simulation.now());
        let mut news = Vec::new();
        for target in targets() {
            let journal = street.journal(&target);
            let heard = self.heard.entry(target).or_default();
            news.push(journal[*heard..].to_vec());
            *heard = journal.len();
        }
        news
    }

    #[track_caller]
    fn listen(&mut self, street: &Street) {
        for entries in self.news(street) {
            self.ports.tell(&entries);
        }
    }

    fn chats(&self) -> Vec<Said> {
        self.ports.world().chats.clone()
    }

    /// The one thread, and what lies in it.
    #[track_caller]
    fn thread(&self) -> (Said, Vec<Said>) {
        let (roots, answers): (Vec<Said>, Vec<Said>) = self.chats().into_iter().partition(|it| it.thread.is_none());
        let [root] = roots.as_slice() else { panic!("{} threads: {roots:?}", roots.len()) };
        assert!(answers.iter().all(|it| it.thread.as_deref() == Some(root.id.as_str())), "{answers:?}");
        (root.clone(), answers)
    }

    /// Lets things happen, and listens every few seconds.
    #[track_caller]
    fn follow(&mut self, street: &mut Street, seconds: u64, what: &str, reached: impl Fn(&Street) -> bool) {
        for _ in 0..seconds / 5 {
            if reached(street) {
                return self.listen(street);
            }
            street.simulation.run_for(5);
            self.listen(street);
        }
        panic!("{what}: not within {seconds} s{}", street.stories());
    }
}

fn asks(street: &Street, target: &TargetId) -> bool {
    street.waits_at(target) == ["approval"]
}

#[test]
fn a_release_is_one_thread_with_one_message_a_deployment_edited_to_its_end() {
    let mut street = street(vec![chat(Facts::Attention, &[])]);
    let [dev, prod] = targets();
    let mut listener = Listener::of(&street);

    street.push("api", 1);
    listener.follow(&mut street, HOUR, "it begins", |street| street.state(&dev).running.is_some());
    let (root, answers) = listener.thread();
    assert!(root.words().starts_with("shop/api v1: dev #1: "), "{}", root.words());
    assert_eq!(answers.len(), 1);
    assert!(answers[0].words().starts_with("shop/api/dev #1, v1: "), "{}", answers[0].words());
    assert_eq!(answers[0].buttons(), []);

    listener.follow(&mut street, 2 * HOUR, "people are asked", |street| asks(street, &prod));
    let (root, answers) = listener.thread();
    assert!(root.words().starts_with("shop/api v1: dev "), "{}", root.words());
    assert!(root.words().contains("prod #1: waiting for approval (0 of 2)"), "{}", root.words());
    let [_, asking] = answers.as_slice() else { panic!("{answers:?}") };
    let words = asking.words();
    for person in ["<@UADA>", "<@UBOB>", "<@UEVE>"] {
        assert!(asking.said[0].text.contains(person), "whoever may answer is called: {words}");
    }
    assert!(words.contains("switchback_reason"), "{words}");
    let (number, plan) = street.plan(&prod);
    let buttons = asking.buttons();
    assert_eq!(buttons.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), [APPROVE, REJECT]);
    for (_, value) in &buttons {
        let on: ButtonValue = serde_json::from_str(value).expect("the door reads it");
        assert_eq!((&on.target, on.deployment, &on.plan), (&prod, number, &plan));
    }

    street.approve(&prod, "UADA");
    listener.follow(&mut street, 60, "ada's yes", |street| {
        street.running(&prod).gates.is_some_and(|it| it.votes.len() == 1)
    });
    let (root, answers) = listener.thread();
    assert!(root.words().contains("prod #1: waiting for approval (1 of 2)"), "{}", root.words());
    assert!(answers[1].words().contains("Approved by: ada (1 of 2)"), "{}", answers[1].words());
    assert_eq!(answers[1].buttons().len(), 2);

    street.approve(&prod, "UBOB");
    listener.follow(&mut street, HOUR, "it begins", |street| street.waits_at(&prod).is_empty());
    let (_, answers) = listener.thread();
    assert_eq!(answers[1].buttons(), [], "what nobody is asked any more has no buttons");
    assert!(!answers[1].words().contains("switchback_reason"), "{}", answers[1].words());

    listener.follow(&mut street, HOUR, "it ends", |street| street.verdicts(&prod) == [Verdict::Succeeded]);
    let (root, answers) = listener.thread();
    assert_eq!(answers.len(), 2, "one message a deployment");
    assert!(answers[1].words().starts_with("shop/api/prod #1, v1: Succeeded"), "{}", answers[1].words());
    assert!(root.words().starts_with("shop/api v1: dev live, verified · prod live, verified"), "{}", root.words());
    assert!(answers[1].said.len() > 5, "it was edited as it went on");
    assert!(listener.ports.world().letters.is_empty());
}

#[test]
fn a_bad_release_says_so_in_its_thread_and_the_one_before_is_live_again_in_its_own() {
    let mut street = street(vec![chat(Facts::Attention, &["dev"])]);
    let [dev, _] = targets();
    let mut listener = Listener::of(&street);
    street.push("api", 1);
    listener.follow(&mut street, HOUR, "v1 is live", |street| street.verdicts(&dev) == [Verdict::Succeeded]);
    street.set_image(2, ImageBehaviour::failing(0.5));
    street.push("api", 2);
    let both = [Verdict::Succeeded, Verdict::RolledBack];
    listener.follow(&mut street, HOUR, "v2 is switched back", |street| street.verdicts(&dev) == both);
    let roots: Vec<String> = listener.chats().iter().filter(|it| it.thread.is_none()).map(Said::words).collect();
    assert_eq!(roots.len(), 2, "{roots:?}");
    assert!(roots[0].starts_with("shop/api v1: dev live, verified"), "{}", roots[0]);
    assert!(roots[1].starts_with("shop/api v2: dev rolled back (#2)"), "{}", roots[1]);

    // Somebody goes back from v1, too: its thread says where it is no longer.
    street.ask(&dev, Instruction::Rollback, crate::street::carol(), "v1 is slow");
    listener.follow(&mut street, HOUR, "nothing runs", |street| street.state(&dev).running.is_none());
    street.push("api", 3);
    let ended = |street: &Street| street.verdicts(&dev).len() >= 3 && street.state(&dev).running.is_none();
    listener.follow(&mut street, HOUR, "v3 is live", ended);
    let v1 = listener.chats()[0].words();
    assert!(v1.starts_with("shop/api v1: dev verified"), "{v1}");
}

#[test]
fn a_chat_that_is_told_of_ends_alone_has_a_message_from_then_on() {
    let mut street = street(vec![chat(Facts::Verdicts, &["dev"])]);
    let [dev, _] = targets();
    let mut listener = Listener::of(&street);
    street.push("api", 1);
    listener.follow(&mut street, HOUR, "it shifts", |street| street.simulation.at(&dev).stage_name() == Some("baking"));
    assert_eq!(listener.chats().len(), 0);
    listener.follow(&mut street, HOUR, "it ends", |street| street.verdicts(&dev) == [Verdict::Succeeded]);
    let (_, answers) = listener.thread();
    assert_eq!(answers.len(), 1);
    assert!(answers[0].words().contains("Succeeded"), "{}", answers[0].words());
}

#[test]
fn a_redelivery_posts_nothing_and_edits_nothing() {
    let mut street = street(vec![chat(Facts::All, &[])]);
    let [_, prod] = targets();
    let mut listener = Listener::of(&street);
    street.push("api", 1);
    street.until(2 * HOUR, "people are asked", |street| asks(street, &prod));
    let news = listener.news(&street);
    for entries in &news {
        listener.ports.tell(entries);
    }
    let said = |listener: &Listener| listener.chats().iter().map(|it| it.said.len()).sum::<usize>();
    let before = (listener.chats().len(), said(&listener));
    for _ in 0..3 {
        for entries in &news {
            listener.ports.tell(entries);
        }
    }
    assert_eq!((listener.chats().len(), said(&listener)), before);
    assert_eq!(before.0, 3, "a thread and two deployments");
}

#[test]
fn a_death_at_any_call_leaves_one_message_that_says_the_newest_but_in_the_one_gap() {
    let mut street = street(vec![chat(Facts::Attention, &[])]);
    let [dev, prod] = targets();
    street.push("api", 1);
    street.until(2 * HOUR, "people are asked", |street| asks(street, &prod));
    let journal = street.journal(&prod);
    let other = street.journal(&dev)[..1].to_vec();
    let mut deaths = 0;
    for number in 1.. {
        let mut last = true;
        for dies in [Dies::Before, Dies::After] {
            let mut listener = Listener::of(&street);
            // What was posted is remembered in the ledger: each death has one of its own.
            listener.ports.ledger = forgetful(&street);
            listener.ports.world().now = Some(street.simulation.now());
            listener.ports.world().death = Some((number, dies));
            let both = [journal.clone(), other.clone()];
            if both.iter().any(|entries| listener.ports.invoke(entries).is_none()) {
                (last, deaths) = (false, deaths + 1);
            }
            let at_call = listener.ports.world().calls.get(number - 1).copied();
            listener.ports.world().death = None;
            for _ in 0..5 {
                for entries in &both {
                    let _ = listener.ports.invoke(entries).expect("nobody dies any more");
                }
                listener.ports.later(30);
            }
            for entries in &both {
                listener.ports.tell(entries);
            }
            let chats = listener.chats();
            let gap = matches!((at_call, dies), (Some("say"), Dies::After) | (Some("note post"), Dies::Before));
            let most = if gap { 4 } else { 3 };
            let context = format!("call {number} ({at_call:?}), {dies:?}: {chats:#?}");
            assert!((3..=most).contains(&chats.len()), "{context}");
            // The newest of each is the one that is edited.
            let asking = chats.iter().rev().find(|it| it.words().starts_with("shop/api/prod #1")).expect("posted");
            assert_eq!(asking.buttons().len(), 2, "{context}");
            let root = chats.iter().rev().find(|it| it.thread.is_none()).expect("a thread");
            assert!(root.words().contains("prod #1: waiting for approval"), "{context}");
            assert!(listener.ports.world().letters.is_empty(), "{context}");
        }
        if last {
            break;
        }
    }
    assert!(deaths > 20, "{deaths}");
}

/// The street's ledger as it is, without what was posted.
fn forgetful(street: &Street) -> simulation::ledger::MemoryLedger {
    let copy = simulation::ledger::MemoryLedger::new();
    *copy.store() = street.simulation.ledger().store().clone();
    copy
}

#[test]
fn a_chat_that_is_away_holds_up_a_quarter_of_an_hour_and_says_the_newest_when_it_is_back() {
    let mut street = street(vec![chat(Facts::Attention, &["dev"])]);
    let [dev, _] = targets();
    let mut listener = Listener::of(&street);
    street.push("api", 1);
    street.until(HOUR, "it begins", |street| !street.journal(&dev).is_empty());
    let [entries, _] = listener.news(&street).try_into().expect("two targets");
    listener.ports.world().chat = Some(SendError::Unsure { reason: "ratelimited".to_owned() });
    let told = listener.ports.invoke(&entries).expect("nobody dies");
    let stopped = told.stopped.map(|it| it.to_string());
    assert_eq!((told.entries, stopped.as_deref()), (0, Some("slack:C012AB3CD was not told: ratelimited")));
    // The bus was told all the same, once.
    assert_eq!(listener.ports.world().told.len(), 1);

    listener.ports.later(PATIENCE_WITH_CHATS.0 + 1);
    listener.ports.tell(&entries);
    assert_eq!(listener.ports.world().told.len(), entries.len());
    let letters = listener.ports.world().letters.clone();
    assert!(!letters.is_empty() && letters.iter().all(|letter| letter.contains("ratelimited")), "{letters:?}");

    listener.ports.world().chat = None;
    street.until(HOUR, "it ends", |street| street.verdicts(&dev) == [Verdict::Succeeded]);
    listener.listen(&street);
    let (root, answers) = listener.thread();
    assert!(root.words().contains("dev live, verified"), "{}", root.words());
    assert!(answers[0].words().contains("Succeeded"), "{}", answers[0].words());
}

#[test]
fn a_chat_that_refuses_holds_up_nobody_and_lies_among_the_dead_letters_once_an_entry() {
    let mut street = street(vec![chat(Facts::Attention, &["dev"])]);
    let [dev, _] = targets();
    let mut listener = Listener::of(&street);
    listener.ports.world().chat = Some(SendError::Refused { reason: "channel_not_found".to_owned() });
    street.push("api", 1);
    listener.follow(&mut street, HOUR, "it ends", |street| street.verdicts(&dev) == [Verdict::Succeeded]);
    let wanted = street.count(&dev, Fact::wants_attention);
    let letters = listener.ports.world().letters.clone();
    assert_eq!(letters.len(), wanted, "{letters:?}");
    assert!(letters.iter().all(|letter| letter.contains("channel_not_found")), "{letters:?}");
}

#[test]
fn an_edit_whose_answer_is_lost_is_made_again() {
    let mut street = street(vec![chat(Facts::All, &["dev"])]);
    let [dev, _] = targets();
    let mut listener = Listener::of(&street);
    street.push("api", 1);
    listener.follow(&mut street, HOUR, "it begins", |street| street.state(&dev).running.is_some());
    street.until(HOUR, "it bakes", |street| street.simulation.at(&dev).stage_name() == Some("baking"));
    let [entries, _] = listener.news(&street).try_into().expect("two targets");
    listener.ports.world().answer_lost = true;
    let told = listener.ports.invoke(&entries).expect("nobody dies");
    assert!(told.stopped.is_some(), "nobody knows what it says: {told:?}");
    listener.ports.tell(&entries);
    let (_, answers) = listener.thread();
    assert_eq!(answers.len(), 1, "an edit may be made twice, and posts nothing");
    assert!(answers[0].words().contains("v1: Baking"), "{}", answers[0].words());
}

#[test]
fn a_message_that_somebody_took_away_is_posted_again_with_the_next_news() {
    let mut street = street(vec![chat(Facts::Attention, &["dev"])]);
    let [dev, _] = targets();
    let mut listener = Listener::of(&street);
    street.push("api", 1);
    listener.follow(&mut street, HOUR, "it begins", |street| street.state(&dev).running.is_some());
    let taken = listener.chats().last().expect("posted").id.clone();
    listener.ports.world().gone.push(taken.clone());
    listener.follow(&mut street, HOUR, "it ends", |street| street.verdicts(&dev) == [Verdict::Succeeded]);
    let (_, answers) = listener.thread();
    let [old, new] = answers.as_slice() else { panic!("{answers:?}") };
    assert_eq!(old.id, taken);
    assert!(new.words().contains("Succeeded"), "{}", new.words());
}

#[test]
fn people_who_are_asked_after_the_message_was_posted_are_called_to_it_once() {
    let plan = Plan::of(&["api/dev", "api/prod"]).promoted("prod", "dev", 600).approved("prod");
    let mut street = plan.policy(|policy| policy.notifications = vec![chat(Facts::All, &["prod"])]).build();
    let [_, prod] = targets();
    let mut listener = Listener::of(&street);
    street.push("api", 1);
    listener.follow(&mut street, 2 * HOUR, "it soaks", |street| {
        street.waits_at(&prod) == ["soak", "approval"] || street.waits_at(&prod) == ["soak"]
    });
    assert_eq!(listener.thread().1.len(), 1);
    assert!(!listener.thread().1[0].words().contains("<@UADA>"), "{}", listener.thread().1[0].words());
    street.until(2 * HOUR, "people are asked", |street| {
        street.count(&prod, |fact| matches!(fact, Fact::ApprovalRequested { .. })) > 0
    });
    let news = listener.news(&street);
    for _ in 0..3 {
        for entries in &news {
            listener.ports.tell(entries);
        }
    }
    let (_, answers) = listener.thread();
    let [message, call] = answers.as_slice() else { panic!("{answers:#?}") };
    assert_eq!(message.buttons().len(), 2);
    assert!(call.words().contains("<@UADA>") && call.buttons().is_empty(), "{}", call.words());
}

#[test]
fn two_targets_of_a_service_begin_one_thread() {
    let plan = Plan::of(&["api/dev", "api/prod"]);
    let mut street = plan.policy(|policy| policy.notifications = vec![chat(Facts::Attention, &[])]).build();
    let [dev, prod] = targets();
    let mut listener = Listener::of(&street);
    street.push("api", 1);
    street
        .until(HOUR, "both begin", |street| [&dev, &prod].iter().all(|target| street.state(target).running.is_some()));
    let [one, two] = listener.news(&street).try_into().expect("two targets");
    // The first dies with the claim to the thread, before it has posted: the second waits for it, and does not begin another.
    let at = (1..60).find(|number| {
        let ports = Ports::over(&forgetful(&street));
        ports.world().now = Some(street.simulation.now());
        ports.world().death = Some((*number, Dies::Before));
        ports.invoke(&one).is_none() && ports.world().calls.last() == Some(&"say")
    });
    listener.ports.world().death = Some((at.expect("it posts"), Dies::Before));
    assert!(listener.ports.invoke(&one).is_none());
    listener.ports.world().death = None;
    let told = listener.ports.invoke(&two).expect("nobody dies");
    assert!(told.stopped.is_some(), "{told:?}");
    listener.ports.later(91);
    listener.ports.tell(&two);
    listener.ports.tell(&one);
    let (root, answers) = listener.thread();
    assert!(root.words().contains("dev #1") && root.words().contains("prod #1"), "{}", root.words());
    assert_eq!(answers.len(), 2);
}

#[test]
fn what_belongs_to_no_deployment_is_told_by_itself_once() {
    let mut street = street(vec![chat(Facts::All, &["prod"])]);
    let [_, prod] = targets();
    let mut listener = Listener::of(&street);
    street.push("api", 1);
    listener.follow(&mut street, 2 * HOUR, "people are asked", |street| asks(street, &prod));
    // Nothing like it was ever asked there.
    street.ask(&prod, Instruction::Resume, crate::street::carol(), "try");
    let refused = |street: &Street| !street.refused(&prod).is_empty();
    street.until(60, "it is refused", refused);
    let before = listener.chats().len();
    let news = listener.news(&street);
    for _ in 0..2 {
        for entries in &news {
            listener.ports.tell(entries);
        }
    }
    let chats = listener.chats();
    let alone = news.iter().flatten().filter(|entry| entry.deployment.is_none()).count();
    assert_eq!(chats.len() - before, alone, "{chats:#?}");
    let (_, answers) = listener.thread();
    assert!(answers.iter().any(|it| it.words().contains("nothing is frozen here")), "{answers:#?}");
}
