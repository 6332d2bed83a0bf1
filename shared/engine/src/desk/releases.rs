//! Releases, as people and workflows name them.

use super::{Desk, Refusal};
use crate::ports::{Clock, Ledger, WakeQueue};
use rollout::entry::After;
use rollout::promotion::Surroundings;
use rollout::release::tagged;
use rollout::target::Verified;
use rollout::{AppliedTarget, ImageDigest, Name, Release, ReleaseId, Tag, TargetId, Timestamp};
use std::collections::BTreeMap;

/// How many releases are looked through for a tag or a short digest; an older one is named by its whole digest.
const LOOKED_THROUGH: usize = 500;
/// The fewest hexadecimal digits that name a release, as with commits.
const FEWEST_DIGITS: usize = 7;
/// How many of an environment's verified releases a refusal names.
const NAMED: usize = 3;

impl<L: Ledger, D: WakeQueue, K: Clock> Desk<'_, L, D, K> {
    /// The release that `wanted` names: a tag (any that it has; one that has moved names the release that has it now), a digest, at least 7 of its first hexadecimal digits, or `latest`.
    ///
    /// # Errors
    /// [`Refusal`]: no such release (`unknown_release`), several of it, or a ledger that did not answer.
    pub async fn release(&self, application: &Name, service: &Name, wanted: &str) -> Result<Release, Refusal> {
        // A digest has its colon; its first digits and `latest` have the form of a tag.
        if Tag::new(wanted.strip_prefix("sha256:").unwrap_or(wanted)).is_err() {
            let message = "`release` must be a tag, a digest, at least 7 of its first digits, or `latest`";
            return Err(Refusal::request("invalid_release", message));
        }
        if let Ok(digest) = ImageDigest::new(wanted) {
            let id = ReleaseId { application: application.clone(), service: service.clone(), digest };
            let release = self.ledger.release_by_id(&id).await?;
            return release.ok_or_else(|| unknown_release(application, service, wanted, &[]));
        }
        let most = if wanted == "latest" { 1 } else { LOOKED_THROUGH };
        let releases = self.ledger.releases(application, service, most).await?;
        let named = match wanted {
            "latest" => releases.first(),
            tag => tagged(&releases, tag),
        };
        if let Some(release) = named {
            return Ok(release.clone());
        }
        let digits = wanted.strip_prefix("sha256:").unwrap_or(wanted).to_ascii_lowercase();
        if digits.len() >= FEWEST_DIGITS && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            let start = format!("sha256:{digits}");
            let fitting: Vec<&Release> =
                releases.iter().filter(|release| release.id.digest.as_str().starts_with(&start)).collect();
            match fitting.as_slice() {
                [] => {}
                [release] => return Ok((*release).clone()),
                several => {
                    let message = format!(
                        "{} releases of {application}/{service} begin with `{wanted}`: write more digits",
                        several.len()
                    );
                    return Err(Refusal::conflict("ambiguous_release", message));
                }
            }
        }
        Err(unknown_release(application, service, wanted, &releases))
    }

    /// The newest release that the environments before this target's have verified.
    ///
    /// # Errors
    /// [`Refusal`]: no environment comes before (`nothing_before`), nothing is verified there (`nothing_verified`), or a
    /// ledger that did not answer for one of them.
    pub async fn newest_verified(
        &self,
        target: &TargetId,
        applied: &AppliedTarget,
        around: &Surroundings,
    ) -> Result<Release, Refusal> {
        let Some(after) = &applied.entry.rules.after else { return Err(nothing_before(target)) };
        let unread = after.environments().iter().find(|environment| verified_in(target, environment, around).is_none());
        if let Some(environment) = unread {
            let message = format!("what {environment} has verified could not be read; ask again in a moment");
            return Err(Refusal::new(503, "ledger_unavailable", message));
        }
        let Some(newest) = newest(target, after, around) else {
            let message = format!(
                "nothing can be promoted to {target} now; {}: deploy there first, and wait until the bake is over",
                verified_where(target, after, around)
            );
            return Err(Refusal::conflict("nothing_verified", message));
        };
        self.release(&target.application, &target.service, newest.as_str()).await
    }
}

/// Of what the environments before have verified, as the order wants it, the one that was pushed last; where that is not
/// known, the one that was verified last.
fn newest(target: &TargetId, after: &After, around: &Surroundings) -> Option<ImageDigest> {
    let mut seen: BTreeMap<&ImageDigest, (usize, Timestamp)> = BTreeMap::new();
    for environment in after.environments() {
        for verified in verified_in(target, environment, around).unwrap_or_default() {
            let at = verified.release.pushed_at.unwrap_or(verified.at);
            let (times, newest) = seen.entry(&verified.release.id.digest).or_insert((0, at));
            *times += 1;
            *newest = (*newest).max(at);
        }
    }
    let needed = match after {
        After::All(environments) => environments.len(),
        After::Any(_) => 1,
    };
    let enough = seen.into_iter().filter(|(_, (times, _))| *times >= needed);
    enough.max_by_key(|(_, (_, at))| *at).map(|(digest, _)| digest.clone())
}

