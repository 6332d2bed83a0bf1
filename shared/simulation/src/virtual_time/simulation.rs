//! The runner: everything that functions are invoked for, in order of virtual time, over one world.

use super::cloud::SimCloud;
use super::faults::Faults;
use super::ports::{SimClock, SimDoorbell, SimLedger, SimRegistry};
use super::stage::{Job, Stage};
use crate::ledger::MemoryLedger;
use crate::world::scene::{application_policy, release_of};
use crate::world::{Built, PairNames, What, World, WorldEvent};
use engine::intake::{ImagePushed, Sweep, image_pushed, signal, sweep};
use engine::{Driven, PushedImage, Ring, Watch, drive};
use futures::future::{FutureExt as _, LocalBoxFuture};
use futures::task::noop_waker;
use rollout::journal::{Fact, JournalEntry};
use rollout::stage::Verdict;
use rollout::target::TargetState;
use rollout::{Actor, Command, Instruction, Overrides, Release, Seconds, TargetId, Timestamp};
use std::task::{Context, Poll};

/// How long an invocation may last, in seconds: as the driver's time-out in `template.yaml`.
const TIME_OUT: Seconds = Seconds(60);
/// How much of it a pass is told to leave.
const MARGIN: Seconds = Seconds(2);
/// How long a message stays hidden that was received and not dealt with, in seconds.
const VISIBILITY: Seconds = Seconds(360);
/// Then it goes to the dead-letter queue.
const MOST_RECEIVES: u32 = 5;
/// An asynchronous invocation that failed is tried twice more, a minute apart or so.
const MOST_TRIES: u32 = 3;
/// Seconds from a thing's happening until its event's function is invoked.
const EVENT_DELAY_MS: (u64, u64) = (200, 1_500);

/// An invocation that goes on.
struct Running {
    job: Job,
    stage: Stage,
    until: Timestamp,
    future: LocalBoxFuture<'static, bool>,
}

/// How a push was made known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Started {
    /// By its event.
    Event,
    /// By its event, twice.
    EventTwice,
    /// Not at all: the event is lost, and the registry has the image.
    Silent,
}

/// One target's world with everything that drives it.
pub struct Simulation {
    stage: Stage,
    ledger: MemoryLedger,
    target: TargetId,
    names: PairNames,
    running: Vec<Running>,
    asked: u64,
    dice: crate::world::Dice,
    delivered: Vec<WorldEvent>,
    /// Wakes that failed too often.
    dead_letters: Vec<Ring>,
}

impl std::fmt::Debug for Simulation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Simulation").field("target", &self.target).field("running", &self.running.len()).finish()
    }
}

impl Simulation {
    /// Over a scene; its policy is applied.
    #[must_use]
    pub fn new(built: Built, faults: Faults) -> Self {
        let ledger = MemoryLedger::new();
        let policy = application_policy(&built.target, &built.names.repository, built.policy);
        let now = built.world.now();
        ledger.store().apply(&policy, "version 1", now, "somebody");
        let dice = crate::world::Dice::new(faults.seed ^ 0x5157_4954_4348);
        let stage = Stage::new(built.world, faults);
        let first_minute = now.as_second().div_euclid(60) * 60 + 60;
        stage.lock().enter(Timestamp::from_second(first_minute).unwrap_or(now), Job::Sweep);
        Self {
            stage,
            ledger,
            target: built.target,
            names: built.names,
            running: Vec::new(),
            asked: 0,
            dice,
            delivered: Vec::new(),
            dead_letters: Vec::new(),
        }
    }

    /// What things are called.
    #[must_use]
    pub fn names(&self) -> &PairNames {
        &self.names
    }

    /// Whose it is.
    #[must_use]
    pub fn target(&self) -> &TargetId {
        &self.target
    }

    /// The ledger, without faults.
    #[must_use]
    pub fn ledger(&self) -> &MemoryLedger {
        &self.ledger
    }

