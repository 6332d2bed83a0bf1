//! The two deployments that are run again and again: a release that succeeds, and one that an alarm rolls back.

use rollout::policy::{AlarmPolicy, Deadlines, Hook, HookAction, HookPoint, Policy, Step, Strategy};
use rollout::{Name, Percent, Release, Seconds, SignedDuration, TargetId, Timestamp};
use simulation::world::alarms::AlarmState;
use simulation::world::balancer::GroupSettings;
use simulation::world::scene::digest_of;
use simulation::world::{PairNames, PairSetup, Settings, Timing, World};
use tests::harness::scenario::{good, manual_alarm_definition};
use tests::harness::{REGION, ministack, now};

/// The function that the hook at the test rule asks.
pub(crate) const HOOK: &str = "smoke";
/// The alarm that fires in the rollback.
pub(crate) const MANUAL_ALARM: &str = "shop-api-live-pager";

/// How long holds, the bake, the warm time and drains last: longer than a look, also where the machine is busy, so that
/// there is a wait in every run.
const WAIT: Seconds = Seconds(3);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scenario {
    /// A good release takes over: migration, tasks, smoke test, half of the traffic, all of it, bake, the old side down.
    Rollout,
    /// A release has half of the traffic when an alarm fires, and is switched back.
    Rollback,
}

impl Scenario {
    pub(crate) const ALL: [Self; 2] = [Self::Rollout, Self::Rollback];

    /// For people, and in the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rollout => "rollout",
            Self::Rollback => "rollback",
        }
    }

    /// How long the deployment stays at half of the traffic if nothing happens.
    fn hold(self) -> Seconds {
        match self {
            Self::Rollout => WAIT,
            Self::Rollback => Seconds(300),
        }
    }

    /// A migration rules out automatic rollback: the rollback scenario has none.
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
            Self::Rollout => vec![migrate, smoke],
            Self::Rollback => vec![smoke],
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
        let step = |traffic: u8, hold| Step { traffic: Percent::new(traffic).expect("a share"), hold };
        // Long against any healing: nothing ends here because its time is over.
        let patience = Seconds(1200);
        let scene = PairSetup {
            tasks: 2,
            autoscaling: Some((2, 6)),
            groups: GroupSettings { health_check_interval_s: 1, deregistration_delay_s: 1, ..GroupSettings::default() },
            strategy: Strategy {
                steps: vec![step(50, self.hold()), step(100, Seconds(0))],
                bake: WAIT,
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
            ..PairSetup::new("shop", "api", "live")
        };
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
        let mut built = scene.build(settings);
        built.world.as_third_party(|world| {
            world.put_metric_alarm(manual_alarm_definition(MANUAL_ALARM)).expect("the alarm is put");
            world.set_alarm_state(MANUAL_ALARM, AlarmState::Ok, "all is well").expect("it is set");
        });
        built.world.set_image(digest_of(1).as_str(), good());
        built.world.drain_events();
        built.policy.alarms.push(AlarmPolicy::new(MANUAL_ALARM.to_owned()));
        built.policy.hooks = self.hooks();
        let release = built.release(1, built.world.now().checked_sub(SignedDuration::from_secs(1)).unwrap_or_default());
        let policy = built.application();
        ScenarioSetup { began, policy, release, target: built.target, names: built.names, world: built.world }
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
    pub(crate) names: PairNames,
}
