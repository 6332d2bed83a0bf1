//! Keys of items: the only place that builds or parses a key.

use engine::{PostedMessageKey, WatchedResource};
use rollout::brake::Scope;
use rollout::policy::Resource;
use rollout::{ImageDigest, Name, TargetId, Timestamp};

/// Number of index partitions that due items are spread over.
pub(super) const SHARDS: u32 = 8;

/// Sort key of a target's state, in the target's partition.
pub(super) const STATE: &str = "STATE";
/// Sort key prefix of pending commands.
pub(super) const INBOX: &str = "INBOX#";
/// Sort key prefix of deployments.
pub(super) const DEPLOYMENT: &str = "DEPLOYMENT#";
/// Sort key prefix of releases by age.
pub(super) const PUSHED: &str = "PUSHED#";
/// Sort key of the tags of a service's repository as last compared, in the partition of its releases.
pub(super) const REGISTRY: &str = "REGISTRY";
/// Sort key of the policy in force, in the policy's partition.
pub(super) const CURRENT: &str = "CURRENT";
/// Sort key of the generation of an application's policy, in the policy's partition: see `policies`.
pub(super) const GENERATION: &str = "GENERATION";
/// Partition key of the list of all applications.
pub(super) const APPLICATIONS: &str = "APPLICATIONS";
/// Partition key of the brakes and their log.
pub(super) const BRAKES: &str = "BRAKES";
/// Sort key prefix of brakes in force.
pub(super) const ON: &str = "ON#";
/// Sort key prefix of entries of the brakes' log.
pub(super) const LOG: &str = "LOG#";

/// Partition key of the queue for AWS's API rate limits, and sort key of the one item in it.
pub(super) const API_QUEUE: &str = "ROW";

const TARGET: &str = "TARGET#";
const COMMANDS: &str = "COMMANDS#";

/// Partition key of a target's state, deployments and journal.
pub(super) fn target(target: &TargetId) -> String {
    format!("{TARGET}{target}")
}

/// Partition key of a target's commands and nothing else: a role with write access to it can request, and no more.
pub(super) fn commands(target: &TargetId) -> String {
    format!("{COMMANDS}{target}")
}

/// The target that a partition belongs to: the target's own partition, or the one of its commands.
pub(super) fn target_of(pk: &str) -> Option<TargetId> {
    TargetId::parse(pk.strip_prefix(TARGET).or_else(|| pk.strip_prefix(COMMANDS))?).ok()
}

/// Sort key of a pending command: ordered by the time it was requested.
pub(super) fn inbox(at: Timestamp, id: &str) -> String {
    format!("{INBOX}{}#{id}", instant(at))
}

/// Sort key that marks a command as seen.
pub(super) fn command(id: &str) -> String {
    format!("COMMAND#{id}")
}

/// Sort key of a deployment, by number.
pub(super) fn deployment(number: u64) -> String {
    format!("{DEPLOYMENT}{number:020}")
}

/// Sort key of a journal entry, by sequence.
pub(super) fn journal(sequence: u64) -> String {
    format!("JOURNAL#{sequence:020}")
}

/// Partition key of the deliveries of a target's journal entries.
pub(super) fn notified(target: &TargetId) -> String {
    format!("NOTIFIED#{target}")
}

/// Sort key of the delivery of one entry to one channel.
pub(super) fn delivery(sequence: u64, channel: &str) -> String {
    format!("{sequence:020}#{channel}")
}

/// Sort key of the brake on a scope. The scope's kind comes before its names, since an application may be called
/// `everything`.
pub(super) fn brake(scope: &Scope) -> String {
    match scope {
        Scope::Everything => format!("{ON}everything"),
        Scope::Application { application } => format!("{ON}application#{application}"),
        Scope::Environment { application, environment } => format!("{ON}environment#{application}/{environment}"),
    }
}

/// Sort key of an entry of the brakes' log, by time. `content` is a hash of the entry: two different actions at the same time
/// are two entries, and the same action written twice is one.
pub(super) fn brake_log(at: Timestamp, lifted: bool, content: u64) -> String {
    // `set` sorts before `unset`: a brake set and lifted within one millisecond is logged in that order.
    let action = if lifted { "unset" } else { "set" };
    format!("{LOG}{}#{action}#{content:016x}", instant(at))
}

/// Partition key of the messages posted about a release or about a target's deployments.
pub(super) fn posted(post: &PostedMessageKey) -> String {
    match post {
        PostedMessageKey::Thread { release, .. } => format!("POSTED#{release}"),
        PostedMessageKey::Deployment { target, .. } => format!("POSTED#{target}"),
    }
}

