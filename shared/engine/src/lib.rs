//! Drives deployments: the ports to the world, and the loop that goes from a wake to an effect.
//!
//! Async, and without AWS: a port's implementation is chosen by who links this crate.
//!
//! | module | what it does |
//! |---|---|
//! | [`ports`] | what the loop needs of the world: ledger, cloud, registry, wake queue, clock |
//! | [`drive`](drive()) | one pass over one target: begin, observe, decide, commit, perform, record |
//! | [`surroundings`] | what a decision needs beyond its target: brakes, and what neighbours have verified |
//! | `errands` | what a target tells others: promotions, and trains that stop |
//! | [`intake`] | events to commands and wakes: image pushed, signal received, sweep |
//! | [`notify`](notify()) | journal entries to a bus, and to the topics and chats that the policy names, each once |
//! | [`desk`] | what every door to people and workflows shares: checked, a command, and a wake; answers to questions |
//! | [`approving`] | a yes or a no to a deployment that waits, by whichever door it comes |
//! | [`links`] | signed links, for who is asked by mail |
//! | [`workflows`] | what workflows of GitHub Actions ask, as far as the policy's grants let them |
//! | [`story`] | what every log line about one deployment carries |
//! | [`recorder`] | who takes down what is decided, to be decided again elsewhere |
//! | [`measure`] | what is counted, for the alarms on the control plane |
//! | [`operate`] | what operators ask: apply, plan, deploy, promote, approve, brakes, questions |

pub mod approving;
pub mod desk;
mod drive;
mod errands;
pub mod intake;
pub mod links;
pub mod measure;
mod notify;
pub mod operate;
pub mod ports;
pub mod recorder;
pub mod story;
pub mod surroundings;
pub mod workflows;

pub use drive::{Driven, LEASE, drive, drive_recorded};
pub use notify::{CLAIM, DETAIL_TYPE, NotifyError, PATIENCE_WITH_CHATS, SOURCE, Told, notify};
pub use ports::{
    Announcement, Applied, Asking, Begin, Channels, Chat, Claim, Claimed, ClaimedResource, Clock, Cloud, Commit,
    Deliveries, DeliveryId, Edited, Hold, Inspector, LeaseId, Ledger, LedgerError, Loaded, Message, Overdue, Post,
    PostKey, Posts, PushedImage, Registry, Retries, Retry, RetryNoted, SendError, TagsSeen, Wake, WakeKind, WakeQueue,
    Watch,
};
