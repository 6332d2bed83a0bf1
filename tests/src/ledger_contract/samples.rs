//! Records to write, each as small as it can be.

use engine::{Commit, LeaseId, LeaseOutcome, LeaseRequest, LeasedTarget, Ledger, LedgerError};
use rollout::command::Instruction;
use rollout::deployment::DeploymentRecord;
use rollout::entry::{
    After, ApprovalDefault, ApprovalPolicy, EntryRules, FreezePeriod, Gate, Grant, Permission, Person, Window,
};
use rollout::notification::{FactFilter, NotificationPolicy, Receiver};
use rollout::policy::{
    AlarmPolicy, Concurrency, Deadlines, Drift, EnvironmentPolicy, Policy, RegistryPolicy, ServicePolicy, Step,
    Strategy, TagRule, TargetPolicy, Trigger,
};
use rollout::release::ReleaseRef;
use rollout::target::TargetState;
use rollout::{
    Actor, Command, EcsPair, Fact, JournalEntry, Leg, Name, Percent, Platform, Release, ReleaseId, Seconds, TargetId,
    TargetResources, Timestamp,
};
use std::collections::BTreeMap;

/// `second` seconds after a day in 2025.
pub(super) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_760_000_000 + second).expect("a time")
}

pub(super) fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

/// `application/api/production`
pub(super) fn target(application: &str) -> TargetId {
    TargetId::new(name(application), name("api"), name("production"))
}

pub(super) fn lease(text: &str) -> LeaseId {
    LeaseId(text.to_owned())
}

pub(super) fn claim(by: &str) -> LeaseRequest {
    LeaseRequest { lease: lease(by), now: at(0), lasts: Seconds(60), steal: None }
}

pub(super) fn stealing_claim(by: &str, from: &str) -> LeaseRequest {
    LeaseRequest { lease: lease(by), now: at(100), lasts: Seconds(60), steal: Some(lease(from)) }
}

/// A decision that writes nothing but a state.
pub(super) fn commit(state: &TargetState) -> Commit<'_> {
    Commit { state, journal: &[], history: &[], consumed: &[], overdue_at: None, release_lease: false, lock: None }
}

/// Takes a target that is free.
pub(super) async fn acquire<L: Ledger>(ledger: &L, target: &TargetId, by: &str) -> LeasedTarget {
    expect_granted(ledger.acquire_lease(target, &claim(by)).await)
}

/// What was granted.
#[track_caller]
pub(super) fn expect_granted(answer: Result<LeaseOutcome, LedgerError>) -> LeasedTarget {
    match answer {
        Ok(LeaseOutcome::Granted(loaded)) => *loaded,
        other => panic!("the target should have been granted: {other:?}"),
    }
}

/// Who holds a target that was not granted.
#[track_caller]
pub(super) fn holder(answer: Result<LeaseOutcome, LedgerError>) -> LeaseId {
    match answer {
        Ok(LeaseOutcome::Held { by, .. }) => by,
        other => panic!("the target should have been held: {other:?}"),
    }
}

/// The answer is a conflict.
#[track_caller]
pub(super) fn assert_conflict<T: std::fmt::Debug>(answer: Result<T, LedgerError>) {
    assert!(matches!(answer, Err(LedgerError::Conflict { .. })), "this should have been a conflict: {answer:?}");
}

pub(super) fn entry(target: &TargetId, sequence: u64, fact: Fact) -> JournalEntry {
    JournalEntry { target: target.clone(), sequence, deployment: Some(1), at: at(1), actor: Actor::Switchback, fact }
}

pub(super) fn release_id(application: &str, digit: char) -> ReleaseId {
    let digest = digit.to_string().repeat(64);
    ReleaseId::parse(&format!("{application}/api@sha256:{digest}")).expect("a release")
}

pub(super) fn release(application: &str, digit: char, pushed_at: Timestamp) -> Release {
    let id = release_id(application, digit);
    let image = format!("registry/{application}/api@{}", id.digest);
    Release::new(id, image, format!("v{digit}"), pushed_at)
}

pub(super) fn record(target: &TargetId, number: u64) -> DeploymentRecord {
    let id = release_id(target.application.as_str(), 'a');
    DeploymentRecord {
        target: target.clone(),
        number,
        release: ReleaseRef {
            image: format!("registry/api@{}", id.digest),
            id,
            tag: "va".to_owned(),
            pushed_at: Some(at(-5)),
        },
        actor: Actor::Switchback,
        hotfix: number.is_multiple_of(2),
        policy_version: 1,
        started_at: at(0),
        ended_at: None,
        verdict: None,
        reason: String::new(),
    }
}

