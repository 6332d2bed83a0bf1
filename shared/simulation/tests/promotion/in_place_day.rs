//! Days on which targets change their version in place: which of them do, how each is set up, and what happens beside
//! what happens every day. All of it is drawn from generators of its own: other days keep their course.

use crate::day::{AffectedSides, DayAction, DayEvent, SideFault, ToolTrigger, describe_image};
use crate::pipeline::{PipelineBuilder, environment_of, name, target};
use rollout::policy::Drift;
use rollout::{Seconds, Slot, TargetId};
use simulation::world::ecs::CircuitBreaker;
use simulation::world::{Health, ImageBehaviour, RollingSetup, RunTaskBehaviour, SeededRng, StartBehaviour};
use std::fmt;

/// Share of the days, 0 to 1.
const SHARE: f64 = 0.25;
/// Number of events of these days alone.
const EVENTS: u64 = 24;
/// Releases of the worker have numbers above this one: behaviour follows from the number, and `api` has the small ones.
const BEFORE_WORKER_RELEASES: u64 = 2_000;
/// Number of tasks of each service.
const TASKS: u32 = 4;

/// The worker that these days have beside `api`.
pub(crate) fn worker() -> TargetId {
    target("shop/worker/dev")
}

/// The services of a day that change their version in place.
pub(crate) struct InPlaceDay {
    /// Each as `service/environment`, the worker last.
    services: Vec<(&'static str, ServiceSetup)>,
    /// Whether trains of `api` and the worker roll back together.
    trains_go_back_together: bool,
    /// Whether `api` and the worker are deployed one at a time.
    one_at_a_time: bool,
}

/// How a service is set up.
#[derive(Debug, Clone, Copy)]
struct ServiceSetup {
    behind_balancer: bool,
    /// Limits of running tasks during a replacement, in per cent of the desired count.
    percents: (u32, u32),
    breaker: CircuitBreaker,
    has_health_check: bool,
}

/// What happens on such days alone.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum InPlaceAction {
    PushWorker {
        number: u64,
        behaviour: ImageBehaviour,
    },
    /// Carol asks for releases of `api` and of the worker as one train.
    Train {
        api: u64,
        worker: u64,
    },
    /// As soon as `trigger` has come, somebody sets another version.
    SetVersion {
        target: TargetId,
        trigger: ToolTrigger,
        version: ForeignVersion,
    },
    /// Somebody sets what Switchback has set last.
    RestoreVersion {
        target: TargetId,
    },
    /// Tasks protect themselves.
    ProtectTasks {
        target: TargetId,
        tasks: usize,
        minutes: i64,
    },
    /// As soon as `trigger` has come, somebody deregisters the version that a rollback would return to.
    DeregisterBefore {
        target: TargetId,
        trigger: ToolTrigger,
    },
}

/// A version that somebody else sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ForeignVersion {
    /// The one that the service began with.
    First,
    /// One of their own.
    Theirs,
}

impl fmt::Display for InPlaceAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let once = |trigger: &ToolTrigger| match trigger {
            ToolTrigger::CandidateHasTraffic => "once the new version is set",
            ToolTrigger::CandidateAlarmFires => "once the alarm of the new version fires",
            ToolTrigger::RollingBack => "once it rolls back",
            ToolTrigger::NothingRunning => "once nothing is going on",
        };
        match self {
            Self::PushWorker { number, behaviour } => {
                write!(f, "v{number} of the worker is pushed ({})", describe_image(behaviour))
            }
            Self::Train { api, worker } => write!(f, "carol asks for v{api} and v{worker} of the worker as a train"),
            Self::SetVersion { target, trigger, version } => {
                let version = if *version == ForeignVersion::First { "its first version" } else { "another version" };
                write!(f, "somebody sets {version} of {target}, {}", once(trigger))
            }
            Self::RestoreVersion { target } => write!(f, "the version of {target} is put right"),
            Self::ProtectTasks { target, tasks, minutes } => {
                write!(f, "{tasks} tasks of {target} protect themselves for {minutes} min")
            }
            Self::DeregisterBefore { target, trigger } => {
                write!(f, "the version before of {target} is deregistered, {}", once(trigger))
            }
        }
    }
}

