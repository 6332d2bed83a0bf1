//! Claims of a workflow's token, and their check against the policy's grants.

use crate::MAX_CALLER_CHARS;
use crate::command_service::WORKFLOW_KEY_PREFIX;
use policy::grants::{self, Claims, Denied};
use rollout::entry::Permission;
use rollout::text::{clip, line};
use rollout::{Actor, ImageDigest, Name, Policy, Timestamp};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;
use std::time::Duration;

/// Maximum age of a token used for a request, in seconds. Tokens live about five minutes and can be renewed at any time: an older
/// one was most likely stolen.
pub const MAX_TOKEN_AGE_S: u64 = 120;
/// Maximum clock difference by which the issuer may be ahead, in seconds.
const MAX_CLOCK_AHEAD_S: u64 = 60;

/// The claims of a GitHub token as the gateway passes them on. Authenticated, but without any permission.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnverifiedClaims {
    claims: Claims,
    issued_at: Option<Timestamp>,
}

/// Why a workflow's request is not allowed. For operators.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAllowed {
    /// The policy does not grant it.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// A required claim is missing or malformed.
    #[error("the token's claim `{0}` is missing, or no number")]
    Claim(&'static str),
    /// The token is too old.
    #[error(
        "the token was not issued just now, and nothing is asked with one that is older than {MAX_TOKEN_AGE_S} s: a \
         workflow gets a new one whenever it wants; was this one taken from somewhere?"
    )]
    StaleToken,
    /// No policy of the application, or no such target in it.
    #[error("the policy has no such target")]
    NoTarget,
}

impl NotAllowed {
    /// The reason without values chosen by the workflow: refs, environments and file names are unlimited, and a journal with an
    /// entry for each could be flooded.
    #[must_use]
    pub fn refusal_key(&self) -> String {
        match self {
            Self::Denied(Denied::NotGranted(mismatches)) => {
                let keys: BTreeSet<&str> = mismatches.iter().map(|mismatch| mismatch.key).collect();
                keys.into_iter().collect::<Vec<_>>().join(" ")
            }
            // All callers unknown to every grant share one key.
            Self::Denied(_) | Self::NoTarget => String::new(),
            Self::Claim(_) | Self::StaleToken => self.to_string(),
        }
    }
}

impl UnverifiedClaims {
    /// Reads a token's claims by name, each as text.
    #[must_use]
    pub fn of<'c>(claim: impl Fn(&str) -> Option<&'c str>) -> Self {
        let issued_at = claim("iat").and_then(parse_issued_at);
        Self { claims: Claims::of(claim), issued_at }
    }

    /// The run, for the log; contains names chosen by the workflow.
    #[must_use]
    pub fn summary(&self) -> String {
        let Claims { repository, repository_id, run_id, workflow_ref, git_ref, event_name, environment, .. } =
            &self.claims;
        let label = |claim: &Option<String>| one_line(claim.as_deref().unwrap_or("-"));
        format!(
            "repository {} ({}), run {}, workflow {}, ref {}, event {}, environment {}",
            label(repository),
            label(repository_id),
            label(run_id),
            label(workflow_ref),
            label(git_ref),
            label(event_name),
            label(environment)
        )
    }

    /// Checks the grants for this request: it must be granted for every service.
    ///
    /// # Errors
    /// [`NotAllowed`]: for the log and the journal, with the service concerned, if any.
    pub fn verify_grants(
        &self,
        policy: &Policy,
        permission: Permission,
        services: &[Name],
        environment: &Name,
        now: Timestamp,
    ) -> Result<VerifiedCaller<'_>, (NotAllowed, Option<Name>)> {
        if services.is_empty() {
            return Err((NotAllowed::NoTarget, None));
        }
        for service in services {
            grants::authorize(policy, &self.claims, permission, service, environment)
                .map_err(|denied| (denied.into(), Some(service.clone())))?;
        }
        self.check_token(now).map_err(|not_allowed| (not_allowed, services.first().cloned()))
    }

    fn check_token(&self, now: Timestamp) -> Result<VerifiedCaller<'_>, NotAllowed> {
        let age = self.issued_at.ok_or(NotAllowed::Claim("iat"))?.until(now).map_or(i64::MAX, |age| age.get_seconds());
        if age > i64::try_from(MAX_TOKEN_AGE_S).unwrap_or(i64::MAX)
            || age < -i64::try_from(MAX_CLOCK_AHEAD_S).unwrap_or(0)
        {
            return Err(NotAllowed::StaleToken);
        }
        let repository_id = number(self.claims.repository_id.as_deref()).ok_or(NotAllowed::Claim("repository_id"))?;
        let run_id = number(self.claims.run_id.as_deref()).ok_or(NotAllowed::Claim("run_id"))?;
        Ok(VerifiedCaller { claims: &self.claims, repository_id, run_id })
    }

    /// Checks the grants for reading a target.
    ///
    /// # Errors
    /// [`NotAllowed`]: for the log.
    pub fn authorize_read(&self, policy: &Policy, service: &Name, environment: &Name) -> Result<(), NotAllowed> {
        Ok(grants::authorize_read(policy, &self.claims, service, environment)?)
    }

    /// Actor and text of the refusal in a target's journal: the repository if the policy names it, otherwise no name, since
    /// anyone can choose one.
    #[must_use]
    pub fn journal_entry_of(&self, not_allowed: &NotAllowed) -> (Actor, String) {
        match not_allowed {
            NotAllowed::Denied(
                Denied::UnknownRepository { .. } | Denied::MissingClaim(_) | Denied::PullRequest { .. },
            )
            | NotAllowed::NoTarget => {
                let reason = "a workflow asked whose token fits no grant (a repository that no grant names, or a pull \
                              request); the log has its claims";
                (Actor::Workflow { name: "github:others".to_owned(), actor_id: None }, reason.to_owned())
            }
            known => {
                let repository = self.claims.repository.as_deref().unwrap_or("-");
                (
                    Actor::Workflow {
                        name: clip(&format!("github:{}", one_line(repository)), MAX_CALLER_CHARS).to_owned(),
                        actor_id: None,
                    },
                    known.to_string(),
                )
            }
        }
    }
}

