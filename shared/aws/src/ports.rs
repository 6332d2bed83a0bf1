//! What every function of the control plane stands on: the ledger to write to and the wake queue.

use crate::ledger::DynamoLedger;
use crate::wake_queue::SqsWakeQueue;
use crate::{BadSetting, Clients};

/// The two ports that every function uses, and the clients for whatever else it does.
#[derive(Debug, Clone)]
pub struct Ports {
    /// Clients that are made on first use, shared by all ports.
    pub clients: Clients,
    /// The ledger.
    pub ledger: DynamoLedger,
    /// The wake queue.
    pub wake_queue: SqsWakeQueue,
}

impl Ports {
    /// The ports that the function's environment names. Nothing is connected to yet.
    ///
    /// # Errors
    /// [`BadSetting`], which says what is missing and where it is set.
    pub fn from_environment() -> Result<Self, BadSetting> {
        let clients = Clients::new();
        Ok(Self {
            ledger: DynamoLedger::from_environment(clients.clone())?,
            wake_queue: SqsWakeQueue::from_environment(clients.clone())?,
            clients,
        })
    }
}
