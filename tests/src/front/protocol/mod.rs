//! The protocols that the SDKs speak: how a body is read into a tree, and how an answer or an error is written.
//!
//! Knows nothing of any operation. The shapes were taken from the SDKs' own readers and writers
//! (`protocol_serde` and `json_errors` of the `aws-sdk-*` crates, `aws-smithy-json`, `-query`, `-xml`, `-cbor`).

mod aws_error;
pub mod cbor;
pub mod form;
pub mod xml;

pub use aws_error::AwsError;

use http_body_util::Full;
use hyper::Response;
use hyper::body::Bytes;
use serde_json::{Map, Value};

/// How a service is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// `application/x-amz-json-1.0`: DynamoDB, SQS.
    AwsJson10,
    /// `application/x-amz-json-1.1`: ECS, ECR, Application Auto Scaling.
    AwsJson11,
    /// A form in, XML out: ELBv2.
    AwsQuery,
    /// Smithy RPC v2 with CBOR bodies: CloudWatch.
    RpcV2Cbor,
    /// Paths and plain JSON: Lambda.
    RestJson,
}

impl Protocol {
    /// Reads a request's body.
    ///
    /// # Errors
    /// `SerializationException` where the body is not of the protocol.
    pub fn decode(self, body: &[u8]) -> Result<Value, AwsError> {
        let wrong = |reason: String| AwsError::sender("SerializationException", reason);
        match self {
            Self::AwsJson10 | Self::AwsJson11 => match body {
                [] => Ok(Value::Object(Map::new())),
                _ => serde_json::from_slice(body).map_err(|error| wrong(format!("not JSON: {error}"))),
            },
            Self::AwsQuery => Ok(form::decode(body)),
            Self::RpcV2Cbor => cbor::decode(body).map_err(wrong),
            // The payload is the function's business.
            Self::RestJson => Ok(Value::Null),
        }
    }

    /// Writes the answer of an operation that was done.
    #[must_use]
    pub fn success(self, operation: &str, result: &Value, request_id: &str) -> Response<Full<Bytes>> {
        let body = match self {
            Self::AwsQuery => xml::success(operation, result, request_id).into_bytes(),
            Self::RpcV2Cbor => cbor::encode(result),
            Self::AwsJson10 | Self::AwsJson11 | Self::RestJson => result.to_string().into_bytes(),
        };
        self.response(200, request_id, body, &[])
    }

    /// Writes the answer of an operation that was not done.
    #[must_use]
    pub fn refused(self, refusal: &AwsError, request_id: &str) -> Response<Full<Bytes>> {
        let mut structure = refusal.fields.clone();
        structure.insert("__type".to_owned(), Value::String(refusal.code.clone()));
        structure.insert("message".to_owned(), Value::String(refusal.message.clone()));
        let mut headers = Vec::new();
        let body = match self {
            Self::AwsQuery => xml::refusal(refusal.fault(), &refusal.code, &refusal.message, request_id).into_bytes(),
            Self::RpcV2Cbor => cbor::encode(&Value::Object(structure)),
            Self::AwsJson10 | Self::AwsJson11 => Value::Object(structure).to_string().into_bytes(),
            Self::RestJson => {
                headers.push(("x-amzn-errortype", refusal.code.clone()));
                structure.remove("__type");
                Value::Object(structure).to_string().into_bytes()
            }
        };
        if let Some(code) = &refusal.query_code {
            headers.push(("x-amzn-query-error", format!("{code};{}", refusal.fault())));
        }
        self.response(refusal.status, request_id, body, &headers)
    }

    fn response(
        self,
        status: u16,
        request_id: &str,
        body: Vec<u8>,
        headers: &[(&'static str, String)],
    ) -> Response<Full<Bytes>> {
        let content_type = match self {
            Self::AwsJson10 => "application/x-amz-json-1.0",
            Self::AwsJson11 => "application/x-amz-json-1.1",
            Self::AwsQuery => "text/xml",
            Self::RpcV2Cbor => "application/cbor",
            Self::RestJson => "application/json",
        };
        let mut builder = Response::builder()
            .status(status)
            .header("content-type", content_type)
            .header("x-amzn-requestid", request_id);
        if self == Self::RpcV2Cbor {
            builder = builder.header("smithy-protocol", "rpc-v2-cbor");
        }
        for (name, value) in headers {
            builder = builder.header(*name, value);
        }
        builder.body(Full::new(Bytes::from(body))).expect("names and values of headers are made here")
    }
}
