//! The sweep's result, for the log and for whoever invokes the function by hand.

use engine::intake::SweepReport;
use lambda::InvocationFailure;
use serde_json::{Value, json};
use std::error::Error;
use std::fmt;

/// The result as JSON.
///
/// # Errors
/// `Unavailable` if the ledger did not answer: the invocation counts as an error.
pub(crate) fn of(report: SweepReport) -> Result<Value, InvocationFailure> {
    if report.ledger_unavailable {
        return Err(InvocationFailure::unavailable(&LedgerUnavailable(report.problems)));
    }
    let missed: Vec<Value> = report
        .missed
        .iter()
        .map(|(application, service, digest, outcome)| {
            json!({"application": application, "service": service, "digest": digest, "outcome": outcome.to_string()})
        })
        .collect();
    Ok(json!({
        "woken": report.woken, "cut": report.truncated, "missed": missed, "left": report.left,
        "problems": report.problems,
    }))
}

/// The problems of a sweep without a ledger.
#[derive(Debug)]
struct LedgerUnavailable(Vec<String>);

impl fmt::Display for LedgerUnavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("; "))
    }
}

impl Error for LedgerUnavailable {}
