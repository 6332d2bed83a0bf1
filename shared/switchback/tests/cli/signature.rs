//! AWS Signature Version 4, checked by another hand than the one that signs
//! (IAM user guide, "Create a signed AWS API request").

use crate::control_plane::Request;
use sha2::{Digest as _, Sha256};

/// Whoever has a key to this control plane.
pub(crate) struct Caller {
    /// Their name; IAM knows them as a session of the role `deployer` of that name.
    pub(crate) name: &'static str,
    pub(crate) access_key: &'static str,
    pub(crate) secret_key: &'static str,
}

/// The callers there are, with keys of AWS's own examples; the first is whoever types where nobody is named.
pub(crate) const CALLERS: [Caller; 4] = [
    Caller {
        name: "alice",
        access_key: "AKIAIOSFODNN7EXAMPLE",
        secret_key: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    },
    Caller { name: "bob", access_key: "AKIAI44QH8DHBEXAMPLE", secret_key: "je7MtGbClwBF/2Zp9Utk/h3yCo8nvbEXAMPLEKEY" },
    Caller {
        name: "carol",
        access_key: "AKIAJ55QH8DHBEXAMPLE",
        secret_key: "cArOlGbClwBF/2Zp9Utk/h3yCo8nvbEXAMPLEKEY",
    },
    Caller {
        name: "mallory",
        access_key: "AKIAM66QH8DHBEXAMPLE",
        secret_key: "mAlLoRyClwBF/2Zp9Utk/h3yCo8nvbEXAMPLEKEY",
    },
];
/// The Region of the control plane.
pub(crate) const REGION: &str = "eu-central-1";

/// Who asks; or what API Gateway says where a signature is missing or wrong.
pub(crate) fn verify(request: &Request) -> Result<&'static Caller, String> {
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
    let key = credential.split('/').next().unwrap_or_default();
    let Some(caller) = CALLERS.iter().find(|caller| caller.access_key == key) else {
        return Err("The security token included in the request is invalid.".to_owned());
    };
    if credential != format!("{key}/{scope}") {
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
        hex::encode(Sha256::digest(&request.body))
    );
    let to_sign = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", hex::encode(Sha256::digest(canonical)));
    let key = [day, REGION, "execute-api", "aws4_request"]
        .iter()
        .fold(format!("AWS4{}", caller.secret_key).into_bytes(), |key, text| hmac(&key, text.as_bytes()).to_vec());
    if hex::encode(hmac(&key, to_sign.as_bytes())) == signature {
        Ok(caller)
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
