//! Applied policies: how large they may be, how a damaged one is repaired, and what a slow writer must not overwrite.

use crate::fixture::{LedgerFixture, at};
use aws_sdk_dynamodb::types::AttributeValue;
use engine::{Administration as _, Policies as _};
use rollout::Name;
use rollout::policy::{Policy, RegistryPolicy, ServicePolicy, TagRule};
use std::collections::BTreeMap;

fn empty_policy(application: &str) -> Policy {
    let application = Name::new(application).expect("a name");
    Policy {
        application,
        services: BTreeMap::new(),
        environments: BTreeMap::new(),
        people: BTreeMap::new(),
        groups: BTreeMap::new(),
        grants: Vec::new(),
        notifications: Vec::new(),
    }
}

pub(crate) async fn an_oversized_policy_is_refused_with_its_size(fixture: &LedgerFixture) {
    let policy = empty_policy("heavy");
    let most = "#".repeat(390 * 1024);
    assert_eq!(fixture.ledger.apply(&policy, &most, at(0), "ada").await.expect("applied"), 1);
    let too_big = "#".repeat(400 * 1024);
    let error = fixture.ledger.apply(&policy, &too_big, at(0), "ada").await.expect_err("refused");
    assert_eq!(
        error.to_string(),
        "the ledger refused applying a policy: the policy takes 401 KB with its text, and the ledger holds 396 KB of \
         it: split the application"
    );
    let present = fixture.ledger.policy(&policy.application).await.expect("an answer").expect("a policy");
    assert_eq!(present.text, most);
}

pub(crate) async fn an_unreadable_policy_is_repaired_by_applying_again(fixture: &LedgerFixture) {
    let policy = empty_policy("mended");
    let text = |value: &str| AttributeValue::S(value.to_owned());
    let version = AttributeValue::N("4".into());
    let damaged =
        [("pk", text("POLICY#mended")), ("sk", text("CURRENT")), ("applied", text("{")), ("version", version)];
    fixture.put(&damaged).await;
    let error = fixture.ledger.policy(&policy.application).await.expect_err("unreadable");
    assert!(error.to_string().contains("POLICY#mended CURRENT"), "{error}");
    assert_eq!(fixture.ledger.apply(&policy, "one", at(0), "ada").await.expect("applied"), 5);
    let present = fixture.ledger.policy(&policy.application).await.expect("an answer").expect("a policy");
    assert_eq!((present.version, present.text.as_str()), (5, "one"));
}

pub(crate) async fn a_slow_apply_keeps_a_newer_versions_watches(fixture: &LedgerFixture) {
    let mut policy = empty_policy("slow");
    let name = |text: &str| Name::new(text).expect("a name");
    let source = |repository: &str| ServicePolicy {
        registry: RegistryPolicy::default(),
        repository: repository.to_owned(),
        tags: TagRule::Glob("*".to_owned()),
        paused: false,
        depends_on: Vec::new(),
    };
    policy.services.insert(name("api"), source("slow/before"));
    assert_eq!(fixture.ledger.apply(&policy, "one", at(0), "ada").await.expect("applied"), 1);
    // Version 9 wants the same two; this one is about to become version 2.
    for repository in ["slow/before", "slow/after"] {
        let pk = AttributeValue::S(format!("WATCH#repository#{repository}"));
        let (sk, version) = (AttributeValue::S("slow/api".into()), AttributeValue::N("9".into()));
        fixture.put(&[("pk", pk), ("sk", sk), ("version", version)]).await;
    }
    policy.services.insert(name("api"), source("slow/after"));
    assert_eq!(fixture.ledger.apply(&policy, "two", at(0), "ada").await.expect("applied"), 2);
    for repository in ["slow/before", "slow/after"] {
        let item =
            fixture.item(&format!("WATCH#repository#{repository}"), "slow/api").await.expect("it is still there");
        assert_eq!(item.get("version"), Some(&AttributeValue::N("9".into())), "{repository}");
    }
}
