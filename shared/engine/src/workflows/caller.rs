//! Claims, and what the policy's grants make of them.

use crate::desk::{LONGEST_CALLER, RUN_KEY};
use policy::grants::{self, Claims, Denied};
use rollout::entry::Deed;
use rollout::{Actor, ImageDigest, Name, Policy, Timestamp};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;
use std::time::Duration;

/// How old a token may be that something is asked with, in seconds. Tokens live about five minutes, and can be had anew at
/// any time: one that was kept is most likely another's who has read it somewhere.
pub const OLDEST_TOKEN_S: u64 = 120;
/// How far the issuer's clock may go before ours, in seconds.
const AHEAD_S: u64 = 60;

/// What a token of GitHub's says, as the gateway hands it on. It is true, and grants nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnverifiedClaims {
    claims: Claims,
    issued_at: Option<Timestamp>,
}

/// Why a workflow may not do what it asks. For operators.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAllowed {
    /// The policy does not grant it.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// A claim that something asked for needs is not there, or is not what it should be.
    #[error("the token's claim `{0}` is missing, or no number")]
    Claim(&'static str),
    /// The token was kept.
    #[error(
        "the token was not issued just now, and nothing is asked with one that is older than {OLDEST_TOKEN_S} s: a \
         workflow gets a new one whenever it wants; was this one taken from somewhere?"
    )]
    Kept,
    /// No policy of the application, or no such target in it.
    #[error("the policy has no such target")]
    NoTarget,
}

impl NotAllowed {
    /// The same without what the workflow has chosen itself: refs, environments and file names there are without end, and
    /// a journal that has an entry for each could be filled with them.
    #[must_use]
    pub fn about(&self) -> String {
        match self {
            Self::Denied(Denied::NotGranted(misfits)) => {
                let keys: BTreeSet<&str> = misfits.iter().map(|misfit| misfit.key).collect();
                keys.into_iter().collect::<Vec<_>>().join(" ")
            }
            // Whoever is known by no grant is one with all others.
            Self::Denied(_) | Self::NoTarget => String::new(),
            Self::Claim(_) | Self::Kept => self.to_string(),
        }
    }
}

impl UnverifiedClaims {
    /// Takes a token's claims, each as text, by their names.
    #[must_use]
    pub fn of<'c>(claim: impl Fn(&str) -> Option<&'c str>) -> Self {
        let issued_at = claim("iat").and_then(instant);
        Self { claims: Claims::of(claim), issued_at }
    }

    /// The run, for the log: names of the workflow's own choice among it.
    #[must_use]
    pub fn told(&self) -> String {
        let Claims { repository, repository_id, run_id, workflow_ref, git_ref, event_name, environment, .. } =
            &self.claims;
        let word = |claim: &Option<String>| plain(claim.as_deref().unwrap_or("-"));
        format!(
            "repository {} ({}), run {}, workflow {}, ref {}, event {}, environment {}",
            word(repository),
            word(repository_id),
            word(run_id),
            word(workflow_ref),
            word(git_ref),
            word(event_name),
            word(environment)
        )
    }

    /// The grants' word on asking for this: with every one of the services.
    ///
    /// # Errors
    /// [`NotAllowed`]: for the log and the journal, and the service that it is about, if it is about one.
    pub fn verified(
        &self,
        policy: &Policy,
        deed: Deed,
        services: &[Name],
        environment: &Name,
        now: Timestamp,
    ) -> Result<VerifiedCaller<'_>, (NotAllowed, Option<Name>)> {
        if services.is_empty() {
            return Err((NotAllowed::NoTarget, None));
        }
        for service in services {
            grants::allowed(policy, &self.claims, deed, service, environment)
                .map_err(|denied| (denied.into(), Some(service.clone())))?;
        }
        self.asks(now).map_err(|not_allowed| (not_allowed, services.first().cloned()))
    }

    fn asks(&self, now: Timestamp) -> Result<VerifiedCaller<'_>, NotAllowed> {
        let age = self.issued_at.ok_or(NotAllowed::Claim("iat"))?.until(now).map_or(i64::MAX, |age| age.get_seconds());
        if age > i64::try_from(OLDEST_TOKEN_S).unwrap_or(i64::MAX) || age < -i64::try_from(AHEAD_S).unwrap_or(0) {
            return Err(NotAllowed::Kept);
        }
        let repository_id = number(self.claims.repository_id.as_deref()).ok_or(NotAllowed::Claim("repository_id"))?;
        let run_id = number(self.claims.run_id.as_deref()).ok_or(NotAllowed::Claim("run_id"))?;
        Ok(VerifiedCaller { claims: &self.claims, repository_id, run_id })
    }

    /// The grants' word on looking at a target.
    ///
    /// # Errors
    /// [`NotAllowed`]: for the log.
    pub fn may_see(&self, policy: &Policy, service: &Name, environment: &Name) -> Result<(), NotAllowed> {
        Ok(grants::may_see(policy, &self.claims, service, environment)?)
    }

    /// Whom a refusal is told of in a target's journal, and in which words: the repository, if the policy names it, and
    /// otherwise nobody's name, since everybody can choose one.
    #[must_use]
    pub fn refused_as(&self, not_allowed: &NotAllowed) -> (Actor, String) {
        match not_allowed {
            NotAllowed::Denied(Denied::Stranger { .. } | Denied::Lacks(_) | Denied::PullRequest { .. })
            | NotAllowed::NoTarget => {
                let reason = "a workflow asked whose token fits no grant (a repository that no grant names, or a pull \
                              request); the log has its claims";
                (Actor::Workflow { name: "github:others".to_owned(), actor_id: None }, reason.to_owned())
            }
            known => {
                let repository = self.claims.repository.as_deref().unwrap_or("-");
                (
                    Actor::Workflow { name: cut(&format!("github:{}", plain(repository))), actor_id: None },
                    known.to_string(),
                )
            }
        }
    }
}

