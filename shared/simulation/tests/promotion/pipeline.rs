//! An application with a street of environments, and what tests do and see there.

use rollout::brake::{Brake, Lifted, Scope};
use rollout::deployment::Deployment;
use rollout::entry::{After, ApprovalDefault, ApprovalPolicy, Person, SLACK_PREFIX};
use rollout::journal::{Fact, JournalEntry};
use rollout::policy::{EnvironmentPolicy, Policy, Trigger};
use rollout::promotion::{self, plan_id};
use rollout::target::TargetState;
use rollout::verdict::Verdict;
use rollout::{Actor, DeployOptions, Gate, Instruction, Name, Overrides, PlanId, Seconds, TargetId, Timestamp, Way};
use simulation::virtual_time::{Faults, PushAnnouncement, Simulation};
use simulation::world::balancer::{ActionKind, ListenerAction};
use simulation::world::{ImageBehaviour, PairSetup, RollingSetup, Settings, scene};

pub(crate) const HOUR: u64 = 3600;

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

pub(crate) fn target(text: &str) -> TargetId {
    TargetId::parse(text).expect("a target")
}

/// A person whom Slack has proven.
pub(crate) fn slack(user: &str) -> Actor {
    Actor::Person { name: format!("{SLACK_PREFIX}{user}") }
}

/// Whoever asks for deployments, and is no approver.
pub(crate) fn carol() -> Actor {
    Actor::Person { name: "arn:aws:iam::111122223333:user/carol".to_owned() }
}

/// The application's targets in one world, each with short steps.
pub(crate) struct Pipeline {
    pub(crate) simulation: Simulation,
    pub(crate) policy: Policy,
    versions: u32,
}

type PolicyChange = Box<dyn FnOnce(&mut Policy)>;

/// Environments and services of a street.
pub(crate) struct PipelineBuilder {
    scenes: Vec<PairSetup>,
    /// Targets that change their version in place.
    services: Vec<RollingSetup>,
    change: Vec<PolicyChange>,
}

/// A target with short steps: `service/environment`.
fn short_scene(text: &str) -> PairSetup {
    let (service, environment) = text.split_once('/').expect("service/environment");
    let mut scene = PairSetup::new("shop", service, environment);
    for step in &mut scene.strategy.steps {
        step.hold = Seconds(step.hold.0.min(20));
    }
    scene.strategy.bake = Seconds(30);
    scene.strategy.keep_warm = Seconds(20);
    scene.requests_per_second = 5.0;
    scene
}

impl PipelineBuilder {
    /// Of these targets: `service/environment`.
    pub(crate) fn of(targets: &[&str]) -> Self {
        let scenes = targets.iter().map(|text| short_scene(text)).collect();
        Self { scenes, services: Vec::new(), change: Vec::new() }
    }

    /// With a target that changes its version in place, instead of the pair of that name, if there is one.
    pub(crate) fn in_place(mut self, text: &str, set_up: impl FnOnce(RollingSetup) -> RollingSetup) -> Self {
        let scene = short_scene(text);
        let known = self.scenes.iter().position(|known| known.target == scene.target);
        let scene = known.map_or(scene, |index| self.scenes.remove(index));
        self.services.push(set_up(scene.rolling()));
        self
    }

    /// With another scenery.
    pub(crate) fn scenes(mut self, change: impl Fn(&mut PairSetup)) -> Self {
        self.scenes.iter_mut().for_each(change);
        self
    }

    /// With other rules.
    pub(crate) fn policy(mut self, change: impl FnOnce(&mut Policy) + 'static) -> Self {
        self.change.push(Box::new(change));
        self
    }

    /// With an environment that follows another one by itself.
    pub(crate) fn promoted(self, environment: &'static str, after: &'static str, soak: u64) -> Self {
        self.policy(move |policy| {
            let rules = environment_of(policy, environment);
            rules.trigger = Trigger::Promotion;
            rules.entry.after = Some(After::All(vec![name(after)]));
            rules.entry.soak = Seconds(soak);
        })
    }

    /// With an environment that two of ada, bob and eve have to say yes to.
    pub(crate) fn approved(self, environment: &'static str) -> Self {
        self.policy(move |policy| {
            for (person, slack) in [("ada", "UADA"), ("bob", "UBOB"), ("eve", "UEVE")] {
                let known = Person { slack: Some(slack.to_owned()), ..Person::default() };
                policy.people.insert(name(person), known);
            }
            policy.groups.insert(name("on-call"), [name("ada"), name("bob")].into());
            environment_of(policy, environment).entry.approval = Some(ApprovalPolicy {
                required: 2,
                from: vec![name("on-call"), name("eve")],
                expires: Seconds(4 * HOUR),
                default: ApprovalDefault::Reject,
            });
        })
    }

