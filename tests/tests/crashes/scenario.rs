//! The deployments that are run again and again: releases that succeed and releases that an alarm rolls back, of a pair,
//! of a worker, and of a pair behind two load balancers.

use rollout::policy::{AlarmPolicy, Deadlines, Hook, HookAction, HookPoint, Policy, Step, Strategy};
use rollout::{Name, Percent, Release, Seconds, SignedDuration, TargetId, TargetPolicy, Timestamp};
use simulation::world::alarms::AlarmState;
use simulation::world::balancer::GroupSettings;
use simulation::world::scene::{application_policy, digest_of, release_of};
use simulation::world::{
    BuiltPair, BuiltService, Health, ImageBehaviour, PairSetup, RollingSetup, Settings, Timing, World,
};
use tests::harness::scenario::{WorldNames, good, manual_alarm_definition, quick_health_check};
use tests::harness::{REGION, ministack, now};

/// The function that the hook at the test rule asks.
pub(crate) const HOOK: &str = "smoke";
/// The alarm that fires in the rollbacks.
pub(crate) const MANUAL_ALARM: &str = "shop-api-live-pager";

/// How long holds, the bake, the warm time and drains last: longer than a look, also where the machine is busy, so that
/// there is a wait in every run.
const WAIT: Seconds = Seconds(3);
/// How long the deployment stays where the alarm fires, if it does not.
const UNTIL_ALARM: Seconds = Seconds(300);
/// From the start of a worker's task of the first version until it is healthy: longer than a rollback waits for reads to
/// be consistent, so that there is a wait for it in every run.
const SLOW_START: Seconds = Seconds(15);

/// The table lists them in this order; the rows of one are those that no scenario before it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scenario {
    /// A good release takes over: migration, tasks, smoke test, half of the traffic, all of it, bake, the old side down.
    Rollout,
    /// A release has half of the traffic when an alarm fires, and is switched back.
    Rollback,
    /// A good release replaces what a worker runs: migration, tasks, bake.
    Replacement,
    /// A release has replaced what a worker runs when an alarm fires, and the version before is set again.
    ReplacementRollback,
    /// [`Self::Rollout`] behind two load balancers.
    RolloutBehindTwo,
    /// [`Self::Rollback`] behind two load balancers.
    RollbackBehindTwo,
}

impl Scenario {
    pub(crate) const ALL: [Self; 6] = [
        Self::Rollout,
        Self::Rollback,
        Self::Replacement,
        Self::ReplacementRollback,
        Self::RolloutBehindTwo,
        Self::RollbackBehindTwo,
    ];

