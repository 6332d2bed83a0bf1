//! Chats: one thread a release, one message a deployment in it, edited in place; buttons while people are asked.

use crate::pipeline::{HOUR, Pipeline, PipelineBuilder, target};
use crate::ports::{CrashPoint, Ports, RecordedMessage};
use api::approvals::slack::ButtonValue;
use engine::{CHAT_RETRY_WINDOW, SendError};
use rollout::journal::{Fact, JournalEntry};
use rollout::notification::{FactFilter, NotificationPolicy, Receiver};
use rollout::verdict::Verdict;
use rollout::{Instruction, Seconds, TargetId};
use simulation::world::ImageBehaviour;
use std::collections::BTreeMap;

const CHANNEL: &str = "C012AB3CD";

fn chat(facts: FactFilter, environments: &[&str]) -> NotificationPolicy {
    NotificationPolicy {
        receiver: Receiver::Slack(CHANNEL.to_owned()),
        environments: environments.iter().map(|it| crate::pipeline::name(it)).collect(),
        services: vec![],
        facts,
    }
}

fn targets() -> [TargetId; 2] {
    [target("shop/api/dev"), target("shop/api/prod")]
}

/// dev by push, prod by itself where two people say yes; a chat is notified of both.
fn pipeline(routes: Vec<NotificationPolicy>) -> Pipeline {
    let plan = PipelineBuilder::of(&["api/dev", "api/prod"]).promoted("prod", "dev", 0).approved("prod");
    plan.policy(move |policy| policy.notifications = routes).build()
}

/// The notifier, beside a street: it is passed the entries written since it was last invoked.
struct Notifier {
    ports: Ports,
    delivered_count: BTreeMap<TargetId, usize>,
}

impl Notifier {
    fn of(pipeline: &Pipeline) -> Self {
        Self { ports: Ports::with_ledger(pipeline.simulation.ledger()), delivered_count: BTreeMap::new() }
    }

    fn new_entries(&mut self, pipeline: &Pipeline) -> Vec<Vec<JournalEntry>> {
        self.ports.world().now = Some(pipeline.simulation.now());
        let mut new_entries = Vec::new();
        for target in targets() {
            let journal = pipeline.journal(&target);
            let delivered_count = self.delivered_count.entry(target).or_default();
            new_entries.push(journal[*delivered_count..].to_vec());
            *delivered_count = journal.len();
        }
        new_entries
    }

    #[track_caller]
    fn deliver_new_entries(&mut self, pipeline: &Pipeline) {
        for entries in self.new_entries(pipeline) {
            self.ports.deliver(&entries);
        }
    }

    fn messages(&self) -> Vec<RecordedMessage> {
        self.ports.world().messages.clone()
    }

    /// The one thread, and what lies in it.
    #[track_caller]
    fn thread(&self) -> (RecordedMessage, Vec<RecordedMessage>) {
        let (roots, answers): (Vec<RecordedMessage>, Vec<RecordedMessage>) =
            self.messages().into_iter().partition(|it| it.thread.is_none());
        let [root] = roots.as_slice() else { panic!("{} threads: {roots:?}", roots.len()) };
        assert!(answers.iter().all(|it| it.thread.as_deref() == Some(root.id.as_str())), "{answers:?}");
        (root.clone(), answers)
    }

    /// Lets things happen, and listens every few seconds.
    #[track_caller]
    fn run_until(&mut self, pipeline: &mut Pipeline, seconds: u64, what: &str, reached: impl Fn(&Pipeline) -> bool) {
        for _ in 0..seconds / 5 {
            if reached(pipeline) {
                return self.deliver_new_entries(pipeline);
            }
            pipeline.simulation.run_for(5);
            self.deliver_new_entries(pipeline);
        }
        panic!("{what}: not within {seconds} s{}", pipeline.journal_texts());
    }
}

fn is_waiting_for_approval(pipeline: &Pipeline, target: &TargetId) -> bool {
    pipeline.waiting_gates(target) == ["approval"]
}

