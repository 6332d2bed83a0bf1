//! Signed links: what a person holds who was asked by mail whether a deployment may begin.
//!
//! A token is `payload.mac`, both base64url without padding (RFC 4648, 5). The payload is JSON and says everything that
//! the link is good for: one person, one deployment, one plan, until then. The MAC is HMAC-SHA256 over the payload's text
//! as it stands, so that there is one text only that passes. Nothing is stored: what makes a link single-use is its
//! nonce, which names the one command that it can write.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use rollout::{Name, PlanId, TargetId, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fmt;

/// The version of the payload that is written and read.
const VERSION: u8 = 1;
/// What a MAC of a link begins its message with: no other use of the key makes one.
const PURPOSE: &[u8] = b"switchback approval link 1\n";
/// The same for nonces.
const NONCE_PURPOSE: &[u8] = b"switchback approval nonce 1\n";
/// The shortest key, in bytes: as long as the MAC itself (RFC 2104, 3).
pub const SHORTEST_KEY: usize = 32;
/// The longest token that is looked at, in bytes; one of the longest names has about 700.
pub const LONGEST_TOKEN: usize = 2048;

/// The key that links are signed with. What prints it prints three dots.
#[derive(Clone)]
pub struct LinkKey(Vec<u8>);

/// A key that anybody could guess.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the key for links has {0} bytes, and at least {SHORTEST_KEY} are needed: let Secrets Manager generate one")]
pub struct WeakKey(pub usize);

impl LinkKey {
    /// Takes a secret's text as the key.
    ///
    /// # Errors
    /// [`WeakKey`] where it is shorter than [`SHORTEST_KEY`].
    pub fn new(secret: &str) -> Result<Self, WeakKey> {
        if secret.len() < SHORTEST_KEY {
            return Err(WeakKey(secret.len()));
        }
        Ok(Self(secret.as_bytes().to_vec()))
    }

    fn mac(&self, purpose: &[u8], message: &[u8]) -> Hmac<Sha256> {
        let mut mac = keyed(&self.0);
        mac.update(purpose);
        mac.update(message);
        mac
    }
}

/// HMAC-SHA256 with a key of whatever length.
pub(crate) fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of every length (RFC 2104, 2)")
}

impl fmt::Debug for LinkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LinkKey(…)")
    }
}

/// What a link is good for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    v: u8,
    /// Where.
    pub target: TargetId,
    /// Which deployment.
    pub deployment: u64,
    /// What was looked at.
    pub plan: PlanId,
    /// Who holds it, by the policy's name.
    pub person: Name,
    /// Where it was sent: [`sent_to`] of the topic's ARN. A person who gets another topic does not answer by the former.
    pub sent_to: String,
    /// 32 hexadecimal digits: which link it is. What it decides is one command of this identity.
    pub nonce: String,
    /// It is good until then.
    pub expires: Timestamp,
}

/// Why a token is no link. Strangers are told the same in every case; [`BadLink::Expired`] had a link once.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadLink {
    /// Not of the form.
    #[error("the token is no link: {0}")]
    Malformed(&'static str),
    /// Its MAC is not this key's: altered, or signed with another key.
    #[error("the link's signature is not ours")]
    Forged,
    /// It was ours, and its time is over.
    #[error("the link was good until {}", .0.expires)]
    Expired(Box<Link>),
}

/// A topic in a link: the first 16 hexadecimal digits of its ARN's SHA-256.
#[must_use]
pub fn sent_to(topic: &str) -> String {
    Sha256::digest(topic).iter().take(8).fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
}

/// A link for one person, sent to their `topic` (an ARN), to one deployment with one plan. The same asking makes the same link however often it is
/// minted: a mail that is sent twice is one link.
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
    link.nonce = digits.iter().take(16).fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
    let payload = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&link).unwrap_or_default());
    let mac = key.mac(PURPOSE, payload.as_bytes()).finalize().into_bytes();
    format!("{payload}.{}", URL_SAFE_NO_PAD.encode(mac))
}

