//! Brakes and their log.

use super::LedgerError;
use rollout::brake::{Brake, BrakeRecord};
use std::future::Future;

/// Reads brakes.
pub trait Brakes: Sync {
    /// The brakes that are set, including expired ones.
    fn brakes(&self) -> impl Future<Output = Result<Vec<Brake>, LedgerError>> + Send;
    /// The log of brakes set and lifted, newest first.
    fn brake_log(&self, limit: usize) -> impl Future<Output = Result<Vec<BrakeRecord>, LedgerError>> + Send;
}
