//! A system in simulated time: what people, CI and accidents do to it, and what can be seen of it.

use crate::scene::{self, Ids};
use crate::system::System;
use rollout::doctor::inspected::InspectionResult;
use rollout::entry::SLACK_PREFIX;
use rollout::explanation::WaitingOn;
use rollout::journal::{Fact, JournalEntry};
use rollout::policy::Policy;
use rollout::target::TargetState;
use rollout::{
    Actor, Cause, DeployOptions, Instruction, Name, Overrides, Platform, Seconds, Slot, TargetId, Timestamp, Train,
    Verdict,
};
use simulation::virtual_time::{Faults, Simulation};
use simulation::world::alarms::AlarmState;
use simulation::world::balancer::{ActionKind, ListenerAction};
use simulation::world::ecs::EcsService;
use simulation::world::{ImageBehaviour, scene as scenes};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

/// An hour, in seconds.
pub(crate) const HOUR: u64 = 3600;
/// Weights with all traffic on blue, then on green.
pub(crate) const BLUE: (i64, i64) = (100, 0);
pub(crate) const GREEN: (i64, i64) = (0, 100);

/// A system that runs in simulated time, with the policy that is shipped.
pub(crate) struct Play {
    pub(crate) simulation: Simulation,
    /// The policy, with the world's names.
    pub(crate) policy: Policy,
    /// What is generated in ARNs.
    pub(crate) ids: Ids,
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

/// Whoever asks for deployments, and approves none.
fn operator() -> Actor {
    Actor::Person { name: "arn:aws:iam::111122223333:user/dora".to_owned() }
}

pub(crate) fn is_verified(fact: &Fact) -> bool {
    matches!(fact, Fact::Verified { .. })
}

/// Traffic or tasks of a release are about to change.
pub(crate) fn has_begun(fact: &Fact) -> bool {
    matches!(fact, Fact::SidesDetermined { .. } | Fact::WorkloadFound { .. })
}

pub(crate) fn moves_traffic(fact: &Fact) -> bool {
    matches!(fact, Fact::WeightsDecided { .. })
}

pub(crate) fn rolled_back_by_alarm(fact: &Fact) -> bool {
    matches!(fact, Fact::RollbackStarted { cause: Cause::Alarm { .. } })
}

pub(crate) fn has_ended(fact: &Fact) -> bool {
    matches!(fact, Fact::Ended { .. })
}

impl Play {
    /// The system, with every invariant checked after each step.
    #[track_caller]
    pub(crate) fn of(system: &System) -> Self {
        let mut play = Self::unwatched(system);
        play.simulation.watch();
        play
    }

    /// The system; its invariants do not hold in what happens.
    #[track_caller]
    pub(crate) fn unwatched(system: &System) -> Self {
        let scene = scene::build(system);
        let policy = scene.built.policy.clone();
        Self { simulation: Simulation::of_application(scene.built, Faults::default()), policy, ids: scene.ids }
    }

    // --- what happens ---

    /// Somebody asks for the `number`th release of a target.
    pub(crate) fn deploy(&mut self, target: &TargetId, number: u64, options: DeployOptions) {
        let service = target.service.clone();
        let deploy = self.simulation.deploy_instruction(&service, number, Overrides::default(), options);
        self.simulation.send_command_to(target, deploy, operator(), "asked for");
    }

    /// Somebody asks for the first deployment of a target that runs nothing.
    pub(crate) fn deploy_first(&mut self, target: &TargetId, number: u64, tasks: u32) {
        self.deploy(target, number, DeployOptions { first: Some(tasks), ..DeployOptions::default() });
    }

    /// Somebody asks for several services as one release train.
    pub(crate) fn train(&mut self, environment: &str, members: &[(&str, u64)]) {
        let application = self.policy.application.clone();
        let rules = &self.policy.environments[&name(environment)];
        let services: Vec<Name> = members.iter().map(|(service, _)| name(service)).collect();
        let lead = Train::first_of(&self.policy, services.iter()).cloned();
        let releases =
            members.iter().map(|(service, number)| (name(service), scenes::digest_of(*number), format!("v{number}")));
        let together = rules.entry.rollback_train_together;
        let train = Train::new(format!("train-{environment}"), releases, lead, together);
        // Those that wait for others are asked first: what is asked for later may still go before them.
        for (service, number) in members.iter().rev() {
            let target = TargetId::new(application.clone(), name(service), name(environment));
            self.deploy(
                &target,
                *number,
                DeployOptions { train: Some(Box::new(train.clone())), ..DeployOptions::default() },
            );
        }
    }

