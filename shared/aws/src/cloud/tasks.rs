//! Describes ECS tasks to the core, which says which of them are healthy or failed to start, and how a hook's task
//! ended ([`rollout::answers::ecs`]).

use super::instant;
use aws_sdk_ecs::types::{HealthStatus, ProtectedTask, Task};
use rollout::Timestamp;
use rollout::answers::ecs::{self, FailedStarts};
use rollout::observation::{FailedStartsQuery, HookTask};
use rollout::snapshot::{TaskReading, TasksReading};
use std::collections::BTreeSet;

/// Tasks per call that `DescribeTasks` and `GetTaskProtection` accept, and per page that `ListTasks` returns (API
/// reference).
const MAX_TASKS_PER_CALL: usize = 100;

/// These tasks in portions, each for one call.
pub(super) fn per_call(arns: &[String]) -> Vec<Vec<String>> {
    arns.chunks(MAX_TASKS_PER_CALL).map(<[String]>::to_vec).collect()
}

/// What these tasks of a service tell at `now`; `protected`: ARNs of those that are protected.
pub(super) fn tasks_reading(
    tasks: &[Task],
    version: &str,
    protected: &BTreeSet<String>,
    now: Timestamp,
) -> TasksReading {
    ecs::tasks_reading(tasks.iter().map(described), version, protected, now)
}

/// ARNs of the tasks of another version.
pub(super) fn of_other_versions(tasks: &[Task], version: &str) -> Vec<String> {
    let others = tasks.iter().filter(|task| task.task_definition_arn() != Some(version));
    others.filter_map(Task::task_arn).map(str::to_owned).collect()
}

/// ARNs of the tasks that are protected now.
pub(super) fn protected(tasks: &[ProtectedTask]) -> impl Iterator<Item = String> {
    let protected = tasks.iter().filter(|task| task.protection_enabled());
    protected.filter_map(ProtectedTask::task_arn).map(str::to_owned)
}

/// Those of these tasks that failed to start.
pub(super) fn failed_starts(tasks: &[Task], starts: &FailedStartsQuery) -> FailedStarts {
    tasks.iter().filter_map(|task| ecs::failed_start(&described(task), containers(task), starts)).collect()
}

/// The task of a hook: still running, or stopped with the named container's exit code.
pub(super) fn hook_task(task: &Task, asked: &HookTask) -> TaskReading {
    ecs::hook_task(&described(task), containers(task), asked)
}

fn described(task: &Task) -> ecs::EcsTask<'_> {
    ecs::EcsTask {
        arn: task.task_arn(),
        task_definition: task.task_definition_arn(),
        last_status: task.last_status(),
        stop_code: task.stop_code().map(|code| code.as_str()),
        stopped_reason: task.stopped_reason(),
        stopping_at: instant(task.stopping_at()),
        stopped_at: instant(task.stopped_at()),
        started_at: instant(task.started_at()),
        health_status: task.health_status().map(HealthStatus::as_str),
    }
}