pub(super) fn abort(target: &TargetId, request: &str, requested_at: Timestamp) -> Command {
    let actor = Actor::Person { name: "arn:aws:iam::123456789012:user/ada".to_owned() };
    let what = Instruction::Abort { deployment: None };
    Command::requested(target.clone(), what, actor, "too slow", request, requested_at)
}

/// A policy of the service `api` in `production`, with these alarms.
pub(super) fn policy(application: &str, alarms: &[&str]) -> Policy {
    let source = ServicePolicy {
        registry: RegistryPolicy::default(),
        repository: format!("{application}/images"),
        tags: TagRule::Glob("v*".to_owned()),
        paused: false,
        depends_on: vec![name("worker")],
    };
    Policy {
        application: name(application),
        services: BTreeMap::from([(name("api"), source)]),
        environments: BTreeMap::from([(name("production"), production(target_policy(application, alarms)))]),
        people: BTreeMap::from([(
            name("ada"),
            Person { slack: Some("U012AB3CD".to_owned()), github: Some("1234567".to_owned()), ..Person::default() },
        )]),
        groups: BTreeMap::from([(name("on-call"), [name("ada")].into())]),
        grants: vec![grant()],
        notifications: vec![NotificationPolicy {
            receiver: Receiver::Slack("C012AB3CD".to_owned()),
            environments: vec![],
            services: vec![],
            facts: FactFilter::Attention,
        }],
    }
}

fn target_policy(application: &str, alarms: &[&str]) -> TargetPolicy {
    TargetPolicy {
        template: rollout::template::TemplateSource::Live,
        configuration: rollout::template::ConfigurationTrigger::Manual,
        resources: TargetResources {
            platform: Platform::EcsPair(EcsPair {
                cluster: "arn:aws:ecs:eu-central-1:123456789012:cluster/main".to_owned(),
                container: "api".to_owned(),
                blue: format!("{application}-blue"),
                green: format!("{application}-green"),
            }),
            traffic: vec![Leg {
                blue: format!("tg/{application}-blue"),
                green: format!("tg/{application}-green"),
                rules: vec![format!("rule/{application}")],
                test_rule: None,
            }],
        },
        strategy: Strategy {
            steps: vec![Step { traffic: Percent::ALL, hold: Seconds(0) }],
            bake: Seconds(60),
            keep_warm: Seconds(60),
            green_capacity: Percent::ALL,
            drain: Seconds(30),
            task_failures: rollout::policy::TaskFailures::default(),
        },
        alarms: alarms.iter().map(|alarm| AlarmPolicy::new((*alarm).to_owned())).collect(),
        hooks: vec![],
        deadlines: Deadlines {
            preflight: Seconds(60),
            register: Seconds(60),
            healthy: Seconds(600),
            shift: Seconds(300),
            retire: Seconds(600),
            rollback: Seconds(600),
        },
        drift: Drift::Tell,
        recovery_time: None,
    }
}

/// Every rule that an environment can have.
fn production(api: TargetPolicy) -> EnvironmentPolicy {
    EnvironmentPolicy {
        unreadable: BTreeMap::new(),
        trigger: Trigger::Push,
        concurrency: Concurrency::QueueAll,
        entry: EntryRules {
            after: Some(After::Any(vec![name("staging"), name("qa")])),
            soak: Seconds(600),
            approval: Some(ApprovalPolicy {
                required: 2,
                from: vec![name("on-call")],
                expires: Seconds(3600),
                default: ApprovalDefault::Reject,
            }),
            time_zone: Some("Europe/Berlin".to_owned()),
            windows: vec![Window { days: [1, 5].into(), from_minute: 540, until_minute: 1440 }],
            freezes: vec![FreezePeriod {
                from: "2026-12-20T00:00".parse().expect("a time of the day"),
                until: "2027-01-04T08:00".parse().expect("a time of the day"),
                reason: "year's end".to_owned(),
            }],
            hotfix_skips: [Gate::Soak, Gate::Window].into(),
            one_at_a_time: true,
            rollback_train_together: true,
            give_up_after: Seconds(7200),
        },
        targets: BTreeMap::from([(name("api"), api)]),
    }
}

fn grant() -> Grant {
    Grant {
        repository_id: "123456789".to_owned(),
        repository_owner_id: "987654".to_owned(),
        refs: vec!["refs/heads/main".to_owned()],
        github_environment: Some("production".to_owned()),
        workflows: vec![],
        reusable_workflows: vec!["shop/workflows/.github/workflows/deploy.yml@refs/heads/main".to_owned()],
        events: vec!["push".to_owned()],
        permissions: [Permission::Promote, Permission::Hotfix].into(),
        services: vec![],
        environments: vec![name("production")],
    }
}
