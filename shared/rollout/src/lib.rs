//! Decides deployments: what a target should do next, given what was seen, what was asked and the time.
//!
//! Pure and total. This crate knows no AWS, no clock and no async: time, readings and commands are handed in,
//! and what should happen comes out as data ([`Decision`]). It can be read top to bottom in this order:
//!
//! | module | answers |
//! |---|---|
//! | [`names`] | what things are called: targets, releases, slots, actors |
//! | [`text`] | text that others wrote, made safe to show |
//! | [`regions`] | AWS's partitions and Regions |
//! | [`time`] | seconds, percentages of traffic, and how people write them |
//! | [`policy`] | what the owners of a service want (already checked) |
//! | [`entry`] | what a release must pass before it may begin in an environment, and the people whom that names |
//! | [`brake`] | freezes, and the stopped line |
//! | [`release`] | what is to be deployed, under which tags, and where it comes from |
//! | [`registry`] | ECR's registries, and the host names that images have there |
//! | [`command`] | what people, CI and pushes ask for |
//! | [`alarm`] | alarms: what they are made of, what they say, which side they see |
//! | [`snapshot`] | what was seen of the world: every reading is known or unknown |
//! | [`schedule`] | scheduled actions of autoscaling, and when they run |
//! | [`effect`] | what shall be true of the world: absolute, repeatable |
//! | [`stage`] | where a deployment is; every stage carries its deadline |
//! | [`explanation`] | why a target waits, until when, and what happens then |
//! | [`target`] | all that is remembered of one target |
//! | [`journal`] | what happened and why, for people and for ever |
//! | [`promotion`] | whether a release may begin here now: one rule a gate |
//! | [`pace`] | whose turn it is before AWS's API budgets, and the pauses after calls that were throttled |
//! | [`look`](look()) | what must be read before the next decision |
//! | [`decide`](decide()) | the next stage, effects, reasons and time to look again |
//! | [`absorb`](absorb()) | what the effects' outcomes change |
//! | [`recording`] | decisions as they were recorded, and the same decisions made again |
//! | [`plan`] | what a deployment would do: the same decision, rehearsed |
//! | [`doctor`] | whether an account is fit for what a policy wants of it |

pub mod alarm;
pub mod brake;
pub mod command;
pub mod decide;
pub mod doctor;
pub mod effect;
pub mod entry;
pub mod explanation;
pub mod journal;
pub mod look;
pub mod names;
pub mod pace;
pub mod plan;
pub mod policy;
pub mod promotion;
pub mod recording;
pub mod regions;
pub mod registry;
pub mod release;
pub mod schedule;
pub mod snapshot;
pub mod stage;
pub mod target;
pub mod text;
pub mod time;

pub use brake::Brake;
pub use command::{Command, CommandId, Instruction, Lane, Overrides, PlanId, Terms, Train};
pub use decide::{Decision, Inbox, Next, absorb, decide};
pub use effect::{Effect, HookReport, Outcome};
pub use entry::Gate;
pub use jiff::{SignedDuration, Timestamp};
pub use journal::{Fact, JournalEntry};
pub use look::{Look, look, look_after, look_at_rest, rest_look_is_due};
pub use names::{Actor, DeploymentId, ImageDigest, Name, ReleaseId, Slot, Tag, TargetId};
pub use policy::{Concurrency, EcsPair, Policy, TargetPolicy};
pub use registry::Registry;
pub use release::{Provenance, Release};
pub use snapshot::{Reading, Snapshot};
pub use stage::{Cause, Stage, Verdict, WayBack};
pub use target::{AppliedTarget, Deployment, DeploymentRecord, Explanation, TargetState, WaitingOn};
pub use time::{Percent, Seconds};
