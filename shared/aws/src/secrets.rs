//! Secrets from AWS Secrets Manager: read when first needed, remembered for a while, never shown.
//!
//! A secret that was rotated is noticed in two ways: it is read again after [`REMEMBERED`], and at once when whoever
//! uses it finds that it does not fit ([`Secrets::get_fresh`]), though not more often than every [`PAUSE`], since
//! strangers can make a check fail as often as they like. While Secrets Manager does not answer, what was read before is
//! used; when it says no, nothing is.

use crate::clock::SystemClock;
use crate::config::Clients;
use crate::error::Failure;
use engine::Clock as _;
use rollout::{Seconds, Timestamp};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Mutex as AsyncMutex;

/// How long what was read is used without asking again.
pub const REMEMBERED: Seconds = Seconds(300);
/// The least time between two askings for one secret that is remembered.
pub const PAUSE: Seconds = Seconds(30);

/// A text that nobody may see. What prints it prints three dots.
#[derive(Clone)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Takes a text under cover.
    #[must_use]
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The text itself: for a header or a MAC, never for a log, an error or an answer.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// One field of a secret that is a JSON object; all of a secret that is none, without white space around it.
    /// None: the object has no such field, or it holds no text, or there is nothing but white space.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<Self> {
        let text = self.0.trim();
        let field = match serde_json::from_str(text) {
            Ok(Value::Object(fields)) => fields.get(name).and_then(Value::as_str).map(str::trim).map(Self::new),
            _ => Some(Self::new(text)),
        };
        field.filter(|field| !field.0.is_empty())
    }

    /// Whether both come from one asking: another try with the very same is of no use.
    #[must_use]
    pub fn same_reading(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Why there is no secret. The secret's name is in it, nothing of its text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// Secrets Manager did not answer, or not now. Worth trying again.
    #[error("the secret {id} could not be read: {reason}")]
    Unavailable {
        /// Name or ARN.
        id: String,
        /// Why, for people.
        reason: String,
    },
    /// There is no such secret, it may not be read, or it does not hold what it should.
    #[error("the secret {id} is of no use: {reason}")]
    Refused {
        /// Name or ARN.
        id: String,
        /// Why, for people.
        reason: String,
    },
}

impl SecretError {
    /// The error of a secret in which `field` is missing.
    #[must_use]
    pub fn without(id: &str, field: &str) -> Self {
        let reason = format!("store the text itself, or a JSON object with the field `{field}`");
        Self::Refused { id: id.to_owned(), reason }
    }
}

/// Secrets by name or ARN; cheap to clone, and clones remember together.
#[derive(Debug, Clone)]
pub struct Secrets {
    clients: Clients,
    memory: Arc<Memory>,
}

impl Secrets {
    /// Secrets of the account that `clients` speaks to. Nothing is asked of AWS yet.
    #[must_use]
    pub fn new(clients: Clients) -> Self {
        Self { clients, memory: Arc::default() }
    }

    /// A secret that was read within [`REMEMBERED`], or while Secrets Manager is out of reach, whenever that was.
    ///
    /// # Errors
    /// [`SecretError::Unavailable`] where it was never read and cannot be now; [`SecretError::Refused`] where the
    /// answer was no.
    pub async fn get(&self, id: &str) -> Result<Secret, SecretError> {
        self.memory.get(id, REMEMBERED, SystemClock.now(), || self.read(id)).await
    }

    /// A secret that is read now, since the remembered one does not fit; the remembered one if it was asked for within
    /// [`PAUSE`].
    ///
    /// # Errors
    /// As [`Secrets::get`].
    pub async fn get_fresh(&self, id: &str) -> Result<Secret, SecretError> {
        self.memory.get(id, PAUSE, SystemClock.now(), || self.read(id)).await
    }

