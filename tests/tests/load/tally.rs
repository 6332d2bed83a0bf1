//! What calls say about the load: who writes to which partition how often, who was too late, what waited.

use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use tests::front::{Answer, Call};

/// What one second of a partition took, in DynamoDB's units: a kilobyte written is one, twice that in a transaction; a read is
/// counted as one whatever it finds.
#[derive(Debug, Clone, Copy, Default)]
struct Second {
    reads: f64,
    writes: f64,
}

/// Sums over calls.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    calls: BTreeMap<String, u64>,
    throttled: u64,
    /// Wakes that found their target held.
    pub(crate) held: u64,
    /// Takeover wakes that were let in: their pass had died or, as usual, was long done.
    pub(crate) takeovers: u64,
    /// Decisions that were not written, since somebody else had written.
    pub(crate) conflicts: u64,
    partitions: BTreeMap<String, BTreeMap<u64, Second>>,
}

impl Tally {
    pub(crate) fn record(&mut self, call: &Call) {
        *self.calls.entry(format!("{} {}", call.service, call.operation)).or_default() += 1;
        let refused = match &call.answer {
            Answer::Refused { code, .. } => {
                self.throttled += u64::from(code.contains("Throttling"));
                true
            }
            Answer::Done { status } => *status >= 400,
            Answer::Pending | Answer::Disconnected => true,
        };
        if call.service != "dynamodb" {
            return;
        }
        let second = call.started.as_secs();
        let expression = call.parameter("/UpdateExpression").and_then(Value::as_str).unwrap_or_default();
        match call.operation.as_str() {
            "UpdateItem" if expression.starts_with("SET lease_id") => {
                self.held += u64::from(refused);
                let steal = call.parameter("/ExpressionAttributeValues/:steal").is_some();
                self.takeovers += u64::from(steal && !refused);
            }
            "TransactWriteItems" => self.conflicts += u64::from(refused),
            _ => {}
        }
        for (partition, reads, writes) in units(call) {
            let at = self.partitions.entry(partition).or_default().entry(second).or_default();
            at.reads += reads;
            at.writes += writes;
        }
    }

    /// The most writes that one partition took in a second.
    pub(crate) fn hottest_writes(&self) -> f64 {
        let seconds = self.partitions.values().flat_map(BTreeMap::values);
        seconds.map(|second| second.writes).fold(0.0, f64::max)
    }

    /// The partitions with the busiest second, the busiest first.
    fn hottest(&self, of: fn(&Second) -> f64) -> Vec<(&str, f64)> {
        let busiest = |seconds: &BTreeMap<u64, Second>| seconds.values().map(of).fold(0.0, f64::max);
        let mut all: Vec<_> = self.partitions.iter().map(|(name, at)| (name.as_str(), busiest(at))).collect();
        all.sort_by(|a, b| b.1.total_cmp(&a.1));
        all.truncate(4);
        all
    }
}

/// What a call takes of which partitions: reads, writes.
fn units(call: &Call) -> Vec<(String, f64, f64)> {
    let text = |pointer: &str| call.parameter(pointer).and_then(Value::as_str).map(str::to_owned);
    let kilobytes = |value: &Value| (value.to_string().len() as f64 / 1_024.0).ceil();
    match call.operation.as_str() {
        "TransactWriteItems" => {
            let items =
                call.parameter("/TransactItems").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            let one = |item: &Value| {
                let what = item.as_object()?.values().next()?;
                let key =
                    ["/Key/pk/S", "/Item/pk/S"].into_iter().find_map(|pointer| what.pointer(pointer)?.as_str())?;
                Some((key.to_owned(), 0.0, 2.0 * kilobytes(what)))
            };
            items.iter().filter_map(one).collect()
        }
        "UpdateItem" | "PutItem" | "DeleteItem" => {
            let key = text("/Key/pk/S").or_else(|| text("/Item/pk/S"));
            // An update of a part writes the whole item: the state is some kilobytes, whose size the call does not tell.
            key.map(|key| (key, 0.0, kilobytes(&call.parameters))).into_iter().collect()
        }
        "GetItem" | "Query" => {
            let values = call.parameter("/ExpressionAttributeValues").and_then(Value::as_object);
            let asked = values.into_iter().flatten().find(|(name, _)| name.contains("pk"));
            let key = text("/Key/pk/S").or_else(|| asked.and_then(|(_, value)| value["S"].as_str().map(str::to_owned)));
            key.map(|key| (key, 1.0, 0.0)).into_iter().collect()
        }
        _ => Vec::new(),
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: u64 = self.calls.values().sum();
        writeln!(f, "calls                    {all}, {} of them throttled", self.throttled)?;
        for (name, count) in &self.calls {
            writeln!(f, "                         {count:>7} {name}")?;
        }
        let Self { held, takeovers, conflicts, .. } = self;
        writeln!(
            f,
            "leases                   {held} wakes found their target held, {takeovers} heirs came, {conflicts} conflicts"
        )?;
        let line = |hottest: Vec<(&str, f64)>| -> String {
            hottest.iter().map(|(name, most)| format!("{name} {most:.0}")).collect::<Vec<_>>().join(", ")
        };
        writeln!(
            f,
            "busiest second, writes   {} (a partition takes 1,000)",
            line(self.hottest(|second| second.writes))
        )?;
        write!(f, "busiest second, reads    {} (a partition takes 3,000)", line(self.hottest(|second| second.reads)))
    }
}
