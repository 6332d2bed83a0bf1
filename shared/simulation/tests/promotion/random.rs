//! People and pushes at random, in a world where calls fail now and then: whatever is done, nothing gets to production
//! that was not verified before and that two people have not said yes to, and nothing widens while the line is stopped.

use crate::street::{HOUR, Plan, Street, carol, environment_of, name, slack, target};
use rollout::brake::Scope;
use rollout::journal::{Fact, JournalEntry};
use rollout::target::Purpose;
use rollout::{Gate, Instruction, Lane, PlanId, Seconds, SignedDuration, TargetId, Terms, Timestamp};
use simulation::virtual_time::Faults;
use simulation::world::{Dice, ImageBehaviour, Settings};
use std::collections::{BTreeMap, BTreeSet};

const ROLLBACK: &str = "the cart is empty";
/// What a pass that was under way may still do after something was changed: it has read it before.
const UNDER_WAY: Seconds = Seconds(75);

fn targets() -> [TargetId; 3] {
    [target("shop/api/dev"), target("shop/api/staging"), target("shop/api/prod")]
}

struct Chaos {
    street: Street,
    dice: Dice,
    pushed: u64,
    bakes: u64,
    /// Which brakes are on, since when.
    on: BTreeMap<Scope, Timestamp>,
    /// Which brakes were on, from when until when.
    was_on: Vec<(Scope, Timestamp, Timestamp)>,
    /// While the line is stopped: the candidate's share of each deployment that runs.
    held: BTreeMap<(TargetId, u64), i64>,
}

fn chaos(seed: u64) -> Chaos {
    let mut dice = Dice::new(seed ^ 0x000c_4a05);
    let rate = if seed.is_multiple_of(2) { 0.0 } else { 0.03 * dice.unit() };
    let faults = Faults { until: None, ..Faults::everywhere(seed, rate) };
    let plan = Plan::of(&["api/dev", "api/staging", "api/prod"])
        .promoted("staging", "dev", 60)
        .promoted("prod", "staging", 0)
        .approved("prod")
        .policy(|policy| {
            let prod = environment_of(policy, "prod");
            prod.entry.approval.as_mut().expect("it has one").expires = Seconds(HOUR);
            prod.entry.hotfix_skips = [Gate::After, Gate::Soak, Gate::Approval].into();
        });
    let street = plan.build_with(Settings { seed, log_calls: false, ..Settings::default() }, faults);
    Chaos { street, dice, pushed: 0, bakes: 30, on: BTreeMap::new(), was_on: Vec::new(), held: BTreeMap::new() }
}

impl Chaos {
    fn some_target(&mut self) -> TargetId {
        let index = usize::try_from(self.dice.between(0, 2)).unwrap_or(0);
        targets()[index].clone()
    }

    fn some_release(&mut self) -> u64 {
        self.dice.between(1, self.pushed.max(1))
    }

    fn something(&mut self) {
        let [_, _, prod] = targets();
        match self.dice.between(0, 19) {
            0..=3 => {
                self.pushed += 1;
                let rate = if self.dice.happens(0.25) { 0.5 } else { 0.0 };
                self.street.set_image(self.pushed, ImageBehaviour::failing(rate));
                self.street.push("api", self.pushed);
            }
            4..=9 => self.answers(&prod),
            10 => {
                let target = self.some_target();
                self.street.ask(&target, Instruction::Rollback, carol(), ROLLBACK);
            }
            11 => {
                let target = self.some_target();
                self.street.ask(&target, Instruction::Abort { deployment: None }, carol(), "let us go home");
            }
            12 | 13 if self.pushed > 0 => {
                let (target, number) = (self.some_target(), self.some_release());
                let hotfix = target == prod && self.dice.happens(0.3);
                let lane = if hotfix { Lane::Hotfix } else { Lane::Asked };
                self.street.deploy(&target, number, Terms { lane, ..Terms::default() });
            }
            14 => {
                let shop = name("shop");
                let scope = match self.dice.between(0, 2) {
                    0 => Scope::Everything,
                    1 => Scope::Application { application: shop },
                    _ => Scope::Environment { application: shop, environment: name("prod") },
                };
                if !self.on.contains_key(&scope) {
                    self.street.brake(scope.clone(), "it is late");
                    self.on.insert(scope, self.street.simulation.now());
                }
            }
            15..=17 => self.lift_one(),
            18 => {
                self.bakes += 1;
                let bake = Seconds(self.bakes);
                self.street.apply(|policy| {
                    let api = environment_of(policy, "prod").targets.get_mut(&name("api")).expect("a target");
                    api.strategy.bake = bake;
                });
            }
            _ => {}
        }
    }