    /// Waits until people are asked, and approves as the person with this Slack account.
    #[track_caller]
    pub(crate) fn approve(&mut self, target: &TargetId, slack_user: &str, seconds: u64) {
        let asked = |play: &Self| {
            let gates = play.state(target).running.and_then(|running| running.gates);
            gates.is_some_and(|gates| gates.requested_at.is_some())
        };
        self.until(seconds, &format!("people are asked about {target}"), asked);
        let running = self.state(target).running.expect("it waits");
        let plan = running.gates.expect("it waits at gates").plan;
        let approve = Instruction::Approve { deployment: running.number, plan };
        let approver = Actor::Person { name: format!("{SLACK_PREFIX}{slack_user}") };
        self.simulation.send_command_to(target, approve, approver, "");
    }

    /// From now on the image of the `number`th release behaves like this.
    pub(crate) fn set_image(&self, number: u64, behaviour: ImageBehaviour) {
        self.simulation.world(|world| world.set_image(scenes::digest_of(number).as_str(), behaviour));
    }

    /// An alarm fires whose metric is not modelled.
    #[track_caller]
    pub(crate) fn fire(&self, alarm: &str, reason: &str) {
        let fired = self.simulation.world(|world| world.set_alarm_state(alarm, AlarmState::Alarm, reason));
        fired.expect("the alarm is there");
    }

    /// From now on so many requests a second reach each of the target's rules.
    pub(crate) fn set_traffic(&self, target: &TargetId, per_second: f64) {
        let resources = &self.policy.target(target).expect("it is in the policy").resources;
        for rule in resources.rules() {
            self.simulation.world(|world| world.set_traffic(rule, per_second));
        }
    }

    /// Somebody else sets the weights of the target's first rule.
    pub(crate) fn edit_weights(&self, target: &TargetId, blue: i64, green: i64) {
        let leg = self.policy.target(target).expect("it is in the policy").resources.traffic[0].clone();
        let actions = Some(vec![ListenerAction::forward([(leg.blue.as_str(), blue), (leg.green.as_str(), green)])]);
        let rule = leg.rules[0].as_str();
        self.simulation.world(|world| match rule.contains(":listener-rule/") {
            true => world.modify_rule(rule, None, actions).map(|_| ()).expect("the rule is there"),
            false => world.modify_listener(rule, actions).map(|_| ()).expect("the listener is there"),
        });
    }

    // --- what is seen ---

    #[track_caller]
    pub(crate) fn target(&self, text: &str) -> TargetId {
        let target = TargetId::parse(text).expect("a target");
        assert!(self.policy.target(&target).is_some(), "the policy has no {target}");
        target
    }

    pub(crate) fn state(&self, target: &TargetId) -> TargetState {
        self.simulation.at(target).state().unwrap_or_else(|| TargetState::new(target.clone()))
    }

    pub(crate) fn stage(&self, target: &TargetId) -> Option<&'static str> {
        self.simulation.at(target).stage_name()
    }

    pub(crate) fn journal(&self, target: &TargetId) -> Vec<JournalEntry> {
        self.simulation.at(target).journal()
    }

    pub(crate) fn journals(&self) -> String {
        format!("\n{}", self.simulation.journal_texts())
    }

    pub(crate) fn verdicts(&self, target: &TargetId) -> Vec<Verdict> {
        self.simulation.at(target).verdicts().into_iter().map(|(_, verdict, _)| verdict).collect()
    }

    /// Why the last deployment ended as it did.
    pub(crate) fn reason(&self, target: &TargetId) -> String {
        self.simulation.at(target).verdicts().pop().map(|(_, _, reason)| reason).unwrap_or_default()
    }

    pub(crate) fn has(&self, target: &TargetId, wanted: impl Fn(&Fact) -> bool) -> bool {
        self.journal(target).iter().any(|entry| wanted(&entry.fact))
    }

    /// When the first such fact was journalled.
    #[track_caller]
    pub(crate) fn time_of(&self, target: &TargetId, wanted: impl Fn(&Fact) -> bool) -> Timestamp {
        let found = self.journal(target).into_iter().find(|entry| wanted(&entry.fact));
        found.map_or_else(|| panic!("{target} has no such entry{}", self.journals()), |entry| entry.at)
    }

    pub(crate) fn is_waiting_on(&self, target: &TargetId, wanted: impl Fn(&WaitingOn) -> bool) -> bool {
        self.state(target).explanation.waiting_on.iter().any(wanted)
    }

