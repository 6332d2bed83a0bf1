//! One day of people, pushes and meddling, written down before it is lived through: each happening is drawn with dice of
//! its own, so that leaving one out moves no other.

use crate::in_place_day::{InPlaceAction, in_place_day};
use crate::pipeline::name;
use rollout::brake::Scope;
use rollout::{Seconds, Slot, TargetId};
use serde_json::json;
use simulation::world::alarms::Evaluation;
use simulation::world::{FunctionBehaviour, Health, ImageBehaviour, RunTaskBehaviour, SeededRng, StartBehaviour};
use std::fmt;

/// How many things happen in a day.
const EVENTS_PER_DAY: u64 = 80;
/// How many more of the kind that only happens now and then, on days on which somebody meddles.
const INCIDENTS_PER_DAY: u64 = 10;
/// The functions that hooks ask, on days that have hooks: at the test rule, and after the traffic.
pub(crate) const HOOK_FUNCTIONS: [&str; 2] = ["smoke", "announce"];

/// Something happens, so many seconds after the day's beginning.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DayEvent {
    pub(crate) after: Seconds,
    pub(crate) what: DayAction,
}

/// What.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum DayAction {
    Push {
        number: u64,
        behaviour: ImageBehaviour,
    },
    Vote {
        user: &'static str,
        subject: VoteSubject,
        reject: bool,
    },
    Rollback {
        target: TargetId,
    },
    Abort {
        target: TargetId,
    },
    Deploy {
        target: TargetId,
        number: u64,
        hotfix: bool,
        forward_only: bool,
    },
    /// A person resumes what awaits an operator, or was halted.
    Resume {
        target: TargetId,
    },
    /// From now on a hook's function answers like this.
    SetFunction {
        name: &'static str,
        behaviour: FunctionBehaviour,
    },
    Brake {
        scope: Scope,
    },
    LiftBrake,
    ApplyPolicy {
        bake: Seconds,
    },
    // --- what is nobody's business while Switchback is at work ---
    EditWeights {
        target: TargetId,
        blue: i64,
    },
    EditDesired {
        target: TargetId,
        slot: Slot,
        desired: u32,
    },
    EditLimits {
        target: TargetId,
        slot: Slot,
        min: u32,
        max: u32,
    },
    KillTasks {
        target: TargetId,
        slot: Slot,
        tasks: usize,
    },
    SetTraffic {
        target: TargetId,
        per_second: f64,
    },
    /// As soon as `trigger` has come, somebody's tool gives the side that is not to have it so much of the traffic.
    FavourWrongSide {
        target: TargetId,
        trigger: ToolTrigger,
        share: u8,
    },
    /// What runs on a side goes bad.
    DegradeSide {
        target: TargetId,
        affected: AffectedSides,
        mode: SideFault,
    },
    /// Everything of the target that was ill is well again.
    Recover {
        target: TargetId,
    },
    /// Both sides go to sleep: nobody needs them at night.
    ScaleToZero {
        target: TargetId,
    },
    /// They wake up.
    ScaleUp {
        target: TargetId,
    },
    /// A tag is put onto an image that was pushed before.
    Retag {
        tag: u64,
        number: u64,
        silent: bool,
    },
    /// A lifecycle rule deletes an image from the registry.
    DeleteImage {
        number: u64,
    },
    /// CloudWatch does not evaluate the alarm of a side.
    SuspendAlarm {
        target: TargetId,
        slot: Slot,
        mode: Evaluation,
    },
    /// It does again.
    ResumeAlarm {
        target: TargetId,
        slot: Slot,
    },
    /// Somebody schedules limits for a side, a minute from now.
    ScheduleLimits {
        target: TargetId,
        slot: Slot,
        min: u32,
        max: u32,
    },
    /// What happens only on days on which targets change their version in place.
    InPlace(InPlaceAction),
    Nothing,
    /// Only where a test wants a promise broken: somebody without the lease writes weights once something was deployed.
    WriteWithoutLease {
        target: TargetId,
    },
}