#[test]
fn a_release_is_one_thread_with_one_message_per_deployment() {
    let mut pipeline = pipeline(vec![chat(FactFilter::Attention, &[])]);
    let [dev, prod] = targets();
    let mut notifier = Notifier::of(&pipeline);

    pipeline.push("api", 1);
    notifier.run_until(&mut pipeline, HOUR, "it begins", |pipeline| pipeline.state(&dev).running.is_some());
    let (root, answers) = notifier.thread();
    assert!(root.latest_text().starts_with("shop/api v1: dev #1: "), "{}", root.latest_text());
    assert_eq!(answers.len(), 1);
    assert!(answers[0].latest_text().starts_with("shop/api/dev #1, v1: "), "{}", answers[0].latest_text());
    assert_eq!(answers[0].buttons(), []);

    notifier
        .run_until(&mut pipeline, 2 * HOUR, "people are asked", |pipeline| is_waiting_for_approval(pipeline, &prod));
    let (root, answers) = notifier.thread();
    assert!(root.latest_text().starts_with("shop/api v1: dev "), "{}", root.latest_text());
    assert!(root.latest_text().contains("prod #1: waiting for approval (0 of 2)"), "{}", root.latest_text());
    let [_, asking] = answers.as_slice() else { panic!("{answers:?}") };
    let latest_text = asking.latest_text();
    for person in ["<@UADA>", "<@UBOB>", "<@UEVE>"] {
        assert!(asking.versions[0].text.contains(person), "whoever may answer is called: {latest_text}");
    }
    assert!(latest_text.contains("switchback_reason"), "{latest_text}");
    let (number, plan) = pipeline.plan(&prod);
    let buttons = asking.buttons();
    assert_eq!(
        buttons.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(),
        [view::slack::APPROVE, view::slack::REJECT]
    );
    for (_, value) in &buttons {
        let on: ButtonValue = serde_json::from_str(value).expect("the door reads it");
        assert_eq!((&on.target, on.deployment, &on.plan), (&prod, number, &plan));
    }

    pipeline.approve(&prod, "UADA");
    notifier.run_until(&mut pipeline, 60, "ada's yes", |pipeline| {
        pipeline.running(&prod).gates.is_some_and(|it| it.votes.len() == 1)
    });
    let (root, answers) = notifier.thread();
    assert!(root.latest_text().contains("prod #1: waiting for approval (1 of 2)"), "{}", root.latest_text());
    assert!(answers[1].latest_text().contains("Approved by: ada (1 of 2)"), "{}", answers[1].latest_text());
    assert_eq!(answers[1].buttons().len(), 2);

    pipeline.approve(&prod, "UBOB");
    notifier.run_until(&mut pipeline, HOUR, "it begins", |pipeline| pipeline.waiting_gates(&prod).is_empty());
    let (_, answers) = notifier.thread();
    assert_eq!(answers[1].buttons(), [], "what nobody is asked any more has no buttons");
    assert!(!answers[1].latest_text().contains("switchback_reason"), "{}", answers[1].latest_text());

    notifier.run_until(&mut pipeline, HOUR, "it ends", |pipeline| pipeline.verdicts(&prod) == [Verdict::Succeeded]);
    let (root, answers) = notifier.thread();
    assert_eq!(answers.len(), 2, "one message a deployment");
    assert!(answers[1].latest_text().starts_with("shop/api/prod #1, v1: Succeeded"), "{}", answers[1].latest_text());
    assert!(
        root.latest_text().starts_with("shop/api v1: dev live, verified · prod live, verified"),
        "{}",
        root.latest_text()
    );
    assert!(answers[1].versions.len() > 5, "it was edited as it went on");
    assert!(notifier.ports.world().dead_letters.is_empty());
}

