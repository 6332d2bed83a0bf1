//! Signed calls to an emulator, for what tests set up and ask. The product's own calls go through the SDKs.

use super::http::{Response, exchange};
use super::{HarnessError, REGION};
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::SystemTime;

/// A caller of the emulator at an address.
#[derive(Debug, Clone, Copy)]
pub struct Aws {
    address: SocketAddr,
}

impl Aws {
    /// Calls the emulator at `address`.
    #[must_use]
    pub fn at(address: SocketAddr) -> Self {
        Self { address }
    }

    /// One request, signed for `service` with the emulator's root key; an answer of any status is an answer.
    ///
    /// # Errors
    /// [`HarnessError`] where no answer came within half a minute.
    pub fn send(
        &self,
        service: &str,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Result<Response, HarnessError> {
        let what = format!("{service} {method} {path}");
        let to_failure = |error: &dyn std::fmt::Display| HarnessError(format!("{what}: {error}"));
        let host = self.address.to_string();
        let mut sent: Vec<(String, String)> = vec![("host".to_owned(), host.clone())];
        sent.extend(headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let identity = Credentials::new("test", "test", None, None, "harness").into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(REGION)
            .name(service)
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| to_failure(&error))?
            .into();
        let signable = SignableRequest::new(
            method,
            format!("http://{host}{path}"),
            sent.iter().map(|(name, value)| (name.as_str(), value.as_str())),
            SignableBody::Bytes(body.as_bytes()),
        )
        .map_err(|error| to_failure(&error))?;
        let (instructions, _) = sign(signable, &parameters).map_err(|error| to_failure(&error))?.into_parts();
        let (signed, _) = instructions.into_parts();
        sent.extend(signed.iter().map(|header| (header.name().to_owned(), header.value().to_owned())));

        exchange(self.address, method, path, &sent, body).map_err(|error| to_failure(&error))
    }

    /// One call of a service that speaks awsJson; `target` is the operation with its prefix.
    ///
    /// # Errors
    /// [`HarnessError`] for any answer but a success.
    pub fn json(&self, service: &str, target: &str, parameters: &Value) -> Result<Value, HarnessError> {
        let headers = [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", target)];
        let response = self.send(service, "POST", "/", &headers, &parameters.to_string())?;
        if response.status == 200 {
            Ok(response.json())
        } else {
            Err(HarnessError(format!("{target} {parameters}: {} {}", response.status, response.body)))
        }
    }

    /// Creates a table for a ledger, with the keys and the index of `template.yaml`.
    ///
    /// # Errors
    /// [`HarnessError`] where DynamoDB refuses.
    pub fn create_ledger_table(&self, table: &str) -> Result<(), HarnessError> {
        let text = |name: &str| json!({"AttributeName": name, "AttributeType": "S"});
        let key = |name: &str, kind: &str| json!({"AttributeName": name, "KeyType": kind});
        let keys = |hash: &str, range: &str| json!([key(hash, "HASH"), key(range, "RANGE")]);
        let due = json!({
            "IndexName": "due",
            "KeySchema": keys("due_pk", "due_sk"),
            "Projection": {"ProjectionType": "KEYS_ONLY"},
        });
        let attributes = ["pk", "sk", "due_pk", "due_sk"].map(text);
        let parameters = json!({
            "TableName": table,
            "BillingMode": "PAY_PER_REQUEST",
            "AttributeDefinitions": attributes,
            "KeySchema": keys("pk", "sk"),
            "GlobalSecondaryIndexes": [due],
        });
        self.json("dynamodb", "DynamoDB_20120810.CreateTable", &parameters).map(drop)
    }
}
