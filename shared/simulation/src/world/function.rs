//! Lambda functions that hooks invoke.

use super::{ApiError, ApiResult, World};
use serde_json::{Value, json};

/// How a function responds.
#[derive(Debug, Clone, PartialEq)]
pub enum FunctionBehaviour {
    /// It responds `in_progress` this many times for each run, then with `then`.
    Reports {
        /// Number of `in_progress` responses.
        in_progress: u32,
        /// Final response, repeated from then on: `{"status": "succeeded"}`.
        then: Value,
    },
    /// It throws: a response with `FunctionError`.
    Throws,
    /// It never responds: the caller's time-out expires.
    Silent,
}

impl FunctionBehaviour {
    /// Reports success immediately.
    #[must_use]
    pub fn succeeds() -> Self {
        Self::Reports { in_progress: 0, then: json!({"status": "succeeded"}) }
    }

    /// Reports failure immediately, with this reason.
    #[must_use]
    pub fn fails(reason: &str) -> Self {
        Self::Reports { in_progress: 0, then: json!({"status": "failed", "reason": reason}) }
    }

    /// Stays in progress forever.
    #[must_use]
    pub fn never_done() -> Self {
        Self::Reports { in_progress: u32::MAX, then: json!({"status": "succeeded"}) }
    }
}

/// Outcome of an accepted invocation.
#[derive(Debug, Clone, PartialEq)]
pub enum Invoked {
    /// The function's response payload.
    Answered(Value),
    /// The function threw: Lambda's description of the error.
    FunctionError(Value),
    /// No response before the caller's time-out.
    NoAnswer,
}

impl World {
    /// Creates a function, or changes its behaviour.
    pub fn put_function(&mut self, name: &str, behaviour: FunctionBehaviour) {
        self.functions.insert(name.to_owned(), behaviour);
    }

    /// `Invoke` (RequestResponse). `function` is a name or an ARN; the payload's `run` identifies the run.
    ///
    /// # Errors
    /// `ResourceNotFoundException`
    pub fn invoke(&mut self, function: &str, payload: &Value) -> ApiResult<Invoked> {
        let detail = self.detail(|| json!({"FunctionName": function, "Payload": payload}));
        self.call("lambda:Invoke", detail, |world| {
            let name = match function.split(":function:").nth(1) {
                Some(rest) => rest.split(':').next().unwrap_or(rest),
                None => function,
            };
            let Some(behaviour) = world.functions.get(name).cloned() else {
                return Err(ApiError::new("ResourceNotFoundException", format!("Function not found: {function}")));
            };
            Ok(match behaviour {
                FunctionBehaviour::Silent => Invoked::NoAnswer,
                FunctionBehaviour::Throws => {
                    Invoked::FunctionError(json!({"errorType": "Error", "errorMessage": "the function threw"}))
                }
                FunctionBehaviour::Reports { in_progress, then } => {
                    let run = payload.get("run").and_then(Value::as_str).unwrap_or_default();
                    let asked = world.asked.entry((name.to_owned(), run.to_owned())).or_insert(0);
                    *asked = asked.saturating_add(1);
                    Invoked::Answered(if *asked > in_progress { then } else { json!({"status": "in_progress"}) })
                }
            })
        })
    }
}