/// When somebody's tool writes a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ToolTrigger {
    /// A candidate has some of the traffic.
    CandidateHasTraffic,
    /// A candidate has some of the traffic, and its alarm fires.
    CandidateAlarmFires,
    /// Traffic goes back.
    RollingBack,
    /// Nothing is going on.
    NothingRunning,
}

/// Which sides go bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AffectedSides {
    /// The one that has more of the traffic.
    Live,
    /// The other one.
    Idle,
    Both,
}

/// What is wrong with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SideFault {
    /// Half of the requests fail.
    Failing,
    /// No task is healthy, nor are those that replace them.
    Unhealthy,
}

/// What somebody's answer is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum VoteSubject {
    Current,
    PreviousDeployment,
    OtherPlan,
}

impl fmt::Display for DayAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Push { number, behaviour } => write!(f, "v{number} is pushed ({})", describe_image(behaviour)),
            Self::Vote { user, subject, reject } => {
                let subject = match subject {
                    VoteSubject::Current => "what waits",
                    VoteSubject::PreviousDeployment => "what waited before",
                    VoteSubject::OtherPlan => "another plan",
                };
                write!(f, "{user} says {} to {subject}", if *reject { "no" } else { "yes" })
            }
            Self::Rollback { target } => write!(f, "carol asks for a rollback of {target}"),
            Self::Abort { target } => write!(f, "carol aborts on {target}"),
            Self::Deploy { target, number, hotfix, forward_only } => {
                let lane = if *hotfix { ", as a hotfix" } else { "" };
                let only = if *forward_only { ", without automatic rollback" } else { "" };
                write!(f, "carol asks for v{number} on {target}{lane}{only}")
            }
            Self::Resume { target } => write!(f, "carol lets {target} go on"),
            Self::SetFunction { name, behaviour } => write!(f, "the function {name} {}", describe_function(behaviour)),
            Self::Brake { scope } => write!(f, "carol brakes {scope}"),
            Self::LiftBrake => f.write_str("the first brake is lifted"),
            Self::ApplyPolicy { bake } => write!(f, "the policy is applied with a bake of {bake} in prod"),
            Self::EditWeights { target, blue } => {
                write!(f, "somebody gives {target}'s rule {blue}/{}", 100 - blue)
            }
            Self::EditDesired { target, slot, desired } => {
                write!(f, "somebody gives {slot} of {target} {desired} tasks")
            }
            Self::EditLimits { target, slot, min, max } => {
                write!(f, "somebody gives {slot} of {target} the limits {min} to {max}")
            }
            Self::KillTasks { target, slot, tasks } => write!(f, "{tasks} tasks of {slot} of {target} die"),
            Self::SetTraffic { target, per_second } => write!(f, "{target} gets {per_second} requests a second"),
            Self::FavourWrongSide { target, trigger, share } => {
                let trigger = match trigger {
                    ToolTrigger::CandidateHasTraffic => "once the candidate has traffic",
                    ToolTrigger::CandidateAlarmFires => "once the candidate's alarm fires",
                    ToolTrigger::RollingBack => "once traffic goes back",
                    ToolTrigger::NothingRunning => "once nothing is going on",
                };
                write!(f, "somebody's tool gives {share} % of {target} to the wrong side, {trigger}")
            }
            Self::DegradeSide { target, affected, mode } => {
                let affected = match affected {
                    AffectedSides::Live => "the side with the traffic",
                    AffectedSides::Idle => "the side with less traffic",
                    AffectedSides::Both => "both sides",
                };
                let mode = if *mode == SideFault::Failing { "answers errors" } else { "is not healthy any more" };
                write!(f, "{affected} of {target} {mode}")
            }
            Self::Recover { target } => write!(f, "{target} is well again"),
            Self::ScaleToZero { target } => write!(f, "both sides of {target} go to sleep, if nothing is going on"),
            Self::ScaleUp { target } => write!(f, "{target} wakes up"),
            Self::Retag { tag, number, silent } => {
                let silent = if *silent { ", and the event is lost" } else { "" };
                write!(f, "the tag v{tag} is put onto the image of v{number}{silent}")
            }
            Self::DeleteImage { number } => write!(f, "the image of v{number} is deleted from the registry"),
            Self::SuspendAlarm { target, slot, mode } => {
                write!(f, "the alarm of {slot} of {target} is not evaluated ({mode:?})")
            }
            Self::ResumeAlarm { target, slot } => write!(f, "the alarm of {slot} of {target} is evaluated again"),
            Self::ScheduleLimits { target, slot, min, max } => {
                write!(f, "in a minute the limits {min} to {max} are scheduled for {slot} of {target}")
            }
            Self::InPlace(action) => fmt::Display::fmt(action, f),
            Self::Nothing => f.write_str("nothing happens"),
            Self::WriteWithoutLease { target } => write!(f, "a ghost writes the weights of {target}"),
        }
    }
}