fn containers(task: &Task) -> impl Iterator<Item = ecs::EcsContainer<'_>> + Clone {
    task.containers().iter().map(|container| ecs::EcsContainer {
        name: container.name(),
        exit_code: container.exit_code(),
        reason: container.reason(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_ecs::types::{Container, TaskStopCode};
    use aws_smithy_types::DateTime;
    use rollout::Slot;
    use rollout::snapshot::FailedStart;

    const OLD: &str = "arn:aws:ecs:eu-west-1:123456789012:task-definition/api:7";
    const NEW: &str = "arn:aws:ecs:eu-west-1:123456789012:task-definition/api:8";
    const KILLED: &str = "OutOfMemoryError: Container killed due to memory usage";

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("an instant")
    }

    /// A task whose container `api` was killed.
    fn killed(code: TaskStopCode) -> Task {
        let container = |name: &str, code| Container::builder().name(name).exit_code(code);
        Task::builder()
            .task_arn("arn:task/1")
            .task_definition_arn(NEW)
            .last_status("STOPPED")
            .started_at(DateTime::from_secs(1010))
            .health_status(HealthStatus::Unhealthy)
            .stopping_at(DateTime::from_secs(1090))
            .stopped_at(DateTime::from_secs(1100))
            .stop_code(code)
            .stopped_reason("Essential container in task exited")
            .containers(container("api", 137).reason(KILLED).build())
            .containers(container("proxy", 0).build())
            .build()
    }

    /// What the answer means is tested in the core; here, that every field of it arrives there.
    #[test]
    fn a_task_is_described_with_all_its_fields() {
        let task = killed(TaskStopCode::EssentialContainerExited);
        let expected = ecs::EcsTask {
            arn: Some("arn:task/1"),
            task_definition: Some(NEW),
            last_status: Some("STOPPED"),
            stop_code: Some("EssentialContainerExited"),
            stopped_reason: Some("Essential container in task exited"),
            stopping_at: Some(at(1090)),
            stopped_at: Some(at(1100)),
            started_at: Some(at(1010)),
            health_status: Some("UNHEALTHY"),
        };
        assert_eq!(described(&task), expected);
        let expected = [
            ecs::EcsContainer { name: Some("api"), exit_code: Some(137), reason: Some(KILLED) },
            ecs::EcsContainer { name: Some("proxy"), exit_code: Some(0), reason: None },
        ];
        assert_eq!(containers(&task).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn every_task_is_asked_about_in_calls_of_a_hundred() {
        let arns: Vec<String> = (0..250).map(|number| format!("arn:task/{number}")).collect();
        let cases = [(0, vec![]), (1, vec![1]), (100, vec![100]), (101, vec![100, 1]), (250, vec![100, 100, 50])];
        for (asked, sizes) in cases {
            let calls = per_call(&arns[..asked]);
            assert_eq!(calls.iter().map(Vec::len).collect::<Vec<_>>(), sizes, "{asked} tasks");
            assert_eq!(calls.concat(), arns[..asked], "{asked} tasks");
        }
    }

    #[test]
    fn a_services_tasks_are_told_apart_by_version_and_protection() {
        let task = |arn: &str, version: &str| {
            let task = Task::builder().task_arn(arn).task_definition_arn(version).last_status("RUNNING");
            task.started_at(DateTime::from_secs(1000)).build()
        };
        let tasks = [task("arn:task/new", NEW), task("arn:task/old", OLD), task("arn:task/busy", OLD)];
        assert_eq!(of_other_versions(&tasks, NEW), ["arn:task/old", "arn:task/busy"]);
        assert_eq!(of_other_versions(&tasks[..1], NEW), Vec::<String>::new());

        let told = |arn: &str, enabled| ProtectedTask::builder().task_arn(arn).protection_enabled(enabled).build();
        let told = [told("arn:task/old", false), told("arn:task/busy", true)];
        let protected: BTreeSet<String> = protected(&told).collect();
        assert_eq!(protected, BTreeSet::from(["arn:task/busy".to_owned()]));
        let expected = TasksReading { healthy: 1, protected: 1 };
        assert_eq!(tasks_reading(&tasks, NEW, &protected, at(1040)), expected);
    }

    #[test]
    fn failed_starts_and_a_hooks_end_carry_the_stop_reason() {
        let slot = Some(Slot::Green);
        let query = FailedStartsQuery { slot, version: NEW.to_owned(), since: at(1000), compare_with: None };
        let reason = format!("Essential container in task exited (api: exit code 137, {KILLED})");
        let crashed = killed(TaskStopCode::EssentialContainerExited);
        let start = FailedStart { task: "arn:task/1".to_owned(), reason: reason.clone(), at: at(1100) };
        let expected = FailedStarts { count: 1, newest: vec![start] };
        assert_eq!(failed_starts(&[crashed.clone(), killed(TaskStopCode::UserInitiated)], &query), expected);

        let asked = HookTask { task: "arn:task/1".to_owned(), container: "api".to_owned() };
        assert_eq!(hook_task(&crashed, &asked), TaskReading::Stopped { exit_code: Some(137), reason });
        let mut running = crashed;
        running.last_status = Some("RUNNING".to_owned());
        assert_eq!(hook_task(&running, &asked), TaskReading::Running);
    }
}