    /// One field of a secret: see [`Secret::field`].
    ///
    /// # Errors
    /// As [`Secrets::get`], and [`SecretError::Refused`] where it has no such field.
    pub async fn field(&self, id: &str, field: &str) -> Result<Secret, SecretError> {
        self.get(id).await?.field(field).ok_or_else(|| SecretError::without(id, field))
    }

    async fn read(&self, id: &str) -> Result<Secret, SecretError> {
        let answer = self.clients.secrets().await.get_secret_value().secret_id(id).send().await;
        let id = id.to_owned();
        match answer.map_err(|error| Failure::of("GetSecretValue", &error)) {
            Ok(answer) => answer
                .secret_string()
                .map(Secret::new)
                .ok_or_else(|| SecretError::Refused { id, reason: "it holds bytes: store it as text".to_owned() }),
            Err(Failure::Refused { reason }) => Err(SecretError::Refused { id, reason }),
            Err(Failure::Throttled { reason } | Failure::Unsure { reason } | Failure::Conflict { reason }) => {
                Err(SecretError::Unavailable { id, reason })
            }
        }
    }
}

/// What was read, each secret under a lock of its own: many who need it ask once, and wait for no other.
#[derive(Debug, Default)]
struct Memory {
    held: Mutex<BTreeMap<String, Arc<AsyncMutex<Option<Held>>>>>,
}

#[derive(Debug)]
struct Held {
    secret: Secret,
    /// When it was read.
    read_at: Timestamp,
    /// When it was last asked for, with or without success.
    asked_at: Timestamp,
}

impl Held {
    /// Whether it serves without asking: younger than `age`, or asked for in vain a moment ago.
    fn serves(&self, age: Seconds, now: Timestamp) -> bool {
        // A clock that was set back makes nothing young.
        let within = |since: Timestamp, span: Seconds| since <= now && now < span.after(since);
        within(self.read_at, age) || within(self.asked_at, PAUSE)
    }
}

