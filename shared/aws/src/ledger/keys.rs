//! What items are called: the only place that writes a key, or reads one.

use engine::{PostKey, Watch};
use rollout::brake::Scope;
use rollout::policy::Resource;
use rollout::{ImageDigest, Name, TargetId, Timestamp};

/// How many partitions of the index share the due items.
pub(super) const SHARDS: u32 = 8;

/// The state of a target, in the target's partition.
pub(super) const STATE: &str = "STATE";
/// Begins the sort key of every command that waits.
pub(super) const INBOX: &str = "INBOX#";
/// Begins the sort key of every deployment.
pub(super) const DEPLOYMENT: &str = "DEPLOYMENT#";
/// Begins the sort key of every release by age.
pub(super) const PUSHED: &str = "PUSHED#";
/// The tags of a service's repository as they were last compared, in the partition of its releases.
pub(super) const REGISTRY: &str = "REGISTRY";
/// The policy in force, in the policy's partition.
pub(super) const CURRENT: &str = "CURRENT";
/// The generation of an application's policy, in the policy's partition: see `policies`.
pub(super) const GENERATION: &str = "GENERATION";
/// The partition of all applications' names.
pub(super) const APPLICATIONS: &str = "APPLICATIONS";
/// The partition of the brakes and of their log.
pub(super) const BRAKES: &str = "BRAKES";
/// Begins the sort key of every brake that is on.
pub(super) const ON: &str = "ON#";
/// Begins the sort key of every entry of the brakes' log.
pub(super) const LOG: &str = "LOG#";

/// The partition of the row before AWS's API budgets, and the one item in it.
pub(super) const ROW: &str = "ROW";

const TARGET: &str = "TARGET#";
const COMMANDS: &str = "COMMANDS#";

/// Partition of everything of one target.
pub(super) fn target(target: &TargetId) -> String {
    format!("{TARGET}{target}")
}

/// Partition of what is asked of one target, and of nothing else: whoever may write here may ask, and no more.
pub(super) fn commands(target: &TargetId) -> String {
    format!("{COMMANDS}{target}")
}

/// The target that a partition is of: its own, or that of its commands.
pub(super) fn target_of(pk: &str) -> Option<TargetId> {
    TargetId::parse(pk.strip_prefix(TARGET).or_else(|| pk.strip_prefix(COMMANDS))?).ok()
}

/// A command that waits: in the order of asking.
pub(super) fn inbox(at: Timestamp, id: &str) -> String {
    format!("{INBOX}{}#{id}", instant(at))
}

/// A command that was seen.
pub(super) fn command(id: &str) -> String {
    format!("COMMAND#{id}")
}

/// A deployment, by number.
pub(super) fn deployment(number: u64) -> String {
    format!("{DEPLOYMENT}{number:020}")
}

/// A journal entry, by sequence.
pub(super) fn journal(sequence: u64) -> String {
    format!("JOURNAL#{sequence:020}")
}

/// Partition of what of a target's journal was told.
pub(super) fn notified(target: &TargetId) -> String {
    format!("NOTIFIED#{target}")
}

/// One entry told to one channel.
pub(super) fn delivery(sequence: u64, channel: &str) -> String {
    format!("{sequence:020}#{channel}")
}

/// The brake of a scope. An application may be called `everything`, too: the kind of the scope goes before its names.
pub(super) fn brake(scope: &Scope) -> String {
    match scope {
        Scope::Everything => format!("{ON}everything"),
        Scope::Application { application } => format!("{ON}application#{application}"),
        Scope::Environment { application, environment } => format!("{ON}environment#{application}/{environment}"),
    }
}

/// What was done about a brake, by time. `content` is a hash of the entry: what happened twice at once is there twice,
/// and what was written twice is there once.
pub(super) fn brake_log(at: Timestamp, lifted: bool, content: u64) -> String {
    // In this order: who sets a brake and lifts it within a millisecond has done so in this order.
    let deed = if lifted { "unset" } else { "set" };
    format!("{LOG}{}#{deed}#{content:016x}", instant(at))
}

/// Partition of what was posted about a release, or about a target's deployments.
pub(super) fn posted(post: &PostKey) -> String {
    match post {
        PostKey::Thread { release, .. } => format!("POSTED#{release}"),
        PostKey::Deployment { target, .. } => format!("POSTED#{target}"),
    }
}

/// A release's thread or a deployment's message, in a channel.
pub(super) fn post(post: &PostKey) -> String {
    match post {
        PostKey::Thread { channel, .. } => format!("THREAD#{channel}"),
        PostKey::Deployment { number, channel, .. } => format!("{}#{channel}", deployment(*number)),
    }
}

/// FNV-1a of 64 bits, for keys that follow from their item's content. The same in every version.
pub(super) fn hash(content: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    content.bytes().fold(0xcbf2_9ce4_8422_2325, step)
}

/// Partition of a service's releases.
pub(super) fn releases(application: &Name, service: &Name) -> String {
    format!("RELEASE#{application}/{service}")
}

/// A release, by content.
pub(super) fn digest(digest: &ImageDigest) -> String {
    format!("DIGEST#{digest}")
}

/// A release, by age.
pub(super) fn pushed(at: Timestamp, digest: &ImageDigest) -> String {
    format!("{PUSHED}{}#{digest}", instant(at))
}

/// Partition of an application's policies.
pub(super) fn policy(application: &Name) -> String {
    format!("POLICY#{application}")
}

/// A policy, by version.
pub(super) fn version(version: u64) -> String {
    format!("VERSION#{version:020}")
}

