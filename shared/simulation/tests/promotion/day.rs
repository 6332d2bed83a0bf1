//! One day of people, pushes and meddling, written down before it is lived through: each happening is drawn with dice of
//! its own, so that leaving one out moves no other.

use crate::street::name;
use rollout::brake::Scope;
use rollout::{Seconds, Slot, TargetId};
use serde_json::json;
use simulation::world::alarms::Evaluation;
use simulation::world::{Dice, FunctionBehaviour, Health, ImageBehaviour, Run, Starts};
use std::fmt;

/// How many things happen in a day.
const HAPPENINGS: u64 = 80;
/// How many more of the kind that only happens now and then, on days on which somebody meddles.
const INCIDENTS: u64 = 10;
/// The functions that hooks ask, on days that have hooks: at the test rule, and after the traffic.
pub(crate) const FUNCTIONS: [&str; 2] = ["smoke", "announce"];

/// Something happens, so many seconds after the day's beginning.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Happening {
    pub(crate) after: Seconds,
    pub(crate) what: What,
}

/// What.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum What {
    Push {
        number: u64,
        behaviour: ImageBehaviour,
    },
    Answer {
        user: &'static str,
        about: About,
        no: bool,
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
    /// A person lets go on what froze, or was halted.
    Resume {
        target: TargetId,
    },
    /// From now on a hook's function answers like this.
    Function {
        name: &'static str,
        behaviour: FunctionBehaviour,
    },
    Brake {
        scope: Scope,
    },
    Lift,
    Policy {
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
    Kill {
        target: TargetId,
        slot: Slot,
        tasks: usize,
    },
    Requests {
        target: TargetId,
        per_second: f64,
    },
    /// As soon as `moment` has come, somebody's tool gives the side that is not to have it so much of the traffic.
    Favour {
        target: TargetId,
        moment: Moment,
        share: u8,
    },
    /// What runs on a side goes bad.
    Sicken {
        target: TargetId,
        whom: Whom,
        how: Ill,
    },
    /// Everything of the target that was ill is well again.
    Recover {
        target: TargetId,
    },
    /// Both sides go to sleep: nobody needs them at night.
    Sleep {
        target: TargetId,
    },
    /// They wake up.
    WakeUp {
        target: TargetId,
    },
    /// A tag is put onto an image that was pushed before.
    Retag {
        tag: u64,
        number: u64,
        silent: bool,
    },
    /// A lifecycle rule deletes an image from the registry.
    Delete {
        number: u64,
    },
    /// CloudWatch does not evaluate the alarm of a side.
    Unevaluated {
        target: TargetId,
        slot: Slot,
        how: Evaluation,
    },
    /// It does again.
    Evaluated {
        target: TargetId,
        slot: Slot,
    },
    /// Somebody schedules limits for a side, a minute from now.
    Schedule {
        target: TargetId,
        slot: Slot,
        min: u32,
        max: u32,
    },
    Nothing,
    /// Only where a test wants a promise broken: somebody without the lease writes weights once something was deployed.
    Ghost {
        target: TargetId,
    },
}

/// When somebody's tool writes a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// A candidate has some of the traffic.
    Carrying,
    /// A candidate has some of the traffic, and its alarm fires.
    Firing,
    /// Traffic goes back.
    GoingBack,
    /// Nothing is going on.
    AtRest,
}

/// Which sides go bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whom {
    /// The one that has more of the traffic.
    Live,
    /// The other one.
    Idle,
    Both,
}

/// What is wrong with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ill {
    /// Half of the requests fail.
    Failing,
    /// No task is healthy, nor are those that replace them.
    Unhealthy,
}