#[test]
fn a_rollback_updates_the_threads_of_both_releases() {
    let mut pipeline = pipeline(vec![chat(FactFilter::Attention, &["dev"])]);
    let [dev, _] = targets();
    let mut notifier = Notifier::of(&pipeline);
    pipeline.push("api", 1);
    notifier.run_until(&mut pipeline, HOUR, "v1 is live", |pipeline| pipeline.verdicts(&dev) == [Verdict::Succeeded]);
    pipeline.set_image(2, ImageBehaviour::failing(0.5));
    pipeline.push("api", 2);
    let both = [Verdict::Succeeded, Verdict::RolledBack];
    notifier.run_until(&mut pipeline, HOUR, "v2 is switched back", |pipeline| pipeline.verdicts(&dev) == both);
    let roots: Vec<String> =
        notifier.messages().iter().filter(|it| it.thread.is_none()).map(RecordedMessage::latest_text).collect();
    assert_eq!(roots.len(), 2, "{roots:?}");
    assert!(roots[0].starts_with("shop/api v1: dev live, verified"), "{}", roots[0]);
    assert!(roots[1].starts_with("shop/api v2: dev rolled back (#2)"), "{}", roots[1]);

    // Somebody goes back from v1, too: its thread says where it is no longer.
    pipeline.ask(&dev, Instruction::Rollback, crate::pipeline::carol(), "v1 is slow");
    notifier.run_until(&mut pipeline, HOUR, "nothing runs", |pipeline| pipeline.state(&dev).running.is_none());
    pipeline.push("api", 3);
    let ended = |pipeline: &Pipeline| pipeline.verdicts(&dev).len() >= 3 && pipeline.state(&dev).running.is_none();
    notifier.run_until(&mut pipeline, HOUR, "v3 is live", ended);
    let v1 = notifier.messages()[0].latest_text();
    assert!(v1.starts_with("shop/api v1: dev verified"), "{v1}");
}

#[test]
fn a_verdicts_only_chat_gets_its_message_at_the_end() {
    let mut pipeline = pipeline(vec![chat(FactFilter::Verdicts, &["dev"])]);
    let [dev, _] = targets();
    let mut notifier = Notifier::of(&pipeline);
    pipeline.push("api", 1);
    notifier.run_until(&mut pipeline, HOUR, "it shifts", |pipeline| {
        pipeline.simulation.at(&dev).stage_name() == Some("baking")
    });
    assert_eq!(notifier.messages().len(), 0);
    notifier.run_until(&mut pipeline, HOUR, "it ends", |pipeline| pipeline.verdicts(&dev) == [Verdict::Succeeded]);
    let (_, answers) = notifier.thread();
    assert_eq!(answers.len(), 1);
    assert!(answers[0].latest_text().contains("Succeeded"), "{}", answers[0].latest_text());
}

#[test]
fn a_redelivery_neither_posts_nor_edits() {
    let mut pipeline = pipeline(vec![chat(FactFilter::All, &[])]);
    let [_, prod] = targets();
    let mut notifier = Notifier::of(&pipeline);
    pipeline.push("api", 1);
    pipeline.until(2 * HOUR, "people are asked", |pipeline| is_waiting_for_approval(pipeline, &prod));
    let new_entries = notifier.new_entries(&pipeline);
    for entries in &new_entries {
        notifier.ports.deliver(entries);
    }
    let versions = |notifier: &Notifier| notifier.messages().iter().map(|it| it.versions.len()).sum::<usize>();
    let before = (notifier.messages().len(), versions(&notifier));
    for _ in 0..3 {
        for entries in &new_entries {
            notifier.ports.deliver(entries);
        }
    }
    assert_eq!((notifier.messages().len(), versions(&notifier)), before);
    assert_eq!(before.0, 3, "a thread and two deployments");
}

