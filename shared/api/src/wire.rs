//! Reading requests and writing responses, without an HTTP library.

use crate::{MAX_LISTED, Refusal};
use rollout::text::clip;
use rollout::{Name, TargetId};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Number of list entries if the request names none.
const DEFAULT_LIMIT: usize = 50;

/// A response as JSON.
pub(crate) fn to_json(answer: impl Serialize) -> Result<Value, Refusal> {
    serde_json::to_value(answer)
        .map_err(|error| Refusal::new(500, "unwritable", format!("the answer is no JSON: {error}")))
}

/// Refuses a body of more than `max` bytes.
pub(crate) fn check_size(body: &str, max: usize) -> Result<(), Refusal> {
    if body.len() > max {
        let message = format!("the body has {} bytes, at most {max} are read", body.len());
        return Err(Refusal::new(413, "too_large", message));
    }
    Ok(())
}

/// Parses a body as a request.
pub(crate) fn parse_body<T: DeserializeOwned>(body: &str) -> Result<T, Refusal> {
    let body = if body.trim().is_empty() { "{}" } else { body };
    serde_json::from_str(body).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => {
            Refusal::request("invalid_request", format!("the body is not what is expected here: {error}"))
        }
        _ => Refusal::request("invalid_json", format!("the body is not JSON: {error}")),
    })
}

/// A target from three path segments.
pub(crate) fn parse_target(application: &str, service: &str, environment: &str) -> Result<TargetId, Refusal> {
    Ok(TargetId::new(
        parse_name(application, "application")?,
        parse_name(service, "service")?,
        parse_name(environment, "environment")?,
    ))
}

/// A name in a path or a query; `what` describes it in errors.
pub(crate) fn parse_name(text: &str, what: &str) -> Result<Name, Refusal> {
    Name::new(text).map_err(|_| {
        let shown = clip(text, 80);
        let message =
            format!("`{shown}` is not the name of an {what}: names are lower-case letters, digits and single hyphens");
        Refusal::request("invalid_name", message.replace("an service", "a service"))
    })
}

/// The value of a query parameter. Values are names and numbers, which are never percent-encoded.
pub(crate) fn parameter<'q>(query: &'q str, key: &str) -> Option<&'q str> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(found, value)| *found == key && !value.is_empty())
        .map(|(_, value)| value)
}

/// The value of the parameter `key` as a whole number.
pub(crate) fn parse_number(text: &str, key: &str) -> Result<u64, Refusal> {
    text.parse().map_err(|_| {
        let shown = clip(text, 40);
        Refusal::request("invalid_number", format!("`{key}` is `{shown}`: write a whole number"))
    })
}

/// The requested number of entries.
pub(crate) fn parse_limit(query: &str) -> Result<usize, Refusal> {
    match parameter(query, "limit") {
        None => Ok(DEFAULT_LIMIT),
        Some(text) => match usize::try_from(parse_number(text, "limit")?) {
            Ok(limit) if (1..=MAX_LISTED).contains(&limit) => Ok(limit),
            _ => Err(Refusal::request("invalid_number", format!("`limit` must be 1 to {MAX_LISTED}"))),
        },
    }
}