/// What somebody's answer is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum About {
    What,
    TheOneBefore,
    AnotherPlan,
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Push { number, behaviour } => write!(f, "v{number} is pushed ({})", nature(behaviour)),
            Self::Answer { user, about, no } => {
                let about = match about {
                    About::What => "what waits",
                    About::TheOneBefore => "what waited before",
                    About::AnotherPlan => "another plan",
                };
                write!(f, "{user} says {} to {about}", if *no { "no" } else { "yes" })
            }
            Self::Rollback { target } => write!(f, "carol asks for a rollback of {target}"),
            Self::Abort { target } => write!(f, "carol aborts on {target}"),
            Self::Deploy { target, number, hotfix, forward_only } => {
                let lane = if *hotfix { ", as a hotfix" } else { "" };
                let only = if *forward_only { ", without a way back" } else { "" };
                write!(f, "carol asks for v{number} on {target}{lane}{only}")
            }
            Self::Resume { target } => write!(f, "carol lets {target} go on"),
            Self::Function { name, behaviour } => write!(f, "the function {name} {}", answers(behaviour)),
            Self::Brake { scope } => write!(f, "carol brakes {scope}"),
            Self::Lift => f.write_str("the first brake is lifted"),
            Self::Policy { bake } => write!(f, "the policy is applied with a bake of {bake} in prod"),
            Self::EditWeights { target, blue } => {
                write!(f, "somebody gives {target}'s rule {blue}/{}", 100 - blue)
            }
            Self::EditDesired { target, slot, desired } => {
                write!(f, "somebody gives {slot} of {target} {desired} tasks")
            }
            Self::EditLimits { target, slot, min, max } => {
                write!(f, "somebody gives {slot} of {target} the limits {min} to {max}")
            }
            Self::Kill { target, slot, tasks } => write!(f, "{tasks} tasks of {slot} of {target} die"),
            Self::Requests { target, per_second } => write!(f, "{target} gets {per_second} requests a second"),
            Self::Favour { target, moment, share } => {
                let moment = match moment {
                    Moment::Carrying => "once the candidate has traffic",
                    Moment::Firing => "once the candidate's alarm fires",
                    Moment::GoingBack => "once traffic goes back",
                    Moment::AtRest => "once nothing is going on",
                };
                write!(f, "somebody's tool gives {share} % of {target} to the wrong side, {moment}")
            }
            Self::Sicken { target, whom, how } => {
                let whom = match whom {
                    Whom::Live => "the side with the traffic",
                    Whom::Idle => "the side with less traffic",
                    Whom::Both => "both sides",
                };
                let how = if *how == Ill::Failing { "answers errors" } else { "is not healthy any more" };
                write!(f, "{whom} of {target} {how}")
            }
            Self::Recover { target } => write!(f, "{target} is well again"),
            Self::Sleep { target } => write!(f, "both sides of {target} go to sleep, if nothing is going on"),
            Self::WakeUp { target } => write!(f, "{target} wakes up"),
            Self::Retag { tag, number, silent } => {
                let silent = if *silent { ", and the event is lost" } else { "" };
                write!(f, "the tag v{tag} is put onto the image of v{number}{silent}")
            }
            Self::Delete { number } => write!(f, "the image of v{number} is deleted from the registry"),
            Self::Unevaluated { target, slot, how } => {
                write!(f, "the alarm of {slot} of {target} is not evaluated ({how:?})")
            }
            Self::Evaluated { target, slot } => write!(f, "the alarm of {slot} of {target} is evaluated again"),
            Self::Schedule { target, slot, min, max } => {
                write!(f, "in a minute the limits {min} to {max} are scheduled for {slot} of {target}")
            }
            Self::Nothing => f.write_str("nothing happens"),
            Self::Ghost { target } => write!(f, "a ghost writes the weights of {target}"),
        }
    }
}

fn answers(behaviour: &FunctionBehaviour) -> &'static str {
    match behaviour {
        FunctionBehaviour::Reports { then, .. } if then["status"] == "failed" => "says no",
        FunctionBehaviour::Reports { in_progress: 0, .. } => "says yes",
        FunctionBehaviour::Reports { in_progress: u32::MAX, .. } => "is never done",
        FunctionBehaviour::Reports { .. } => "takes its time, and says yes",
        FunctionBehaviour::Throws => "throws",
        FunctionBehaviour::Silent => "does not answer",
    }
}

fn nature(behaviour: &ImageBehaviour) -> &'static str {
    match behaviour {
        ImageBehaviour { starts: Starts::CrashLoop { .. }, .. } => "its tasks exit soon",
        ImageBehaviour { health: Health::Never, .. } => "never healthy",
        ImageBehaviour { health: Health::LostAfter(_), .. } => "loses its health",
        ImageBehaviour { later: Some(_), .. } => "goes bad",
        ImageBehaviour { run: Run::Exits { exit_code: 1, .. }, .. } => "its migration fails",
        ImageBehaviour { error_rate, .. } if *error_rate > 0.0 => "bad",
        _ => "good",
    }
}