/// The services of the `seed`th day; none: all its targets are pairs.
pub(crate) fn in_place_day(seed: u64) -> Option<InPlaceDay> {
    let mut rng = SeededRng::new(seed.rotate_left(11) ^ 0xE542_C5AD_8D98_F658);
    if !rng.happens(SHARE) {
        return None;
    }
    let mut services = Vec::new();
    for api in ["api/dev", "api/staging", "api/prod"] {
        let setup = ServiceSetup::draw(&mut rng, 0.7);
        if rng.happens(0.5) {
            services.push((api, setup));
        }
    }
    services.push(("worker/dev", ServiceSetup::draw(&mut rng, 0.0)));
    let (trains_go_back_together, one_at_a_time) = (rng.happens(0.7), rng.happens(0.5));
    Some(InPlaceDay { services, trains_go_back_together, one_at_a_time })
}

impl ServiceSetup {
    /// `balanced`: probability of a load balancer.
    fn draw(rng: &mut SeededRng, balanced: f64) -> Self {
        let (behind_balancer, starts_first) = (rng.happens(balanced), rng.happens(0.6));
        let percents = match (starts_first, behind_balancer) {
            (true, _) => (100, 200),
            // Without any task requests would be lost.
            (false, true) => (50, 100),
            (false, false) => (0, 100),
        };
        let (enable, rollback) = (rng.happens(0.6), rng.happens(0.6));
        let breaker = CircuitBreaker { enable, rollback: enable && rollback };
        Self { behind_balancer, percents, breaker, has_health_check: rng.happens(0.4) }
    }

    fn set_up(self, scene: RollingSetup) -> RollingSetup {
        let scene = scene.with_percents(self.percents.0, self.percents.1);
        let scene = if self.behind_balancer { scene.behind_balancer() } else { scene };
        let scene = if self.has_health_check { scene.with_health_check(Seconds(10), 3) } else { scene };
        // There are no weights to revert.
        RollingSetup { tasks: TASKS, breaker: self.breaker, drift: Drift::Tell, ..scene }
    }
}

impl InPlaceDay {
    /// The targets that change their version in place, the worker last.
    pub(crate) fn targets(&self) -> Vec<TargetId> {
        self.services.iter().map(|(service, _)| target(&format!("shop/{service}"))).collect()
    }

    /// The pipeline of the day, with its services in place of pairs, and with the worker.
    pub(crate) fn set_up(&self, plan: PipelineBuilder) -> PipelineBuilder {
        let in_place = |plan: PipelineBuilder, (service, setup): &(&'static str, ServiceSetup)| {
            plan.in_place(service, |scene| setup.set_up(scene))
        };
        let (together, one_at_a_time) = (self.trains_go_back_together, self.one_at_a_time);
        self.services.iter().fold(plan, in_place).policy(move |policy| {
            policy.services.get_mut(&name("worker")).expect("a service").depends_on = vec![name("api")];
            let dev = &mut environment_of(policy, "dev").entry;
            (dev.rollback_train_together, dev.one_at_a_time) = (together, one_at_a_time);
        })
    }

    /// What happens on this day alone, in its order. `until`: seconds until the day's last event. `calm`: nobody
    /// meddles. `api_releases`: number of the newest release of `api`.
    pub(crate) fn events(&self, seed: u64, until: u64, calm: bool, api_releases: u64) -> Vec<DayEvent> {
        let (targets, spacing) = (self.targets(), until / EVENTS);
        let (mut all, mut pushed) = (Vec::new(), 0);
        for index in 0..EVENTS {
            let mut rng = SeededRng::new(seed.rotate_left(53) ^ (index + 1).wrapping_mul(0xD6E8_FEB8_6659_FD93));
            let at = index * spacing + rng.between(0, spacing);
            let target = &targets[usize::try_from(rng.between(0, targets.len() as u64 - 1)).unwrap_or(0)];
            let happens = match rng.between(0, 19) {
                0..=5 => {
                    pushed += 1;
                    let (number, behaviour) = (BEFORE_WORKER_RELEASES + pushed, worker_behaviour(&mut rng));
                    vec![at_once(at, InPlaceAction::PushWorker { number, behaviour })]
                }
                kind => meddling(&mut rng, target, (at, kind), calm, (api_releases, pushed)),
            };
            all.extend(happens);
        }
        all
    }
}

