//! Describes ECS tasks to the core, which says which of them failed to start, and how a hook's task ended
//! ([`rollout::platform::ecs`]).

use super::instant;
use aws_sdk_ecs::types::Task;
use rollout::observation::{FailedStartsQuery, HookTask};
use rollout::platform::ecs::{self, FailedStarts};
use rollout::snapshot::TaskReading;

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
    use rollout::snapshot::FailedStart;
    use rollout::{Slot, Timestamp};

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
        };
        assert_eq!(described(&task), expected);
        let expected = [
            ecs::EcsContainer { name: Some("api"), exit_code: Some(137), reason: Some(KILLED) },
            ecs::EcsContainer { name: Some("proxy"), exit_code: Some(0), reason: None },
        ];
        assert_eq!(containers(&task).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn failed_starts_and_a_hooks_end_carry_the_stop_reason() {
        let query = FailedStartsQuery {
            slot: Slot::Green,
            task_definition: NEW.to_owned(),
            since: at(1000),
            compare_with: None,
        };
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
