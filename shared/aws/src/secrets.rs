//! Secrets from AWS Secrets Manager: read on first use, cached, never printed.
//!
//! A rotated secret is noticed in two ways: it is read again after [`CACHE_TTL`], and at once when its user finds that it
//! does not match ([`Secrets::get_fresh`]), though at most once per [`MIN_REFRESH_INTERVAL`], since unauthenticated callers
//! can make a check fail as often as they like. While Secrets Manager is unavailable, the cached secret is used; when it
//! refuses, nothing is.

use crate::clock::SystemClock;
use crate::config::Clients;
use crate::error::AwsFailure;
use engine::Clock as _;
use rollout::{Seconds, Timestamp};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Mutex as AsyncMutex;

/// How long a cached secret is used without reading it again.
pub const CACHE_TTL: Seconds = Seconds(300);
/// Minimum interval between two reads of one cached secret.
pub const MIN_REFRESH_INTERVAL: Seconds = Seconds(30);

/// A text that must not be shown: its `Debug` form is `Secret(…)`.
#[derive(Clone)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Wraps a text as secret.
    #[must_use]
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The text itself: for a header or a MAC, never for a log, an error or a response.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// One field of a secret that is a JSON object; for any other secret, the whole text, trimmed. `None` where the object
    /// has no such field, the field is not text, or there is only white space.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<Self> {
        let text = self.0.trim();
        let field = match serde_json::from_str(text) {
            Ok(Value::Object(fields)) => fields.get(name).and_then(Value::as_str).map(str::trim).map(Self::new),
            _ => Some(Self::new(text)),
        };
        field.filter(|field| !field.0.is_empty())
    }

    /// Whether both come from the same read: retrying with the same value is pointless.
    #[must_use]
    pub fn is_same_read(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Why there is no secret. Contains the secret's name, and nothing of its text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// Secrets Manager did not answer, or failed transiently. Worth retrying.
    #[error("the secret {id} could not be read: {reason}")]
    Unavailable {
        /// Name or ARN.
        id: String,
        /// Shown to people.
        reason: String,
    },
    /// The secret does not exist, may not be read, or lacks the expected content.
    #[error("the secret {id} is of no use: {reason}")]
    Refused {
        /// Name or ARN.
        id: String,
        /// Shown to people.
        reason: String,
    },
}

impl SecretError {
    /// The error of a secret in which `field` is missing.
    #[must_use]
    pub fn missing_field(id: &str, field: &str) -> Self {
        let reason = format!("store the text itself, or a JSON object with the field `{field}`");
        Self::Refused { id: id.to_owned(), reason }
    }
}

/// Secrets by name or ARN. Cheap to clone; clones share the cache.
#[derive(Debug, Clone)]
pub struct Secrets {
    clients: Clients,
    cache: Arc<SecretCache>,
}

impl Secrets {
    /// Secrets of the account that `clients` uses. Makes no call to AWS yet.
    #[must_use]
    pub fn new(clients: Clients) -> Self {
        Self { clients, cache: Arc::default() }
    }

    /// A secret read within [`CACHE_TTL`]; while Secrets Manager is unavailable, the cached one of any age.
    ///
    /// # Errors
    /// [`SecretError::Unavailable`] where it was never read and cannot be read now; [`SecretError::Refused`] where Secrets
    /// Manager refused.
    pub async fn get(&self, id: &str) -> Result<Secret, SecretError> {
        self.cache.get(id, CACHE_TTL, SystemClock.now(), || self.read(id)).await
    }

    /// Reads a secret again because the cached one does not match. Returns the cached one if the last read was within
    /// [`MIN_REFRESH_INTERVAL`].
    ///
    /// # Errors
    /// As [`Secrets::get`].
    pub async fn get_fresh(&self, id: &str) -> Result<Secret, SecretError> {
        self.cache.get(id, MIN_REFRESH_INTERVAL, SystemClock.now(), || self.read(id)).await
    }

    /// One field of a secret: see [`Secret::field`].
    ///
    /// # Errors
    /// As [`Secrets::get`], and [`SecretError::Refused`] where the secret has no such field.
    pub async fn field(&self, id: &str, field: &str) -> Result<Secret, SecretError> {
        self.get(id).await?.field(field).ok_or_else(|| SecretError::missing_field(id, field))
    }

