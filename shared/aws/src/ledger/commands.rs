//! Commands: pending ones in a target's inbox, and the IDs of those that were seen.

use super::item::{self, Item, number};
use super::table::{Range, Table, Written};
use super::{DynamoLedger, keys};
use engine::{Commands, LedgerError};
use rollout::{Command, CommandId, TargetId};
use std::collections::BTreeSet;

/// Maximum number of commands handed to one pass.
const MAX_COMMANDS: usize = 50;

/// How long the ID of a command is kept after the command was requested, to detect duplicates.
const RETENTION_S: i64 = 30 * 24 * 3600;

const READING: &str = "reading commands";

impl Commands for DynamoLedger {
    async fn put_command(&self, command: &Command) -> Result<bool, LedgerError> {
        let pk = keys::commands_pk(&command.target);
        let asked_at_s = command.at.as_second();
        let seen = Item::new(&pk, keys::seen_command_sk(&command.id.0)).number("expires_at", asked_at_s + RETENTION_S);
        let pending = Item::new(&pk, keys::pending_command_sk(command.at, &command.id.0))
            .record("command", command)
            .text("command_id", &command.id.0)
            .due(&command.target, command.at);
        // DynamoDB deletes expired items lazily, possibly days later.
        let unseen = format!("{} OR expires_at <= :now", keys::ABSENT);
        let writes = vec![
            self.table.put_if(seen.attributes(), &unseen, [(":now", number(asked_at_s))]),
            self.table.put(pending.attributes()),
        ];
        Ok(self.table.transact("writing a command", writes).await? == Written::All)
    }

    async fn commands(&self, target: &TargetId) -> Result<Vec<Command>, LedgerError> {
        let range = Range::Prefix(keys::INBOX_PREFIX);
        let items = self.table.query(READING, &keys::commands_pk(target), &range, false, MAX_COMMANDS).await?;
        item::records(&items, "command")
    }
}

/// The inbox keys of the consumed commands. A command that is not found was consumed earlier.
pub(super) async fn inbox_keys(table: &Table, pk: &str, consumed: &[CommandId]) -> Result<Vec<String>, LedgerError> {
    let mut missing: BTreeSet<&str> = consumed.iter().map(|id| id.0.as_str()).collect();
    if missing.is_empty() {
        return Ok(vec![]);
    }
    // A pass consumes commands among the oldest, since those are the ones it was given. The rest of the inbox is read
    // only if needed.
    let mut found = vec![];
    for limit in [MAX_COMMANDS, usize::MAX] {
        let items = table.query(READING, pk, &Range::Prefix(keys::INBOX_PREFIX), false, limit).await?;
        for item in &items {
            if missing.remove(item::required_text(item, "command_id")?) {
                found.push(item::required_text(item, keys::SK)?.to_owned());
            }
        }
        if missing.is_empty() || items.len() < limit {
            break;
        }
    }
    Ok(found)
}
