//! The ledger, the wake queue and the registry on a real wire: DynamoDB, SQS and ECR as ministack speaks them.

mod dynamodb;
mod fixture;
mod lost_responses;
mod policies;
mod registry;
mod wake_queue;

use crate::fixture::fixture;

#[tokio::test(flavor = "multi_thread")]
async fn the_dynamodb_ledger_keeps_the_contract() {
    tests::ledger_contract::check(&fixture().await.ledger).await;
}

#[tokio::test]
async fn the_ledger_in_memory_keeps_the_contract() {
    tests::ledger_contract::check(&simulation::ledger::MemoryLedger::new()).await;
}
