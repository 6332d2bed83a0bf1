//! Smithy RPC v2 CBOR bodies, to and from the JSON tree that the operations work on.
//!
//! A field whose name ends in `Timestamp` is written as tag 1 (seconds since 1970, a float), as the protocol demands;
//! whole numbers stay whole, and a number with a fraction point in the tree (a threshold of `5.0`) stays a float:
//! the SDK's decoder takes neither for the other.

use ciborium::Value as Cbor;
use serde_json::{Map, Number, Value};

/// The tag of a time in seconds since 1970 (RFC 8949, 3.4.2).
const EPOCH_TAG: u64 = 1;

/// Reads a request. An empty body is an empty structure.
///
/// # Errors
/// What is wrong with the body, for people.
pub fn decode(body: &[u8]) -> Result<Value, String> {
    if body.is_empty() {
        return Ok(Value::Object(Map::new()));
    }
    let value: Cbor = ciborium::from_reader(body).map_err(|error| format!("not CBOR: {error}"))?;
    to_json(value)
}

/// Writes an answer.
#[must_use]
pub fn encode(value: &Value) -> Vec<u8> {
    let mut body = Vec::new();
    ciborium::into_writer(&from_json("", value), &mut body).expect("writing to memory does not fail");
    body
}

fn to_json(value: Cbor) -> Result<Value, String> {
    Ok(match value {
        Cbor::Null => Value::Null,
        Cbor::Bool(boolean) => Value::Bool(boolean),
        Cbor::Text(text) => Value::String(text),
        Cbor::Integer(number) => {
            let number = i64::try_from(number).map_err(|_| "a whole number outside of 64 bits".to_owned())?;
            Value::Number(number.into())
        }
        Cbor::Float(number) => Number::from_f64(number).map_or(Value::Null, Value::Number),
        Cbor::Array(members) => Value::Array(members.into_iter().map(to_json).collect::<Result<_, _>>()?),
        Cbor::Tag(EPOCH_TAG, seconds) => to_json(*seconds)?,
        Cbor::Map(entries) => {
            let mut fields = Map::new();
            for (key, field) in entries {
                let Cbor::Text(name) = key else { return Err("a structure's key that is no text".to_owned()) };
                fields.insert(name, to_json(field)?);
            }
            Value::Object(fields)
        }
        other => return Err(format!("{other:?} has no place in these requests")),
    })
}

fn from_json(name: &str, value: &Value) -> Cbor {
    match value {
        Value::Null => Cbor::Null,
        Value::Bool(boolean) => Cbor::Bool(*boolean),
        Value::String(text) => Cbor::Text(text.clone()),
        Value::Number(number) if name.ends_with("Timestamp") => {
            Cbor::Tag(EPOCH_TAG, Box::new(Cbor::Float(number.as_f64().unwrap_or_default())))
        }
        Value::Number(number) => match number.as_i64() {
            Some(whole) => Cbor::Integer(whole.into()),
            None => Cbor::Float(number.as_f64().unwrap_or_default()),
        },
        Value::Array(members) => Cbor::Array(members.iter().map(|member| from_json("", member)).collect()),
        Value::Object(fields) => Cbor::Map(
            fields
                .iter()
                .filter(|(_, field)| !field.is_null())
                .map(|(name, field)| (Cbor::Text(name.clone()), from_json(name, field)))
                .collect(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::{decode, encode};
    use serde_json::json;

    #[test]
    fn a_tree_survives_the_round_trip() {
        let tree = json!({"AlarmNames": ["a", "b"], "MaxRecords": 100, "Threshold": 5.0, "StateUpdatedTimestamp": 1.5});
        assert_eq!(decode(&encode(&tree)), Ok(tree));
    }

    #[test]
    fn invalid_cbor_is_refused() {
        assert!(decode(b"\xff\xff").is_err());
    }
}