    async fn read(&self, id: &str) -> Result<Secret, SecretError> {
        let answer = self.clients.secrets().await.get_secret_value().secret_id(id).send().await;
        let id = id.to_owned();
        match answer.map_err(|error| AwsFailure::of("GetSecretValue", &error)) {
            Ok(answer) => answer
                .secret_string()
                .map(Secret::new)
                .ok_or_else(|| SecretError::Refused { id, reason: "it holds bytes: store it as text".to_owned() }),
            Err(AwsFailure::Refused { reason }) => Err(SecretError::Refused { id, reason }),
            Err(AwsFailure::Throttled { reason } | AwsFailure::Unsure { reason } | AwsFailure::Conflict { reason }) => {
                Err(SecretError::Unavailable { id, reason })
            }
        }
    }
}

/// Cached secrets, each under a lock of its own: concurrent callers cause one read, and wait for no other secret.
#[derive(Debug, Default)]
struct SecretCache {
    cached: Mutex<BTreeMap<String, Arc<AsyncMutex<Option<CachedSecret>>>>>,
}

#[derive(Debug)]
struct CachedSecret {
    secret: Secret,
    /// Time of the last successful read.
    read_at: Timestamp,
    /// Time of the last attempt to read, successful or not.
    attempted_at: Timestamp,
}

impl CachedSecret {
    /// Whether it is usable without a read: younger than `max_age`, or the last attempt failed a moment ago.
    fn is_fresh(&self, max_age: Seconds, now: Timestamp) -> bool {
        // A clock that was set back makes no entry fresh.
        let within = |since: Timestamp, span: Seconds| since <= now && now < span.after(since);
        within(self.read_at, max_age) || within(self.attempted_at, MIN_REFRESH_INTERVAL)
    }
}