/// What an environment before this target's has verified of its service; none: it was not read.
fn verified_in<'a>(target: &TargetId, environment: &Name, around: &'a Surroundings) -> Option<&'a [Verified]> {
    let id = TargetId { environment: environment.clone(), ..target.clone() };
    around.neighbours.get(&id).map(|neighbour| neighbour.verified.as_slice())
}

/// What is verified where, for people: `dev has verified v3 (3fa90c1e2b44), v2 (…); qa has verified nothing`.
pub(super) fn verified_where(target: &TargetId, after: &After, around: &Surroundings) -> String {
    let of = |environment: &Name| match verified_in(target, environment, around) {
        None => format!("what {environment} has verified could not be read"),
        Some([]) => format!("{environment} has verified nothing"),
        Some(verified) => {
            let newest_first = verified.iter().rev().take(NAMED).map(|verified| &verified.release);
            let names: Vec<String> =
                newest_first.map(|release| format!("{} ({})", release.tag, release.id.digest.short())).collect();
            format!("{environment} has verified {}", names.join(", "))
        }
    };
    after.environments().iter().map(of).collect::<Vec<_>>().join("; ")
}

pub(super) fn nothing_before(target: &TargetId) -> Refusal {
    let message = format!(
        "no environment comes before {}, so nothing is promoted to {target}: deploy a release there by its name",
        target.environment
    );
    Refusal::conflict("nothing_before", message)
}

fn unknown_release(application: &Name, service: &Name, wanted: &str, newest: &[Release]) -> Refusal {
    let known = newest.iter().take(5).map(|release| format!("{} ({})", release.tag, release.id.digest.short()));
    Refusal::unknown(
        "unknown_release",
        format!("no release `{wanted}` of {application}/{service} is known"),
        known,
        "push an image whose tag the policy takes, or name one of those; an older one by its whole digest",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use rollout::Reading;
    use rollout::promotion::Neighbour;
    use rollout::target::ReleaseRef;

    fn name(text: &str) -> Name {
        Name::new(text).expect("a name")
    }

    fn digest(number: u64) -> ImageDigest {
        ImageDigest::new(format!("sha256:{number:064x}")).expect("a digest")
    }

    /// A release that was pushed and verified at these minutes.
    fn verified(number: u64, pushed: Option<i64>, at: i64) -> Verified {
        let minute = |minute: i64| Timestamp::from_second(minute * 60).expect("a time");
        let id = ReleaseId { application: name("shop"), service: name("api"), digest: digest(number) };
        let (image, tag) = (format!("shop/api@{}", id.digest), format!("v{number}"));
        let release = ReleaseRef { id, image, tag, pushed_at: pushed.map(minute) };
        Verified { release, deployment: number, at: minute(at), forward_only: false }
    }

    fn around(seen: &[(&str, Vec<Verified>)]) -> Surroundings {
        let neighbours = seen.iter().map(|(environment, verified)| {
            let target = TargetId::new(name("shop"), name("api"), name(environment));
            (target, Neighbour { verified: verified.clone(), stable: None })
        });
        Surroundings { brakes: Reading::Known(Vec::new()), neighbours: neighbours.collect(), ..Surroundings::quiet() }
    }

    fn prod() -> TargetId {
        TargetId::new(name("shop"), name("api"), name("prod"))
    }

    #[test]
    fn where_all_environments_come_before_only_what_all_have_verified_counts() {
        let dev = vec![verified(1, Some(1), 10), verified(2, Some(2), 20), verified(3, Some(3), 30)];
        let qa = vec![verified(1, Some(1), 15), verified(2, Some(2), 25)];
        let seen = around(&[("dev", dev), ("qa", qa)]);
        let both = vec![name("dev"), name("qa")];
        assert_eq!(newest(&prod(), &After::All(both.clone()), &seen), Some(digest(2)));
        assert_eq!(newest(&prod(), &After::Any(both.clone()), &seen), Some(digest(3)));
        assert_eq!(newest(&prod(), &After::All(both), &around(&[("dev", vec![]), ("qa", vec![])])), None);
    }

    #[test]
    fn the_newest_is_what_was_pushed_last_and_not_what_was_deployed_last() {
        let pinned = vec![verified(2, Some(2), 20), verified(1, Some(1), 30)];
        let after = After::All(vec![name("dev")]);
        assert_eq!(newest(&prod(), &after, &around(&[("dev", pinned)])), Some(digest(2)));
        let unknown = vec![verified(2, None, 20), verified(1, None, 30)];
        assert_eq!(newest(&prod(), &after, &around(&[("dev", unknown)])), Some(digest(1)));
    }

    #[test]
    fn what_is_verified_where_is_said_newest_first() {
        let dev = vec![verified(1, None, 1), verified(2, None, 2), verified(3, None, 3), verified(4, None, 4)];
        let after = After::All(vec![name("dev"), name("qa"), name("perf")]);
        let said = verified_where(&prod(), &after, &around(&[("dev", dev), ("qa", vec![])]));
        let wanted = "dev has verified v4 (000000000000), v3 (000000000000), v2 (000000000000); qa has verified nothing; \
                      what perf has verified could not be read";
        assert_eq!(said, wanted);
    }
}
