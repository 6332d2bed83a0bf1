//! Items as attributes: encoding, decoding, and the errors for items that cannot be decoded.

use super::keys::{self, DUE_PK, DUE_SK, PK, SK};
use aws_sdk_dynamodb::types::AttributeValue;
use engine::{LeaseId, LeasedTarget, LedgerError, MAX_LEASE};
use rollout::target::{FORMAT, TargetState};
use rollout::{Seconds, TargetId, Timestamp};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::HashMap;

/// Size limit of one item in bytes: DynamoDB's 400 KB, less room for keys and small attributes.
pub(super) const MAX_ITEM_BYTES: usize = 400 * 1024 - 4096;

/// An item as the SDK represents it.
pub(super) type Attributes = HashMap<String, AttributeValue>;

/// Builder of an item.
#[derive(Debug, Clone)]
pub(super) struct Item(Attributes);

impl Item {
    /// An item with its key only.
    pub(super) fn new(pk: impl Into<String>, sk: impl Into<String>) -> Self {
        Self(key(pk, sk))
    }

    /// Adds a text attribute.
    pub(super) fn text(mut self, name: &str, value: impl Into<String>) -> Self {
        self.0.insert(name.to_owned(), AttributeValue::S(value.into()));
        self
    }

    /// Adds a number attribute.
    pub(super) fn number(mut self, name: &str, value: impl ToString) -> Self {
        self.0.insert(name.to_owned(), number(value));
        self
    }

    /// Adds a record as JSON text.
    pub(super) fn record(self, name: &str, record: &impl Serialize) -> Self {
        self.text(name, json(record))
    }

    /// Makes the item due from `at` on: the sweeper finds it in the index.
    pub(super) fn due(self, target: &TargetId, at: Timestamp) -> Self {
        self.text(DUE_PK, keys::target_due_pk(target)).text(DUE_SK, keys::instant(at))
    }

    /// The finished item.
    pub(super) fn attributes(self) -> Attributes {
        self.0
    }
}

/// The key of an item.
pub(super) fn key(pk: impl Into<String>, sk: impl Into<String>) -> Attributes {
    HashMap::from([(PK.to_owned(), AttributeValue::S(pk.into())), (SK.to_owned(), AttributeValue::S(sk.into()))])
}

/// A number as an attribute.
pub(super) fn number(value: impl ToString) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

/// A record as JSON text.
pub(super) fn json(record: &impl Serialize) -> String {
    serde_json::to_string(record).expect("the core's records have text keys and no types that JSON lacks")
}

/// A text attribute, if present.
pub(super) fn text<'a>(item: &'a Attributes, name: &str) -> Option<&'a str> {
    item.get(name)?.as_s().ok().map(String::as_str)
}

/// A required text attribute.
pub(super) fn required_text<'a>(item: &'a Attributes, name: &str) -> Result<&'a str, LedgerError> {
    text(item, name).ok_or_else(|| unreadable(item, format!("it has no text `{name}`")))
}

/// A non-negative whole number, if present; any other value is an error.
pub(super) fn count(item: &Attributes, name: &str) -> Result<Option<u64>, LedgerError> {
    let Some(value) = item.get(name) else { return Ok(None) };
    let number = value.as_n().ok().and_then(|digits| digits.parse().ok());
    number.map(Some).ok_or_else(|| unreadable(item, format!("`{name}` is not a whole number")))
}

/// A required record, parsed from its JSON text.
pub(super) fn record<T: DeserializeOwned>(item: &Attributes, name: &str) -> Result<T, LedgerError> {
    serde_json::from_str(required_text(item, name)?).map_err(|error| unreadable(item, format!("`{name}`: {error}")))
}

/// The records of many items.
pub(super) fn records<T: DeserializeOwned>(items: &[Attributes], name: &str) -> Result<Vec<T>, LedgerError> {
    items.iter().map(|item| record(item, name)).collect()
}

/// The error for an item that cannot be read, naming its key.
pub(super) fn unreadable(item: &Attributes, reason: impl Into<String>) -> LedgerError {
    let part = |name| text(item, name).unwrap_or("?");
    LedgerError::Unreadable { what: format!("{} {}", part(PK), part(SK)), reason: reason.into() }
}

/// The state in a target's item; `None` where nothing was committed yet.
pub(super) fn state(item: &Attributes) -> Result<Option<TargetState>, LedgerError> {
    // Checks the format first: a state of a newer format may parse without an error and be wrong.
    if let Some(format) = count(item, "format")?
        && format > u64::from(FORMAT)
    {
        let reason = format!("it has format {format}, written by a newer version; this one reads up to {FORMAT}");
        return Err(unreadable(item, reason));
    }
    if text(item, "state").is_none() {
        return Ok(None);
    }
    record(item, "state").map(Some)
}

/// The part of a target's item that a lease holder sees.
pub(super) fn loaded(item: &Attributes, target: &TargetId) -> Result<LeasedTarget, LedgerError> {
    let state = state(item)?.unwrap_or_else(|| TargetState::new(target.clone()));
    Ok(LeasedTarget { state, revision: count(item, "revision")?.unwrap_or(0), stolen: false })
}

/// The holder of a target's lease, if any.
pub(super) fn holder(item: &Attributes) -> Option<LeaseId> {
    text(item, "lease_id").map(|id| LeaseId(id.to_owned()))
}

