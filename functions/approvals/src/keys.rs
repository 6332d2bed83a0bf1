//! The two secrets: what Slack signs with, and what links are signed with.

use aws::config::{LINK_KEY_FIELD, LINK_KEY_SECRET, SLACK_SIGNING_FIELD, SLACK_SIGNING_SECRET, setting};
use aws::secrets::{Secret, SecretError, Secrets};
use aws::{BadSetting, Clients};
use std::future::Future;

/// One of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// Slack's signing secret.
    Slack,
    /// The key of links.
    Links,
}

/// Why there is no key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NoKey {
    /// This installation has none: nothing that would be checked with it can be ours.
    NotSet,
    /// It cannot be had, for this reason: not now, or not at all.
    NotHad(String),
}

/// Where keys come from.
pub(crate) trait Keys: Sync {
    /// The key as it is remembered, or, `fresh`, as it is now. None, where fresh: the remembered one is as fresh as can be.
    fn key(&self, which: Which, fresh: bool) -> impl Future<Output = Result<Option<Secret>, NoKey>> + Send;
}

/// Keys from Secrets Manager.
pub(crate) struct SecretKeys {
    secrets: Secrets,
    slack: Option<String>,
    links: String,
}

impl SecretKeys {
    /// The keys whose secrets the environment names. Without Slack there may be no signing secret.
    ///
    /// # Errors
    /// [`BadSetting`] where the key for links is not named.
    pub(crate) fn from_environment(clients: Clients) -> Result<Self, BadSetting> {
        let slack = setting(SLACK_SIGNING_SECRET).ok();
        Ok(Self { secrets: Secrets::new(clients), slack, links: setting(LINK_KEY_SECRET)? })
    }
}

impl Keys for SecretKeys {
    async fn key(&self, which: Which, fresh: bool) -> Result<Option<Secret>, NoKey> {
        let (id, field) = match which {
            Which::Slack => (self.slack.as_deref().ok_or(NoKey::NotSet)?, SLACK_SIGNING_FIELD),
            Which::Links => (self.links.as_str(), LINK_KEY_FIELD),
        };
        let not_had = |error: SecretError| NoKey::NotHad(error.to_string());
        let secret = if fresh {
            let remembered = self.secrets.get(id).await.map_err(not_had)?;
            let now = self.secrets.get_fresh(id).await.map_err(not_had)?;
            if now.same_reading(&remembered) {
                return Ok(None);
            }
            now
        } else {
            self.secrets.get(id).await.map_err(not_had)?
        };
        let key = secret.field(field).ok_or_else(|| not_had(SecretError::without(id, field)))?;
        Ok(Some(key))
    }
}
