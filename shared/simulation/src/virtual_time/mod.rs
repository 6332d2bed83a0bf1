//! The engine's ports in virtual time, and the runner that executes passes, events, timers and the world in order.
//!
//! Every port call takes a little virtual time, during which the world and other passes continue: passes overlap like
//! concurrent Lambda functions. A run is fully determined by the world's seed and the faults' seed.
//!
//! | module | what it is |
//! |---|---|
//! | `context` | shared state of all ports: world, pending jobs, timers |
//! | `faults` | lost responses, throttling, outages, delays, crashes: at random or at a given call |
//! | `cloud`, `effects` | [`engine::Cloud`] over the world: what is the same on every platform |
//! | `definitions` | task definitions: copies of them, and templates |
//! | `platforms` | what is read and written of each platform, and the model that checks it |
//! | `answers` | the world's answers, described to the core |
//! | `previous` | the state before the last writes: stale readings |
//! | `inspect` | [`engine::Inspector`] over the world |
//! | `ports` | ledger, wake queue and clock, each with faults |
//! | `registry` | pushes, moved tags, deleted images |
//! | `recorder` | decision records of passes, in memory |
//! | `simulation` | the runner, over all targets of an application |
//! | `events` | events of the world on their way to the functions |
//! | `notifications` | the journal's stream, and the channels that it is delivered to |
//! | `target` | a view of one target |

mod answers;
mod cloud;
mod context;
mod definitions;
mod effects;
mod events;
mod faults;
mod inspect;
mod notifications;
mod platforms;
mod ports;
mod previous;
mod recorder;
mod registry;
mod simulation;
mod target;

pub use cloud::SimCloud;
pub(crate) use cloud::{WorldReader, read_snapshot};
pub(crate) use context::PortCalls;
pub(crate) use definitions::newest_template;
pub(crate) use effects::perform;
pub use faults::{CallPhase, CrashAt, Faults};
pub use ports::{SimClock, SimLedger, SimWakeQueue};
pub(crate) use previous::PreviousState;
pub use registry::{PushAnnouncement, SimRegistry};
pub use simulation::Simulation;
pub use target::TargetView;
