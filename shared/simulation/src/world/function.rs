//! Lambda functions that hooks invoke.

use super::{Answer, ApiError, World};
use serde_json::{Value, json};

/// How a function answers.
#[derive(Debug, Clone, PartialEq)]
pub enum FunctionBehaviour {
    /// It answers `in_progress` this many times for each run, then this.
    Reports {
        /// How often it is not done yet.
        in_progress: u32,
        /// Its last word, again and again: `{"status": "succeeded"}`.
        then: Value,
    },
    /// It throws: an answer with `FunctionError`.
    Throws,
    /// The caller's time-out comes first.
    Silent,
}

impl FunctionBehaviour {
    /// Says yes at once.
    #[must_use]
    pub fn succeeds() -> Self {
        Self::Reports { in_progress: 0, then: json!({"status": "succeeded"}) }
    }

    /// Says no at once.
    #[must_use]
    pub fn fails(reason: &str) -> Self {
        Self::Reports { in_progress: 0, then: json!({"status": "failed", "reason": reason}) }
    }

    /// Is never done.
    #[must_use]
    pub fn never_done() -> Self {
        Self::Reports { in_progress: u32::MAX, then: json!({"status": "succeeded"}) }
    }
}

/// What became of an invocation that was accepted.
#[derive(Debug, Clone, PartialEq)]
pub enum Invoked {
    /// The function's answer.
    Answered(Value),
    /// The function threw; Lambda's description of it.
    FunctionError(Value),
    /// No answer before the caller's time-out.
    NoAnswer,
}

impl World {
    /// Puts a function there, or changes how it answers.
    pub fn put_function(&mut self, name: &str, behaviour: FunctionBehaviour) {
        self.functions.insert(name.to_owned(), behaviour);
    }

    /// `Invoke` (RequestResponse). `function` is a name or an ARN; the run is told by the payload's `run`.
    ///
    /// # Errors
    /// `ResourceNotFoundException`
    pub fn invoke(&mut self, function: &str, payload: &Value) -> Answer<Invoked> {
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
