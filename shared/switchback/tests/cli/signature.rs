//! AWS Signature Version 4, checked by another hand than the one that signs
//! (IAM user guide, "Create a signed AWS API request").

use crate::control_plane::Request;
use sha2::{Digest as _, Sha256};

/// The key of the one caller there is.
pub(crate) const ACCESS_KEY: &str = "AKIAIOSFODNN7EXAMPLE";
/// And its secret, from AWS's own examples.
pub(crate) const SECRET_KEY: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
/// The Region of the control plane.
pub(crate) const REGION: &str = "eu-central-1";

/// Says what API Gateway says where a signature is missing or wrong.
pub(crate) fn check(request: &Request) -> Result<(), String> {
    let header = |name: &str| request.headers.get(name).map(String::as_str);
    let Some(authorization) = header("authorization") else { return Err("Missing Authentication Token".to_owned()) };
    let part = |name: &str| {
        let fields = authorization.strip_prefix("AWS4-HMAC-SHA256 ")?;
        fields.split(", ").find_map(|field| field.strip_prefix(name)?.strip_prefix('='))
    };
    let (Some(credential), Some(signed), Some(signature), Some(date)) =
        (part("Credential"), part("SignedHeaders"), part("Signature"), header("x-amz-date"))
    else {
        return Err(format!("the authorization header is incomplete: {authorization}"));
    };
    let day = date.get(..8).unwrap_or_default();
    let scope = format!("{day}/{REGION}/execute-api/aws4_request");
    if credential != format!("{ACCESS_KEY}/{scope}") {
        return Err(format!("Credential should be scoped to {scope}, it is {credential}"));
    }
    for needed in ["host", "x-amz-date"] {
        if !signed.split(';').any(|name| name == needed) {
            return Err(format!("the header {needed} is not signed"));
        }
    }
    let headers: String =
        signed.split(';').map(|name| format!("{name}:{}\n", header(name).unwrap_or_default())).collect();
    let mut query: Vec<&str> = request.query.split('&').filter(|pair| !pair.is_empty()).collect();
    query.sort_unstable();
    let canonical = format!(
        "{}\n{}\n{}\n{headers}\n{signed}\n{}",
        request.method,
        request.path,
        query.join("&"),
        hex(&Sha256::digest(&request.body))
    );
    let to_sign = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", hex(&Sha256::digest(canonical)));
    let key = [day, REGION, "execute-api", "aws4_request"]
        .iter()
        .fold(format!("AWS4{SECRET_KEY}").into_bytes(), |key, text| hmac(&key, text.as_bytes()).to_vec());
    if hex(&hmac(&key, to_sign.as_bytes())) == signature {
        Ok(())
    } else {
        Err("The request signature we calculated does not match the signature you provided.".to_owned())
    }
}

/// RFC 2104, with SHA-256.
fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    assert!(key.len() <= 64, "a longer key would have to be hashed first");
    let pad = |byte: u8| -> Vec<u8> { (0..64).map(|index| key.get(index).copied().unwrap_or(0) ^ byte).collect() };
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize().into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