/// Partition of those who are concerned with something.
pub(super) fn watch(watch: &Watch) -> String {
    match watch {
        Watch::Alarm(name) => format!("WATCH#alarm#{name}"),
        // Neither name can hold a `#`: ECS allows letters, digits, hyphens and underscores.
        Watch::EcsService(cluster, service) => format!("WATCH#ecs#{cluster}#{service}"),
        Watch::Rule(arn) => format!("WATCH#rule#{arn}"),
        Watch::Repository(name) => format!("WATCH#repository#{name}"),
    }
}

/// Partition of the targets that claim a resource for themselves.
pub(super) fn claim(resource: &Resource) -> String {
    format!("CLAIM#{}", resource.key())
}

/// Partition of the index that a target's due items are in. The hash is FNV-1a: it must be the same in every version.
pub(super) fn due_shard(target: &TargetId) -> String {
    let hash = target
        .to_string()
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    shard(hash % SHARDS)
}

/// One partition of the index.
pub(super) fn shard(number: u32) -> String {
    format!("DUE#{number}")
}

/// An instant as a part of keys: milliseconds since 1970, which is as early as it gets.
pub(super) fn instant(at: Timestamp) -> String {
    format!("{:015}", at.as_millisecond().max(0))
}

/// The instant that [`instant`] has made a part of a key of.
pub(super) fn instant_of(part: &str) -> Option<Timestamp> {
    Timestamp::from_millisecond(part.parse().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn target_named(text: &str) -> TargetId {
        TargetId::parse(text).expect("a target")
    }

    #[test]
    fn a_targets_partitions_name_the_target() {
        let id = target_named("shop/api/production");
        assert_eq!(target(&id), "TARGET#shop/api/production");
        assert_eq!(commands(&id), "COMMANDS#shop/api/production");
        assert_eq!(target_of(&target(&id)), Some(id.clone()));
        assert_eq!(target_of(&commands(&id)), Some(id));
        assert_eq!(target_of("POLICY#shop"), None);
        assert_eq!(target_of("TARGET#shop/api"), None);
    }

    #[test]
    fn keys_sort_as_their_numbers_and_times_do() {
        let numbers = [0, 1, 9, 10, 99, 100, 12_345_678_901, u64::MAX];
        for pair in numbers.windows(2) {
            assert!(journal(pair[0]) < journal(pair[1]), "{pair:?}");
            assert!(deployment(pair[0]) < deployment(pair[1]), "{pair:?}");
        }
        let times = [-5, 0, 999, 1000, 1_763_000_000_000, 99_999_999_999_999];
        for pair in times.windows(2) {
            let [earlier, later] = [pair[0], pair[1]].map(|ms| Timestamp::from_millisecond(ms).expect("a time"));
            assert!(instant(earlier) <= instant(later), "{pair:?}");
            assert!(pair[0] < 0 || instant(earlier) < instant(later), "{pair:?}");
            assert_eq!(instant_of(&instant(later)), Some(later));
        }
    }

    #[test]
    fn no_two_scopes_share_a_key() {
        let name = |text: &str| Name::new(text).expect("a name");
        let application = |text: &str| Scope::Application { application: name(text) };
        let environment = |text: &str, of: &str| Scope::Environment { application: name(of), environment: name(text) };
        assert_eq!(brake(&Scope::Everything), "ON#everything");
        assert_eq!(brake(&application("everything")), "ON#application#everything");
        assert_eq!(brake(&application("shop")), "ON#application#shop");
        assert_eq!(brake(&environment("prod", "shop")), "ON#environment#shop/prod");
    }

    #[test]
    fn the_log_of_brakes_sorts_by_time_and_tells_entries_of_one_moment_apart() {
        let at = |ms| Timestamp::from_millisecond(ms).expect("a time");
        let keys =
            [(at(999), true, 9), (at(1000), false, 5), (at(1000), false, 6), (at(1000), true, 1), (at(1001), false, 0)];
        let keys: Vec<String> = keys.into_iter().map(|(at, lifted, content)| brake_log(at, lifted, content)).collect();
        assert!(keys.is_sorted() && keys.iter().collect::<BTreeSet<_>>().len() == keys.len(), "{keys:?}");
        // Written by every version there ever was: an entry whose hash changed would be there twice.
        assert_eq!(hash("{\"brake\":1}"), 0x4dd0_7ac5_9e40_d0c1);
    }

    #[test]
    fn posts_of_a_release_and_of_a_target_lie_apart() {
        let release = rollout::ReleaseId::parse(&format!("shop/api@sha256:{}", "5e".repeat(32))).expect("a release");
        let thread = PostKey::Thread { release, channel: "C1".into() };
        assert_eq!(posted(&thread), format!("POSTED#shop/api@sha256:{}", "5e".repeat(32)));
        assert_eq!(post(&thread), "THREAD#C1");
        let of = PostKey::Deployment { target: target_named("shop/api/prod"), number: 7, channel: "C1".into() };
        assert_eq!(
            (posted(&of), post(&of)),
            ("POSTED#shop/api/prod".into(), "DEPLOYMENT#00000000000000000007#C1".into())
        );
    }

    #[test]
    fn targets_spread_over_all_shards_and_stay_where_they_are() {
        let shards: BTreeSet<String> =
            (0..100).map(|n| due_shard(&target_named(&format!("shop/svc-{n}/prod")))).collect();
        assert_eq!(shards.len(), 8, "{shards:?}");
        // Written by every version there ever was: a target that moved would be found twice or never.
        assert_eq!(due_shard(&target_named("shop/api/production")), "DUE#4");
    }
}