/// The lease duration of the holder. Versions that did not store it had the longest possible duration.
pub(super) fn lasts(item: &Attributes) -> Result<Seconds, LedgerError> {
    Ok(count(item, "lease_s")?.map_or(MAX_LEASE, Seconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rollout::command::{Command, Instruction, Overrides};
    use rollout::journal::{Fact, JournalEntry};
    use rollout::target::Queued;
    use rollout::{Actor, Release, ReleaseId};

    fn target() -> TargetId {
        TargetId::parse("shop/api/production").expect("a target")
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn a_state() -> TargetState {
        let id = ReleaseId::parse(&format!("shop/api@sha256:{}", "5e".repeat(32))).expect("a release");
        let mut state = TargetState::new(target());
        state.last_deployment = 7;
        state.last_entry = u64::MAX;
        state.queued = vec![Queued {
            release: rollout::release::ReleaseRef {
                id,
                image: "registry/api@sha256:…".into(),
                tag: "v2".into(),
                pushed_at: Some(at(4)),
            },
            actor: Actor::Push { repository: "shop/api".into() },
            reason: "a \"quoted\" reason\nof two lines: ✓".into(),
            overrides: Overrides { firing_alarms: ["5xx".to_owned()].into() },
            options: rollout::DeployOptions { forward_only: true, ..rollout::DeployOptions::default() },
            command: rollout::CommandId("push:1".into()),
            at: at(5),
        }];
        state.wake_at = Some(at(1_763_000_000));
        state
    }

    fn state_item(state: &TargetState) -> Attributes {
        Item::new("TARGET#shop/api/production", "STATE")
            .number("format", state.format)
            .record("state", state)
            .number("revision", 41)
            .attributes()
    }

    fn expect_unreadable<T: std::fmt::Debug>(result: Result<T, LedgerError>) -> String {
        match result {
            Err(LedgerError::Unreadable { what, reason }) => format!("{what}: {reason}"),
            other => panic!("this should have been unreadable: {other:?}"),
        }
    }

    #[test]
    fn a_state_reads_back_unchanged() {
        let state = a_state();
        let loaded = loaded(&state_item(&state), &target()).expect("readable");
        assert_eq!((loaded.state, loaded.revision), (state, 41));
    }

    #[test]
    fn an_item_with_only_a_lease_is_a_new_target() {
        let item = Item::new("TARGET#shop/api/production", "STATE").text("lease_id", "abc").attributes();
        let new = loaded(&item, &target()).expect("readable");
        assert_eq!((new.state, new.revision), (TargetState::new(target()), 0));
        assert_eq!(holder(&item), Some(LeaseId("abc".into())));
        assert_eq!(lasts(&item).expect("readable"), MAX_LEASE, "of a version that did not write it down");
        let item = Item(item).number("lease_s", 59).attributes();
        assert_eq!(lasts(&item).expect("readable"), Seconds(59));
        assert_eq!(state(&item).expect("readable"), None);
    }

    #[test]
    fn a_newer_format_is_refused_before_parsing() {
        let mut state = a_state();
        state.format = FORMAT + 1;
        let item = Item(state_item(&state)).text("state", "{\"of\": \"another age\"}").attributes();
        let reason = expect_unreadable(loaded(&item, &target()));
        assert_eq!(
            reason,
            "TARGET#shop/api/production STATE: it has format 2, written by a newer version; this one reads up to 1"
        );
    }

    #[test]
    fn an_unreadable_item_is_named_by_its_key() {
        let damaged = Item(state_item(&a_state())).text("state", "{\"format\": 1").attributes();
        let reason = expect_unreadable(state(&damaged));
        assert!(reason.starts_with("TARGET#shop/api/production STATE: `state`: EOF while parsing"), "{reason}");

        let damaged = Item(state_item(&a_state())).text("revision", "41").attributes();
        let reason = expect_unreadable(loaded(&damaged, &target()));
        assert_eq!(reason, "TARGET#shop/api/production STATE: `revision` is not a whole number");

        let reason = expect_unreadable(record::<Release>(&key("RELEASE#shop/api", "DIGEST#1"), "release"));
        assert_eq!(reason, "RELEASE#shop/api DIGEST#1: it has no text `release`");
    }

    #[test]
    fn commands_entries_and_due_times_read_back_unchanged() {
        let command = Command::requested(
            target(),
            Instruction::Abort { deployment: Some(7) },
            Actor::Person { name: "arn:aws:iam::1:user/ada".into() },
            "too slow",
            "request-1",
            at(60),
        );
        let item = Item::new("TARGET#shop/api/production", "INBOX#1")
            .record("command", &command)
            .due(&target(), at(60))
            .attributes();
        assert_eq!(record::<Command>(&item, "command").expect("readable"), command);
        assert_eq!(text(&item, "due_pk"), Some("DUE#4"));
        assert_eq!(text(&item, "due_sk"), Some("000000000060000"));

        let entry = JournalEntry {
            target: target(),
            sequence: 9,
            deployment: None,
            at: at(61),
            actor: Actor::Switchback,
            fact: Fact::Resumed,
        };
        let item = Item::new("TARGET#shop/api/production", "JOURNAL#9").record("entry", &entry).attributes();
        assert_eq!(records::<JournalEntry>(&[item], "entry").expect("readable"), [entry]);
    }
}