/// Sort key of a release's thread or a deployment's message, in a channel.
pub(super) fn post(post: &PostedMessageKey) -> String {
    match post {
        PostedMessageKey::Thread { channel, .. } => format!("THREAD#{channel}"),
        PostedMessageKey::Deployment { number, channel, .. } => format!("{}#{channel}", deployment(*number)),
    }
}

/// 64-bit FNV-1a, for keys derived from their item's content. Must be the same in every version.
pub(super) fn hash(content: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    content.bytes().fold(0xcbf2_9ce4_8422_2325, step)
}

/// Partition key of a service's releases.
pub(super) fn releases(application: &Name, service: &Name) -> String {
    format!("RELEASE#{application}/{service}")
}

/// Sort key of a release, by image digest.
pub(super) fn digest(digest: &ImageDigest) -> String {
    format!("DIGEST#{digest}")
}

/// Sort key of a release, by age.
pub(super) fn pushed(at: Timestamp, digest: &ImageDigest) -> String {
    format!("{PUSHED}{}#{digest}", instant(at))
}

/// Partition key of an application's policies.
pub(super) fn policy(application: &Name) -> String {
    format!("POLICY#{application}")
}

/// Sort key of a policy, by version.
pub(super) fn version(version: u64) -> String {
    format!("VERSION#{version:020}")
}

/// Partition key of the targets, or services, that watch a resource.
pub(super) fn watch(watch: &WatchedResource) -> String {
    match watch {
        WatchedResource::Alarm(name) => format!("WATCH#alarm#{name}"),
        // `#` is unambiguous here: ECS names consist of letters, digits, hyphens and underscores.
        WatchedResource::EcsService(cluster, service) => format!("WATCH#ecs#{cluster}#{service}"),
        WatchedResource::Rule(arn) => format!("WATCH#rule#{arn}"),
        WatchedResource::Repository(name) => format!("WATCH#repository#{name}"),
    }
}

/// Partition key of the targets that claim a resource exclusively.
pub(super) fn claim(resource: &Resource) -> String {
    format!("CLAIM#{}", resource.key())
}

/// Index partition of a target's due items. The hash is FNV-1a: it must be the same in every version.
pub(super) fn due_shard(target: &TargetId) -> String {
    let hash = target
        .to_string()
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    shard(hash % SHARDS)
}

/// Key of one index partition.
pub(super) fn shard(number: u32) -> String {
    format!("DUE#{number}")
}

/// A time as part of a key: milliseconds since 1970, with 1970 as the minimum.
pub(super) fn instant(at: Timestamp) -> String {
    format!("{:015}", at.as_millisecond().max(0))
}

/// Parses a part of a key that [`instant`] produced.
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
    fn keys_sort_by_number_and_time() {
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
    fn the_brake_log_sorts_by_time_with_unique_keys() {
        let at = |ms| Timestamp::from_millisecond(ms).expect("a time");
        let keys =
            [(at(999), true, 9), (at(1000), false, 5), (at(1000), false, 6), (at(1000), true, 1), (at(1001), false, 0)];
        let keys: Vec<String> = keys.into_iter().map(|(at, lifted, content)| brake_log(at, lifted, content)).collect();
        assert!(keys.is_sorted() && keys.iter().collect::<BTreeSet<_>>().len() == keys.len(), "{keys:?}");
        // Stored keys depend on this hash: if it changed, an entry would be written twice.
        assert_eq!(hash("{\"brake\":1}"), 0x4dd0_7ac5_9e40_d0c1);
    }

    #[test]
    fn posts_of_releases_and_targets_have_separate_partitions() {
        let release = rollout::ReleaseId::parse(&format!("shop/api@sha256:{}", "5e".repeat(32))).expect("a release");
        let thread = PostedMessageKey::Thread { release, channel: "C1".into() };
        assert_eq!(posted(&thread), format!("POSTED#shop/api@sha256:{}", "5e".repeat(32)));
        assert_eq!(post(&thread), "THREAD#C1");
        let of =
            PostedMessageKey::Deployment { target: target_named("shop/api/prod"), number: 7, channel: "C1".into() };
        assert_eq!(
            (posted(&of), post(&of)),
            ("POSTED#shop/api/prod".into(), "DEPLOYMENT#00000000000000000007#C1".into())
        );
    }

    #[test]
    fn targets_spread_over_all_shards_and_never_move() {
        let shards: BTreeSet<String> =
            (0..100).map(|n| due_shard(&target_named(&format!("shop/svc-{n}/prod")))).collect();
        assert_eq!(shards.len(), 8, "{shards:?}");
        // Stored keys depend on this hash: if it changed, a target would be found twice or never.
        assert_eq!(due_shard(&target_named("shop/api/production")), "DUE#4");
    }
}