/// A workflow that was found to be granted one deed with some services in one environment. There is no other way to one
/// than [`UnverifiedClaims::verified`].
#[derive(Debug, Clone, Copy)]
pub struct VerifiedCaller<'c> {
    claims: &'c Claims,
    repository_id: &'c str,
    run_id: &'c str,
}

impl VerifiedCaller<'_> {
    /// As journal and approval know it: the run, and the account that has started it.
    #[must_use]
    pub fn actor(&self) -> Actor {
        let repository = self.claims.repository.as_deref().map_or_else(|| self.repository_id.to_owned(), plain);
        let name = cut(&format!("github:{repository}@{}", self.run_id));
        Actor::Workflow { name, actor_id: self.claims.actor_id.clone() }
    }

    /// The run's key for asking for these releases in an environment: the same at each re-run of it.
    #[must_use]
    pub fn key<'r>(
        &self,
        deed: Deed,
        environment: &Name,
        releases: impl IntoIterator<Item = (&'r Name, &'r ImageDigest)>,
    ) -> String {
        let mut hash = Sha256::new();
        hash.update(environment.as_str());
        for (service, digest) in releases {
            hash.update(format!("\n{service}@{digest}"));
        }
        let digits = hash.finalize().iter().take(6).fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
        format!("{RUN_KEY}{}:{}:{}:{digits}", self.repository_id, self.run_id, word(deed))
    }

    /// What GitHub's token says of the run, for the record: `main at 4f1c2a9, .github/workflows/promote.yml`.
    #[must_use]
    pub fn making(&self) -> String {
        let Claims { git_ref, sha, workflow_ref, run_attempt, .. } = self.claims;
        let git_ref = git_ref.as_deref().unwrap_or("-");
        let git_ref =
            git_ref.strip_prefix("refs/heads/").or_else(|| git_ref.strip_prefix("refs/tags/")).unwrap_or(git_ref);
        let sha: String = sha.as_deref().unwrap_or("-").chars().take(7).collect();
        let workflow = workflow_ref.as_deref().and_then(|known| known.split('@').next()?.splitn(3, '/').nth(2));
        let workflow = workflow.map_or_else(String::new, |path| format!(", {}", plain(path)));
        // The account that the token names has initiated the run; who has started it again may be somebody else.
        let again = run_attempt.as_deref().filter(|attempt| *attempt != "1");
        let again = again.map_or_else(String::new, |attempt| format!(", attempt {}", plain(attempt)));
        format!("{} at {}{workflow}{again}", plain(git_ref), plain(&sha))
    }
}

