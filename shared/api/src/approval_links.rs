//! Signed links that let a person approve or reject a deployment by mail.
//!
//! A token is `payload.mac`, both base64url without padding (RFC 4648, 5). The payload is JSON and states the link's full scope:
//! one person, one deployment, one plan, an expiry time. The MAC is HMAC-SHA256 over the encoded payload text, so that only this
//! exact text is accepted. Nothing is stored: a link is single-use because its nonce identifies the one command that it can
//! write.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use rollout::{Name, PlanId, TargetId, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fmt;

/// Version of the payload format.
const VERSION: u8 = 1;
/// Prefix of the message that a link's MAC is computed over; no other use of the key has it.
const PURPOSE: &[u8] = b"switchback approval link 1\n";
/// The same for nonces.
const NONCE_PURPOSE: &[u8] = b"switchback approval nonce 1\n";
/// Minimum key length, in bytes: the length of the MAC (RFC 2104, 3).
pub const MIN_KEY_BYTES: usize = 32;
/// Maximum length of an accepted token, in bytes; a token with the longest names has about 700.
pub const MAX_TOKEN_BYTES: usize = 2048;

/// The key that links are signed with. Its `Debug` output hides it.
#[derive(Clone)]
pub struct LinkKey(Vec<u8>);

/// A key that is too short to be secure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the key for links has {0} bytes, and at least {MIN_KEY_BYTES} are needed: let Secrets Manager generate one")]
pub struct WeakKey(pub usize);

impl LinkKey {
    /// Uses a secret's text as the key.
    ///
    /// # Errors
    /// [`WeakKey`] if it is shorter than [`MIN_KEY_BYTES`].
    pub fn new(secret: &str) -> Result<Self, WeakKey> {
        if secret.len() < MIN_KEY_BYTES {
            return Err(WeakKey(secret.len()));
        }
        Ok(Self(secret.as_bytes().to_vec()))
    }

    fn mac(&self, purpose: &[u8], message: &[u8]) -> Hmac<Sha256> {
        let mut mac = hmac_sha256(&self.0);
        mac.update(purpose);
        mac.update(message);
        mac
    }
}

/// HMAC-SHA256 with a key of any length.
pub(crate) fn hmac_sha256(key: &[u8]) -> Hmac<Sha256> {
    Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of every length (RFC 2104, 2)")
}

impl fmt::Debug for LinkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LinkKey(…)")
    }
}

/// The scope of a link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    v: u8,
    /// The target that the deployment belongs to.
    pub target: TargetId,
    /// The deployment's number.
    pub deployment: u64,
    /// The plan to review.
    pub plan: PlanId,
    /// The link's owner, by the policy's name.
    pub person: Name,
    /// The topic that it was sent to: [`sent_to`] of its ARN. After a person's topic changes, links sent to the former one are
    /// refused.
    pub sent_to: String,
    /// 32 hexadecimal digits that identify the link. Its decision is one command with this identity.
    pub nonce: String,
    /// Expiry time.
    pub expires: Timestamp,
}

/// Why a token is refused. An unauthenticated caller gets the same answer in every case; the holder of an
/// [`InvalidLink::Expired`] link once had a valid one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidLink {
    /// Not in the token format.
    #[error("the token is no link: {0}")]
    Malformed(&'static str),
    /// The MAC does not match this key: altered, or signed with another key.
    #[error("the link's signature is not ours")]
    Forged,
    /// A genuine link that has expired.
    #[error("the link was good until {}", .0.expires)]
    Expired(Box<Link>),
}

/// Identifies a topic in a link: the first 16 hexadecimal digits of its ARN's SHA-256.
#[must_use]
pub fn sent_to(topic: &str) -> String {
    hex::encode(&Sha256::digest(topic)[..8])
}

