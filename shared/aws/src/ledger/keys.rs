//! Keys of the table and of its items: the only place that names a key attribute, builds a key or parses one.

use engine::{PostedMessageKey, WatchedResource};
use rollout::brake::Scope;
use rollout::resources::Resource;
use rollout::{ImageDigest, Name, TargetId, Timestamp};

/// Partition key of the table.
pub(super) const PK: &str = "pk";
/// Sort key of the table.
pub(super) const SK: &str = "sk";
/// Index of the items that are due, by time. Projects keys only.
pub(super) const DUE_INDEX: &str = "due";
/// Partition key of [`DUE_INDEX`].
pub(super) const DUE_PK: &str = "due_pk";
/// Sort key of [`DUE_INDEX`].
pub(super) const DUE_SK: &str = "due_sk";

/// Condition of a write: no item with its key exists.
pub(super) const ABSENT: &str = "attribute_not_exists(pk)";
/// Key condition: the partition `:pk`.
pub(super) const IN_PARTITION: &str = "pk = :pk";
/// Key condition: the part of the partition `:pk` whose sort keys start with `:prefix`.
pub(super) const WITH_PREFIX: &str = "pk = :pk AND begins_with(sk, :prefix)";
/// Key condition: the part of the partition `:pk` from `:low` to `:high`, both inclusive.
pub(super) const BETWEEN: &str = "pk = :pk AND sk BETWEEN :low AND :high";
/// Key condition of [`DUE_INDEX`]: what is due in the partition `:shard` at `:now` or before.
pub(super) const DUE: &str = "due_pk = :shard AND due_sk <= :now";
/// Assignments that make an item due: `:due_pk` and `:due_sk` are [`target_due_pk`] and [`instant`].
pub(super) const SET_DUE: &str = "due_pk = :due_pk, due_sk = :due_sk";

/// Number of index partitions that due items are spread over.
pub(super) const SHARDS: u32 = 8;

/// Sort key of a target's state, in the target's partition.
pub(super) const STATE_SK: &str = "STATE";
/// Sort key prefix of pending commands.
pub(super) const INBOX_PREFIX: &str = "INBOX#";
/// Sort key prefix of deployments.
pub(super) const DEPLOYMENT_PREFIX: &str = "DEPLOYMENT#";
/// Sort key prefix of releases by age.
pub(super) const PUSHED_PREFIX: &str = "PUSHED#";
/// Sort key of the tags of a service's repository as last compared, in the partition of its releases.
pub(super) const REGISTRY_SK: &str = "REGISTRY";
/// Sort key of the policy in force, in the policy's partition.
pub(super) const CURRENT_SK: &str = "CURRENT";
/// Sort key of the generation of an application's policy, in the policy's partition: see `policies`.
pub(super) const GENERATION_SK: &str = "GENERATION";
/// Partition key of the list of all applications.
pub(super) const APPLICATIONS_PK: &str = "APPLICATIONS";
/// Partition key of the brakes and their log.
pub(super) const BRAKES_PK: &str = "BRAKES";
/// Sort key prefix of brakes in force.
pub(super) const BRAKE_PREFIX: &str = "ON#";
/// Sort key prefix of entries of the brakes' log.
pub(super) const BRAKE_LOG_PREFIX: &str = "LOG#";

/// Partition key of the queue for AWS's API rate limits, and sort key of the one item in it.
pub(super) const API_QUEUE_KEY: &str = "API_QUEUE";

/// Sort key of the lock of an environment, in a partition of its own.
pub(super) const LOCK_SK: &str = "LOCK";

/// Sort key prefix of journal entries.
pub const JOURNAL_PREFIX: &str = "JOURNAL#";

const TARGET_PREFIX: &str = "TARGET#";
const COMMANDS_PREFIX: &str = "COMMANDS#";

/// Partition key of a target's state, deployments and journal.
pub(super) fn target_pk(target: &TargetId) -> String {
    format!("{TARGET_PREFIX}{target}")
}

/// Partition key of the lock of the target's environment.
pub(super) fn lock_pk(target: &TargetId) -> String {
    format!("LOCK#{}/{}", target.application, target.environment)
}

/// Partition key of a target's commands and nothing else: a role with write access to it can request, and no more.
pub(super) fn commands_pk(target: &TargetId) -> String {
    format!("{COMMANDS_PREFIX}{target}")
}