#[test]
fn a_crash_at_any_call_leaves_one_current_message() {
    let mut pipeline = pipeline(vec![chat(FactFilter::Attention, &[])]);
    let [dev, prod] = targets();
    pipeline.push("api", 1);
    pipeline.until(2 * HOUR, "people are asked", |pipeline| is_waiting_for_approval(pipeline, &prod));
    let journal = pipeline.journal(&prod);
    let other = pipeline.journal(&dev)[..1].to_vec();
    let mut crashes = 0;
    for number in 1.. {
        let mut last = true;
        for crash_point in [CrashPoint::Before, CrashPoint::After] {
            let mut notifier = Notifier::of(&pipeline);
            // What was posted is remembered in the ledger: each death has one of its own.
            notifier.ports.ledger = ledger_without_posts(&pipeline);
            notifier.ports.world().now = Some(pipeline.simulation.now());
            notifier.ports.world().crash_at = Some((number, crash_point));
            let both = [journal.clone(), other.clone()];
            if both.iter().any(|entries| notifier.ports.invoke(entries).is_none()) {
                (last, crashes) = (false, crashes + 1);
            }
            let crashed_call = notifier.ports.world().calls.get(number - 1).copied();
            notifier.ports.world().crash_at = None;
            for _ in 0..5 {
                for entries in &both {
                    let _ = notifier.ports.invoke(entries).expect("nobody dies any more");
                }
                notifier.ports.advance_time(30);
            }
            for entries in &both {
                notifier.ports.deliver(entries);
            }
            let messages = notifier.messages();
            let is_unrecorded_window = matches!(
                (crashed_call, crash_point),
                (Some("say"), CrashPoint::After) | (Some("note post"), CrashPoint::Before)
            );
            let max_messages = if is_unrecorded_window { 4 } else { 3 };
            let context = format!("call {number} ({crashed_call:?}), {crash_point:?}: {messages:#?}");
            assert!((3..=max_messages).contains(&messages.len()), "{context}");
            // The newest of each is the one that is edited.
            let asking =
                messages.iter().rev().find(|it| it.latest_text().starts_with("shop/api/prod #1")).expect("posted");
            assert_eq!(asking.buttons().len(), 2, "{context}");
            let root = messages.iter().rev().find(|it| it.thread.is_none()).expect("a thread");
            assert!(root.latest_text().contains("prod #1: waiting for approval"), "{context}");
            assert!(notifier.ports.world().dead_letters.is_empty(), "{context}");
        }
        if last {
            break;
        }
    }
    assert!(crashes > 20, "{crashes}");
}

/// The street's ledger as it is, without what was posted.
fn ledger_without_posts(pipeline: &Pipeline) -> simulation::ledger::MemoryLedger {
    let copy = simulation::ledger::MemoryLedger::new();
    *copy.store() = pipeline.simulation.ledger().store().clone();
    copy
}

#[test]
fn an_unavailable_chat_blocks_for_15_minutes_then_catches_up() {
    let mut pipeline = pipeline(vec![chat(FactFilter::Attention, &["dev"])]);
    let [dev, _] = targets();
    let mut notifier = Notifier::of(&pipeline);
    pipeline.push("api", 1);
    pipeline.until(HOUR, "it begins", |pipeline| !pipeline.journal(&dev).is_empty());
    let [entries, _] = notifier.new_entries(&pipeline).try_into().expect("two targets");
    notifier.ports.world().chat = Some(SendError::Unsure { reason: "ratelimited".to_owned() });
    let delivered = notifier.ports.invoke(&entries).expect("nobody dies");
    let stopped = delivered.stopped.map(|it| it.to_string());
    assert_eq!((delivered.entries, stopped.as_deref()), (0, Some("slack:C012AB3CD was not notified: ratelimited")));
    // The bus was notified all the same, once.
    assert_eq!(notifier.ports.world().delivered.len(), 1);

    notifier.ports.advance_time(CHAT_RETRY_WINDOW.0 + 1);
    notifier.ports.deliver(&entries);
    assert_eq!(notifier.ports.world().delivered.len(), entries.len());
    let dead_letters = notifier.ports.world().dead_letters.clone();
    assert!(
        !dead_letters.is_empty() && dead_letters.iter().all(|dead_letter| dead_letter.contains("ratelimited")),
        "{dead_letters:?}"
    );

    notifier.ports.world().chat = None;
    pipeline.until(HOUR, "it ends", |pipeline| pipeline.verdicts(&dev) == [Verdict::Succeeded]);
    notifier.deliver_new_entries(&pipeline);
    let (root, answers) = notifier.thread();
    assert!(root.latest_text().contains("dev live, verified"), "{}", root.latest_text());
    assert!(answers[0].latest_text().contains("Succeeded"), "{}", answers[0].latest_text());
}