fn describe_function(behaviour: &FunctionBehaviour) -> &'static str {
    match behaviour {
        FunctionBehaviour::Reports { then, .. } if then["status"] == "failed" => "says no",
        FunctionBehaviour::Reports { in_progress: 0, .. } => "says yes",
        FunctionBehaviour::Reports { in_progress: u32::MAX, .. } => "is never done",
        FunctionBehaviour::Reports { .. } => "takes its time, and says yes",
        FunctionBehaviour::Throws => "throws",
        FunctionBehaviour::Silent => "does not answer",
    }
}

pub(crate) fn describe_image(behaviour: &ImageBehaviour) -> &'static str {
    match behaviour {
        ImageBehaviour { starts: StartBehaviour::CrashLoop { .. }, .. } => "its tasks exit soon",
        ImageBehaviour { health: Health::Never, .. } => "never healthy",
        ImageBehaviour { health: Health::LostAfter(_), .. } => "loses its health",
        ImageBehaviour { later: Some(_), .. } => "goes bad",
        ImageBehaviour { run: RunTaskBehaviour::Exits { exit_code: 1, .. }, .. } => "its migration fails",
        ImageBehaviour { error_rate, .. } if *error_rate > 0.0 => "bad",
        _ => "good",
    }
}

/// What happens on the `seed`th day, in its order. On every third nobody meddles, nothing dies, and the load stays.
pub(crate) fn day_events(seed: u64, targets: &[TargetId; 3]) -> Vec<DayEvent> {
    let calm = seed.is_multiple_of(3);
    let (mut after, mut pushed) = (0, 0);
    let mut all = Vec::new();
    for index in 0..EVENTS_PER_DAY {
        let mut rng = SeededRng::new(seed.rotate_left(17) ^ (index + 1).wrapping_mul(0xA24B_AED4_963E_E407));
        let is_external_edit = !calm && rng.happens(0.12);
        let what = if is_external_edit {
            random_external_edit(&mut rng, targets)
        } else {
            random_action(&mut rng, targets, &mut pushed)
        };
        all.push(DayEvent { after: Seconds(after), what });
        after += rng.between(5, 240);
    }
    for index in 0..INCIDENTS_PER_DAY {
        let mut rng = SeededRng::new(seed.rotate_left(41) ^ (index + 1).wrapping_mul(0x9FB2_1C65_1E98_DF25));
        let at = Seconds(rng.between(30, after));
        all.extend(incident(&mut rng, targets, at, calm, pushed.max(1)));
    }
    let mut rng = SeededRng::new(seed.rotate_left(29) ^ 0xB492_B66F_BE98_F273);
    if rng.happens(0.3) {
        let at = Seconds(rng.between(30, after));
        all.push(DayEvent { after: at, what: DayAction::DeleteImage { number: rng.between(1, pushed.max(1)) } });
    }
    if let Some(day) = in_place_day(seed) {
        all.extend(day.events(seed, after, calm, pushed));
    }
    all.sort_by_key(|day_event| day_event.after);
    all
}