/// The target that a partition belongs to: the target's own partition, or the one of its commands.
pub(super) fn target_of(pk: &str) -> Option<TargetId> {
    TargetId::parse(pk.strip_prefix(TARGET_PREFIX).or_else(|| pk.strip_prefix(COMMANDS_PREFIX))?).ok()
}

/// Sort key of a command that no decision has consumed yet: ordered by the time it was requested.
pub(super) fn pending_command_sk(at: Timestamp, id: &str) -> String {
    format!("{INBOX_PREFIX}{}#{id}", instant(at))
}

/// Sort key of the item by which a command that was written once is recognised, whether consumed or not.
pub(super) fn seen_command_sk(id: &str) -> String {
    format!("COMMAND#{id}")
}

/// Sort key of a deployment, by number.
pub(super) fn deployment_sk(number: u64) -> String {
    format!("{DEPLOYMENT_PREFIX}{number:020}")
}

/// Sort key of a journal entry, by sequence.
pub(super) fn journal_sk(sequence: u64) -> String {
    format!("{JOURNAL_PREFIX}{sequence:020}")
}

/// Partition key and sort key of a journal entry, by which the table's stream names it.
#[must_use]
pub fn journal_entry_key(of: &TargetId, sequence: u64) -> (String, String) {
    (target_pk(of), journal_sk(sequence))
}

/// Partition key of the deliveries of a target's journal entries.
pub(super) fn deliveries_pk(target: &TargetId) -> String {
    format!("NOTIFIED#{target}")
}

/// Sort key of the delivery of one entry to one channel.
pub(super) fn delivery_sk(sequence: u64, channel: &str) -> String {
    format!("{sequence:020}#{channel}")
}

/// Sort key of the brake on a scope. The scope's kind comes before its names, since an application may be called
/// `everything`.
pub(super) fn brake_sk(scope: &Scope) -> String {
    match scope {
        Scope::Everything => format!("{BRAKE_PREFIX}everything"),
        Scope::Application { application } => format!("{BRAKE_PREFIX}application#{application}"),
        Scope::Environment { application, environment } => {
            format!("{BRAKE_PREFIX}environment#{application}/{environment}")
        }
    }
}

/// Sort key of an entry of the brakes' log, by time. `content` is a hash of the entry: two different actions at the
/// same time are two entries, and the same action written twice is one.
pub(super) fn brake_log_sk(at: Timestamp, lifted: bool, content: u64) -> String {
    // `set` sorts before `unset`: a brake set and lifted within one millisecond is logged in that order.
    let action = if lifted { "unset" } else { "set" };
    format!("{BRAKE_LOG_PREFIX}{}#{action}#{content:016x}", instant(at))
}

/// Partition key of the messages posted about a release or about a target's deployments.
pub(super) fn posted_messages_pk(post: &PostedMessageKey) -> String {
    match post {
        PostedMessageKey::Thread { release, .. } => format!("POSTED#{release}"),
        PostedMessageKey::Deployment { target, .. } => format!("POSTED#{target}"),
    }
}

/// Sort key of a release's thread or a deployment's message, in a channel.
pub(super) fn posted_message_sk(post: &PostedMessageKey) -> String {
    match post {
        PostedMessageKey::Thread { channel, .. } => format!("THREAD#{channel}"),
        PostedMessageKey::Deployment { number, channel, .. } => format!("{}#{channel}", deployment_sk(*number)),
    }
}

/// 64-bit FNV-1a, for keys derived from their item's content. Must be the same in every version.
pub(super) fn hash(content: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    content.bytes().fold(0xcbf2_9ce4_8422_2325, step)
}

/// Partition key of a service's releases.
pub(super) fn releases_pk(application: &Name, service: &Name) -> String {
    format!("RELEASE#{application}/{service}")
}

/// Sort key of a release, by image digest.
pub(super) fn release_sk(digest: &ImageDigest) -> String {
    format!("DIGEST#{digest}")
}

/// Sort key of a release, by age.
pub(super) fn release_by_age_sk(at: Timestamp, digest: &ImageDigest) -> String {
    format!("{PUSHED_PREFIX}{}#{digest}", instant(at))
}

/// Partition key of an application's policies.
pub(super) fn policy_pk(application: &Name) -> String {
    format!("POLICY#{application}")
}

/// Sort key of a policy, by version.
pub(super) fn policy_version_sk(version: u64) -> String {
    format!("VERSION#{version:020}")
}