    /// The live weights of blue and green on the target's first rule.
    #[track_caller]
    pub(crate) fn weights(&self, target: &TargetId) -> (i64, i64) {
        let leg = &self.policy.target(target).expect("it is in the policy").resources.traffic[0];
        let arn = [leg.rules[0].clone()];
        let actions = self.simulation.world(|world| match arn[0].contains(":listener-rule/") {
            true => world.describe_rules(None, &arn).expect("the rule is there").remove(0).actions,
            false => world.describe_listeners(None, &arn).expect("the listener is there").remove(0).default_actions,
        });
        let ActionKind::Forward(forward) = &actions[0].what else { panic!("it forwards") };
        let weight = |group: &str| {
            let found = forward.target_groups.iter().find(|found| found.arn == group);
            found.and_then(|found| found.weight).unwrap_or(0)
        };
        (weight(&leg.blue), weight(&leg.green))
    }

    /// The ECS service of a side or, in place, of the target (`slot` is none).
    #[track_caller]
    pub(crate) fn service(&self, target: &TargetId, slot: Option<Slot>) -> EcsService {
        let platform = &self.policy.target(target).expect("it is in the policy").resources.platform;
        let named = platform.ecs_service(slot).expect("the platform has it");
        let names = [named.name.to_owned()];
        let described = self.simulation.world(|world| world.describe_services(named.cluster, &names));
        described.expect("the cluster is there").0.remove(0)
    }

    /// Desired and running tasks: of both sides, blue first, or of what is replaced in place.
    #[track_caller]
    pub(crate) fn tasks(&self, target: &TargetId) -> Vec<(u32, u32)> {
        let slots = match self.policy.target(target).expect("it is in the policy").resources.platform {
            Platform::EcsPair(_) => vec![Some(Slot::Blue), Some(Slot::Green)],
            Platform::EcsRolling(_) => vec![None],
        };
        let services = slots.into_iter().map(|slot| self.service(target, slot));
        services.map(|service| (service.desired_count, service.running_count)).collect()
    }

    /// The document of the task definition that a service runs.
    #[track_caller]
    pub(crate) fn definition(&self, target: &TargetId, slot: Option<Slot>) -> serde_json::Value {
        let running = self.service(target, slot).task_definition;
        let described = self.simulation.world(|world| world.describe_task_definition(&running));
        described.expect("it is registered").document
    }

    /// Requests that users did not get an answer to, or a wrong one.
    pub(crate) fn failed_requests(&self) -> f64 {
        self.simulation.world(|world| {
            let traffic = world.traffic();
            traffic.lost + traffic.groups.values().map(|group| group.errors_5xx).sum::<f64>()
        })
    }

    /// What the doctor reads of a target.
    pub(crate) fn inspect(&mut self, target: &TargetId) -> InspectionResult {
        use engine::Inspector as _;
        let inspection = rollout::doctor::inspection(&self.policy, target).expect("it is in the policy");
        let (_, cloud, _, _) = self.simulation.ports();
        let mut reading = pin!(cloud.inspect(&inspection));
        loop {
            if let Poll::Ready(seen) = reading.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                return seen;
            }
            // Calls take virtual time.
            self.simulation.run_for(1);
        }
    }

    // --- what is waited for ---

    #[track_caller]
    pub(crate) fn until(&mut self, seconds: u64, what: &str, reached: impl Fn(&Self) -> bool) {
        let limit = Seconds(seconds).after(self.simulation.now());
        while !reached(self) {
            self.check_invariants(what);
            assert!(self.simulation.now() < limit, "{what}: not within {seconds} s{}", self.journals());
            self.simulation.run_for(1);
        }
    }

    /// Until a target's deployments have ended like this.
    #[track_caller]
    pub(crate) fn expect_verdicts(&mut self, target: &TargetId, seconds: u64, verdicts: &[Verdict]) {
        self.until(seconds, &format!("{target} ends"), |play| play.verdicts(target).len() >= verdicts.len());
        assert_eq!(self.verdicts(target), verdicts, "{target}: {}{}", self.reason(target), self.journals());
    }

    /// Until nothing is going on any more.
    #[track_caller]
    pub(crate) fn wait_until_idle(&mut self, seconds: u64) {
        let is_idle = self.simulation.run_until_idle(seconds);
        self.check_invariants("until it rests");
        assert!(is_idle, "it does not come to rest{}", self.journals());
        assert!(self.simulation.dead_letters().is_empty(), "wakes were given up{}", self.journals());
    }

    #[track_caller]
    fn check_invariants(&self, what: &str) {
        if let Some(violation) = self.simulation.violation() {
            panic!("{what}: {violation}{}", self.journals());
        }
    }
}