/// What happens on the `seed`th day, in its order. On every third nobody meddles, nothing dies, and the load stays.
pub(crate) fn happenings(seed: u64, targets: &[TargetId; 3]) -> Vec<Happening> {
    let calm = seed.is_multiple_of(3);
    let (mut after, mut pushed) = (0, 0);
    let mut all = Vec::new();
    for index in 0..HAPPENINGS {
        let mut dice = Dice::new(seed.rotate_left(17) ^ (index + 1).wrapping_mul(0xA24B_AED4_963E_E407));
        let meddling = !calm && dice.happens(0.12);
        let what = if meddling { meddle(&mut dice, targets) } else { something(&mut dice, targets, &mut pushed) };
        all.push(Happening { after: Seconds(after), what });
        after += dice.between(5, 240);
    }
    for index in 0..INCIDENTS {
        let mut dice = Dice::new(seed.rotate_left(41) ^ (index + 1).wrapping_mul(0x9FB2_1C65_1E98_DF25));
        let at = Seconds(dice.between(30, after));
        all.extend(incident(&mut dice, targets, at, calm, pushed.max(1)));
    }
    let mut dice = Dice::new(seed.rotate_left(29) ^ 0xB492_B66F_BE98_F273);
    if dice.happens(0.3) {
        let at = Seconds(dice.between(30, after));
        all.push(Happening { after: at, what: What::Delete { number: dice.between(1, pushed.max(1)) } });
    }
    all.sort_by_key(|happening| happening.after);
    all
}

/// What only happens now and then, and what ends it. On a calm day only tags move.
fn incident(dice: &mut Dice, targets: &[TargetId; 3], after: Seconds, calm: bool, pushed: u64) -> Vec<Happening> {
    let target = some(dice, targets).clone();
    let kind = dice.between(0, 14);
    let slot = if dice.happens(0.5) { Slot::Blue } else { Slot::Green };
    let lasts = dice.between(30, 900);
    let at = |after: u64, what: What| Happening { after: Seconds(after), what };
    let during = |from: What, to: What| vec![at(after.0, from), at(after.0 + lasts, to)];
    match kind {
        10 | 11 => {
            let number = dice.between(1, pushed);
            // A tag of its own, or one that another image had.
            let tag = if dice.happens(0.5) { 1_000 + dice.between(0, 99) } else { dice.between(1, pushed) };
            vec![at(after.0, What::Retag { tag, number, silent: dice.happens(0.3) })]
        }
        _ if calm => Vec::new(),
        0..=5 => {
            let moment = match dice.between(0, 6) {
                0 | 1 => Moment::Carrying,
                2 | 3 => Moment::Firing,
                4 | 5 => Moment::GoingBack,
                _ => Moment::AtRest,
            };
            let share = [60, 90, 100][usize::try_from(dice.between(0, 2)).unwrap_or(0)];
            vec![at(after.0, What::Favour { target, moment, share })]
        }
        6 | 7 => {
            let whom = if dice.happens(0.6) { Whom::Live } else { Whom::Idle };
            let how = if dice.happens(0.7) { Ill::Failing } else { Ill::Unhealthy };
            during(What::Sicken { target: target.clone(), whom, how }, What::Recover { target })
        }
        8 => during(
            What::Sicken { target: target.clone(), whom: Whom::Both, how: Ill::Unhealthy },
            What::Recover { target },
        ),
        9 => during(What::Sleep { target: target.clone() }, What::WakeUp { target }),
        12 | 13 => {
            let kinds = [Evaluation::PartialData, Evaluation::Error, Evaluation::Failure];
            let how = kinds[usize::try_from(dice.between(0, 2)).unwrap_or(0)];
            during(What::Unevaluated { target: target.clone(), slot, how }, What::Evaluated { target, slot })
        }
        _ => {
            let min = u32::try_from(dice.between(1, 3)).unwrap_or(1);
            let max = u32::try_from(dice.between(4, 9)).unwrap_or(4);
            vec![at(after.0, What::Schedule { target, slot, min, max })]
        }
    }
}

fn some<'a>(dice: &mut Dice, targets: &'a [TargetId; 3]) -> &'a TargetId {
    &targets[usize::try_from(dice.between(0, 2)).unwrap_or(0)]
}

