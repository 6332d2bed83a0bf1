//! Requests that arrive, where they go and what becomes of them, counted as expected values: a share of 10 % of 5
//! requests a second is half a request a second. Nothing is drawn by chance, so nothing has to be averaged in tests.

use super::balancer::{GroupState, HealthState, TargetId, WeightedGroup};
use super::external::ResponseKind;
use super::{World, image::Health};
use jiff::Timestamp;
use std::collections::{BTreeMap, VecDeque};

/// What became of requests since the world began.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Traffic {
    /// Requests that arrived.
    pub requests: f64,
    /// Requests that no target could be found for: the balancer's own 503.
    pub lost: f64,
    /// By ARN of the target group.
    pub groups: BTreeMap<String, GroupTraffic>,
}

/// What became of a target group's requests.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GroupTraffic {
    /// Requests that a target answered, errors included.
    pub served: f64,
    /// Of them with 5xx.
    pub errors_5xx: f64,
    /// Requests that were sent to the group and found no target.
    pub lost: f64,
}

/// Where one request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// To this target.
    To {
        /// ARN.
        target_group: String,
        /// Which.
        target: TargetId,
    },
    /// The group that was drawn has no target: 503.
    NoTarget {
        /// ARN.
        target_group: String,
    },
    /// The rule forwards to nothing: all weights are 0, or there is no such rule.
    NoForward,
}

/// A group's requests over time, newest last.
#[derive(Debug, Clone, Default)]
pub(super) struct Flow {
    pieces: VecDeque<Piece>,
}

/// Requests that came evenly between two instants, or at one.
#[derive(Debug, Clone, Copy)]
struct Piece {
    from_ms: i64,
    to_ms: i64,
    requests: f64,
    errors: f64,
    lost: f64,
    latency_s: f64,
}

/// Sums over a window.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Sums {
    pub(super) requests: f64,
    pub(super) errors: f64,
    pub(super) lost: f64,
    /// Seconds of all answers together.
    pub(super) latency_s: f64,
}

/// How long pieces are kept: longer than any alarm looks back.
const KEPT_MS: i64 = 2 * 3600 * 1000;

impl Flow {
    fn push(&mut self, piece: Piece) {
        if let Some(last) = self.pieces.back_mut()
            && last.from_ms == piece.from_ms
            && last.to_ms == piece.to_ms
        {
            last.requests += piece.requests;
            last.errors += piece.errors;
            last.lost += piece.lost;
            last.latency_s += piece.latency_s;
            return;
        }
        while self.pieces.front().is_some_and(|first| first.to_ms < piece.to_ms - KEPT_MS) {
            self.pieces.pop_front();
        }
        self.pieces.push_back(piece);
    }

    /// What came from `from_ms` up to, not including, `to_ms`.
    pub(super) fn sums(&self, from_ms: i64, to_ms: i64) -> Sums {
        let mut sums = Sums::default();
        for piece in self.pieces.iter().rev() {
            if piece.to_ms < from_ms {
                break;
            }
            let share = if piece.from_ms == piece.to_ms {
                f64::from(u8::from(piece.from_ms >= from_ms && piece.from_ms < to_ms))
            } else {
                let overlap = piece.to_ms.min(to_ms) - piece.from_ms.max(from_ms);
                overlap.max(0) as f64 / (piece.to_ms - piece.from_ms) as f64
            };
            sums.requests += share * piece.requests;
            sums.errors += share * piece.errors;
            sums.lost += share * piece.lost;
            sums.latency_s += share * piece.latency_s;
        }
        sums
    }
}

/// What becomes of requests each second while nothing changes.
#[derive(Debug)]
pub(super) struct Stream {
    requests: f64,
    /// Those that no group is forwarded to.
    lost: f64,
    /// By ARN of the target group.
    groups: Vec<(String, GroupStream)>,
}

#[derive(Debug, Clone, Copy)]
struct GroupStream {
    served: f64,
    errors: f64,
    lost: f64,
    /// Seconds of all answers together.
    latency_s: f64,
}