    /// The ports as one more invocation has them, for what is tried out beside passes. Their futures go on only while
    /// time does: poll, let time pass ([`Simulation::run_for`]), poll again.
    #[must_use]
    pub fn ports(&self) -> (SimLedger, SimCloud, SimDoorbell, SimClock) {
        let stage = self.stage.invocation(false);
        let ledger = SimLedger { stage: stage.clone(), ledger: self.ledger.clone() };
        (ledger, SimCloud { stage: stage.clone() }, SimDoorbell { stage: stage.clone() }, SimClock { stage })
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.stage.now()
    }

    /// Looks at the world, or changes it as somebody else.
    pub fn world<T>(&self, body: impl FnOnce(&mut World) -> T) -> T {
        self.stage.lock().world.by_hand(body)
    }

    /// Calls of ports that drive passes have made so far.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.stage.lock().chance.calls
    }

    /// All that the world has told the outside.
    #[must_use]
    pub fn events(&self) -> &[WorldEvent] {
        &self.delivered
    }

    /// Wakes that failed too often and were given up.
    #[must_use]
    pub fn dead_letters(&self) -> &[Ring] {
        &self.dead_letters
    }

    /// Applies another policy for the target.
    pub fn apply(&self, policy: rollout::TargetPolicy, text: &str) {
        let policy = application_policy(&self.target, &self.names.repository, policy);
        self.ledger.store().apply(&policy, text, self.now(), "somebody");
    }

    /// Pushes the `number`th release, now.
    pub fn push(&mut self, number: u64, how: Started) -> Release {
        let now = self.now();
        let release = release_of(&self.target, &self.names.repository_uri, number, now);
        let pushed = ImagePushed {
            repository: self.names.repository.clone(),
            repository_uri: self.names.repository_uri.clone(),
            digest: release.id.digest.clone(),
            tag: release.tag.clone(),
            pushed_at: now,
        };
        let image = PushedImage {
            repository_uri: pushed.repository_uri.clone(),
            digest: pushed.digest.clone(),
            tags: vec![pushed.tag.clone()],
            pushed_at: now,
            artifact_media_type: None,
        };
        let mut scenery = self.stage.lock();
        scenery.images.entry(pushed.repository.clone()).or_default().push(image);
        if how != Started::Silent {
            scenery.enter(Seconds(1).after(now), Job::Push(pushed.clone(), 1));
        }
        if how == Started::EventTwice {
            scenery.enter(Seconds(3).after(now), Job::Push(pushed, 1));
        }
        release
    }

    /// Asks something of the target, as a person.
    pub fn ask(&mut self, instruction: Instruction, reason: &str) {
        self.asked += 1;
        let actor = Actor::Person { name: "operator".to_owned() };
        let request = format!("request-{}", self.asked);
        let now = self.now();
        let command = Command::asked(self.target.clone(), instruction, actor, reason, &request, now);
        self.ledger.store().put_command(&command);
        self.stage.lock().enter(now, Job::Drive(Ring::wake(self.target.clone()), 1));
    }

    /// Asks for the `number`th release, as a person.
    pub fn ask_deploy(&mut self, number: u64, overrides: Overrides) {
        let release = release_of(&self.target, &self.names.repository_uri, number, self.now());
        self.ledger.store().put_release(&release);
        let deploy = Instruction::Deploy { release: release.id, image: release.image, tag: release.tag, overrides };
        self.ask(deploy, "");
    }

    /// Lets everything happen until `limit`.
    pub fn run_until(&mut self, limit: Timestamp) {
        while self.step(limit) {}
    }

    /// Lets everything happen for so many seconds.
    pub fn run_for(&mut self, seconds: u64) {
        let limit = Seconds(seconds).after(self.now());
        self.run_until(limit);
    }

    /// Lets everything happen until `reached` says so; false: `seconds` passed before.
    pub fn run_until_that(&mut self, seconds: u64, reached: impl Fn(&mut Self) -> bool) -> bool {
        let limit = Seconds(seconds).after(self.now());
        loop {
            if reached(self) {
                return true;
            }
            if !self.step(limit) {
                return reached(self);
            }
        }
    }

    /// Lets everything happen until nothing is asked for, due or going on; false: `seconds` passed before.
    pub fn run_until_rest(&mut self, seconds: u64) -> bool {
        self.run_until_that(seconds, |simulation| simulation.is_at_rest())
    }

    /// Nothing is due, no command waits, no function runs, and no message is on its way.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        let quiet = self.stage.lock().jobs.values().all(|job| matches!(job, Job::Sweep));
        quiet && self.running.is_empty() && self.ledger.store().is_at_rest()
    }

    /// What is remembered of the target.
    #[must_use]
    pub fn state(&self) -> Option<TargetState> {
        self.ledger.store().state(&self.target).ok().flatten()
    }

    /// The name of the stage of the deployment that runs.
    #[must_use]
    pub fn stage_name(&self) -> Option<&'static str> {
        self.state()?.running.map(|running| running.stage.name())
    }

    /// The target's journal, whole.
    #[must_use]
    pub fn journal(&self) -> Vec<JournalEntry> {
        self.ledger.store().journal(&self.target, 0, usize::MAX)
    }

    /// How deployments ended, in their order, with the reasons.
    #[must_use]
    pub fn verdicts(&self) -> Vec<(u64, Verdict, String)> {
        let ended = |entry: JournalEntry| match entry.fact {
            Fact::Ended { verdict, reason, .. } => Some((entry.deployment.unwrap_or(0), verdict, reason)),
            _ => None,
        };
        self.journal().into_iter().filter_map(ended).collect()
    }

    /// The journal as lines for people: seconds since the first entry, deployment, fact.
    #[must_use]
    pub fn story(&self) -> String {
        let journal = self.journal();
        let Some(first) = journal.first().map(|entry| entry.at) else { return String::new() };
        let mut story = String::new();
        for entry in journal {
            let fact = serde_json::to_string(&entry.fact).unwrap_or_default();
            let number = entry.deployment.unwrap_or(0);
            story.push_str(&format!("{:>6} #{number} {fact}\n", Seconds::between(first, entry.at).0));
        }
        story
    }

    /// One thing happens, not later than `limit`. False: the limit is reached.
    fn step(&mut self, limit: Timestamp) -> bool {
        if self.poll_all() {
            return true;
        }
        let next = self.stage.lock().next_at().unwrap_or(limit).min(limit);
        let (now, events, ended) = {
            let mut scenery = self.stage.lock();
            let now = scenery.world.advance_until_event(next);
            (now, scenery.world.drain_events(), scenery.ended_calls())
        };
        for waker in ended {
            waker.wake();
        }
        let happened = !events.is_empty();
        for event in events {
            self.deliver(event);
        }
        if now >= next {
            self.begin_jobs(now);
        }
        // A pass that is over its function's time-out is killed where it is.
        let over: Vec<usize> =
            (0..self.running.len()).rev().filter(|index| self.running[*index].until <= now).collect();
        for index in over {
            let killed = self.running.remove(index);
            self.not_done(killed.job, now);
        }
        happened || now < limit || self.stage.lock().calls_end_by(limit)
    }

    /// Polls every invocation once; true: one ended.
    fn poll_all(&mut self) -> bool {
        let waker = noop_waker();
        let mut context = Context::from_waker(&waker);
        let mut ended = false;
        let mut index = 0;
        while index < self.running.len() {
            let polled = self.running[index].future.as_mut().poll(&mut context);
            let dead = self.running[index].stage.is_dead();
            match polled {
                Poll::Pending if !dead => index += 1,
                outcome => {
                    let running = self.running.remove(index);
                    ended = true;
                    if !dead && outcome == Poll::Ready(true) {
                        continue;
                    }
                    let now = self.now();
                    self.not_done(running.job, now);
                }
            }
        }
        ended
    }

    /// An invocation failed, or was killed: what it was for comes again.
    fn not_done(&mut self, job: Job, now: Timestamp) {
        let mut scenery = self.stage.lock();
        match job {
            Job::Drive(ring, received) if received < MOST_RECEIVES => {
                // It was hidden when it was received, a moment ago.
                scenery.enter(VISIBILITY.after(now), Job::Drive(ring, received + 1));
            }
            Job::Drive(ring, _) => self.dead_letters.push(ring),
            Job::Signal(watch, tries) if tries < MOST_TRIES => {
                scenery.enter(Seconds(60).after(now), Job::Signal(watch, tries + 1));
            }
            Job::Push(pushed, tries) if tries < MOST_TRIES => {
                scenery.enter(Seconds(60).after(now), Job::Push(pushed, tries + 1));
            }
            Job::Signal(..) | Job::Push(..) | Job::Sweep => {}
        }
    }

    /// An event of the world finds its function: alarms and ECS services are watched, single tasks through theirs.
    fn deliver(&mut self, event: WorldEvent) {
        let watch = match &event.what {
            What::Alarm { name, .. } => Some(Watch::Alarm(name.clone())),
            What::Deployment { service, .. } | What::Service { service, .. } => ecs_service(service),
            What::Task(task) => task.group.strip_prefix("service:").and_then(|service| {
                let cluster = task.cluster_arn.rsplit('/').next()?;
                Some(Watch::EcsService(cluster.to_owned(), service.to_owned()))
            }),
            What::TaskWanted(_) | What::TaskUnwanted { .. } => None,
        };
        if let Some(watch) = watch {
            let delay = self.dice.between(EVENT_DELAY_MS.0, EVENT_DELAY_MS.1);
            let mut scenery = self.stage.lock();
            let now = scenery.world.now();
            if !scenery.chance.loses_wake(now) {
                let span = rollout::SignedDuration::from_millis(i64::try_from(delay).unwrap_or(0));
                scenery.enter(now.checked_add(span).unwrap_or(now), Job::Signal(watch, 1));
            }
        }
        self.delivered.push(event);
    }

    fn begin_jobs(&mut self, now: Timestamp) {
        loop {
            let due = {
                let mut scenery = self.stage.lock();
                match scenery.jobs.first_key_value() {
                    Some(((at, _), _)) if *at <= now => scenery.jobs.pop_first().map(|(_, job)| job),
                    _ => None,
                }
            };
            let Some(job) = due else { return };
            self.begin(job, now);
        }
    }

    fn begin(&mut self, job: Job, now: Timestamp) {
        let stage = self.stage.invocation(matches!(job, Job::Drive(..)));
        let until = TIME_OUT.after(now);
        let leave = Seconds(TIME_OUT.0 - MARGIN.0).after(now);
        let ledger = SimLedger { stage: stage.clone(), ledger: self.ledger.clone() };
        let cloud = SimCloud { stage: stage.clone() };
        let doorbell = SimDoorbell { stage: stage.clone() };
        let registry = SimRegistry { stage: stage.clone() };
        let clock = SimClock { stage: stage.clone() };
        let future = match job.clone() {
            Job::Drive(ring, _) => async move {
                let driven = drive(&ring, &ledger, &cloud, &doorbell, &clock, leave).await;
                matches!(driven, Ok(Driven::Done | Driven::Busy | Driven::Superseded))
            }
            .boxed_local(),
            Job::Signal(watch, _) => async move { signal(&ledger, &doorbell, &watch).await.is_ok() }.boxed_local(),
            Job::Push(pushed, _) => {
                async move { image_pushed(&ledger, &doorbell, &pushed, now).await.is_ok() }.boxed_local()
            }
            Job::Sweep => {
                let minute = u64::try_from(now.as_second() / 60).unwrap_or(0);
                self.stage.lock().enter(Seconds(60).after(now), Job::Sweep);
                let which = Sweep { minute, every: 5, until: leave };
                async move {
                    // What it could not do, the next one does.
                    let _swept = sweep(&ledger, &doorbell, &registry, &clock, &which).await;
                    true
                }
                .boxed_local()
            }
        };
        self.running.push(Running { job, stage, until, future });
    }
}

/// `arn:aws:ecs:…:service/CLUSTER/SERVICE`
fn ecs_service(arn: &str) -> Option<Watch> {
    let mut parts = arn.rsplit('/');
    let service = parts.next()?.to_owned();
    Some(Watch::EcsService(parts.next()?.to_owned(), service))
}