/// A workflow that has a grant for one permission with some services in one environment. Constructed only by
/// [`UnverifiedClaims::verify_grants`].
#[derive(Debug, Clone, Copy)]
pub struct VerifiedCaller<'c> {
    claims: &'c Claims,
    repository_id: &'c str,
    run_id: &'c str,
}

impl VerifiedCaller<'_> {
    /// The actor in journal and approvals: the run, and the account that started it.
    #[must_use]
    pub fn actor(&self) -> Actor {
        let repository = self.claims.repository.as_deref().map_or_else(|| self.repository_id.to_owned(), one_line);
        let name = clip(&format!("github:{repository}@{}", self.run_id), MAX_CALLER_CHARS).to_owned();
        Actor::Workflow { name, actor_id: self.claims.actor_id.clone() }
    }

    /// The run's request key for these releases in an environment: the same in each re-run.
    #[must_use]
    pub fn key<'r>(
        &self,
        permission: Permission,
        environment: &Name,
        releases: impl IntoIterator<Item = (&'r Name, &'r ImageDigest)>,
    ) -> String {
        let mut hash = Sha256::new();
        hash.update(environment.as_str());
        for (service, digest) in releases {
            hash.update(format!("\n{service}@{digest}"));
        }
        let digits = hex::encode(&hash.finalize()[..6]);
        format!("{WORKFLOW_KEY_PREFIX}{}:{}:{}:{digits}", self.repository_id, self.run_id, label(permission))
    }

    /// The run according to GitHub's token, for the record: `main at 4f1c2a9, .github/workflows/promote.yml`.
    #[must_use]
    pub fn run_summary(&self) -> String {
        let Claims { git_ref, sha, workflow_ref, run_attempt, .. } = self.claims;
        let git_ref = git_ref.as_deref().unwrap_or("-");
        let git_ref =
            git_ref.strip_prefix("refs/heads/").or_else(|| git_ref.strip_prefix("refs/tags/")).unwrap_or(git_ref);
        let sha = clip(sha.as_deref().unwrap_or("-"), 7);
        let workflow = workflow_ref.as_deref().and_then(|known| known.split('@').next()?.splitn(3, '/').nth(2));
        let workflow = workflow.map_or_else(String::new, |path| format!(", {}", one_line(path)));
        // The token names the account that initiated the run; a re-run may have been started by another account.
        let again = run_attempt.as_deref().filter(|attempt| *attempt != "1");
        let again = again.map_or_else(String::new, |attempt| format!(", attempt {}", one_line(attempt)));
        format!("{} at {}{workflow}{again}", one_line(git_ref), one_line(sha))
    }
}

/// A permission as one word, as used in routes and journal.
pub(super) fn label(permission: Permission) -> &'static str {
    match permission {
        Permission::Promote => "promote",
        Permission::Deploy => "deploy",
        Permission::Hotfix => "hotfix",
    }
}

