//! A request that AWS would not do, or could not: what is answered instead, in each protocol's own shape.

use serde_json::{Map, Value};

/// An error as a service answers it.
#[derive(Debug, Clone, PartialEq)]
pub struct AwsError {
    /// HTTP status.
    pub status: u16,
    /// The error's shape name (`__type`) in JSON and CBOR, its code in XML.
    pub code: String,
    /// For people.
    pub message: String,
    /// The code in `x-amzn-query-error`, where a service that once spoke awsQuery still sends the old one.
    pub query_code: Option<String>,
    /// Further fields of the error's structure (JSON and CBOR).
    pub fields: Map<String, Value>,
}

impl AwsError {
    /// An error by status, code and message.
    pub fn new(status: u16, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { status, code: code.into(), message: message.into(), query_code: None, fields: Map::new() }
    }

    /// The caller's fault: status 400.
    pub fn sender(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(400, code, message)
    }

    /// With the code that clients of the former awsQuery protocol know.
    #[must_use]
    pub fn query_code(mut self, code: impl Into<String>) -> Self {
        self.query_code = Some(code.into());
        self
    }

    /// With one more field in the error's structure.
    #[must_use]
    pub fn field(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.fields.insert(name.to_owned(), value.into());
        self
    }

    /// Whose fault it is, as awsQuery says it.
    #[must_use]
    pub fn fault(&self) -> &'static str {
        if self.status < 500 { "Sender" } else { "Receiver" }
    }
}