impl World {
    /// From now on, so many requests a second arrive that this rule (or listener's default action) matches.
    pub fn set_traffic(&mut self, rule_or_listener: &str, requests_per_second: f64) {
        self.settle_traffic();
        self.sources.insert(rule_or_listener.to_owned(), requests_per_second.max(0.0));
    }

    /// What became of all requests up to now.
    pub fn traffic(&mut self) -> &Traffic {
        self.count_traffic();
        &self.totals
    }

    /// Where the `request`th request goes that this rule (or listener's default action) matches: to nodes in turn, to
    /// groups as the node's weights say, to targets in turn. The same number goes the same way while nothing changes.
    #[must_use]
    pub fn route(&self, rule_or_listener: &str, request: u64) -> Route {
        let Some(nodes) = self.followed.get(rule_or_listener).filter(|nodes| !nodes.is_empty()) else {
            return Route::NoForward;
        };
        let count = nodes.len() as u64;
        let node = &nodes[usize::try_from(request % count).unwrap_or(0)];
        let turn = request / count;
        let total: u64 = node.iter().map(weight).sum();
        if total == 0 {
            return Route::NoForward;
        }
        // The golden ratio's multiples spread evenly: any run of requests is split close to the weights.
        let mut drawn = (turn.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) % total;
        for group in node {
            if drawn < weight(group) {
                let targets = self.targets_in_service(&group.arn);
                if targets.is_empty() {
                    return Route::NoTarget { target_group: group.arn.clone() };
                }
                let index = usize::try_from(turn % targets.len() as u64).unwrap_or(0);
                return Route::To { target_group: group.arn.clone(), target: targets[index].clone() };
            }
            drawn -= weight(group);
        }
        Route::NoForward
    }

    /// The targets that requests go to.
    fn targets_in_service(&self, group: &str) -> Vec<&TargetId> {
        let Some(group) = self.groups.get(group) else { return Vec::new() };
        let (in_service, _) = in_service(group);
        group.targets.iter().filter(|(_, target)| in_service(target.state)).map(|(id, _)| id).collect()
    }

    /// Counts the requests up to now, with everything as it was since the last settling. Called before anything changes
    /// that they depend on.
    pub(super) fn settle_traffic(&mut self) {
        self.count_traffic();
        self.stream = None;
    }

    /// Counts the requests up to now, where nothing changes.
    pub(super) fn count_traffic(&mut self) {
        let (from, to) = (self.settled_at, self.now);
        if to <= from {
            return;
        }
        self.settled_at = to;
        if self.sources.values().all(|rate| *rate == 0.0) {
            return;
        }
        let (from_ms, to_ms) = (from.as_millisecond(), to.as_millisecond());
        let seconds = (to_ms - from_ms) as f64 / 1000.0;
        let stream = self.stream.take().unwrap_or_else(|| self.stream_at(from));
        self.totals.requests += stream.requests * seconds;
        self.totals.lost += stream.lost * seconds;
        for (group, rate) in &stream.groups {
            let piece = Piece {
                from_ms,
                to_ms,
                requests: rate.served * seconds,
                errors: rate.errors * seconds,
                lost: rate.lost * seconds,
                latency_s: rate.latency_s * seconds,
            };
            self.count(group, piece);
        }
        self.stream = Some(stream);
    }

    fn stream_at(&self, at: Timestamp) -> Stream {
        let (mut requests, mut lost) = (0.0, 0.0);
        let mut rates: BTreeMap<&str, f64> = BTreeMap::new();
        for (source, rate) in &self.sources {
            requests += rate;
            let Some(nodes) = self.followed.get(source).filter(|nodes| !nodes.is_empty()) else {
                lost += rate;
                continue;
            };
            for node in nodes {
                let rate = rate / nodes.len() as f64;
                let total: u64 = node.iter().map(weight).sum();
                if total == 0 {
                    lost += rate;
                }
                for group in node.iter().filter(|group| weight(group) > 0) {
                    *rates.entry(group.arn.as_str()).or_default() += rate * weight(group) as f64 / total as f64;
                }
            }
        }
        let of_group = |(group, rate): (&str, f64)| {
            let (errors, lost, latency_s) = self.outcome(group, rate, at);
            (group.to_owned(), GroupStream { served: rate - lost, errors, lost, latency_s })
        };
        Stream { requests, lost, groups: rates.into_iter().map(of_group).collect() }
    }