/// What only happens now and then, and what ends it. On a calm day only tags move.
fn incident(rng: &mut SeededRng, targets: &[TargetId; 3], after: Seconds, calm: bool, pushed: u64) -> Vec<DayEvent> {
    let target = random_target(rng, targets).clone();
    let kind = rng.between(0, 14);
    let slot = if rng.happens(0.5) { Slot::Blue } else { Slot::Green };
    let duration_s = rng.between(30, 900);
    let at = |after: u64, what: DayAction| DayEvent { after: Seconds(after), what };
    let during = |from: DayAction, to: DayAction| vec![at(after.0, from), at(after.0 + duration_s, to)];
    match kind {
        10 | 11 => {
            let number = rng.between(1, pushed);
            // A tag of its own, or one that another image had.
            let tag = if rng.happens(0.5) { 1_000 + rng.between(0, 99) } else { rng.between(1, pushed) };
            vec![at(after.0, DayAction::Retag { tag, number, silent: rng.happens(0.3) })]
        }
        _ if calm => Vec::new(),
        0..=5 => {
            let trigger = match rng.between(0, 6) {
                0 | 1 => ToolTrigger::CandidateHasTraffic,
                2 | 3 => ToolTrigger::CandidateAlarmFires,
                4 | 5 => ToolTrigger::RollingBack,
                _ => ToolTrigger::NothingRunning,
            };
            let share = [60, 90, 100][usize::try_from(rng.between(0, 2)).unwrap_or(0)];
            vec![at(after.0, DayAction::FavourWrongSide { target, trigger, share })]
        }
        6 | 7 => {
            let affected = if rng.happens(0.6) { AffectedSides::Live } else { AffectedSides::Idle };
            let mode = if rng.happens(0.7) { SideFault::Failing } else { SideFault::Unhealthy };
            during(DayAction::DegradeSide { target: target.clone(), affected, mode }, DayAction::Recover { target })
        }
        8 => during(
            DayAction::DegradeSide {
                target: target.clone(),
                affected: AffectedSides::Both,
                mode: SideFault::Unhealthy,
            },
            DayAction::Recover { target },
        ),
        9 => during(DayAction::ScaleToZero { target: target.clone() }, DayAction::ScaleUp { target }),
        12 | 13 => {
            let kinds = [Evaluation::PartialData, Evaluation::Error, Evaluation::Failure];
            let mode = kinds[usize::try_from(rng.between(0, 2)).unwrap_or(0)];
            during(
                DayAction::SuspendAlarm { target: target.clone(), slot, mode },
                DayAction::ResumeAlarm { target, slot },
            )
        }
        _ => {
            let min = u32::try_from(rng.between(1, 3)).unwrap_or(1);
            let max = u32::try_from(rng.between(4, 9)).unwrap_or(4);
            vec![at(after.0, DayAction::ScheduleLimits { target, slot, min, max })]
        }
    }
}

fn random_target<'a>(rng: &mut SeededRng, targets: &'a [TargetId; 3]) -> &'a TargetId {
    &targets[usize::try_from(rng.between(0, 2)).unwrap_or(0)]
}

