//! Incoming requests, their routing and their outcome, counted as expected values: a share of 10 % of 5 requests a
//! second is half a request a second. Nothing is random, so tests need no averaging.

use super::balancer::{ElbTarget, GroupState, HealthState, WeightedGroup};
use super::external::ResponseKind;
use super::{World, image::Health};
use jiff::Timestamp;
use std::collections::{BTreeMap, VecDeque};

/// Request counts since the world began.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Traffic {
    /// Requests received.
    pub requests: f64,
    /// Requests without a target: the balancer's own 503.
    pub lost: f64,
    /// Counts by ARN of the target group.
    pub groups: BTreeMap<String, GroupTraffic>,
}

/// Request counts of one target group.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GroupTraffic {
    /// Requests answered by a target, errors included.
    pub served: f64,
    /// Requests answered with 5xx, a part of `served`.
    pub errors_5xx: f64,
    /// Requests that were routed to the group and found no target.
    pub lost: f64,
}

/// Destination of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// A target.
    To {
        /// ARN of the target group.
        target_group: String,
        /// Address and port.
        target: ElbTarget,
    },
    /// The selected group has no target: 503.
    NoTarget {
        /// ARN of the target group.
        target_group: String,
    },
    /// The rule forwards to no group: all weights are 0, or the rule does not exist.
    NoForward,
}

/// A group's requests over time, newest last.
#[derive(Debug, Clone, Default)]
pub(super) struct TrafficHistory {
    pieces: VecDeque<TrafficSpan>,
}

/// Requests evenly distributed between two instants, or at a single one.
#[derive(Debug, Clone, Copy)]
struct TrafficSpan {
    from_ms: i64,
    to_ms: i64,
    requests: f64,
    errors: f64,
    lost: f64,
    latency_s: f64,
}

/// Sums over a time window.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct TrafficSums {
    pub(super) requests: f64,
    pub(super) errors: f64,
    pub(super) lost: f64,
    /// Sum of all response times, in seconds.
    pub(super) latency_s: f64,
}

/// How long the history is kept: longer than the window of any alarm.
const RETENTION_MS: i64 = 2 * 3600 * 1000;

impl TrafficHistory {
    fn push(&mut self, piece: TrafficSpan) {
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
        while self.pieces.front().is_some_and(|first| first.to_ms < piece.to_ms - RETENTION_MS) {
            self.pieces.pop_front();
        }
        self.pieces.push_back(piece);
    }