#[test]
fn a_rate_limit_is_obeyed_within_the_invocation_or_by_a_redelivery() {
    let mut pipeline = pipeline(vec![chat(FactFilter::Attention, &["dev"])]);
    let [dev, _] = targets();
    let mut notifier = Notifier::of(&pipeline);
    pipeline.push("api", 1);
    pipeline.until(HOUR, "it begins", |pipeline| !pipeline.journal(&dev).is_empty());
    let [entries, _] = notifier.new_entries(&pipeline).try_into().expect("two targets");
    let start = pipeline.simulation.now();
    let end = Seconds(60).after(start);
    notifier.ports.world().chat_limited_until = Some(end);
    let delivered = notifier.ports.invoke(&entries).expect("nobody dies");
    let stopped = delivered.stopped.map(|it| it.to_string());
    assert_eq!((delivered.entries, stopped.as_deref()), (0, Some("slack:C012AB3CD was not notified: ratelimited")));
    assert_eq!(notifier.ports.world().now, Some(start), "a minute is too long to wait");

    notifier.ports.advance_time(53);
    notifier.ports.deliver(&entries);
    let world = notifier.ports.world();
    assert_eq!(world.now, Some(end), "7 s later, and not earlier");
    assert_eq!(world.calls.iter().filter(|call| **call == "wait").count(), 1);
    assert!(!world.messages.is_empty() && world.dead_letters.is_empty(), "{:?}", world.dead_letters);
}

#[test]
fn a_refusing_chat_blocks_nothing_and_dead_letters_each_entry() {
    let mut pipeline = pipeline(vec![chat(FactFilter::Attention, &["dev"])]);
    let [dev, _] = targets();
    let mut notifier = Notifier::of(&pipeline);
    notifier.ports.world().chat = Some(SendError::Refused { reason: "channel_not_found".to_owned() });
    pipeline.push("api", 1);
    notifier.run_until(&mut pipeline, HOUR, "it ends", |pipeline| pipeline.verdicts(&dev) == [Verdict::Succeeded]);
    let wanted = pipeline.count(&dev, Fact::needs_attention);
    let dead_letters = notifier.ports.world().dead_letters.clone();
    assert_eq!(dead_letters.len(), wanted, "{dead_letters:?}");
    assert!(dead_letters.iter().all(|dead_letter| dead_letter.contains("channel_not_found")), "{dead_letters:?}");
}

#[test]
fn an_edit_with_a_lost_response_is_retried() {
    let mut pipeline = pipeline(vec![chat(FactFilter::All, &["dev"])]);
    let [dev, _] = targets();
    let mut notifier = Notifier::of(&pipeline);
    pipeline.push("api", 1);
    notifier.run_until(&mut pipeline, HOUR, "it begins", |pipeline| pipeline.state(&dev).running.is_some());
    pipeline.until(HOUR, "it bakes", |pipeline| pipeline.simulation.at(&dev).stage_name() == Some("baking"));
    let [entries, _] = notifier.new_entries(&pipeline).try_into().expect("two targets");
    notifier.ports.world().lose_next_response = true;
    let delivered = notifier.ports.invoke(&entries).expect("nobody dies");
    assert!(delivered.stopped.is_some(), "nobody knows what it says: {delivered:?}");
    notifier.ports.deliver(&entries);
    let (_, answers) = notifier.thread();
    assert_eq!(answers.len(), 1, "an edit may be made twice, and posts nothing");
    assert!(answers[0].latest_text().contains("v1: Baking"), "{}", answers[0].latest_text());
}

#[test]
fn a_deleted_message_is_posted_again_on_the_next_update() {
    let mut pipeline = pipeline(vec![chat(FactFilter::Attention, &["dev"])]);
    let [dev, _] = targets();
    let mut notifier = Notifier::of(&pipeline);
    pipeline.push("api", 1);
    notifier.run_until(&mut pipeline, HOUR, "it begins", |pipeline| pipeline.state(&dev).running.is_some());
    let taken = notifier.messages().last().expect("posted").id.clone();
    notifier.ports.world().deleted.push(taken.clone());
    notifier.run_until(&mut pipeline, HOUR, "it ends", |pipeline| pipeline.verdicts(&dev) == [Verdict::Succeeded]);
    let (_, answers) = notifier.thread();
    let [old, new] = answers.as_slice() else { panic!("{answers:?}") };
    assert_eq!(old.id, taken);
    assert!(new.latest_text().contains("Succeeded"), "{}", new.latest_text());
}