    pub(crate) fn build(self) -> Pipeline {
        self.build_with(Settings::default(), Faults::default())
    }

    pub(crate) fn build_with(self, settings: Settings, faults: Faults) -> Pipeline {
        let mut built = scene::build_with_services(&self.scenes, &self.services, settings);
        for change in self.change {
            change(&mut built.policy);
        }
        let policy = built.policy.clone();
        let mut simulation = Simulation::of_application(built, faults);
        simulation.watch();
        Pipeline { simulation, policy, versions: 1 }
    }
}

pub(crate) fn environment_of<'a>(policy: &'a mut Policy, environment: &str) -> &'a mut EnvironmentPolicy {
    policy.environments.get_mut(&name(environment)).expect("it is in the policy")
}

impl Pipeline {
    pub(crate) fn push(&mut self, service: &str, number: u64) {
        self.simulation.push_service(&name(service), number, PushAnnouncement::Event);
    }

    pub(crate) fn set_image(&self, number: u64, behaviour: ImageBehaviour) {
        let digest = scene::digest_of(number);
        self.simulation.world(|world| world.set_image(digest.as_str(), behaviour));
    }

    /// Applies the policy, changed.
    pub(crate) fn apply(&mut self, change: impl FnOnce(&mut Policy)) {
        change(&mut self.policy);
        self.versions += 1;
        self.simulation.apply_policy(&self.policy, &format!("version {}", self.versions));
    }

    pub(crate) fn ask(&mut self, target: &TargetId, instruction: Instruction, actor: Actor, reason: &str) {
        self.simulation.send_command_to(target, instruction, actor, reason);
    }

    /// Carol asks for a release.
    pub(crate) fn deploy(&mut self, target: &TargetId, number: u64, options: DeployOptions) {
        let deploy = self.simulation.deploy_instruction(&target.service, number, Overrides::default(), options);
        self.ask(target, deploy, carol(), "asked for");
    }

    pub(crate) fn approve(&mut self, target: &TargetId, user: &str) {
        let (deployment, plan) = self.plan(target);
        self.ask(target, Instruction::Approve { deployment, plan }, slack(user), "");
    }

    /// What waits for an answer: the deployment's number, and what it would do.
    #[track_caller]
    pub(crate) fn plan(&self, target: &TargetId) -> (u64, PlanId) {
        let running = self.running(target);
        let gates = running.gates.unwrap_or_else(|| panic!("nothing waits\n{}", self.journal_texts()));
        (running.number, gates.plan)
    }

    #[track_caller]
    pub(crate) fn running(&self, target: &TargetId) -> Deployment {
        let running = self.state(target).running;
        running.unwrap_or_else(|| panic!("nothing runs on {target}\n{}", self.journal_texts()))
    }

    pub(crate) fn brake(&self, scope: Scope, reason: &str) {
        let since = self.simulation.now();
        let brake = Brake { scope, by: carol(), reason: reason.to_owned(), since, until: None };
        self.simulation.ledger().store().put_brake(&brake);
    }

    /// Lifts a brake and wakes who waits, as the operators' door does.
    pub(crate) fn lift_brake(&mut self, scope: &Scope) {
        let lifted = Lifted { by: carol(), reason: "it is over".to_owned(), at: self.simulation.now() };
        let found = self.simulation.ledger().store().lift_brake(scope, &lifted);
        assert!(found.is_some(), "{scope} had no brake");
        for (service, environment) in self.targets() {
            self.simulation.wake(&TargetId::new(self.policy.application.clone(), service, environment));
        }
    }

    /// Whether a target changes its version in place.
    pub(crate) fn is_in_place(&self, target: &TargetId) -> bool {
        self.policy.target(target).is_some_and(|policy| policy.resources.platform.way() == Way::InPlace)
    }

    /// Requests per second on each of a target's load balancers.
    pub(crate) fn set_traffic(&self, target: &TargetId, per_second: f64) {
        let view = self.simulation.at(target);
        let rules: Vec<String> = match self.is_in_place(target) {
            true => view.rolling_names().balancing.iter().map(|balancing| balancing.listener.clone()).collect(),
            false => view.names().traffic_rules().map(str::to_owned).collect(),
        };
        self.simulation.world(|world| {
            for rule in &rules {
                world.set_traffic(rule, per_second);
            }
        });
    }