    /// For people, and in the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rollout => "rollout",
            Self::Rollback => "rollback",
            Self::Replacement => "replacement of a worker",
            Self::ReplacementRollback => "rollback of a worker",
            Self::RolloutBehindTwo => "rollout behind two balancers",
            Self::RollbackBehindTwo => "rollback behind two balancers",
        }
    }

    /// The stage in which the alarm fires; none: it does not.
    pub(crate) fn alarm_stage(self) -> Option<&'static str> {
        match self {
            Self::Rollback | Self::RollbackBehindTwo => Some("shifting 1, holding"),
            Self::ReplacementRollback => Some("baking, in place"),
            Self::Rollout | Self::Replacement | Self::RolloutBehindTwo => None,
        }
    }

    fn is_in_place(self) -> bool {
        matches!(self, Self::Replacement | Self::ReplacementRollback)
    }

    /// How long the deployment stays at half of the traffic if nothing happens.
    fn hold(self) -> Seconds {
        if self.alarm_stage().is_some() { UNTIL_ALARM } else { WAIT }
    }

    /// How long it bakes: of a worker, this is where the alarm fires.
    fn bake(self) -> Seconds {
        if self == Self::ReplacementRollback { UNTIL_ALARM } else { WAIT }
    }

    /// A migration rules out automatic rollback: the rollback scenarios have none.
    fn hooks(self) -> Vec<Hook> {
        let name = |text: &str| Name::new(text).expect("a name");
        let smoke = Hook {
            name: name("smoke"),
            at: HookPoint::TestTraffic,
            run: HookAction::Lambda { function: HOOK.to_owned() },
            deadline: Seconds(600),
            forward_only: false,
        };
        let migrate = Hook {
            name: name("migrate"),
            at: HookPoint::BeforeTraffic,
            run: HookAction::Task { container: "app".to_owned(), command: vec!["./migrate".to_owned()] },
            deadline: Seconds(600),
            forward_only: true,
        };
        match self {
            Self::Rollout | Self::RolloutBehindTwo => vec![migrate, smoke],
            Self::Rollback | Self::RollbackBehindTwo => vec![smoke],
            Self::Replacement => vec![migrate],
            Self::ReplacementRollback => Vec::new(),
        }
    }

    /// The scene, at rest, now; a rollback may take `rollback`.
    pub(crate) fn setup(self, rollback: Seconds) -> ScenarioSetup {
        // A world is some seconds older when it has come to rest: it begins so much earlier.
        let first = self.build(now(), rollback);
        let age = first.world.now().duration_since(first.began);
        let began = now().checked_sub(age).unwrap_or_default();
        self.build(began, rollback)
    }

    fn build(self, began: Timestamp, rollback: Seconds) -> ScenarioSetup {
        let (mut world, target, mut policy, names) = self.place(began, rollback);
        world.as_third_party(|world| {
            world.put_metric_alarm(manual_alarm_definition(MANUAL_ALARM)).expect("the alarm is put");
            world.set_alarm_state(MANUAL_ALARM, AlarmState::Ok, "all is well").expect("it is set");
        });
        world.set_image(digest_of(1).as_str(), good());
        if self.is_in_place() {
            let slow = ImageBehaviour { health: Health::After(SLOW_START), ..good() };
            world.set_image(digest_of(0).as_str(), slow);
        }
        world.drain_events();
        policy.alarms.push(AlarmPolicy::new(MANUAL_ALARM.to_owned()));
        policy.hooks = self.hooks();
        let pushed_at = world.now().checked_sub(SignedDuration::from_secs(1)).unwrap_or_default();
        let release = release_of(&target, names.repository_uri(), 1, pushed_at);
        let policy = application_policy(&target, names.repository(), policy);
        ScenarioSetup { began, world, policy, release, target, names }
    }

    /// What runs before the deployment, with the policy of its target.
    fn place(self, began: Timestamp, rollback: Seconds) -> (World, TargetId, TargetPolicy, WorldNames) {
        let settings = Settings {
            start: began,
            region: REGION.to_owned(),
            account: ministack::ACCOUNT.to_owned(),
            // Every wait is long enough to be a wait, and as long in every run.
            timing: Timing {
                convergence_ms: (700, 900),
                scheduler_ms: (100, 150),
                provisioning_ms: (200, 300),
                pending_ms: (400, 500),
                stopping_ms: (3_000, 3_200),
                autoscaling_ms: 3_600_000,
                ..Timing::quick()
            },
            log_calls: false,
            ..Settings::default()
        };
        let pair = self.pair(rollback);
        if self.is_in_place() {
            let service = RollingSetup { health_check: Some(quick_health_check()), ..pair.rolling() };
            let BuiltService { world, target, policy, names } = service.build(settings);
            (world, target, policy, WorldNames::InPlace(Box::new(names)))
        } else {
            let BuiltPair { world, target, policy, names } = pair.build(settings);
            (world, target, policy, WorldNames::Pair(Box::new(names)))
        }
    }

    /// The pair; of a worker, what both have in common.
    fn pair(self, rollback: Seconds) -> PairSetup {
        let step = |traffic: u8, hold| Step { traffic: Percent::new(traffic).expect("a share"), hold };
        // Long against any healing: nothing ends here because its time is over.
        let patience = Seconds(1200);
        PairSetup {
            tasks: 2,
            autoscaling: Some((2, 6)),
            internal_balancer: matches!(self, Self::RolloutBehindTwo | Self::RollbackBehindTwo),
            groups: GroupSettings { health_check_interval_s: 1, deregistration_delay_s: 1, ..GroupSettings::default() },
            strategy: Strategy {
                steps: vec![step(50, self.hold()), step(100, Seconds(0))],
                bake: self.bake(),
                keep_warm: WAIT,
                green_capacity: Percent::ALL,
                drain: WAIT,
                task_failures: rollout::policy::TaskFailures::default(),
            },
            deadlines: Deadlines {
                preflight: patience,
                register: patience,
                healthy: patience,
                shift: patience,
                retire: patience,
                rollback,
            },
            ..PairSetup::new("shop", if self.is_in_place() { "worker" } else { "api" }, "live")
        }
    }
}

/// A scene that has been set.
#[derive(Debug)]
pub(crate) struct ScenarioSetup {
    began: Timestamp,
    pub(crate) world: World,
    pub(crate) policy: Policy,
    pub(crate) release: Release,
    pub(crate) target: TargetId,
    pub(crate) names: WorldNames,
}
