//! Reads values out of a request's tree: JSON and CBOR have types, a form has texts only.

use serde_json::Value;

/// A text that is there and not empty.
pub(super) fn text<'a>(input: &'a Value, name: &str) -> Option<&'a str> {
    input.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// The members of a list; none are there where it is missing, or is the empty text that a form writes for an empty list.
pub(super) fn list<'a>(input: &'a Value, name: &str) -> &'a [Value] {
    input.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The texts of a list.
pub(super) fn texts(input: &Value, name: &str) -> Vec<String> {
    list(input, name).iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// A whole number, as a number or as a form's text.
pub(super) fn number(input: &Value, name: &str) -> Option<i64> {
    match input.get(name)? {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

/// A truth value, as one or as a form's text.
pub(super) fn boolean(input: &Value, name: &str) -> Option<bool> {
    match input.get(name)? {
        Value::Bool(boolean) => Some(*boolean),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

/// One page of `all`: from the marker on, at most `size`, and the next marker if there is more.
/// The marker is the position in decimal digits; another text is no marker.
pub(super) fn page<T>(all: Vec<T>, marker: Option<&str>, size: usize) -> Option<(Vec<T>, Option<String>)> {
    let from: usize = match marker {
        None => 0,
        Some(marker) => marker.parse().ok().filter(|from| *from < all.len())?,
    };
    let next = (all.len() > from + size).then(|| (from + size).to_string());
    Some((all.into_iter().skip(from).take(size).collect(), next))
}
