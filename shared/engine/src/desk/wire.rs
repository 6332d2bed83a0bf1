//! What the doors read from a request and write into an answer, without an HTTP library.

use super::{MOST_LISTED, Refusal};
use rollout::{Name, TargetId};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// How many entries are listed where nobody says how many.
const USUAL_LIMIT: usize = 50;

/// An answer as JSON.
pub(crate) fn to_json(answer: impl Serialize) -> Result<Value, Refusal> {
    serde_json::to_value(answer)
        .map_err(|error| Refusal::new(500, "unwritable", format!("the answer is no JSON: {error}")))
}

/// The body as a request.
pub(crate) fn read<T: DeserializeOwned>(body: &str) -> Result<T, Refusal> {
    let body = if body.trim().is_empty() { "{}" } else { body };
    serde_json::from_str(body).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => {
            Refusal::request("invalid_request", format!("the body is not what is expected here: {error}"))
        }
        _ => Refusal::request("invalid_json", format!("the body is not JSON: {error}")),
    })
}

/// A target of three parts of a path.
pub(crate) fn target(application: &str, service: &str, environment: &str) -> Result<TargetId, Refusal> {
    Ok(TargetId::new(name(application, "application")?, name(service, "service")?, name(environment, "environment")?))
}

/// A name in a path or a query; `what` says what it names.
pub(crate) fn name(text: &str, what: &str) -> Result<Name, Refusal> {
    Name::new(text).map_err(|_| {
        let shown: String = text.chars().take(80).collect();
        let message =
            format!("`{shown}` is not the name of an {what}: names are lower-case letters, digits and single hyphens");
        Refusal::request("invalid_name", message.replace("an service", "a service"))
    })
}

/// The value of a query parameter. Values here are names and numbers: nothing in them is ever percent-encoded.
pub(crate) fn parameter<'q>(query: &'q str, key: &str) -> Option<&'q str> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(found, value)| *found == key && !value.is_empty())
        .map(|(_, value)| value)
}

/// The value of the parameter `key`, which is to be a whole number.
pub(crate) fn number(text: &str, key: &str) -> Result<u64, Refusal> {
    text.parse().map_err(|_| {
        let shown: String = text.chars().take(40).collect();
        Refusal::request("invalid_number", format!("`{key}` is `{shown}`: write a whole number"))
    })
}

/// How many entries are asked for.
pub(crate) fn limit(query: &str) -> Result<usize, Refusal> {
    match parameter(query, "limit") {
        None => Ok(USUAL_LIMIT),
        Some(text) => match usize::try_from(number(text, "limit")?) {
            Ok(limit) if (1..=MOST_LISTED).contains(&limit) => Ok(limit),
            _ => Err(Refusal::request("invalid_number", format!("`limit` must be 1 to {MOST_LISTED}"))),
        },
    }
}
