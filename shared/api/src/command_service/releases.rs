//! Finds releases by the names that people and workflows use.

use super::RequestLedger;
use crate::{CommandService, Refusal};
use engine::ports::{Clock, WakeQueue};
use rollout::entry::After;
use rollout::promotion::GateContext;
use rollout::release::latest_with_tag;
use rollout::target::Verified;
use rollout::{AppliedTarget, ImageDigest, Name, Release, ReleaseId, Tag, TargetId, Timestamp};
use std::collections::BTreeMap;

/// How many releases are searched for a tag or a short digest; an older release must be named by its full digest.
const MAX_RELEASES: usize = 500;
/// Minimum number of hexadecimal digits that identify a release, as with commits.
const MIN_DIGEST_DIGITS: usize = 7;
/// How many of an environment's verified releases a refusal lists.
const MAX_NAMED_RELEASES: usize = 3;

impl<L: RequestLedger, D: WakeQueue, K: Clock> CommandService<'_, L, D, K> {
    /// The release that `wanted` names: a tag (any that it has; a tag that has moved names the release that has it now), a
    /// digest, at least 7 of its first hexadecimal digits, or `latest`.
    ///
    /// # Errors
    /// [`Refusal`]: no such release (`unknown_release`), an ambiguous name, or a ledger that did not answer.
    pub async fn release(&self, application: &Name, service: &Name, wanted: &str) -> Result<Release, Refusal> {
        // A full digest contains a colon; a short digest and `latest` are valid as tags.
        if Tag::new(wanted.strip_prefix("sha256:").unwrap_or(wanted)).is_err() {
            let message = "`release` must be a tag, a digest, at least 7 of its first digits, or `latest`";
            return Err(Refusal::request("invalid_release", message));
        }
        if let Ok(digest) = ImageDigest::new(wanted) {
            let id = ReleaseId { application: application.clone(), service: service.clone(), digest };
            let release = self.ledger.release_by_id(&id).await?;
            return release.ok_or_else(|| unknown_release(application, service, wanted, &[]));
        }
        let most = if wanted == "latest" { 1 } else { MAX_RELEASES };
        let releases = self.ledger.releases(application, service, most).await?;
        let named = match wanted {
            "latest" => releases.first(),
            tag => latest_with_tag(&releases, tag),
        };
        if let Some(release) = named {
            return Ok(release.clone());
        }
        let digits = wanted.strip_prefix("sha256:").unwrap_or(wanted).to_ascii_lowercase();
        if digits.len() >= MIN_DIGEST_DIGITS && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
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

    /// The newest release that the environments upstream of this target's have verified.
    ///
    /// # Errors
    /// [`Refusal`]: no upstream environment (`nothing_before`), nothing verified there (`nothing_verified`), or a ledger
    /// that did not answer for one of them.
    pub async fn newest_verified(
        &self,
        target: &TargetId,
        applied: &AppliedTarget,
        gate_context: &GateContext,
    ) -> Result<Release, Refusal> {
        let Some(after) = &applied.entry.rules.after else { return Err(no_previous_environment(target)) };
        let unread =
            after.environments().iter().find(|environment| verified_in(target, environment, gate_context).is_none());
        if let Some(environment) = unread {
            let message = format!("what {environment} has verified could not be read; ask again in a moment");
            return Err(Refusal::new(503, "ledger_unavailable", message));
        }
        let Some(newest) = newest(target, after, gate_context) else {
            let message = format!(
                "nothing can be promoted to {target} now; {}: deploy there first, and wait until the bake is over",
                describe_verified(target, after, gate_context)
            );
            return Err(Refusal::conflict("nothing_verified", message));
        };
        self.release(&target.application, &target.service, newest.as_str()).await
    }
}

