//! Lambda's `Invoke`: functions that a policy's hooks call, as the world has them or as closures that a test hands in.

use super::protocol::AwsError;
use serde_json::{Value, json};
use simulation::world::{Invoked, World};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// A function as a closure: the payload in, what came of it out.
pub type Function = Arc<dyn Fn(&Value) -> Invoked + Send + Sync>;

/// The closures, by the function's name. They go before the world's functions of the same name.
#[derive(Default)]
pub(super) struct Closures(BTreeMap<String, Function>);

impl Closures {
    pub(super) fn insert(&mut self, name: &str, function: Function) {
        self.0.insert(function_name(name).to_owned(), function);
    }

    pub(super) fn get(&self, name: &str) -> Option<Function> {
        self.0.get(function_name(name)).cloned()
    }
}

impl fmt::Debug for Closures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.keys()).finish()
    }
}

/// Invokes a function of the world.
///
/// # Errors
/// `ResourceNotFoundException` and what else the world refuses with, as Lambda writes it.
pub(super) fn invoke(world: &mut World, name: &str, payload: &Value) -> Result<Invoked, AwsError> {
    world.invoke(function_name(name), payload).map_err(|error| {
        let mut refusal = AwsError::new(error.http_status(), error.code, error.message.clone()).field("Type", "User");
        if error.code == "ResourceNotFoundException" {
            refusal.message = format!(
                "Function not found: arn:aws:lambda:{}:{}:function:{}",
                world.settings().region,
                world.settings().account,
                function_name(name)
            );
        }
        refusal
    })
}

/// The payload of a request: empty is null.
///
/// # Errors
/// `InvalidRequestContentException`
pub(super) fn payload(body: &[u8]) -> Result<Value, AwsError> {
    if body.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(body).map_err(|error| {
        AwsError::sender("InvalidRequestContentException", format!("Could not parse request body into json: {error}"))
            .field("Type", "User")
    })
}

/// What the log has of an invocation.
pub(super) fn parameters(name: &str, payload: &Value) -> Value {
    json!({"FunctionName": name, "Payload": payload})
}

/// `name`, `name:qualifier`, `123456789012:function:name`, or an ARN with or without a qualifier.
pub(super) fn function_name(name: &str) -> &str {
    match name.split_once("function:") {
        Some((_, rest)) => rest.split(':').next().unwrap_or(rest),
        None => name.split(':').next().unwrap_or(name),
    }
}

#[cfg(test)]
mod tests {
    use super::function_name;

    #[test]
    fn a_function_is_found_by_every_name_form_lambda_accepts() {
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
}
