//! The ports that every control plane function uses: the ledger and the wake queue.

use crate::ledger::DynamoLedger;
use crate::wake_queue::SqsWakeQueue;
use crate::{Clients, SettingError};

/// The two ports that every function uses, and the clients for everything else.
#[derive(Debug, Clone)]
pub struct Ports {
    /// Created on first use, shared by all ports.
    pub clients: Clients,
    /// All deployment state.
    pub ledger: DynamoLedger,
    /// Sends wakes, which start passes.
    pub wake_queue: SqsWakeQueue,
}

impl Ports {
    /// The ports configured by the function's environment variables. Connects to nothing yet.
    ///
    /// # Errors
    /// [`SettingError`], which names the missing variable.
    pub fn from_environment() -> Result<Self, SettingError> {
        let clients = Clients::new();
        Ok(Self {
            ledger: DynamoLedger::from_environment(clients.clone())?,
            wake_queue: SqsWakeQueue::from_environment(clients.clone())?,
            clients,
        })
    }
}