    /// Sums from `from_ms` (included) to `to_ms` (excluded).
    pub(super) fn sums(&self, from_ms: i64, to_ms: i64) -> TrafficSums {
        let mut sums = TrafficSums::default();
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

/// Outcome of requests per second, valid while nothing changes.
#[derive(Debug)]
pub(super) struct TrafficRates {
    requests: f64,
    /// Requests that are forwarded to no group.
    lost: f64,
    /// Rates by ARN of the target group.
    groups: Vec<(String, GroupRates)>,
}

#[derive(Debug, Clone, Copy)]
struct GroupRates {
    served: f64,
    errors: f64,
    lost: f64,
    /// Sum of all response times, in seconds.
    latency_s: f64,
}

impl World {
    /// From now on this many requests a second match the rule (or listener's default action).
    pub fn set_traffic(&mut self, rule_or_listener: &str, requests_per_second: f64) {
        self.settle_traffic();
        self.sources.insert(rule_or_listener.to_owned(), requests_per_second.max(0.0));
    }

    /// Request counts up to now.
    pub fn traffic(&mut self) -> &Traffic {
        self.count_traffic();
        &self.totals
    }

    /// The destination of the `request`th request that matches this rule (or listener's default action): round robin
    /// over nodes, weighted over the node's groups, round robin over targets. The same number has the same destination
    /// while nothing changes.
    #[must_use]
    pub fn route(&self, rule_or_listener: &str, request: u64) -> Route {
        let Some(nodes) = self.node_forwards.get(rule_or_listener).filter(|nodes| !nodes.is_empty()) else {
            return Route::NoForward;
        };
        let count = nodes.len() as u64;
        let node = &nodes[usize::try_from(request % count).unwrap_or(0)];
        let turn = request / count;
        let total: u64 = node.iter().map(weight).sum();
        if total == 0 {
            return Route::NoForward;
        }
        // Multiples of the golden ratio spread evenly: any run of requests is split close to the weights.
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

    /// The targets that receive requests.
    fn targets_in_service(&self, group: &str) -> Vec<&ElbTarget> {
        let Some(group) = self.groups.get(group) else { return Vec::new() };
        let (in_service, _) = in_service(group);
        group.targets.iter().filter(|(_, target)| in_service(target.state)).map(|(id, _)| id).collect()
    }

    /// Counts the requests since the last settling, at unchanged rates. Must be called before anything changes that
    /// they depend on.
    pub(super) fn settle_traffic(&mut self) {
        self.count_traffic();
        self.stream = None;
    }

    /// Counts the requests up to now; the rates stay valid.
    pub(super) fn count_traffic(&mut self) {
        let (from, to) = (self.counted_until, self.now);
        if to <= from {
            return;
        }
        self.counted_until = to;
        if self.sources.values().all(|rate| *rate == 0.0) {
            return;
        }
        let (from_ms, to_ms) = (from.as_millisecond(), to.as_millisecond());
        let seconds = (to_ms - from_ms) as f64 / 1000.0;
        let stream = self.stream.take().unwrap_or_else(|| self.stream_at(from));
        self.totals.requests += stream.requests * seconds;
        self.totals.lost += stream.lost * seconds;
        for (group, rate) in &stream.groups {
            let piece = TrafficSpan {
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

    fn stream_at(&self, at: Timestamp) -> TrafficRates {
        let (mut requests, mut lost) = (0.0, 0.0);
        let mut rates: BTreeMap<&str, f64> = BTreeMap::new();
        for (source, rate) in &self.sources {
            requests += rate;
            let Some(nodes) = self.node_forwards.get(source).filter(|nodes| !nodes.is_empty()) else {
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
            (group.to_owned(), GroupRates { served: rate - lost, errors, lost, latency_s })
        };
        TrafficRates { requests, lost, groups: rates.into_iter().map(of_group).collect() }
    }

    /// For a rate of requests to a group: errors, losses and response time in seconds, each per second.
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
            let fails_health = match behaviour.health {
                Health::Never => true,
                Health::After(ready) => !age(ready),
                Health::LostAfter(lost) => age(lost),
            };
            let rate_now = match behaviour.later {
                Some((after, later)) if age(after) => later,
                _ => behaviour.error_rate,
            };
            let within_capacity = each.min(behaviour.capacity_rps);
            errors += if fails_health { each } else { within_capacity * rate_now + (each - within_capacity) };
            latency_s += each * behaviour.latency_s;
        }
        (errors, 0.0, latency_s)
    }

    fn count(&mut self, group: &str, piece: TrafficSpan) {
        self.totals.lost += piece.lost;
        if !self.totals.groups.contains_key(group) {
            self.totals.groups.insert(group.to_owned(), GroupTraffic::default());
            self.histories.insert(group.to_owned(), TrafficHistory::default());
        }
        if let Some(sums) = self.totals.groups.get_mut(group) {
            sums.served += piece.requests;
            sums.errors_5xx += piece.errors;
            sums.lost += piece.lost;
        }
        if let Some(history) = self.histories.get_mut(group) {
            history.push(piece);
        }
    }

    pub(super) fn note_response(&mut self, group: &str, kind: ResponseKind, seconds: f64) {
        let (requests, errors, lost) = match kind {
            ResponseKind::Status(status) => (1.0, f64::from(u8::from(status >= 500)), 0.0),
            ResponseKind::NoTarget => (0.0, 0.0, 1.0),
        };
        // Responses within a tenth of a second share one span, which bounds memory use behind a busy proxy.
        let at = self.now.as_millisecond() / 100 * 100;
        self.totals.requests += 1.0;
        self.count(group, TrafficSpan { from_ms: at, to_ms: at, requests, errors, lost, latency_s: seconds });
    }

    /// Number of a group's healthy and unhealthy targets.
    pub(super) fn host_counts(&self, group: &str) -> Option<(f64, f64)> {
        let group = self.groups.get(group).filter(|group| group.attached && !group.targets.is_empty())?;
        let count = |state: HealthState| group.targets.values().filter(|target| target.state == state).count() as f64;
        Some((count(HealthState::Healthy), count(HealthState::Unhealthy)))
    }
}

/// Which targets of a group receive requests, by state, and their number: the healthy ones; if there are none, all that
/// are not draining (the balancer fails open).
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