    /// Somebody, or somebody's tool, gives blue this share of a target's traffic, and green the rest. Behind two load
    /// balancers, some edit one of them alone.
    pub(crate) fn edit_weights(&self, target: &TargetId, blue: i64) {
        let names = self.simulation.at(target).names().clone();
        if let Some(internal) = &names.internal
            && blue % 3 != 1
        {
            let edited = [(internal.blue.as_str(), blue), (internal.green.as_str(), 100 - blue)];
            let actions = Some(vec![ListenerAction::forward(edited)]);
            self.simulation.world(|world| world.modify_listener(&internal.rules[0], actions)).expect("it is there");
            if blue % 3 == 0 {
                return;
            }
        }
        self.simulation.world(|world| {
            let rules = world.describe_rules(None, std::slice::from_ref(&names.rule)).expect("it is there");
            let mut actions = rules[0].actions.clone();
            for action in &mut actions {
                let ActionKind::Forward(forward) = &mut action.what else { continue };
                for group in &mut forward.target_groups {
                    group.weight = Some(if group.arn == names.blue_group { blue } else { 100 - blue });
                }
            }
            world.modify_rule(&names.rule, None, Some(actions)).expect("it is there");
        });
    }

    fn targets(&self) -> Vec<(Name, Name)> {
        let of = |(environment, rules): (&Name, &EnvironmentPolicy)| {
            rules.targets.keys().map(|service| (service.clone(), environment.clone())).collect::<Vec<_>>()
        };
        self.policy.environments.iter().flat_map(of).collect()
    }

    // --- what is seen ---

    pub(crate) fn state(&self, target: &TargetId) -> TargetState {
        self.simulation.at(target).state().unwrap_or_else(|| TargetState::new(target.clone()))
    }

    pub(crate) fn journal_texts(&self) -> String {
        format!("\n{}", self.simulation.journal_texts())
    }

    pub(crate) fn journal(&self, target: &TargetId) -> Vec<JournalEntry> {
        self.simulation.at(target).journal()
    }

    pub(crate) fn verdicts(&self, target: &TargetId) -> Vec<Verdict> {
        self.simulation.at(target).verdicts().into_iter().map(|(_, verdict, _)| verdict).collect()
    }

    pub(crate) fn reason(&self, target: &TargetId) -> String {
        self.simulation.at(target).verdicts().pop().map(|(_, _, reason)| reason).unwrap_or_default()
    }

    pub(crate) fn has(&self, target: &TargetId, wanted: impl Fn(&Fact) -> bool) -> bool {
        self.count(target, wanted) > 0
    }

    pub(crate) fn count(&self, target: &TargetId, wanted: impl Fn(&Fact) -> bool) -> usize {
        self.journal(target).iter().filter(|entry| wanted(&entry.fact)).count()
    }

    /// When the first such fact was written.
    #[track_caller]
    pub(crate) fn time_of(&self, target: &TargetId, wanted: impl Fn(&Fact) -> bool) -> Timestamp {
        let entry = self.journal(target).into_iter().find(|entry| wanted(&entry.fact));
        entry.map(|entry| entry.at).unwrap_or_else(|| panic!("{target} has no such entry{}", self.journal_texts()))
    }

    /// Why the commands were refused that were.
    pub(crate) fn refused(&self, target: &TargetId) -> Vec<String> {
        let refused = |entry: JournalEntry| match entry.fact {
            Fact::CommandRefused { command, reason } => Some(format!("{command}: {reason}")),
            _ => None,
        };
        self.journal(target).into_iter().filter_map(refused).collect()
    }

    /// The gates that keep the target's deployment waiting, as its state explains it.
    pub(crate) fn waiting_gates(&self, target: &TargetId) -> Vec<String> {
        use rollout::explanation::WaitingOn;
        let gate = |on: WaitingOn| match on {
            WaitingOn::Gate { gate, .. } => Some(gate.name().to_owned()),
            WaitingOn::Approval { .. } => Some(Gate::Approval.name().to_owned()),
            _ => None,
        };
        self.state(target).explanation.waiting_on.into_iter().filter_map(gate).collect()
    }

