//! Deployment decisions: what a target should do next, given its state, the observation, the commands and the time.
//!
//! Pure and total. This crate knows no AWS, no clock and no async: time, readings and commands are passed in, and the
//! actions to take are returned as data ([`Decision`]). It can be read top to bottom in this order: a module uses only
//! those above it.
//!
//! | module | contents |
//! |---|---|
//! | [`text`] | untrusted text, made safe to display and cut to a length; an error with its causes |
//! | [`names`] | identifiers: targets, releases, sides, actors |
//! | [`regions`] | AWS's partitions and Regions |
//! | [`time`] | durations and percentages of traffic, and their notation |
//! | [`backoff`] | delays between retries: exponential, with jitter |
//! | [`entry`] | what a release must pass before it may start in an environment, and the people that those rules name |
//! | [`calendar`] | deploy windows and calendar freezes in a time zone |
//! | [`brake`] | freezes set by people, and stop-the-line |
//! | [`release`] | what is deployed: digest, tags and provenance |
//! | [`template`] | where everything of a version but its image comes from |
//! | [`command`] | requests from people, CI and pushes |
//! | [`schedule`] | scheduled actions of autoscaling, and when they run |
//! | [`snapshot`] | the observed state of AWS: every reading is known or unknown |
//! | [`effect`] | changes to AWS: absolute and idempotent |
//! | [`verdict`] | why a deployment rolls back, and how it ends |
//! | [`stage`] | the names of a deployment's stages |
//! | [`refusal`] | why a command changes nothing |
//! | [`journal`] | what happened and why: permanent history for people |
//! | [`notification`] | who is notified of what |
//! | [`registry`] | ECR's registries, and the host names that images have there |
//! | [`platform`] | the platforms that run targets, and their traits |
//! | [`resources`] | what runs a target, and how traffic reaches it |
//! | [`policy`] | the configuration of an application (already validated) |
//! | [`weighted`] | a deployment between two sides: its state in each stage |
//! | [`in_place`] | a deployment that replaces one version by the next: its state in each stage |
//! | [`first`] | the first deployment to a target that runs nothing: its state in each stage |
//! | [`phase`] | the phase of a deployment |
//! | [`deployment`] | one attempt to bring a release to a target |
//! | [`explanation`] | why a target waits, until when, and what happens then |
//! | [`target`] | the persistent state of one target |
//! | [`command_checks`] | whether a command can take effect on a target's state |
//! | [`observation`](observation()) | what must be read before the next decision |
//! | [`answers`] | what the answers of ECS and of its load balancer mean |
//! | [`rate_limiter`] | the queue for AWS's API budgets, and the backoff after throttling |
//! | [`promotion`] | whether a release may start here now: one rule per gate |
//! | [`decide`](decide()) | the next phase, effects, reasons and wake; and how the effects' outcomes change the state |
//! | [`plan`] | a dry run: what a deployment would do |
//! | [`recording`] | recorded decisions, and their replay |
//! | [`alarm`] | alarms: their configuration, their state, and which side they watch |
//! | [`doctor`] | whether an account meets what a policy requires |

pub mod alarm;
pub mod answers;
pub mod backoff;
pub mod brake;
pub mod calendar;
pub mod command;
pub mod command_checks;
pub mod decide;
pub mod deployment;
pub mod doctor;
pub mod effect;
pub mod entry;
pub mod explanation;
pub mod first;
pub mod in_place;
pub mod journal;
pub mod names;
pub mod notification;
pub mod observation;
pub mod phase;
pub mod plan;
pub mod platform;
pub mod policy;
pub mod promotion;
pub mod rate_limiter;
pub mod recording;
pub mod refusal;
pub mod regions;
pub mod registry;
pub mod release;
pub mod resources;
pub mod schedule;
pub mod snapshot;
pub mod stage;
pub mod target;
pub mod template;
pub mod text;
pub mod time;
pub mod verdict;
pub mod weighted;

pub use brake::Brake;
pub use command::{Command, CommandId, DeployOptions, Instruction, Lane, Overrides, PlanId, Train};
pub use decide::{Decision, Inbox, Next, apply_outcomes, decide};
pub use deployment::{Deployment, DeploymentRecord, Purpose};
pub use effect::{Effect, HookReport, Outcome};
pub use entry::Gate;
pub use explanation::{Explanation, WaitingOn};
pub use jiff::{SignedDuration, Timestamp};
pub use journal::{Fact, JournalEntry};
pub use names::{Actor, DeploymentId, ImageDigest, Name, ReleaseId, Slot, Tag, TargetId};
pub use observation::{ObservationPlan, idle_observation, idle_observation_is_due, observation, observation_after};
pub use phase::Phase;
pub use platform::{EcsPair, EcsRolling, EcsServiceName, Platform, Way, WorkloadName};
pub use policy::{AppliedTarget, Concurrency, Policy, TargetPolicy};
pub use refusal::CommandRefusal;
pub use registry::Registry;
pub use release::{Provenance, Release, ReleaseRef};
pub use resources::{Leg, TargetResources};
pub use snapshot::{Reading, Snapshot};
pub use stage::Stage;
pub use target::TargetState;
pub use time::{Percent, Seconds};
pub use verdict::{Cause, Verdict};
pub use weighted::RollbackPath;