fn at_once(after: u64, action: InPlaceAction) -> DayEvent {
    DayEvent { after: Seconds(after), what: DayAction::InPlace(action) }
}

/// What people ask for and, unless the day is calm, do by hand. `releases`: numbers of releases of `api` and of the
/// worker so far.
fn meddling(
    rng: &mut SeededRng,
    target: &TargetId,
    (at, kind): (u64, u64),
    calm: bool,
    releases: (u64, u64),
) -> Vec<DayEvent> {
    let (api, pushed) = releases;
    let event = |after: u64, what: DayAction| DayEvent { after: Seconds(after), what };
    let end = at + rng.between(30, 600);
    let target = target.clone();
    let trigger = random_trigger(rng);
    match kind {
        6 | 7 if pushed > 0 && api > 0 => {
            let (api, worker) = (rng.between(1, api), BEFORE_WORKER_RELEASES + rng.between(1, pushed));
            vec![at_once(at, InPlaceAction::Train { api, worker })]
        }
        8 if pushed > 0 => {
            let number = BEFORE_WORKER_RELEASES + rng.between(1, pushed);
            let forward_only = rng.happens(0.5);
            vec![event(at, DayAction::Deploy { target: worker(), number, hotfix: false, forward_only })]
        }
        9 => vec![event(at, DayAction::Rollback { target })],
        10 => {
            let resume = DayAction::Resume { target: target.clone() };
            vec![event(at, DayAction::Abort { target }), event(end, resume)]
        }
        _ if calm => Vec::new(),
        11..=13 => {
            let version = if rng.happens(0.3) { ForeignVersion::First } else { ForeignVersion::Theirs };
            let restored = rng.happens(0.6).then(|| {
                let target = target.clone();
                at_once(end, InPlaceAction::RestoreVersion { target })
            });
            let set = at_once(at, InPlaceAction::SetVersion { target, trigger, version });
            [set].into_iter().chain(restored).collect()
        }
        14 | 15 => {
            let tasks = usize::try_from(rng.between(1, 3)).unwrap_or(1);
            // Over before the deadline of a rollback.
            let minutes = i64::try_from(rng.between(5, 45)).unwrap_or(5);
            vec![at_once(at, InPlaceAction::ProtectTasks { target, tasks, minutes })]
        }
        16 => {
            let (affected, recover) = (AffectedSides::Live, DayAction::Recover { target: target.clone() });
            let mode = if rng.happens(0.7) { SideFault::Failing } else { SideFault::Unhealthy };
            vec![event(at, DayAction::DegradeSide { target, affected, mode }), event(end, recover)]
        }
        17 => {
            let set = |desired| DayAction::EditDesired { target: target.clone(), slot: Slot::Blue, desired };
            vec![event(at, set(0)), event(end, set(TASKS))]
        }
        _ => {
            let rollback = rng.happens(0.5).then(|| event(end, DayAction::Rollback { target: target.clone() }));
            let deregister = at_once(at, InPlaceAction::DeregisterBefore { target: target.clone(), trigger });
            [deregister].into_iter().chain(rollback).collect()
        }
    }
}

fn random_trigger(rng: &mut SeededRng) -> ToolTrigger {
    match rng.between(0, 7) {
        0..=3 => ToolTrigger::CandidateHasTraffic,
        4 => ToolTrigger::CandidateAlarmFires,
        5 | 6 => ToolTrigger::RollingBack,
        _ => ToolTrigger::NothingRunning,
    }
}

/// A worker is judged by its tasks: many of its bad releases crash, early or late.
fn worker_behaviour(rng: &mut SeededRng) -> ImageBehaviour {
    match rng.between(0, 9) {
        kind @ 0..=2 => {
            // Before and after the 40 s that pass for health.
            let after = if kind == 0 { rng.between(2, 30) } else { rng.between(45, 120) };
            ImageBehaviour::starting(StartBehaviour::CrashLoop { exit_code: 1, after: Seconds(after) })
        }
        3 => ImageBehaviour::never_healthy(),
        4 => ImageBehaviour { health: Health::LostAfter(Seconds(rng.between(40, 150))), ..ImageBehaviour::default() },
        5 => ImageBehaviour::running(RunTaskBehaviour::Exits { after: Seconds(rng.between(1, 60)), exit_code: 1 }),
        _ => ImageBehaviour::default(),
    }
}