/// A deed in a word, as routes and journal have it.
pub(super) fn word(deed: Deed) -> &'static str {
    match deed {
        Deed::Promote => "promote",
        Deed::Deploy => "deploy",
        Deed::Hotfix => "hotfix",
    }
}

/// A number of GitHub's, short enough for a key.
fn number(claim: Option<&str>) -> Option<&str> {
    claim.filter(|text| (1..=18).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Seconds since 1970 as the gateway writes them: whole, or as `1.795317E9`.
fn instant(text: &str) -> Option<Timestamp> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| *seconds >= 0.0)?;
    let since = Duration::try_from_secs_f64(seconds).ok()?;
    Timestamp::from_second(i64::try_from(since.as_secs()).ok()?).ok()
}

/// Text of others without what would not stay on its line, and not too much of it.
fn plain(text: &str) -> String {
    rollout::text::line(text, 200)
}

fn cut(name: &str) -> String {
    name.chars().take(LONGEST_CALLER).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desk::LONGEST_REQUEST;
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
    fn a_token_that_was_kept_asks_for_nothing() {
        let claims = claims(&[]);
        for (now, fresh) in [(-61, false), (-60, true), (0, true), (120, true), (121, false), (299, false)] {
            assert_eq!(claims.asks(at(1_795_317_300 + now)).is_ok(), fresh, "{now} s old");
        }
    }

    #[test]
    fn a_token_says_when_it_was_issued_however_the_gateway_writes_that() {
        for text in ["1795317300", "1.7953173E9", "1795317300.0"] {
            assert!(claims(&[("iat", text)]).asks(at(1_795_317_310)).is_ok(), "{text}");
        }
        for text in ["", "soon", "-1", "NaN", "1e300"] {
            let refused = claims(&[("iat", text)]).asks(at(1_795_317_310)).expect_err(text);
            assert_eq!(refused, NotAllowed::Claim("iat"), "{text}");
        }
    }

    #[test]
    fn a_run_is_named_and_keyed_by_what_nobody_else_gets() {
        let claims = claims(&[]);
        let caller = claims.asks(at(1_795_317_300)).expect("a caller");
        assert_eq!(
            caller.actor(),
            Actor::Workflow { name: "github:octo/shop@9001".to_owned(), actor_id: Some("1815".to_owned()) }
        );
        let digest = |digits: &str| ImageDigest::new(format!("sha256:{}", digits.repeat(8))).expect("a digest");
        let name = |text: &str| Name::new(text).expect("a name");
        let key = |deed, environment: &str, service: &str, digits: &str| {
            caller.key(deed, &name(environment), [(&name(service), &digest(digits))])
        };
        let first = key(Deed::Promote, "prod", "api", "3fa90c1e");
        assert!(first.starts_with("github:123456789:9001:promote:") && first.len() <= LONGEST_REQUEST, "{first}");
        assert_eq!(key(Deed::Promote, "prod", "api", "3fa90c1e"), first);
        for other in [
            key(Deed::Deploy, "prod", "api", "3fa90c1e"),
            key(Deed::Promote, "staging", "api", "3fa90c1e"),
            key(Deed::Promote, "prod", "web", "3fa90c1e"),
            key(Deed::Promote, "prod", "api", "3fa90c1f"),
        ] {
            assert_ne!(other, first);
        }
        assert_eq!(caller.making(), "main at 4f1c2a9, .github/workflows/promote.yml");
        let again = self::claims(&[("run_attempt", "2")]);
        let again = again.asks(at(1_795_317_300)).expect("a caller").making();
        assert_eq!(again, "main at 4f1c2a9, .github/workflows/promote.yml, attempt 2");
    }

    #[test]
    fn what_is_no_number_is_no_run() {
        for (claim, value) in
            [("run_id", ""), ("run_id", "9001:x"), ("run_id", "1234567890123456789"), ("repository_id", "a")]
        {
            assert!(claims(&[(claim, value)]).asks(at(1_795_317_300)).is_err(), "{claim}={value}");
        }
    }
}