    /// Of a rate of requests to a group: errors, losses, and seconds of latency, each per second.
    fn outcome(&self, group: &str, rate: f64, at: Timestamp) -> (f64, f64, f64) {
        let Some(state) = self.groups.get(group) else { return (0.0, rate, 0.0) };
        let (in_service, count) = in_service(state);
        if count == 0 {
            return (0.0, rate, 0.0);
        }
        let each = rate / count as f64;
        let (mut errors, mut latency_s) = (0.0, 0.0);
        for found in state.targets.values().filter(|target| in_service(target.state)) {
            let Some(task) = found.task.as_ref().and_then(|id| self.tasks.get(id)) else { continue };
            let behaviour = &task.behaviour;
            let age = |seconds: rollout::Seconds| task.shape.started_at.is_some_and(|at_| seconds.after(at_) <= at);
            let sick = match behaviour.health {
                Health::Never => true,
                Health::After(ready) => !age(ready),
                Health::LostAfter(lost) => age(lost),
            };
            let rate_now = match behaviour.later {
                Some((after, later)) if age(after) => later,
                _ => behaviour.error_rate,
            };
            let borne = each.min(behaviour.capacity_rps);
            errors += if sick { each } else { borne * rate_now + (each - borne) };
            latency_s += each * behaviour.latency_s;
        }
        (errors, 0.0, latency_s)
    }

    fn count(&mut self, group: &str, piece: Piece) {
        self.totals.lost += piece.lost;
        if !self.totals.groups.contains_key(group) {
            self.totals.groups.insert(group.to_owned(), GroupTraffic::default());
            self.flows.insert(group.to_owned(), Flow::default());
        }
        if let Some(sums) = self.totals.groups.get_mut(group) {
            sums.served += piece.requests;
            sums.errors_5xx += piece.errors;
            sums.lost += piece.lost;
        }
        if let Some(flow) = self.flows.get_mut(group) {
            flow.push(piece);
        }
    }

    pub(super) fn note_response(&mut self, group: &str, kind: ResponseKind, seconds: f64) {
        let (requests, errors, lost) = match kind {
            ResponseKind::Status(status) => (1.0, f64::from(u8::from(status >= 500)), 0.0),
            ResponseKind::NoTarget => (0.0, 0.0, 1.0),
        };
        // Answers of one tenth of a second share a piece, or a busy proxy would fill the memory.
        let at = self.now.as_millisecond() / 100 * 100;
        self.totals.requests += 1.0;
        self.count(group, Piece { from_ms: at, to_ms: at, requests, errors, lost, latency_s: seconds });
    }

    /// How many targets of a group are healthy, and how many unhealthy.
    pub(super) fn host_counts(&self, group: &str) -> Option<(f64, f64)> {
        let group = self.groups.get(group).filter(|group| group.attached && !group.targets.is_empty())?;
        let count = |state: HealthState| group.targets.values().filter(|target| target.state == state).count() as f64;
        Some((count(HealthState::Healthy), count(HealthState::Unhealthy)))
    }
}

/// Which targets of a group requests go to, by their state, and how many these are: the healthy ones; if there are none,
/// every one that is not draining (the balancer fails open).
fn in_service(group: &GroupState) -> (fn(HealthState) -> bool, usize) {
    let count = |wanted: fn(HealthState) -> bool| group.targets.values().filter(|target| wanted(target.state)).count();
    let healthy: fn(HealthState) -> bool = |state| state == HealthState::Healthy;
    let open: fn(HealthState) -> bool = |state| matches!(state, HealthState::Unhealthy | HealthState::Initial);
    match count(healthy) {
        0 => (open, count(open)),
        count => (healthy, count),
    }
}

fn weight(group: &WeightedGroup) -> u64 {
    u64::try_from(group.weight.unwrap_or(1)).unwrap_or(0)
}