/// A numeric claim, short enough for a key.
fn number(claim: Option<&str>) -> Option<&str> {
    claim.filter(|text| (1..=18).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Parses seconds since 1970 as the gateway writes them: whole, or as `1.795317E9`.
fn parse_issued_at(text: &str) -> Option<Timestamp> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| *seconds >= 0.0)?;
    let since = Duration::try_from_secs_f64(seconds).ok()?;
    Timestamp::from_second(i64::try_from(since.as_secs()).ok()?).ok()
}

/// Makes foreign text single-line and bounded.
fn one_line(text: &str) -> String {
    line(text, 200)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MAX_REQUEST_KEY_CHARS;
    use std::collections::BTreeMap;

    fn claims(changed: &[(&str, &str)]) -> UnverifiedClaims {
        let mut all: BTreeMap<&str, &str> = BTreeMap::from([
            ("repository", "octo/shop"),
            ("repository_id", "123456789"),
            ("repository_owner_id", "987654"),
            ("ref", "refs/heads/main"),
            ("sha", "4f1c2a9be0d3a76f5c8e1b2d3f405162738495a6"),
            ("workflow_ref", "octo/shop/.github/workflows/promote.yml@refs/heads/main"),
            ("event_name", "push"),
            ("run_id", "9001"),
            ("actor_id", "1815"),
            ("iat", "1795317300"),
        ]);
        all.extend(changed.iter().copied());
        UnverifiedClaims::of(|name| all.get(name).copied())
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    #[test]
    fn a_stale_token_is_rejected() {
        let claims = claims(&[]);
        for (now, fresh) in [(-61, false), (-60, true), (0, true), (120, true), (121, false), (299, false)] {
            assert_eq!(claims.check_token(at(1_795_317_300 + now)).is_ok(), fresh, "{now} s old");
        }
    }

    #[test]
    fn issued_at_is_parsed_in_every_gateway_format() {
        for text in ["1795317300", "1.7953173E9", "1795317300.0"] {
            assert!(claims(&[("iat", text)]).check_token(at(1_795_317_310)).is_ok(), "{text}");
        }
        for text in ["", "soon", "-1", "NaN", "1e300"] {
            let refused = claims(&[("iat", text)]).check_token(at(1_795_317_310)).expect_err(text);
            assert_eq!(refused, NotAllowed::Claim("iat"), "{text}");
        }
    }

    #[test]
    fn actor_and_request_key_are_unique_to_the_run() {
        let claims = claims(&[]);
        let caller = claims.check_token(at(1_795_317_300)).expect("a caller");
        assert_eq!(
            caller.actor(),
            Actor::Workflow { name: "github:octo/shop@9001".to_owned(), actor_id: Some("1815".to_owned()) }
        );
        let digest = |digits: &str| ImageDigest::new(format!("sha256:{}", digits.repeat(8))).expect("a digest");
        let name = |text: &str| Name::new(text).expect("a name");
        let key = |permission, environment: &str, service: &str, digits: &str| {
            caller.key(permission, &name(environment), [(&name(service), &digest(digits))])
        };
        let first = key(Permission::Promote, "prod", "api", "3fa90c1e");
        assert!(first.starts_with("github:123456789:9001:promote:") && first.len() <= MAX_REQUEST_KEY_CHARS, "{first}");
        assert_eq!(key(Permission::Promote, "prod", "api", "3fa90c1e"), first);
        for other in [
            key(Permission::Deploy, "prod", "api", "3fa90c1e"),
            key(Permission::Promote, "staging", "api", "3fa90c1e"),
            key(Permission::Promote, "prod", "web", "3fa90c1e"),
            key(Permission::Promote, "prod", "api", "3fa90c1f"),
        ] {
            assert_ne!(other, first);
        }
        assert_eq!(caller.run_summary(), "main at 4f1c2a9, .github/workflows/promote.yml");
        let again = self::claims(&[("run_attempt", "2")]);
        let again = again.check_token(at(1_795_317_300)).expect("a caller").run_summary();
        assert_eq!(again, "main at 4f1c2a9, .github/workflows/promote.yml, attempt 2");
    }

    #[test]
    fn non_numeric_run_or_repository_ids_are_rejected() {
        for (claim, value) in
            [("run_id", ""), ("run_id", "9001:x"), ("run_id", "1234567890123456789"), ("repository_id", "a")]
        {
            assert!(claims(&[(claim, value)]).check_token(at(1_795_317_300)).is_err(), "{claim}={value}");
        }
    }
}
