//! What tests do to an application: pushes, edits by hand, events, alarms.

use super::{Scenario, fixture, forward_groups};
use crate::harness::now;
use engine::intake::{Sweep, is_idle_turn};
use rollout::{JournalEntry, Slot};
use serde_json::{Value, json};
use simulation::world::ImageBehaviour;
use simulation::world::alarms::{AlarmState, Evaluation};
use simulation::world::ecs::ListTasks;
use std::time::Duration;

impl Scenario {
    /// An image of this tag lies in the registry and behaves so once it is deployed; answers its digest. No event yet.
    ///
    /// # Panics
    /// Where the registry refuses.
    #[must_use]
    pub fn image(&self, tag: &str, behaviour: ImageBehaviour) -> String {
        let digest = self.stack.push_image(self.names.repository(), tag).unwrap_or_else(|failure| panic!("{failure}"));
        self.stack.front().world().set_image(&digest, behaviour);
        digest
    }

    /// The event of a push of this image, as ECR sends it.
    #[must_use]
    pub fn push_event(&self, tag: &str, digest: &str) -> Value {
        let mut event = fixture(include_str!("../../../../events/image-pushed.push.json"));
        event["detail"]["repository-name"] = json!(self.names.repository());
        event["detail"]["image-digest"] = json!(digest);
        event["detail"]["image-tag"] = json!(tag);
        event
    }

    /// Pushes an image of this tag and behaviour: it lies in the registry, and ECR's event is sent. Answers its digest.
    ///
    /// # Panics
    /// Where no rule of the template takes the event.
    #[must_use]
    pub fn push(&self, tag: &str, behaviour: ImageBehaviour) -> String {
        let digest = self.image(tag, behaviour);
        self.send(&self.push_event(tag, &digest));
        digest
    }

    /// Sends an event that one function is to take.
    ///
    /// # Panics
    /// Where none does, or several do.
    pub fn send(&self, event: &Value) {
        let taken = self.stack.send(event).unwrap_or_else(|failure| panic!("{failure}"));
        assert_eq!(taken.len(), 1, "rules for {taken:?} match {event}");
    }

    /// The journal's stream hands its entries over once more, with another identity, and once more, until the notifier has
    /// taken all of them. AWS does so by itself with what the notifier's answer names as not taken; ministack 1.5.33 hands
    /// every entry over once, whatever the answer is.
    ///
    /// # Panics
    /// Where the notifier fails, or does not take one of them in time.
    pub fn redeliver_journal(&self) {
        let entries = self.journal();
        let record = |entry: &JournalEntry| {
            let text = json!(entry).to_string();
            let (pk, sk) = (format!("TARGET#{}", entry.target), format!("JOURNAL#{:020}", entry.sequence));
            let keys = json!({"pk": {"S": pk}, "sk": {"S": sk}});
            let mut event = fixture(include_str!("../../../../events/notifier.entry.json"));
            let mut record = event["Records"][0].take();
            record["dynamodb"]["Keys"] = keys.clone();
            record["dynamodb"]["NewImage"] = keys;
            record["dynamodb"]["NewImage"]["entry"] = json!({"S": text});
            record
        };
        let again = json!({"Records": entries.iter().map(record).collect::<Vec<_>>()});
        self.expect("the notifier takes every entry", Duration::from_secs(60), || {
            let answer = self.stack.invoke("notifier", &again).map_err(|failure| failure.0)?;
            if answer == json!({"batchItemFailures": []}) { Ok(()) } else { Err(answer.to_string()) }
        });
    }

    /// Somebody at the console gives a pair's rule these weights.
    ///
    /// # Panics
    /// Where the target is one service, or the balancer refuses.
    pub fn edit_weights(&self, blue: u16, green: u16) {
        let names = self.names();
        let mut world = self.stack.front().world();
        let edited = world.as_third_party(|world| {
            let rules = world.describe_rules(None, std::slice::from_ref(&names.rule))?;
            let mut actions = rules.into_iter().next().map(|rule| rule.actions).unwrap_or_default();
            for group in actions.iter_mut().filter_map(forward_groups).flatten() {
                group.weight = Some(if group.arn == names.blue_group { blue.into() } else { green.into() });
            }
            world.modify_rule(&names.rule, None, Some(actions))
        });
        drop(world);
        edited.unwrap_or_else(|error| panic!("the edit is refused: {error}"));
    }

