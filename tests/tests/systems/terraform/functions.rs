//! Terraform's functions, as far as the configurations call them.

use serde_json::Value;
use std::collections::BTreeMap;

/// Calls a function.
///
/// # Errors
/// A reason: it is not known here, or does not take these arguments.
pub(super) fn call(name: &str, arguments: &[Value]) -> Result<Value, String> {
    match (name, arguments) {
        ("contains", [Value::Array(values), wanted]) => Ok(Value::Bool(values.contains(wanted))),
        ("contains", [Value::Object(set), Value::String(wanted)]) => Ok(Value::Bool(set.contains_key(wanted))),
        ("jsonencode", [value]) => Ok(Value::String(value.to_string())),
        ("toset", [Value::Array(values)]) => set(values),
        ("tostring", [value]) => text(value).map(Value::String).ok_or_else(|| format!("{value} is no text")),
        ("contains" | "jsonencode" | "toset" | "tostring", _) => {
            Err(format!("the function `{name}` does not take these {} arguments", arguments.len()))
        }
        _ => Err(format!("the function `{name}` is not evaluated here")),
    }
}

/// A set of texts is a map from each to itself, as `each.key` and `each.value` present it.
fn set(values: &[Value]) -> Result<Value, String> {
    let element = |value: &Value| match value {
        Value::String(text) => Ok((text.clone(), value.clone())),
        other => Err(format!("a set of texts cannot contain {other}")),
    };
    // In alphabetical order, as Terraform has them.
    let elements = values.iter().map(element).collect::<Result<BTreeMap<String, Value>, _>>()?;
    Ok(Value::Object(elements.into_iter().collect()))
}

/// A value as a part of a text; none: it cannot be one.
pub(super) fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}
