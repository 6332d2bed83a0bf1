//! Events in transit from the world, and from CloudTrail, to the functions that they invoke.

use super::context::Job;
use super::faults::{fnv1a, mix};
use super::simulation::Simulation;
use crate::world::{SeededRng, WorldEvent, WorldEventKind};
use engine::WatchedResource;

/// Delay from an occurrence until its event invokes a function, in milliseconds.
const EVENT_DELAY_MS: (u64, u64) = (200, 1_500);
/// CloudTrail delivers API call events later than the services deliver theirs.
const CLOUDTRAIL_DELAY_MS: (u64, u64) = (2_000, 300_000);

impl Simulation {
    /// Invokes the function for an event of the world: alarms and ECS services are watched, single tasks through their
    /// services.
    pub(super) fn deliver(&mut self, event: WorldEvent) {
        let watch = match &event.what {
            WorldEventKind::Alarm { name, .. } => Some(WatchedResource::Alarm(name.clone())),
            WorldEventKind::Deployment { service, .. } | WorldEventKind::Service { service, .. } => {
                ecs_service(service)
            }
            WorldEventKind::Task(task) => task.group.strip_prefix("service:").and_then(|service| {
                let cluster = task.cluster_arn.rsplit('/').next()?;
                Some(WatchedResource::EcsService(cluster.to_owned(), service.to_owned()))
            }),
            WorldEventKind::TaskRequested(_) | WorldEventKind::TaskStopRequested { .. } => None,
        };
        if let Some(watch) = watch {
            self.send(watch, EVENT_DELAY_MS);
        }
        self.emitted.push(event);
    }

    /// Sends the CloudTrail event of an outside edit of a rule.
    pub fn send_edit_event(&self, rule: &str) {
        self.send(WatchedResource::Rule(rule.to_owned()), CLOUDTRAIL_DELAY_MS);
    }

    /// Sends an event to its function; it may be lost, late or duplicated.
    fn send(&self, watch: WatchedResource, delay_ms: (u64, u64)) {
        let mut shared = self.context.lock();
        let now = shared.world.now();
        let (subject, notified) = match &watch {
            WatchedResource::Alarm(name) => (fnv1a(name), format!("event of alarm {name}")),
            WatchedResource::EcsService(cluster, service) => {
                (mix(fnv1a(cluster), fnv1a(service)), format!("event of service {service} in {cluster}"))
            }
            WatchedResource::Repository(name) => (fnv1a(name), format!("event of repository {name}")),
            WatchedResource::Rule(arn) => (fnv1a(arn), format!("API call that changed {arn}")),
        };
        let key = shared.next_arrival_key(subject);
        let delivery_fault = shared.injector.delivery_fault(key, now, || notified);
        let delay = SeededRng::new(mix(shared.injector.faults.seed, key ^ 1)).between(delay_ms.0, delay_ms.1);
        let span = rollout::SignedDuration::from_millis(i64::try_from(delay).unwrap_or(0));
        shared.send(delivery_fault, now.checked_add(span).unwrap_or(now), &Job::Signal(watch, 1));
    }
}

/// `arn:aws:ecs:…:service/CLUSTER/SERVICE`
fn ecs_service(arn: &str) -> Option<WatchedResource> {
    let mut parts = arn.rsplit('/');
    let service = parts.next()?.to_owned();
    Some(WatchedResource::EcsService(parts.next()?.to_owned(), service))
}