impl Memory {
    async fn get<F>(
        &self,
        id: &str,
        age: Seconds,
        now: Timestamp,
        read: impl FnOnce() -> F,
    ) -> Result<Secret, SecretError>
    where
        F: Future<Output = Result<Secret, SecretError>>,
    {
        let one = {
            let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(held.entry(id.to_owned()).or_default())
        };
        let mut held = one.lock().await;
        if let Some(held) = held.as_ref().filter(|held| held.serves(age, now)) {
            return Ok(held.secret.clone());
        }
        match (read().await, held.as_mut()) {
            (Ok(secret), _) => {
                *held = Some(Held { secret: secret.clone(), read_at: now, asked_at: now });
                Ok(secret)
            }
            (Err(SecretError::Unavailable { id, reason }), Some(held)) => {
                tracing::warn!(secret = id, read_at = %held.read_at, "what was read before is used: {reason}");
                held.asked_at = now;
                Ok(held.secret.clone())
            }
            (Err(error), _) => {
                // Taken away, or no longer ours to read: it must not live on here.
                if matches!(error, SecretError::Refused { .. }) {
                    *held = None;
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

    /// Asks a memory, which asks a manager that answers `answer`; what is served, and whether the manager was asked.
    async fn ask(memory: &Memory, age: Seconds, second: i64, answer: Result<&str, SecretError>) -> (String, bool) {
        let asked = Cell::new(false);
        let read = || {
            asked.set(true);
            std::future::ready(answer.map(Secret::new))
        };
        let served = memory.get(ID, age, at(second), read).await;
        (served.map_or_else(|error| error.to_string(), |secret| secret.expose().to_owned()), asked.get())
    }

    fn away() -> SecretError {
        SecretError::Unavailable { id: ID.to_owned(), reason: "no route".to_owned() }
    }

    fn denied() -> SecretError {
        SecretError::Refused { id: ID.to_owned(), reason: "denied".to_owned() }
    }

    fn served(text: &str, asked: bool) -> (String, bool) {
        (text.to_owned(), asked)
    }

    #[tokio::test]
    async fn a_secret_is_read_once_in_five_minutes() {
        let memory = Memory::default();
        assert_eq!(ask(&memory, REMEMBERED, 0, Ok("one")).await, served("one", true));
        assert_eq!(ask(&memory, REMEMBERED, 299, Ok("two")).await, served("one", false));
        assert_eq!(ask(&memory, REMEMBERED, 300, Ok("two")).await, served("two", true));
    }

    #[tokio::test]
    async fn a_rotated_secret_is_read_at_once_but_not_as_often_as_strangers_like() {
        let memory = Memory::default();
        assert_eq!(ask(&memory, REMEMBERED, 0, Ok("one")).await, served("one", true));
        assert_eq!(ask(&memory, PAUSE, 29, Ok("two")).await, served("one", false));
        assert_eq!(ask(&memory, PAUSE, 30, Ok("two")).await, served("two", true));
        assert_eq!(ask(&memory, PAUSE, 31, Ok("three")).await, served("two", false));
    }

    #[tokio::test]
    async fn an_outage_is_bridged_with_what_was_read_and_not_made_worse() {
        let memory = Memory::default();
        assert_eq!(
            ask(&memory, REMEMBERED, 0, Err(away())).await,
            served("the secret switchback/slack could not be read: no route", true)
        );
        assert_eq!(ask(&memory, REMEMBERED, 1, Ok("one")).await, served("one", true));
        assert_eq!(ask(&memory, REMEMBERED, 400, Err(away())).await, served("one", true));
        assert_eq!(ask(&memory, REMEMBERED, 410, Ok("two")).await, served("one", false));
        assert_eq!(ask(&memory, PAUSE, 429, Ok("two")).await, served("one", false));
        assert_eq!(ask(&memory, REMEMBERED, 430, Ok("two")).await, served("two", true));
    }

    #[tokio::test]
    async fn a_secret_that_was_taken_away_does_not_live_on() {
        let memory = Memory::default();
        assert_eq!(ask(&memory, REMEMBERED, 0, Ok("one")).await, served("one", true));
        let no = "the secret switchback/slack is of no use: denied";
        assert_eq!(ask(&memory, REMEMBERED, 300, Err(denied())).await, served(no, true));
        assert!(ask(&memory, REMEMBERED, 301, Err(away())).await.1);
        assert_eq!(ask(&memory, REMEMBERED, 302, Ok("two")).await, served("two", true));
    }

    #[tokio::test]
    async fn a_clock_that_was_set_back_keeps_nothing_young() {
        let memory = Memory::default();
        assert_eq!(ask(&memory, REMEMBERED, 0, Ok("one")).await, served("one", true));
        assert_eq!(ask(&memory, REMEMBERED, -3_600, Ok("two")).await, served("two", true));
    }

    #[test]
    fn a_secret_may_be_plain_or_an_object_and_shows_nothing() {
        let field = |text: &str| Secret::new(text).field("signing_secret").map(|it| it.expose().to_owned());
        assert_eq!(field(r#"{"signing_secret": "8f74", "other": "x"}"#).as_deref(), Some("8f74"));
        assert_eq!(field("8f742231b10e\n").as_deref(), Some("8f742231b10e"));
        // A secret of digits is JSON, too, and no object.
        assert_eq!(field("12345678").as_deref(), Some("12345678"));
        for none in [r#"{"signing": "8f74"}"#, r#"{"signing_secret": 5}"#, r#"{"signing_secret": " "}"#, "", " \n"] {
            assert_eq!(field(none), None, "{none}");
        }
        let secret = Secret::new("8f742231b10e");
        assert_eq!(format!("{secret:?} {:?}", Some(secret.clone())), "Secret(…) Some(Secret(…))");
        assert!(secret.same_reading(&secret.clone()) && !secret.same_reading(&Secret::new("8f742231b10e")));
    }

    #[test]
    fn whatever_a_secret_holds_nothing_of_it_is_printed_and_a_field_is_never_blank() {
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