/// A link for one person, sent to their `topic` (an ARN), for one deployment and plan. Deterministic: minting it again for the
/// same request yields the same link, so a mail that is sent twice carries one link.
#[must_use]
pub fn mint(
    key: &LinkKey,
    target: &TargetId,
    deployment: u64,
    plan: &PlanId,
    person: &Name,
    topic: &str,
    expires: Timestamp,
) -> String {
    let mut link = Link {
        v: VERSION,
        target: target.clone(),
        deployment,
        plan: plan.clone(),
        person: person.clone(),
        sent_to: sent_to(topic),
        nonce: String::new(),
        expires,
    };
    let asking = serde_json::to_vec(&link).unwrap_or_default();
    let digits = key.mac(NONCE_PURPOSE, &asking).finalize().into_bytes();
    link.nonce = hex::encode(&digits[..16]);
    let payload = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&link).unwrap_or_default());
    let mac = key.mac(PURPOSE, payload.as_bytes()).finalize().into_bytes();
    format!("{payload}.{}", URL_SAFE_NO_PAD.encode(mac))
}

/// Reads a token; the MAC is checked first, in constant time.
///
/// # Errors
/// [`InvalidLink`].
pub fn verify(key: &LinkKey, token: &str, now: Timestamp) -> Result<Link, InvalidLink> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(InvalidLink::Malformed("too long"));
    }
    let (payload, mac) = token.split_once('.').ok_or(InvalidLink::Malformed("there is no dot in it"))?;
    let mac = URL_SAFE_NO_PAD.decode(mac).map_err(|_| InvalidLink::Malformed("its signature is no base64url"))?;
    key.mac(PURPOSE, payload.as_bytes()).verify_slice(&mac).map_err(|_| InvalidLink::Forged)?;
    let json = URL_SAFE_NO_PAD.decode(payload).map_err(|_| InvalidLink::Malformed("its payload is no base64url"))?;
    let link: Link =
        serde_json::from_slice(&json).map_err(|_| InvalidLink::Malformed("its payload is none of ours"))?;
    if link.v != VERSION {
        return Err(InvalidLink::Malformed("it is of another version"));
    }
    if now >= link.expires {
        return Err(InvalidLink::Expired(Box::new(link)));
    }
    Ok(link)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TOPIC: &str = "arn:aws:sns:eu-central-1:111122223333:switchback-approve-ada";
    const KEY: &str = "k7Gq2mX9vB4nT1sLwE8yRzC5uH0jD3pA";

    fn key() -> LinkKey {
        LinkKey::new(KEY).expect("32 bytes")
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_795_316_400 + second).expect("a time")
    }

    fn token() -> String {
        let target = "shop/api/prod".parse().expect("a target");
        let person = Name::new("ada").expect("a name");
        mint(&key(), &target, 12, &PlanId("3fa90c1e5d7b2a64".to_owned()), &person, TOPIC, at(14_400))
    }

    #[test]
    fn a_verified_link_returns_its_payload() {
        let link = verify(&key(), &token(), at(14_399)).expect("a link");
        assert_eq!((link.target.to_string().as_str(), link.deployment), ("shop/api/prod", 12));
        assert_eq!((link.plan.0.as_str(), link.person.as_str()), ("3fa90c1e5d7b2a64", "ada"));
        assert_eq!(link.expires, at(14_400));
        assert!(link.nonce.len() == 32 && link.nonce.bytes().all(|byte| byte.is_ascii_hexdigit()), "{}", link.nonce);
    }

    #[test]
    fn a_token_is_url_safe_and_within_the_size_limit() {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        assert!(token().bytes().all(plain), "{}", token());
        let name = Name::new("a".repeat(63)).expect("a name");
        let target = TargetId::new(name.clone(), name.clone(), name.clone());
        let longest = mint(&key(), &target, u64::MAX, &PlanId("0".repeat(16)), &name, TOPIC, Timestamp::MAX);
        assert!(longest.len() < MAX_TOKEN_BYTES / 2, "{} bytes", longest.len());
        assert!(verify(&key(), &longest, at(0)).is_ok());
    }

    #[test]
    fn the_nonce_is_deterministic_and_unique_per_request() {
        assert_eq!(token(), token());
        let nonce_to = |topic: &str, deployment, plan: &str, person: &str, expires| {
            let target = "shop/api/prod".parse().expect("a target");
            let person = Name::new(person).expect("a name");
            let token = mint(&key(), &target, deployment, &PlanId(plan.to_owned()), &person, topic, expires);
            verify(&key(), &token, at(0)).expect("a link").nonce
        };
        let nonce = |deployment, plan: &str, person: &str, expires| nonce_to(TOPIC, deployment, plan, person, expires);
        let first = nonce(12, "p", "ada", at(100));
        for other in [
            nonce(13, "p", "ada", at(100)),
            nonce(12, "q", "ada", at(100)),
            nonce(12, "p", "bob", at(100)),
            nonce(12, "p", "ada", at(101)),
            nonce_to("arn:aws:sns:eu-central-1:111122223333:switchback-approve-ada-2", 12, "p", "ada", at(100)),
        ] {
            assert_ne!(first, other);
        }
    }

    #[test]
    fn changing_any_token_byte_fails_verification() {
        let token = token();
        let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=";
        for position in 0..token.len() {
            for other in alphabet.iter().filter(|other| **other != token.as_bytes()[position]) {
                let mut altered = token.clone().into_bytes();
                altered[position] = *other;
                let altered = String::from_utf8(altered).expect("ASCII");
                assert!(verify(&key(), &altered, at(0)).is_err(), "byte {position} as {}", char::from(*other));
            }
        }
        for altered in [&token[1..], &token[..token.len() - 1], &format!("{token}="), &format!("{token}A"), ""] {
            assert!(verify(&key(), altered, at(0)).is_err(), "{altered}");
        }
    }

    #[test]
    fn an_expired_link_returns_its_holder() {
        for late in [14_400, 14_401, 1_000_000] {
            let Err(InvalidLink::Expired(link)) = verify(&key(), &token(), at(late)) else { panic!("good at {late}") };
            assert_eq!(link.person.as_str(), "ada");
        }
    }

    #[test]
    fn a_link_signed_with_another_key_is_rejected() {
        let other = LinkKey::new(&KEY.replace('k', "K")).expect("32 bytes");
        assert_eq!(verify(&other, &token(), at(0)), Err(InvalidLink::Forged));
        // An expired link with another key's signature was never genuine.
        assert_eq!(verify(&other, &token(), at(20_000)), Err(InvalidLink::Forged));
        assert_eq!(LinkKey::new(&KEY[1..]).map(|_| ()), Err(WeakKey(31)));
    }

    #[test]
    fn debug_output_hides_the_key() {
        assert_eq!(format!("{:?}", key()), "LinkKey(…)");
    }

    #[test]
    fn a_signed_payload_of_another_format_is_rejected() {
        let ours = token();
        let payload = URL_SAFE_NO_PAD.decode(ours.split('.').next().unwrap_or_default()).expect("ours");
        let payload = String::from_utf8(payload).expect("JSON");
        let signed = |payload: &str| {
            let payload = URL_SAFE_NO_PAD.encode(payload);
            let mac = key().mac(PURPOSE, payload.as_bytes()).finalize().into_bytes();
            format!("{payload}.{}", URL_SAFE_NO_PAD.encode(mac))
        };
        assert_eq!(signed(&payload), ours);
        for other in [
            payload.replace("\"v\":1", "\"v\":2"),
            payload.replace("\"v\":1", "\"v\":1,\"admin\":true"),
            "{}".to_owned(),
            "[]".to_owned(),
        ] {
            assert!(matches!(verify(&key(), &signed(&other), at(0)), Err(InvalidLink::Malformed(_))), "{other}");
        }
        // The MAC of a nonce is not valid for a link.
        let mac = key().mac(NONCE_PURPOSE, ours.split('.').next().unwrap_or_default().as_bytes());
        let mac = URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes());
        let crossed = format!("{}.{mac}", ours.split('.').next().unwrap_or_default());
        assert_eq!(verify(&key(), &crossed, at(0)), Err(InvalidLink::Forged));
    }

    garbage::held! {
        256;

        #[test]
        fn arbitrary_text_is_rejected(text in ".{0,400}") {
            prop_assert!(verify(&key(), &text, at(0)).is_err());
        }

        #[test]
        fn well_formed_random_tokens_are_rejected(payload in "[A-Za-z0-9_-]{0,400}", mac in "[A-Za-z0-9_-]{43}") {
            let token = format!("{payload}.{mac}");
            prop_assert!(verify(&key(), &token, at(0)).is_err());
        }
    }
}
