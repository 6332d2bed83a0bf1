//! Lambda functions that a policy's hooks invoke, as behaviours that a test chooses.

use rollout::HookReport;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// What a hook's function does when it is invoked.
#[derive(Clone)]
pub enum Hook {
    /// Reports success.
    Succeed,
    /// Reports failure, with its reason.
    Fail(String),
    /// Reports that it is not done, to the first so many invocations of each run; then does the other thing.
    InProgress(u64, Box<Hook>),
    /// Never answers: the connection stays open until the caller goes.
    NeverAnswer,
    /// Ends with an unhandled error: status 200, `X-Amz-Function-Error: Unhandled`, the error as the payload.
    Throw {
        /// `errorType`
        kind: String,
        /// `errorMessage`
        message: String,
    },
    /// Whatever the closure makes of the invocation: its answer's payload.
    Answer(Arc<dyn Fn(&Invocation) -> Value + Send + Sync>),
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Succeed => f.write_str("Succeed"),
            Self::Fail(reason) => f.debug_tuple("Fail").field(reason).finish(),
            Self::InProgress(times, then) => f.debug_tuple("InProgress").field(times).field(then).finish(),
            Self::NeverAnswer => f.write_str("NeverAnswer"),
            Self::Throw { kind, message } => write!(f, "Throw({kind}: {message})"),
            Self::Answer(_) => f.write_str("Answer(…)"),
        }
    }
}

/// An invocation of a function.
#[derive(Debug, Clone, PartialEq)]
pub struct Invocation {
    /// The function's name, without ARN and qualifier.
    pub function: String,
    /// What it was told.
    pub payload: Value,
    /// The how-many-th invocation of the same run this is, from 1 (`run` in the payload).
    pub asked: u64,
}

/// What came of an invocation.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Performed {
    Returned(Value),
    Threw(Value),
    Never,
}

/// The functions that there are.
#[derive(Debug, Default)]
pub(super) struct Hooks {
    functions: BTreeMap<String, Hook>,
    asked: BTreeMap<(String, String), u64>,
}

impl Hooks {
    pub(super) fn insert(&mut self, function: &str, hook: Hook) {
        self.functions.insert(function_name(function).to_owned(), hook);
    }

    pub(super) fn knows(&self, function: &str) -> bool {
        self.functions.contains_key(function_name(function))
    }

    /// Counts the invocation and answers it; none where there is no such function.
    /// A closure is called by the caller of this, who holds no lock then.
    pub(super) fn invoke(&mut self, function: &str, payload: Value) -> Option<(Hook, Invocation)> {
        let function = function_name(function).to_owned();
        let hook = self.functions.get(&function)?.clone();
        let run = payload.get("run").and_then(Value::as_str).unwrap_or_default().to_owned();
        let asked = self.asked.entry((function.clone(), run)).or_default();
        *asked += 1;
        Some((hook, Invocation { function, payload, asked: *asked }))
    }
}

impl Hook {
    pub(super) fn perform(&self, invocation: &Invocation) -> Performed {
        match self {
            Self::Succeed => report(&HookReport::Succeeded),
            Self::Fail(reason) => report(&HookReport::Failed { reason: reason.clone() }),
            Self::InProgress(times, _) if invocation.asked <= *times => report(&HookReport::InProgress),
            Self::InProgress(_, then) => then.perform(invocation),
            Self::NeverAnswer => Performed::Never,
            Self::Throw { kind, message } => {
                Performed::Threw(json!({"errorType": kind, "errorMessage": message, "stackTrace": []}))
            }
            Self::Answer(answer) => Performed::Returned(answer(invocation)),
        }
    }
}

fn report(report: &HookReport) -> Performed {
    Performed::Returned(serde_json::to_value(report).expect("a report is plain data"))
}

/// `name`, `name:qualifier`, `123456789012:function:name`, or an ARN with or without a qualifier.
pub(super) fn function_name(function: &str) -> &str {
    match function.split_once("function:") {
        Some((_, rest)) => rest.split(':').next().unwrap_or(rest),
        None => function.split(':').next().unwrap_or(function),
    }
}

#[cfg(test)]
mod tests {
    use super::{Hook, Hooks, Performed, function_name};
    use serde_json::json;

    #[test]
    fn a_function_is_found_by_every_name_that_lambda_takes() {
        for name in [
            "smoke",
            "smoke:live",
            "123456789012:function:smoke",
            "arn:aws:lambda:eu-central-1:123456789012:function:smoke",
            "arn:aws:lambda:eu-central-1:123456789012:function:smoke:live",
        ] {
            assert_eq!(function_name(name), "smoke", "{name}");
        }
    }

    #[test]
    fn progress_is_counted_for_each_run() {
        let mut hooks = Hooks::default();
        hooks.insert("smoke", Hook::InProgress(1, Box::new(Hook::Succeed)));
        let mut ask = |run: &str| {
            let (hook, invocation) = hooks.invoke("smoke", json!({ "run": run })).expect("the function is there");
            hook.perform(&invocation)
        };
        let in_progress = Performed::Returned(json!({"status": "in_progress"}));
        let succeeded = Performed::Returned(json!({"status": "succeeded"}));
        assert_eq!([ask("1"), ask("1"), ask("2")], [in_progress.clone(), succeeded, in_progress]);
    }
}