    /// The live weights of blue and green.
    pub(crate) fn weights(&self, target: &TargetId) -> (i64, i64) {
        let names = self.simulation.at(target).names().clone();
        let rule = self.simulation.world(|world| world.describe_rules(None, std::slice::from_ref(&names.rule)));
        let rule = rule.expect("the rule is there");
        let ActionKind::Forward(forward) = &rule[0].actions[0].what else { panic!("the rule forwards") };
        let weight = |group: &str| {
            forward.target_groups.iter().find(|found| found.arn == group).and_then(|found| found.weight).unwrap_or(0)
        };
        (weight(&names.blue_group), weight(&names.green_group))
    }

    /// The tag of what is stable.
    pub(crate) fn stable(&self, target: &TargetId) -> Option<String> {
        self.state(target).stable.and_then(|stable| stable.release).map(|release| release.tag)
    }

    pub(crate) fn lost(&self) -> f64 {
        self.simulation.world(|world| world.traffic().lost)
    }

    // --- what is waited for ---

    #[track_caller]
    pub(crate) fn until(&mut self, seconds: u64, what: &str, reached: impl Fn(&Pipeline) -> bool) {
        let limit = Seconds(seconds).after(self.simulation.now());
        while !reached(self) {
            self.assert_no_violation(what);
            let left = Seconds::between(self.simulation.now(), limit);
            assert!(left.0 > 0, "{what}: not within {seconds} s{}", self.journal_texts());
            self.simulation.run_for(1);
        }
    }

    /// Panics where a promise was broken: time stands still then.
    #[track_caller]
    pub(crate) fn assert_no_violation(&self, what: &str) {
        if let Some(violation) = self.simulation.violation() {
            panic!("{what}: {violation}{}", self.journal_texts());
        }
    }

    /// Until a target's deployments have ended like this.
    #[track_caller]
    pub(crate) fn expect_verdicts(&mut self, target: &TargetId, seconds: u64, verdicts: &[Verdict]) {
        let what = format!("{target} ends {} times", verdicts.len());
        self.until(seconds, &what, |pipeline| pipeline.verdicts(target).len() >= verdicts.len());
        assert_eq!(self.verdicts(target), verdicts, "{target}{}", self.journal_texts());
    }

    /// Until the next deployment waits for approval.
    #[track_caller]
    pub(crate) fn wait_for_approval_request(&mut self, target: &TargetId, number: u64, seconds: u64) {
        self.until(seconds, "people are asked", |pipeline| {
            let running = pipeline.state(target).running;
            let asked = running.filter(|running| running.number == number).and_then(|running| running.gates);
            asked.is_some_and(|gates| gates.requested_at.is_some())
        });
    }

    /// Until nothing is going on but a soak on `target`.
    #[track_caller]
    pub(crate) fn wait_until_no_deployment_runs(&mut self, target: &TargetId) {
        self.until(2 * HOUR, "it has settled", |pipeline| {
            let state = pipeline.state(target);
            state.last_deployment > 0 && state.running.is_none()
        });
    }

    #[track_caller]
    pub(crate) fn wait_until_idle(&mut self, seconds: u64) {
        let became_idle = self.simulation.run_until_idle(seconds);
        self.assert_no_violation("until it rests");
        assert!(became_idle, "it does not come to rest{}", self.journal_texts());
        assert!(self.simulation.dead_letters().is_empty(), "wakes were given up{}", self.journal_texts());
    }
}

/// The plan of a deployment as a door would compute it, from what is stored.
pub(crate) fn recompute_plan(pipeline: &Pipeline, target: &TargetId) -> PlanId {
    let running = pipeline.running(target);
    let state = pipeline.state(target);
    let stored = pipeline.simulation.ledger().store().policy(&target.application).expect("a policy");
    let applied = stored.policy.applied(target, stored.version).expect("a target");
    let replaces = state.stable.as_ref().and_then(|stable| stable.release.as_ref()).map(|release| &release.id.digest);
    plan_id(target, &running.release.id, &running.options, &running.overrides, &applied, replaces)
}

/// Whether somebody may answer now, as the API finds out.
pub(crate) fn check_approver(pipeline: &Pipeline, target: &TargetId, actor: &Actor) -> Result<Name, String> {
    let state = pipeline.state(target);
    let stored = pipeline.simulation.ledger().store().policy(&target.application).expect("a policy");
    let applied = stored.policy.applied(target, stored.version).expect("a target");
    let question = promotion::waiting_gate_input(&state, &applied, None, pipeline.simulation.now());
    let question = question.ok_or_else(|| "nothing waits".to_owned())?;
    promotion::rules::approver(&question, actor).cloned().map_err(|refusal| refusal.to_string())
}