fn something(dice: &mut Dice, targets: &[TargetId; 3], pushed: &mut u64) -> What {
    let prod = &targets[2];
    match dice.between(0, 21) {
        0..=3 => {
            *pushed += 1;
            What::Push { number: *pushed, behaviour: behaviour(dice) }
        }
        4..=9 => {
            let about = match dice.between(0, 9) {
                0 => About::TheOneBefore,
                1 => About::AnotherPlan,
                _ => About::What,
            };
            let users = ["UADA", "UBOB", "UEVE", "UMALLORY"];
            let user = users[usize::try_from(dice.between(0, 3)).unwrap_or(0)];
            What::Answer { user, about, no: dice.happens(0.08) }
        }
        10 => What::Rollback { target: some(dice, targets).clone() },
        11 => What::Abort { target: some(dice, targets).clone() },
        12 | 13 if *pushed > 0 => {
            let target = some(dice, targets).clone();
            let number = dice.between(1, *pushed);
            let hotfix = target == *prod && dice.happens(0.3);
            What::Deploy { target, number, hotfix, forward_only: dice.happens(0.2) }
        }
        14 => {
            let shop = name("shop");
            let scope = match dice.between(0, 2) {
                0 => Scope::Everything,
                1 => Scope::Application { application: shop },
                _ => Scope::Environment { application: shop, environment: name("prod") },
            };
            What::Brake { scope }
        }
        15..=17 => What::Lift,
        18 => What::Policy { bake: Seconds(dice.between(20, 120)) },
        19 => What::Resume { target: some(dice, targets).clone() },
        20 => {
            let name = FUNCTIONS[usize::try_from(dice.between(0, 1)).unwrap_or(0)];
            What::Function { name, behaviour: function(dice) }
        }
        _ => What::Nothing,
    }
}

fn function(dice: &mut Dice) -> FunctionBehaviour {
    match dice.between(0, 9) {
        0..=3 => FunctionBehaviour::succeeds(),
        4..=6 => {
            let in_progress = u32::try_from(dice.between(1, 6)).unwrap_or(1);
            FunctionBehaviour::Reports { in_progress, then: json!({"status": "succeeded"}) }
        }
        7 => FunctionBehaviour::fails("the cart is empty"),
        8 => FunctionBehaviour::Throws,
        _ => {
            if dice.happens(0.5) {
                FunctionBehaviour::Silent
            } else {
                FunctionBehaviour::never_done()
            }
        }
    }
}

fn behaviour(dice: &mut Dice) -> ImageBehaviour {
    match dice.between(0, 19) {
        0..=3 => ImageBehaviour::failing(0.5),
        4 => {
            let after = Seconds(dice.between(2, 90));
            ImageBehaviour::starting(Starts::CrashLoop { exit_code: 1, after })
        }
        5 => ImageBehaviour::never_healthy(),
        6 => ImageBehaviour { later: Some((Seconds(dice.between(40, 300)), 0.5)), ..ImageBehaviour::default() },
        7 => {
            let lost = Health::LostAfter(Seconds(dice.between(40, 300)));
            ImageBehaviour { health: lost, ..ImageBehaviour::default() }
        }
        8 => ImageBehaviour::running(Run::Exits { after: Seconds(dice.between(1, 60)), exit_code: 1 }),
        _ => ImageBehaviour::default(),
    }
}

fn meddle(dice: &mut Dice, targets: &[TargetId; 3]) -> What {
    let target = some(dice, targets).clone();
    let slot = if dice.happens(0.5) { Slot::Blue } else { Slot::Green };
    match dice.between(0, 9) {
        0 | 1 => {
            let blue = [0, 1, 10, 37, 50, 90, 100][usize::try_from(dice.between(0, 6)).unwrap_or(0)];
            What::EditWeights { target, blue }
        }
        2 => What::EditDesired { target, slot, desired: u32::try_from(dice.between(1, 6)).unwrap_or(1) },
        3 => {
            let min = u32::try_from(dice.between(1, 3)).unwrap_or(1);
            let max = u32::try_from(dice.between(4, 9)).unwrap_or(4);
            What::EditLimits { target, slot, min, max }
        }
        4..=6 => What::Kill { target, slot, tasks: usize::try_from(dice.between(1, 4)).unwrap_or(1) },
        _ => What::Requests { target, per_second: f64::from(u32::try_from(dice.between(1, 18)).unwrap_or(1)) },
    }
}