/// Reads a token, its MAC first and in constant time.
///
/// # Errors
/// [`BadLink`].
pub fn verify(key: &LinkKey, token: &str, now: Timestamp) -> Result<Link, BadLink> {
    if token.len() > LONGEST_TOKEN {
        return Err(BadLink::Malformed("too long"));
    }
    let (payload, mac) = token.split_once('.').ok_or(BadLink::Malformed("there is no dot in it"))?;
    let mac = URL_SAFE_NO_PAD.decode(mac).map_err(|_| BadLink::Malformed("its signature is no base64url"))?;
    key.mac(PURPOSE, payload.as_bytes()).verify_slice(&mac).map_err(|_| BadLink::Forged)?;
    let json = URL_SAFE_NO_PAD.decode(payload).map_err(|_| BadLink::Malformed("its payload is no base64url"))?;
    let link: Link = serde_json::from_slice(&json).map_err(|_| BadLink::Malformed("its payload is none of ours"))?;
    if link.v != VERSION {
        return Err(BadLink::Malformed("it is of another version"));
    }
    if now >= link.expires {
        return Err(BadLink::Expired(Box::new(link)));
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
    fn a_link_says_what_it_is_good_for() {
        let link = verify(&key(), &token(), at(14_399)).expect("a link");
        assert_eq!((link.target.to_string().as_str(), link.deployment), ("shop/api/prod", 12));
        assert_eq!((link.plan.0.as_str(), link.person.as_str()), ("3fa90c1e5d7b2a64", "ada"));
        assert_eq!(link.expires, at(14_400));
        assert!(link.nonce.len() == 32 && link.nonce.bytes().all(|byte| byte.is_ascii_hexdigit()), "{}", link.nonce);
    }

    #[test]
    fn a_token_stands_in_a_path_as_it_is() {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        assert!(token().bytes().all(plain), "{}", token());
        let name = Name::new("a".repeat(63)).expect("a name");
        let target = TargetId::new(name.clone(), name.clone(), name.clone());
        let longest = mint(&key(), &target, u64::MAX, &PlanId("0".repeat(16)), &name, TOPIC, Timestamp::MAX);
        assert!(longest.len() < LONGEST_TOKEN / 2, "{} bytes", longest.len());
        assert!(verify(&key(), &longest, at(0)).is_ok());
    }

    #[test]
    fn one_asking_is_one_link_and_another_asking_is_another() {
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
    fn every_byte_of_a_token_counts() {
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
    fn a_link_ends_and_says_whose_it_was() {
        for late in [14_400, 14_401, 1_000_000] {
            let Err(BadLink::Expired(link)) = verify(&key(), &token(), at(late)) else { panic!("good at {late}") };
            assert_eq!(link.person.as_str(), "ada");
        }
    }

    #[test]
    fn another_key_knows_none_of_our_links() {
        let other = LinkKey::new(&KEY.replace('k', "K")).expect("32 bytes");
        assert_eq!(verify(&other, &token(), at(0)), Err(BadLink::Forged));
        // An expired one of another key is no link that was ever good.
        assert_eq!(verify(&other, &token(), at(20_000)), Err(BadLink::Forged));
        assert_eq!(LinkKey::new(&KEY[1..]).map(|_| ()), Err(WeakKey(31)));
    }

    #[test]
    fn a_key_shows_nothing() {
        assert_eq!(format!("{:?}", key()), "LinkKey(…)");
    }

    #[test]
    fn a_payload_that_we_did_not_write_is_none_even_with_our_signature() {
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
            assert!(matches!(verify(&key(), &signed(&other), at(0)), Err(BadLink::Malformed(_))), "{other}");
        }
        // The MAC of a nonce is none of a link.
        let mac = key().mac(NONCE_PURPOSE, ours.split('.').next().unwrap_or_default().as_bytes());
        let mac = URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes());
        let crossed = format!("{}.{mac}", ours.split('.').next().unwrap_or_default());
        assert_eq!(verify(&key(), &crossed, at(0)), Err(BadLink::Forged));
    }

    garbage::held! {
        256;

        #[test]
        fn garbage_is_no_link(text in ".{0,400}") {
            prop_assert!(verify(&key(), &text, at(0)).is_err());
        }

        #[test]
        fn garbage_of_the_right_form_is_no_link(payload in "[A-Za-z0-9_-]{0,400}", mac in "[A-Za-z0-9_-]{43}") {
            let token = format!("{payload}.{mac}");
            prop_assert!(verify(&key(), &token, at(0)).is_err());
        }
    }
}
