//! A ledger in ministack's DynamoDB, and the values that the tests write to it.

use aws::Clients;
use aws::ledger::DynamoLedger;
use aws_credential_types::Credentials;
use aws_sdk_dynamodb::types::AttributeValue;
use engine::{Commit, LeaseId, LeaseRequest};
use rollout::command::Instruction;
use rollout::target::TargetState;
use rollout::{Actor, Command, Seconds, TargetId, Timestamp};
use std::collections::HashMap;
use tests::harness::aws::Aws;
use tests::harness::child::Server;
use tests::harness::{REGION, ministack};

pub(crate) const TABLE: &str = "ledger";

/// An emulator, the clients that reach it, and a ledger in it.
pub(crate) struct LedgerFixture {
    pub(crate) clients: Clients,
    pub(crate) ledger: DynamoLedger,
    pub(crate) server: Server,
}

pub(crate) async fn clients(endpoint: &str) -> Clients {
    let config = aws::config::loader()
        .endpoint_url(endpoint)
        .region(aws_config::Region::new(REGION))
        .credentials_provider(Credentials::new("test", "test", None, None, "tests"))
        .load()
        .await;
    Clients::of(config)
}

pub(crate) async fn fixture() -> LedgerFixture {
    let server = ministack::start(&[]).expect("ministack starts");
    Aws::at(server.address()).create_ledger_table(TABLE).expect("the table is made");
    let clients = clients(&server.endpoint()).await;
    LedgerFixture { ledger: DynamoLedger::new(clients.clone(), TABLE), clients, server }
}

pub(crate) fn target(text: &str) -> TargetId {
    TargetId::parse(text).expect("a target")
}

pub(crate) fn lease(text: &str) -> LeaseId {
    LeaseId(text.to_owned())
}

pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_760_000_000 + second).expect("a time")
}

pub(crate) fn claim(by: &str) -> LeaseRequest {
    LeaseRequest { lease: lease(by), now: at(0), lasts: Seconds(60), steal: None }
}

pub(crate) fn abort(target: &TargetId, request: &str, requested_at: Timestamp) -> Command {
    let what = Instruction::Abort { deployment: None };
    Command::requested(target.clone(), what, Actor::Switchback, "", request, requested_at)
}

pub(crate) fn commit(state: &TargetState) -> Commit<'_> {
    Commit { state, journal: &[], history: &[], consumed: &[], overdue_at: None, release_lease: false, lock: None }
}

impl LedgerFixture {
    pub(crate) async fn item(&self, pk: &str, sk: &str) -> Option<HashMap<String, AttributeValue>> {
        let dynamodb = self.clients.dynamodb().await;
        let request = dynamodb.get_item().table_name(TABLE).consistent_read(true);
        let key = request.key("pk", AttributeValue::S(pk.into())).key("sk", AttributeValue::S(sk.into()));
        key.send().await.expect("the item is read").item
    }

    pub(crate) async fn items_of(&self, pk: &str) -> Vec<HashMap<String, AttributeValue>> {
        let dynamodb = self.clients.dynamodb().await;
        let request = dynamodb.query().table_name(TABLE).consistent_read(true).key_condition_expression("pk = :pk");
        let answer = request.expression_attribute_values(":pk", AttributeValue::S(pk.into())).send().await;
        answer.expect("the items are read").items.unwrap_or_default()
    }

    pub(crate) async fn put(&self, attributes: &[(&str, AttributeValue)]) {
        let item = attributes.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        let dynamodb = self.clients.dynamodb().await;
        dynamodb.put_item().table_name(TABLE).set_item(Some(item)).send().await.expect("the item is written");
    }
}