#[test]
fn approvers_added_later_are_mentioned_once() {
    let plan = PipelineBuilder::of(&["api/dev", "api/prod"]).promoted("prod", "dev", 600).approved("prod");
    let mut pipeline = plan.policy(|policy| policy.notifications = vec![chat(FactFilter::All, &["prod"])]).build();
    let [_, prod] = targets();
    let mut notifier = Notifier::of(&pipeline);
    pipeline.push("api", 1);
    notifier.run_until(&mut pipeline, 2 * HOUR, "it soaks", |pipeline| {
        pipeline.waiting_gates(&prod) == ["soak", "approval"] || pipeline.waiting_gates(&prod) == ["soak"]
    });
    assert_eq!(notifier.thread().1.len(), 1);
    assert!(!notifier.thread().1[0].latest_text().contains("<@UADA>"), "{}", notifier.thread().1[0].latest_text());
    pipeline.until(2 * HOUR, "people are asked", |pipeline| {
        pipeline.count(&prod, |fact| matches!(fact, Fact::ApprovalRequested { .. })) > 0
    });
    let new_entries = notifier.new_entries(&pipeline);
    for _ in 0..3 {
        for entries in &new_entries {
            notifier.ports.deliver(entries);
        }
    }
    let (_, answers) = notifier.thread();
    let [message, call] = answers.as_slice() else { panic!("{answers:#?}") };
    assert_eq!(message.buttons().len(), 2);
    assert!(call.latest_text().contains("<@UADA>") && call.buttons().is_empty(), "{}", call.latest_text());
}

#[test]
fn two_targets_of_a_service_share_one_thread() {
    let plan = PipelineBuilder::of(&["api/dev", "api/prod"]);
    let mut pipeline = plan.policy(|policy| policy.notifications = vec![chat(FactFilter::Attention, &[])]).build();
    let [dev, prod] = targets();
    let mut notifier = Notifier::of(&pipeline);
    pipeline.push("api", 1);
    pipeline.until(HOUR, "both begin", |pipeline| {
        [&dev, &prod].iter().all(|target| pipeline.state(target).running.is_some())
    });
    let [one, two] = notifier.new_entries(&pipeline).try_into().expect("two targets");
    // The first dies with the claim to the thread, before it has posted: the second waits for it, and does not begin another.
    let at = (1..60).find(|number| {
        let ports = Ports::with_ledger(&ledger_without_posts(&pipeline));
        ports.world().now = Some(pipeline.simulation.now());
        ports.world().crash_at = Some((*number, CrashPoint::Before));
        ports.invoke(&one).is_none() && ports.world().calls.last() == Some(&"say")
    });
    notifier.ports.world().crash_at = Some((at.expect("it posts"), CrashPoint::Before));
    assert!(notifier.ports.invoke(&one).is_none());
    notifier.ports.world().crash_at = None;
    let delivered = notifier.ports.invoke(&two).expect("nobody dies");
    assert!(delivered.stopped.is_some(), "{delivered:?}");
    notifier.ports.advance_time(91);
    notifier.ports.deliver(&two);
    notifier.ports.deliver(&one);
    let (root, answers) = notifier.thread();
    assert!(root.latest_text().contains("dev #1") && root.latest_text().contains("prod #1"), "{}", root.latest_text());
    assert_eq!(answers.len(), 2);
}

#[test]
fn entries_without_a_deployment_are_posted_once() {
    let mut pipeline = pipeline(vec![chat(FactFilter::All, &["prod"])]);
    let [_, prod] = targets();
    let mut notifier = Notifier::of(&pipeline);
    pipeline.push("api", 1);
    notifier
        .run_until(&mut pipeline, 2 * HOUR, "people are asked", |pipeline| is_waiting_for_approval(pipeline, &prod));
    // Nothing like it was ever asked there.
    pipeline.ask(&prod, Instruction::Resume, crate::pipeline::carol(), "try");
    let refused = |pipeline: &Pipeline| !pipeline.refused(&prod).is_empty();
    pipeline.until(60, "it is refused", refused);
    let before = notifier.messages().len();
    let new_entries = notifier.new_entries(&pipeline);
    for _ in 0..2 {
        for entries in &new_entries {
            notifier.ports.deliver(entries);
        }
    }
    let messages = notifier.messages();
    let alone = new_entries.iter().flatten().filter(|entry| entry.deployment.is_none()).count();
    assert_eq!(messages.len() - before, alone, "{messages:#?}");
    let (_, answers) = notifier.thread();
    assert!(answers.iter().any(|it| it.latest_text().contains("there is nothing to resume")), "{answers:#?}");
}