    /// Somebody, who may or may not, says yes or no to what waits, or to what waited.
    fn answers(&mut self, target: &TargetId) {
        let waits = self.street.state(target).running.and_then(|running| Some((running.number, running.gates?.plan)));
        let Some((deployment, plan)) = waits else { return };
        let (deployment, plan) = match self.dice.between(0, 9) {
            0 => (deployment.saturating_sub(1), plan),
            1 => (deployment, PlanId("0123456789abcdef".to_owned())),
            _ => (deployment, plan),
        };
        let users = ["UADA", "UBOB", "UEVE", "UMALLORY"];
        let user = users[usize::try_from(self.dice.between(0, 3)).unwrap_or(0)];
        let instruction = if self.dice.happens(0.08) {
            Instruction::Reject { deployment, plan }
        } else {
            Instruction::Approve { deployment, plan }
        };
        self.street.ask(target, instruction, slack(user), "as you like");
    }

    fn lift_one(&mut self) {
        if let Some((scope, since)) = self.on.pop_first() {
            self.street.lift(&scope);
            self.was_on.push((scope, since, self.street.simulation.now()));
            self.held.clear();
        }
    }

    /// While the line is stopped, no deployment of a release gets more traffic than it had.
    fn nothing_widens(&mut self, what: &str) {
        let Some(since) = self.on.get(&Scope::Everything) else { return };
        if self.street.simulation.now() < UNDER_WAY.after(*since) {
            return;
        }
        for target in targets() {
            let Some(running) = self.street.state(&target).running else { continue };
            let (Purpose::Deploy, Some(candidate)) = (running.purpose, running.candidate()) else { continue };
            let (blue, green) = self.street.weights(&target);
            let live = if candidate == rollout::Slot::Blue { blue } else { green };
            // What was decided before may still be on its way: its call failed, and is repeated.
            let decided = running.weights.map_or(0, |record| i64::from(record.decided.of(candidate)));
            let share = live.max(decided);
            let before = *self.held.entry((target.clone(), running.number)).or_insert(share);
            assert!(share <= before, "{what}: {target} went from {before} to {share}{}", self.street.stories());
            self.held.insert((target, running.number), share);
        }
    }

    /// What must be true of prod's deployments, as the journals have them.
    fn all_of_production_was_allowed(&self, what: &str) {
        let [_, staging, prod] = targets();
        let mut deployments: BTreeMap<u64, Vec<JournalEntry>> = BTreeMap::new();
        for entry in self.street.journal(&prod) {
            if let Some(number) = entry.deployment {
                deployments.entry(number).or_default().push(entry);
            }
        }
        for (number, entries) in &deployments {
            let Some(Fact::Started { digest, reason, .. }) = entries.first().map(|entry| &entry.fact) else { continue };
            let hotfix = entries.iter().any(|entry| matches!(entry.fact, Fact::Hotfixed { .. }));
            let preflight =
                |entry: &&JournalEntry| matches!(&entry.fact, Fact::StageEntered { stage, .. } if stage == "preflight");
            let began = entries.iter().find(preflight).map(|entry| entry.at);
            let touched = entries
                .iter()
                .any(|entry| matches!(entry.fact, Fact::TaskDefinitionReady { .. } | Fact::WeightsDecided { .. }));
            let told = format!("{what}: prod #{number}{}", self.street.stories());
            if reason == ROLLBACK || hotfix {
                continue;
            }
            assert!(began.is_some() || !touched, "it did not wait at its gates; {told}");
            let Some(began) = began else { continue };
            self.verified_before(&staging, digest, began, &told);
            let voided = entries.iter().rposition(|entry| matches!(entry.fact, Fact::PlanChanged { .. })).unwrap_or(0);
            let yes: BTreeSet<&str> = entries[voided..]
                .iter()
                .filter_map(|entry| match &entry.fact {
                    Fact::Approved { person, .. } if entry.at <= began => Some(person.as_str()),
                    _ => None,
                })
                .collect();
            assert!(yes.len() >= 2, "only {yes:?} said yes; {told}");
            for (scope, since, until) in &self.was_on {
                let held = scope.covers(&prod) && UNDER_WAY.after(*since) <= began && began < *until;
                assert!(!held, "it began at {began} though {scope} was braked from {since} to {until}; {told}");
            }
        }
    }

