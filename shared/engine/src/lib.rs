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
//! | [`log_context`] | fields of every log line about one deployment |
//! | [`recorder`] | records decisions, to be replayed elsewhere |
//! | [`measure`] | metrics for the alarms on the control plane |

mod drive;
pub mod gate_context;
pub mod intake;
pub mod log_context;
pub mod measure;
mod notify;
mod outbox;
pub mod ports;
pub mod recorder;

pub use drive::{DriveOutcome, DriverLedger, MAX_LEASE, drive, drive_recorded};
pub use notify::{
    CHAT_RETRY_WINDOW, DELIVERY_CLAIM_DURATION, DETAIL_TYPE, NotifierLedger, NotifyError, NotifyReport, SOURCE, notify,
};
pub use ports::{
    Administration, AppliedPolicy, ApprovalLinkRequest, Brakes, BusEvent, Channels, ChatMessage, ClaimOutcome,
    ClaimedResource, Clock, Cloud, Commands, Commit, Deliveries, DeliveryClaim, DeliveryId, EditOutcome, ImageRegistry,
    Inspector, LeaseId, LeaseOutcome, LeaseRequest, LeasedTarget, Leases, Ledger, LedgerError, LockChange,
    OverdueTarget, Policies, PostedMessage, PostedMessageKey, PostedMessages, PushedImage, ReleaseIntake, Releases,
    Retry, RetryCounts, RetryRegistration, SendError, TagInventory, TargetIndex, Targets, TopicMessage, Wake, WakeKind,
    WakeQueue, WatchedResource,
};
