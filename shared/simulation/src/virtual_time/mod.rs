//! The engine's ports in virtual time, and the runner that lets passes, events, timers and the world happen in order.
//!
//! Every call of a port takes a little virtual time, during which the world and other passes go on: passes overlap as
//! they do where functions run side by side. Everything follows from the world's seed and the faults' seed.
//!
//! | module | what it is |
//! |---|---|
//! | `stage` | what all ports share: the world, the jobs that wait, timers |
//! | `faults` | lost answers, throttling, outages, delays, crashes: by chance or at a given call |
//! | `cloud`, `effects` | [`engine::Cloud`] over the world |
//! | `past` | what was so before the last writes: stale readings |
//! | `inspect` | [`engine::Inspector`] over the world |
//! | `ports` | ledger, wake queue and clock, each with faults |
//! | `registry` | pushes, tags that move, images that are deleted |
//! | `recorder` | what passes decided, in memory |
//! | `simulation` | the runner, over all targets of an application |
//! | `telling` | the journal's stream, and channels that hear of it |
//! | `target` | one of them, looked at |

mod cloud;
mod effects;
mod faults;
mod inspect;
mod past;
mod ports;
mod recorder;
mod registry;
mod simulation;
mod stage;
mod target;
mod telling;

pub use cloud::SimCloud;
pub(crate) use cloud::{Reads, see};
pub(crate) use effects::perform;
pub use faults::{CrashAt, Faults, Moment, Struck};
pub(crate) use past::Past;
pub use ports::{SimClock, SimLedger, SimWakeQueue};
pub use registry::{SimRegistry, Started};
pub use simulation::Simulation;
pub(crate) use stage::{Calls, Deed};
pub use target::Target;