    /// The event by which CloudTrail tells of an edit of a pair's rule, as somebody else's API call.
    ///
    /// # Panics
    /// Where the target is one service.
    #[must_use]
    pub fn edit_event(&self) -> Value {
        let mut event = fixture(include_str!("../../../../events/signal-received.api-modify-rule.json"));
        event["detail"]["requestParameters"] = json!({"ruleArn": self.names().rule});
        event["detail"]["eventTime"] = event["time"].clone();
        event
    }

    /// The minute at which this target is looked at although nothing is deployed to it, as the sweeper's schedule tells it.
    ///
    /// # Panics
    /// Where there is none within the hour.
    #[must_use]
    pub fn idle_sweep_event(&self) -> Value {
        let target = rollout::TargetId::parse(&self.target()).expect("a target");
        let minute = u64::try_from(now().as_second() / 60).unwrap_or_default();
        let is_turn = |minute: &u64| {
            let sweep = Sweep { minute: *minute, every: 1, until: now() };
            is_idle_turn(&target, &sweep)
        };
        let minute = (minute..minute + 60).find(is_turn).expect("one of sixty");
        let at = rollout::Timestamp::from_second(i64::try_from(minute * 60).unwrap_or_default()).expect("a time");
        let mut event = fixture(include_str!("../../../../events/sweeper.schedule.json"));
        event["time"] = json!(at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
        event
    }

    /// The alarm that a person sets: it keeps the state that it is given.
    ///
    /// # Panics
    /// Where CloudWatch refuses.
    pub fn set_manual_alarm(&self, state: AlarmState, reason: &str) {
        let mut world = self.stack.front().world();
        let set = world.as_third_party(|world| world.set_alarm_state(&self.manual_alarm(), state, reason));
        drop(world);
        set.unwrap_or_else(|error| panic!("{error}"));
    }

    /// The owners' tooling registers a newer revision of the family that the policy names, with this change to its document;
    /// answers its ARN.
    ///
    /// # Panics
    /// Where ECS refuses.
    #[must_use]
    pub fn register_template(&self, change: impl FnOnce(&mut Value)) -> String {
        let registered = self.names.register_template(&mut self.stack.front().world(), change);
        registered.unwrap_or_else(|error| panic!("the template is refused: {error}"))
    }

    /// From now on CloudWatch does not evaluate the alarm that a person sets, for this reason; none: it does again. The alarm
    /// keeps its state.
    ///
    /// # Panics
    /// Where there is no such alarm.
    pub fn set_manual_alarm_evaluation(&self, evaluation: Option<Evaluation>, reason: &str) {
        let set = self.stack.front().world().set_evaluation(&self.manual_alarm(), evaluation, reason);
        set.unwrap_or_else(|error| panic!("{error}"));
    }

    /// Somebody at the console stops so many running tasks of a pair's side; ECS starts others in their place.
    ///
    /// # Panics
    /// Where the target is one service, or ECS refuses.
    pub fn stop_tasks(&self, slot: Slot, most: usize) {
        let service = self.ecs_service(slot);
        let mut world = self.stack.front().world();
        let stopped = world.as_third_party(|world| {
            let running = ListTasks {
                cluster: self.names.cluster().to_owned(),
                service_name: Some(service.clone()),
                ..ListTasks::default()
            };
            for task in world.list_tasks(running)?.iter().take(most) {
                world.stop_task(self.names.cluster(), task, None)?;
            }
            Ok::<(), simulation::world::ApiError>(())
        });
        drop(world);
        stopped.unwrap_or_else(|error| panic!("the tasks of {service} are not stopped: {error}"));
    }
}