fn random_action(rng: &mut SeededRng, targets: &[TargetId; 3], pushed: &mut u64) -> DayAction {
    let prod = &targets[2];
    match rng.between(0, 21) {
        0..=3 => {
            *pushed += 1;
            DayAction::Push { number: *pushed, behaviour: behaviour(rng) }
        }
        4..=9 => {
            let subject = match rng.between(0, 9) {
                0 => VoteSubject::PreviousDeployment,
                1 => VoteSubject::OtherPlan,
                _ => VoteSubject::Current,
            };
            let users = ["UADA", "UBOB", "UEVE", "UMALLORY"];
            let user = users[usize::try_from(rng.between(0, 3)).unwrap_or(0)];
            DayAction::Vote { user, subject, reject: rng.happens(0.08) }
        }
        10 => DayAction::Rollback { target: random_target(rng, targets).clone() },
        11 => DayAction::Abort { target: random_target(rng, targets).clone() },
        12 | 13 if *pushed > 0 => {
            let target = random_target(rng, targets).clone();
            let number = rng.between(1, *pushed);
            let hotfix = target == *prod && rng.happens(0.3);
            DayAction::Deploy { target, number, hotfix, forward_only: rng.happens(0.2) }
        }
        14 => {
            let shop = name("shop");
            let scope = match rng.between(0, 2) {
                0 => Scope::Everything,
                1 => Scope::Application { application: shop },
                _ => Scope::Environment { application: shop, environment: name("prod") },
            };
            DayAction::Brake { scope }
        }
        15..=17 => DayAction::LiftBrake,
        18 => DayAction::ApplyPolicy { bake: Seconds(rng.between(20, 120)) },
        19 => DayAction::Resume { target: random_target(rng, targets).clone() },
        20 => {
            let name = HOOK_FUNCTIONS[usize::try_from(rng.between(0, 1)).unwrap_or(0)];
            DayAction::SetFunction { name, behaviour: random_function_behaviour(rng) }
        }
        _ => DayAction::Nothing,
    }
}

fn random_function_behaviour(rng: &mut SeededRng) -> FunctionBehaviour {
    match rng.between(0, 9) {
        0..=3 => FunctionBehaviour::succeeds(),
        4..=6 => {
            let in_progress = u32::try_from(rng.between(1, 6)).unwrap_or(1);
            FunctionBehaviour::Reports { in_progress, then: json!({"status": "succeeded"}) }
        }
        7 => FunctionBehaviour::fails("the cart is empty"),
        8 => FunctionBehaviour::Throws,
        _ => {
            if rng.happens(0.5) {
                FunctionBehaviour::Silent
            } else {
                FunctionBehaviour::never_done()
            }
        }
    }
}

fn behaviour(rng: &mut SeededRng) -> ImageBehaviour {
    match rng.between(0, 19) {
        0..=3 => ImageBehaviour::failing(0.5),
        4 => {
            let after = Seconds(rng.between(2, 90));
            ImageBehaviour::starting(StartBehaviour::CrashLoop { exit_code: 1, after })
        }
        5 => ImageBehaviour::never_healthy(),
        6 => ImageBehaviour { later: Some((Seconds(rng.between(40, 300)), 0.5)), ..ImageBehaviour::default() },
        7 => {
            let lost = Health::LostAfter(Seconds(rng.between(40, 300)));
            ImageBehaviour { health: lost, ..ImageBehaviour::default() }
        }
        8 => ImageBehaviour::running(RunTaskBehaviour::Exits { after: Seconds(rng.between(1, 60)), exit_code: 1 }),
        _ => ImageBehaviour::default(),
    }
}

fn random_external_edit(rng: &mut SeededRng, targets: &[TargetId; 3]) -> DayAction {
    let target = random_target(rng, targets).clone();
    let slot = if rng.happens(0.5) { Slot::Blue } else { Slot::Green };
    match rng.between(0, 9) {
        0 | 1 => {
            let blue = [0, 1, 10, 37, 50, 90, 100][usize::try_from(rng.between(0, 6)).unwrap_or(0)];
            DayAction::EditWeights { target, blue }
        }
        2 => DayAction::EditDesired { target, slot, desired: u32::try_from(rng.between(1, 6)).unwrap_or(1) },
        3 => {
            let min = u32::try_from(rng.between(1, 3)).unwrap_or(1);
            let max = u32::try_from(rng.between(4, 9)).unwrap_or(4);
            DayAction::EditLimits { target, slot, min, max }
        }
        4..=6 => DayAction::KillTasks { target, slot, tasks: usize::try_from(rng.between(1, 4)).unwrap_or(1) },
        _ => DayAction::SetTraffic { target, per_second: f64::from(u32::try_from(rng.between(1, 18)).unwrap_or(1)) },
    }
}