    /// A release counted as verified when it went on, or a moment before.
    fn verified_before(&self, staging: &TargetId, digest: &str, began: Timestamp, told: &str) {
        let slack = SignedDuration::from_secs(75);
        let read_at = began.checked_sub(slack).unwrap_or(began);
        let mut since_when = None;
        for entry in self.street.journal(staging).into_iter().filter(|entry| entry.at <= began) {
            match entry.fact {
                Fact::Verified { digest: known, .. } if known == digest => since_when = Some(entry.at),
                Fact::Withdrawn { digest: known, .. } if known == digest && entry.at < read_at => since_when = None,
                _ => {}
            }
        }
        assert!(since_when.is_some(), "it was not verified in staging; {told}");
    }

    fn comes_to_rest(&mut self, what: &str) {
        while !self.on.is_empty() {
            self.lift_one();
        }
        assert!(self.street.simulation.run_until_rest(48 * HOUR), "{what}: no rest{}", self.street.stories());
        self.street.simulation.run_for(300);
        for target in targets() {
            let state = self.street.state(&target);
            let done = state.running.is_none() && state.queued.is_empty() && state.errands.is_empty();
            assert!(done, "{what}: {target} {state:?}{}", self.street.stories());
            for (index, entry) in self.street.journal(&target).iter().enumerate() {
                assert_eq!(entry.sequence, index as u64 + 1, "{what}: {target}'s journal has a gap");
            }
            let (blue, green) = self.street.weights(&target);
            assert!(blue == 0 || green == 0, "{what}: {target} is left at {blue}/{green}{}", self.street.stories());
        }
    }
}

/// What came of a day.
pub(crate) struct Day {
    /// Deployments that began, on any target.
    pub(crate) deployments: usize,
    /// Those that were verified in production.
    pub(crate) reached: usize,
}

/// One day of people, pushes and faults. Panics, with the seed and the whole history, where a promise is broken.
pub(crate) fn day(seed: u64) -> Day {
    let what = format!("seed {seed}");
    let mut chaos = chaos(seed);
    for _ in 0..80 {
        chaos.something();
        let seconds = chaos.dice.between(5, 240);
        // In small steps while the line is stopped: a share that went up and down again would not be seen.
        for _ in 0..seconds.div_ceil(20) {
            chaos.street.simulation.run_for(20);
            chaos.nothing_widens(&what);
        }
    }
    chaos.comes_to_rest(&what);
    chaos.all_of_production_was_allowed(&what);
    let [_, _, prod] = targets();
    let began = |target: &TargetId| chaos.street.count(target, |fact| matches!(fact, Fact::Started { .. }));
    Day {
        deployments: targets().iter().map(began).sum(),
        reached: chaos.street.count(&prod, |fact| matches!(fact, Fact::Verified { .. })),
    }
}

/// How many days are lived through; `SIMULATION_SEEDS` asks for more.
fn seeds() -> u64 {
    std::env::var("SIMULATION_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(20)
}

#[test]
fn whatever_people_do_only_what_was_verified_and_approved_gets_to_production() {
    let reached: usize = (0..seeds()).map(|seed| day(seed).reached).sum();
    assert!(reached > 10, "{reached} deployments in prod prove little");
}