impl SecretCache {
    async fn get<F>(
        &self,
        id: &str,
        max_age: Seconds,
        now: Timestamp,
        read: impl FnOnce() -> F,
    ) -> Result<Secret, SecretError>
    where
        F: Future<Output = Result<Secret, SecretError>>,
    {
        let entry = {
            let mut cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(cached.entry(id.to_owned()).or_default())
        };
        let mut cached = entry.lock().await;
        if let Some(cached) = cached.as_ref().filter(|cached| cached.is_fresh(max_age, now)) {
            return Ok(cached.secret.clone());
        }
        match (read().await, cached.as_mut()) {
            (Ok(secret), _) => {
                *cached = Some(CachedSecret { secret: secret.clone(), read_at: now, attempted_at: now });
                Ok(secret)
            }
            (Err(SecretError::Unavailable { id, reason }), Some(cached)) => {
                tracing::warn!(secret = id, read_at = %cached.read_at, "what was read before is used: {reason}");
                cached.attempted_at = now;
                Ok(cached.secret.clone())
            }
            (Err(error), _) => {
                // Deleted, or access revoked: the cached copy must not live on.
                if matches!(error, SecretError::Refused { .. }) {
                    *cached = None;
                }
                Err(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    const ID: &str = "switchback/slack";

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_795_316_400 + seconds).expect("a time")
    }

    /// Reads from a cache whose Secrets Manager returns `answer`. Returns the served secret, and whether the manager was
    /// called.
    async fn ask(
        cache: &SecretCache,
        max_age: Seconds,
        second: i64,
        answer: Result<&str, SecretError>,
    ) -> (String, bool) {
        let called = Cell::new(false);
        let read = || {
            called.set(true);
            std::future::ready(answer.map(Secret::new))
        };
        let served = cache.get(ID, max_age, at(second), read).await;
        (served.map_or_else(|error| error.to_string(), |secret| secret.expose().to_owned()), called.get())
    }

    fn unavailable() -> SecretError {
        SecretError::Unavailable { id: ID.to_owned(), reason: "no route".to_owned() }
    }

    fn denied() -> SecretError {
        SecretError::Refused { id: ID.to_owned(), reason: "denied".to_owned() }
    }

    fn served(text: &str, called: bool) -> (String, bool) {
        (text.to_owned(), called)
    }

    #[tokio::test]
    async fn a_secret_is_cached_for_five_minutes() {
        let cache = SecretCache::default();
        assert_eq!(ask(&cache, CACHE_TTL, 0, Ok("one")).await, served("one", true));
        assert_eq!(ask(&cache, CACHE_TTL, 299, Ok("two")).await, served("one", false));
        assert_eq!(ask(&cache, CACHE_TTL, 300, Ok("two")).await, served("two", true));
    }

    #[tokio::test]
    async fn forced_refreshes_of_a_secret_are_rate_limited() {
        let cache = SecretCache::default();
        assert_eq!(ask(&cache, CACHE_TTL, 0, Ok("one")).await, served("one", true));
        assert_eq!(ask(&cache, MIN_REFRESH_INTERVAL, 29, Ok("two")).await, served("one", false));
        assert_eq!(ask(&cache, MIN_REFRESH_INTERVAL, 30, Ok("two")).await, served("two", true));
        assert_eq!(ask(&cache, MIN_REFRESH_INTERVAL, 31, Ok("three")).await, served("two", false));
    }

    #[tokio::test]
    async fn a_stale_secret_is_served_during_an_outage() {
        let cache = SecretCache::default();
        assert_eq!(
            ask(&cache, CACHE_TTL, 0, Err(unavailable())).await,
            served("the secret switchback/slack could not be read: no route", true)
        );
        assert_eq!(ask(&cache, CACHE_TTL, 1, Ok("one")).await, served("one", true));
        assert_eq!(ask(&cache, CACHE_TTL, 400, Err(unavailable())).await, served("one", true));
        assert_eq!(ask(&cache, CACHE_TTL, 410, Ok("two")).await, served("one", false));
        assert_eq!(ask(&cache, MIN_REFRESH_INTERVAL, 429, Ok("two")).await, served("one", false));
        assert_eq!(ask(&cache, CACHE_TTL, 430, Ok("two")).await, served("two", true));
    }

    #[tokio::test]
    async fn a_refused_secret_is_dropped_from_the_cache() {
        let cache = SecretCache::default();
        assert_eq!(ask(&cache, CACHE_TTL, 0, Ok("one")).await, served("one", true));
        let no = "the secret switchback/slack is of no use: denied";
        assert_eq!(ask(&cache, CACHE_TTL, 300, Err(denied())).await, served(no, true));
        assert!(ask(&cache, CACHE_TTL, 301, Err(unavailable())).await.1);
        assert_eq!(ask(&cache, CACHE_TTL, 302, Ok("two")).await, served("two", true));
    }

    #[tokio::test]
    async fn a_clock_set_back_expires_the_cache() {
        let cache = SecretCache::default();
        assert_eq!(ask(&cache, CACHE_TTL, 0, Ok("one")).await, served("one", true));
        assert_eq!(ask(&cache, CACHE_TTL, -3_600, Ok("two")).await, served("two", true));
    }

    #[test]
    fn a_secret_is_text_or_json_and_never_printed() {
        let field = |text: &str| Secret::new(text).field("signing_secret").map(|it| it.expose().to_owned());
        assert_eq!(field(r#"{"signing_secret": "8f74", "other": "x"}"#).as_deref(), Some("8f74"));
        assert_eq!(field("8f742231b10e\n").as_deref(), Some("8f742231b10e"));
        // A secret of digits is valid JSON too, but not an object.
        assert_eq!(field("12345678").as_deref(), Some("12345678"));
        for none in [r#"{"signing": "8f74"}"#, r#"{"signing_secret": 5}"#, r#"{"signing_secret": " "}"#, "", " \n"] {
            assert_eq!(field(none), None, "{none}");
        }
        let secret = Secret::new("8f742231b10e");
        assert_eq!(format!("{secret:?} {:?}", Some(secret.clone())), "Secret(…) Some(Secret(…))");
        assert!(secret.is_same_read(&secret.clone()) && !secret.is_same_read(&Secret::new("8f742231b10e")));
    }

    #[test]
    fn arbitrary_secrets_are_never_printed_or_blank() {
        use garbage::proptest::prelude::*;
        let sound = vec![serde_json::json!({"bot_token": "xoxb-1"}), serde_json::json!({"signing_secret": "8f74"})];
        garbage::hold(300, &garbage::body(sound), |text| {
            let secret = Secret::new(text.as_str());
            let field = secret.field("bot_token");
            prop_assert_eq!(format!("{secret:?} {field:?}").contains("xoxb"), false);
            if let Some(field) = field {
                prop_assert!(!field.expose().trim().is_empty() && field.expose() == field.expose().trim());
            }
            Ok(())
        });
    }
}
