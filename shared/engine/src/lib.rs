//! Drives deployments: the ports to the outside world, and the loop from a wake to its effects.
//!
//! Async and without AWS: the crate that links this one supplies the implementations of the ports.
//!
//! | module | what it does |
//! |---|---|
//! | [`ports`] | the interfaces that the loop needs: ledger, cloud, registry, wake queue, clock |
//! | [`drive`](drive()) | one pass over one target: acquire the lease, observe, decide, commit, perform, record |
//! | [`gate_context`] | inputs of a decision beyond its target: brakes, and the verified releases of related targets |
//! | `outbox` | messages to other targets: promotions, and failures of release trains |
//! | [`intake`] | events to commands and wakes: image pushed, signal received, sweep |
//! | [`notify`](notify()) | delivers journal entries to a bus, and to the topics and chats that the policy names, each once |
//! | [`command_service`] | shared by all entry points for people and workflows: checks, commands and wakes; queries |
//! | [`approving`] | approval decisions, from any channel |
//! | [`links`] | signed approval links, sent by mail |
//! | [`workflows`] | requests from GitHub Actions workflows, within the policy's grants |
//! | [`log_context`] | fields of every log line about one deployment |
//! | [`recorder`] | records decisions, to be replayed elsewhere |
//! | [`measure`] | metrics for the alarms on the control plane |
//! | [`operate`] | operator requests: apply, plan, deploy, promote, approve, brakes, queries |

pub mod approving;
pub mod command_service;
mod drive;
pub mod gate_context;
pub mod intake;
pub mod links;
pub mod log_context;
pub mod measure;
mod notify;
pub mod operate;
mod outbox;
pub mod ports;
pub mod recorder;
pub mod workflows;

pub use drive::{DriveOutcome, LEASE, drive, drive_recorded};
pub use notify::{CHAT_RETRY_WINDOW, CLAIM, DETAIL_TYPE, NotifyError, NotifyReport, SOURCE, notify};
pub use ports::{
    AppliedPolicy, ApprovalLinkRequest, BusEvent, Channels, ChatMessage, Claimed, ClaimedResource, Clock, Cloud,
    Commit, Deliveries, DeliveryClaim, DeliveryId, EditOutcome, Inspector, LeaseId, LeaseOutcome, LeaseRequest,
    LeasedTarget, Ledger, LedgerError, Message, OverdueTarget, PostedMessage, PostedMessageKey, PostedMessages,
    PushedImage, Registry, Retry, RetryCounts, RetryRegistration, SendError, TagInventory, Wake, WakeKind, WakeQueue,
    WatchedResource,
};