/// Of the releases that the upstream environments have verified as `Gate::After` requires, the one pushed last; if push times
/// are unknown, the one verified last.
fn newest(target: &TargetId, after: &After, gate_context: &GateContext) -> Option<ImageDigest> {
    let mut seen: BTreeMap<&ImageDigest, (usize, Timestamp)> = BTreeMap::new();
    for environment in after.environments() {
        for verified in verified_in(target, environment, gate_context).unwrap_or_default() {
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

/// The releases of this service that an upstream environment has verified; `None`: not read.
fn verified_in<'a>(target: &TargetId, environment: &Name, gate_context: &'a GateContext) -> Option<&'a [Verified]> {
    let id = TargetId { environment: environment.clone(), ..target.clone() };
    gate_context.related_targets.get(&id).map(|neighbour| neighbour.verified.as_slice())
}

/// Lists the verified releases per environment, for people: `dev has verified v3 (3fa90c1e2b44), v2 (…); qa has verified
/// nothing`.
pub(super) fn describe_verified(target: &TargetId, after: &After, gate_context: &GateContext) -> String {
    let of = |environment: &Name| match verified_in(target, environment, gate_context) {
        None => format!("what {environment} has verified could not be read"),
        Some([]) => format!("{environment} has verified nothing"),
        Some(verified) => {
            let newest_first = verified.iter().rev().take(MAX_NAMED_RELEASES).map(|verified| &verified.release);
            let names: Vec<String> =
                newest_first.map(|release| format!("{} ({})", release.tag, release.id.digest.short())).collect();
            format!("{environment} has verified {}", names.join(", "))
        }
    };
    after.environments().iter().map(of).collect::<Vec<_>>().join("; ")
}

pub(super) fn no_previous_environment(target: &TargetId) -> Refusal {
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
    use rollout::promotion::RelatedTarget;
    use rollout::release::ReleaseRef;

    fn name(text: &str) -> Name {
        Name::new(text).expect("a name")
    }

    fn digest(number: u64) -> ImageDigest {
        ImageDigest::new(format!("sha256:{number:064x}")).expect("a digest")
    }

    /// A release with these minutes as its push and verification times.
    fn verified(number: u64, pushed: Option<i64>, at: i64) -> Verified {
        let minute = |minute: i64| Timestamp::from_second(minute * 60).expect("a time");
        let id = ReleaseId { application: name("shop"), service: name("api"), digest: digest(number) };
        let (image, tag) = (format!("shop/api@{}", id.digest), format!("v{number}"));
        let release = ReleaseRef { id, image, tag, pushed_at: pushed.map(minute) };
        Verified { release, deployment: number, at: minute(at), forward_only: false }
    }

    fn gate_context(seen: &[(&str, Vec<Verified>)]) -> GateContext {
        let related_targets = seen.iter().map(|(environment, verified)| {
            let target = TargetId::new(name("shop"), name("api"), name(environment));
            (target, RelatedTarget { verified: verified.clone(), ..RelatedTarget::default() })
        });
        GateContext {
            brakes: Reading::Known(Vec::new()),
            related_targets: related_targets.collect(),
            ..GateContext::empty()
        }
    }

    fn prod() -> TargetId {
        TargetId::new(name("shop"), name("api"), name("prod"))
    }

    #[test]
    fn after_all_requires_verification_in_every_environment() {
        let dev = vec![verified(1, Some(1), 10), verified(2, Some(2), 20), verified(3, Some(3), 30)];
        let qa = vec![verified(1, Some(1), 15), verified(2, Some(2), 25)];
        let seen = gate_context(&[("dev", dev), ("qa", qa)]);
        let both = vec![name("dev"), name("qa")];
        assert_eq!(newest(&prod(), &After::All(both.clone()), &seen), Some(digest(2)));
        assert_eq!(newest(&prod(), &After::Any(both.clone()), &seen), Some(digest(3)));
        assert_eq!(newest(&prod(), &After::All(both), &gate_context(&[("dev", vec![]), ("qa", vec![])])), None);
    }

    #[test]
    fn newest_is_by_push_time_rather_than_deploy_time() {
        let pinned = vec![verified(2, Some(2), 20), verified(1, Some(1), 30)];
        let after = After::All(vec![name("dev")]);
        assert_eq!(newest(&prod(), &after, &gate_context(&[("dev", pinned)])), Some(digest(2)));
        let unknown = vec![verified(2, None, 20), verified(1, None, 30)];
        assert_eq!(newest(&prod(), &after, &gate_context(&[("dev", unknown)])), Some(digest(1)));
    }

    #[test]
    fn verified_releases_are_listed_newest_first() {
        let dev = vec![verified(1, None, 1), verified(2, None, 2), verified(3, None, 3), verified(4, None, 4)];
        let after = After::All(vec![name("dev"), name("qa"), name("perf")]);
        let said = describe_verified(&prod(), &after, &gate_context(&[("dev", dev), ("qa", vec![])]));
        let wanted = "dev has verified v4 (000000000000), v3 (000000000000), v2 (000000000000); qa has verified nothing; \
                      what perf has verified could not be read";
        assert_eq!(said, wanted);
    }
}