/// Partition key of the targets, or services, that watch a resource.
pub(super) fn watch_pk(watch: &WatchedResource) -> String {
    match watch {
        WatchedResource::Alarm(name) => format!("WATCH#alarm#{name}"),
        // `#` is unambiguous here: ECS names consist of letters, digits, hyphens and underscores.
        WatchedResource::EcsService(cluster, service) => format!("WATCH#ecs#{cluster}#{service}"),
        WatchedResource::Rule(arn) => format!("WATCH#rule#{arn}"),
        WatchedResource::Repository(name) => format!("WATCH#repository#{name}"),
    }
}

/// Partition key of the targets that claim a resource exclusively.
pub(super) fn claim_pk(resource: &Resource) -> String {
    format!("CLAIM#{}", resource.key())
}

/// Index partition of a target's due items. The hash is FNV-1a: it must be the same in every version.
pub(super) fn target_due_pk(target: &TargetId) -> String {
    let hash = target
        .to_string()
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    shard_due_pk(hash % SHARDS)
}

/// Key of one index partition.
pub(super) fn shard_due_pk(number: u32) -> String {
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
        assert_eq!(target_pk(&id), "TARGET#shop/api/production");
        assert_eq!(commands_pk(&id), "COMMANDS#shop/api/production");
        let entry = ("TARGET#shop/api/production".to_owned(), "JOURNAL#00000000000000000009".to_owned());
        assert_eq!(journal_entry_key(&id, 9), entry);
        assert_eq!(target_of(&target_pk(&id)), Some(id.clone()));
        assert_eq!(target_of(&commands_pk(&id)), Some(id));
        assert_eq!(target_of("POLICY#shop"), None);
        assert_eq!(target_of("TARGET#shop/api"), None);
    }

    #[test]
    fn keys_sort_by_number_and_time() {
        let numbers = [0, 1, 9, 10, 99, 100, 12_345_678_901, u64::MAX];
        for pair in numbers.windows(2) {
            assert!(journal_sk(pair[0]) < journal_sk(pair[1]), "{pair:?}");
            assert!(deployment_sk(pair[0]) < deployment_sk(pair[1]), "{pair:?}");
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
        assert_eq!(brake_sk(&Scope::Everything), "ON#everything");
        assert_eq!(brake_sk(&application("everything")), "ON#application#everything");
        assert_eq!(brake_sk(&application("shop")), "ON#application#shop");
        assert_eq!(brake_sk(&environment("prod", "shop")), "ON#environment#shop/prod");
    }

    #[test]
    fn the_brake_log_sorts_by_time_with_unique_keys() {
        let at = |ms| Timestamp::from_millisecond(ms).expect("a time");
        let keys =
            [(at(999), true, 9), (at(1000), false, 5), (at(1000), false, 6), (at(1000), true, 1), (at(1001), false, 0)];
        let keys: Vec<String> =
            keys.into_iter().map(|(at, lifted, content)| brake_log_sk(at, lifted, content)).collect();
        assert!(keys.is_sorted() && keys.iter().collect::<BTreeSet<_>>().len() == keys.len(), "{keys:?}");
        // Stored keys depend on this hash: if it changed, an entry would be written twice.
        assert_eq!(hash("{\"brake\":1}"), 0x4dd0_7ac5_9e40_d0c1);
    }

    #[test]
    fn posts_of_releases_and_targets_have_separate_partitions() {
        let release = rollout::ReleaseId::parse(&format!("shop/api@sha256:{}", "5e".repeat(32))).expect("a release");
        let thread = PostedMessageKey::Thread { release, channel: "C1".into() };
        assert_eq!(posted_messages_pk(&thread), format!("POSTED#shop/api@sha256:{}", "5e".repeat(32)));
        assert_eq!(posted_message_sk(&thread), "THREAD#C1");
        let of =
            PostedMessageKey::Deployment { target: target_named("shop/api/prod"), number: 7, channel: "C1".into() };
        assert_eq!(
            (posted_messages_pk(&of), posted_message_sk(&of)),
            ("POSTED#shop/api/prod".into(), "DEPLOYMENT#00000000000000000007#C1".into())
        );
    }

    #[test]
    fn targets_spread_over_all_shards_and_never_move() {
        let shards: BTreeSet<String> =
            (0..100).map(|n| target_due_pk(&target_named(&format!("shop/svc-{n}/prod")))).collect();
        assert_eq!(shards.len(), 8, "{shards:?}");
        // Stored keys depend on this hash: if it changed, a target would be found twice or never.
        assert_eq!(target_due_pk(&target_named("shop/api/production")), "DUE#4");
    }
}
