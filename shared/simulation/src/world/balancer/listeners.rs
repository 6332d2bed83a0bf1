//! Load balancers, listeners and rules: which actions are accepted, and when nodes follow them.

use super::shapes::{
    ActionKind, ForwardActionConfig, Listener, ListenerAction, ListenerRule, LoadBalancer, WeightedGroup,
};
use crate::world::agenda::AgendaItem;
use crate::world::error::validation_error;
use crate::world::{ApiError, ApiResult, World, WorldChange};
use serde_json::{Value, json};

/// Maximum number of target groups in one forward action (ELB quota "Target groups per action").
const MAX_GROUPS_PER_ACTION: usize = 5;
/// ELB quota "Rules per Application Load Balancer", default rules not counted.
const MAX_RULES_PER_BALANCER: usize = 100;
/// ELB quota "Listeners per Application Load Balancer".
const MAX_LISTENERS_PER_BALANCER: usize = 50;

impl World {
    /// `CreateLoadBalancer`, of type application.
    ///
    /// # Errors
    /// `DuplicateLoadBalancerName`
    pub fn create_load_balancer(&mut self, name: &str) -> ApiResult<LoadBalancer> {
        self.call("elasticloadbalancing:CreateLoadBalancer", self.detail(|| json!({"Name": name})), |world| {
            if world.balancers.values().any(|balancer| balancer.name == name) {
                return Err(ApiError::new("DuplicateLoadBalancerName", format!("A load balancer '{name}' exists")));
            }
            let dimension = format!("app/{name}/{}", world.rng.hex(16));
            let arn = world.arn("elasticloadbalancing", &format!("loadbalancer/{dimension}"));
            let balancer = LoadBalancer { arn: arn.clone(), name: name.to_owned(), dimension };
            world.balancers.insert(arn, balancer.clone());
            Ok(balancer)
        })
    }

    /// `CreateListener`
    ///
    /// # Errors
    /// `LoadBalancerNotFound`, `DuplicateListener`, `TooManyListeners`, and errors about the actions.
    pub fn create_listener(
        &mut self,
        load_balancer: &str,
        port: u16,
        protocol: &str,
        default_actions: Vec<ListenerAction>,
    ) -> ApiResult<Listener> {
        let detail = self.detail(
            || json!({"LoadBalancerArn": load_balancer, "Port": port, "DefaultActions": actions_detail(&default_actions)}),
        );
        self.call("elasticloadbalancing:CreateListener", detail, |world| {
            let Some(balancer) = world.balancers.get(load_balancer) else {
                return Err(load_balancer_not_found(load_balancer));
            };
            let dimension = balancer.dimension.clone();
            let siblings: Vec<&Listener> =
                world.listeners.values().filter(|listener| listener.load_balancer == load_balancer).collect();
            if siblings.iter().any(|listener| listener.port == port) {
                return Err(ApiError::new("DuplicateListener", "A listener already exists on this port"));
            }
            if siblings.len() >= MAX_LISTENERS_PER_BALANCER {
                return Err(ApiError::new("TooManyListeners", "The maximum number of listeners has been reached"));
            }
            let default_actions = world.check_actions(load_balancer, default_actions)?;
            let identity = world.rng.hex(16);
            let arn = world.arn("elasticloadbalancing", &format!("listener/{dimension}/{identity}"));
            let listener = Listener {
                arn: arn.clone(),
                load_balancer: load_balancer.to_owned(),
                port,
                protocol: protocol.to_owned(),
                default_actions,
            };
            world.listeners.insert(arn.clone(), listener.clone());
            world.set_all_nodes(&arn);
            world.update_attachments();
            Ok(listener)
        })
    }

    /// `CreateRule`. Conditions are kept as given.
    ///
    /// # Errors
    /// `ListenerNotFound`, `PriorityInUse`, `TooManyRules`, and errors about the actions.
    pub fn create_rule(
        &mut self,
        listener: &str,
        priority: u32,
        conditions: Vec<Value>,
        actions: Vec<ListenerAction>,
    ) -> ApiResult<ListenerRule> {
        let detail =
            self.detail(|| json!({"ListenerArn": listener, "Priority": priority, "Actions": actions_detail(&actions)}));
        self.call("elasticloadbalancing:CreateRule", detail, |world| {
            let Some(parent) = world.listeners.get(listener) else { return Err(listener_not_found(listener)) };
            let load_balancer = parent.load_balancer.clone();
            if !(1..=50_000).contains(&priority) {
                return Err(validation_error("Rule priority must be between 1 and 50000"));
            }
            if world.rules.values().any(|rule| rule.listener == listener && rule.priority == Some(priority)) {
                return Err(ApiError::new("PriorityInUse", format!("Priority '{priority}' is currently in use")));
            }
            let of_balancer = |rule: &&ListenerRule| {
                world.listeners.get(&rule.listener).is_some_and(|parent| parent.load_balancer == load_balancer)
            };
            if world.rules.values().filter(of_balancer).count() >= MAX_RULES_PER_BALANCER {
                return Err(ApiError::new("TooManyRules", "The maximum number of rules has been reached"));
            }
            let actions = world.check_actions(&load_balancer, actions)?;
            let stem = listener.replacen(":listener/", ":listener-rule/", 1);
            let arn = format!("{stem}/{}", world.rng.hex(16));
            let rule = ListenerRule {
                arn: arn.clone(),
                listener: listener.to_owned(),
                priority: Some(priority),
                conditions,
                actions,
            };
            world.rules.insert(arn.clone(), rule.clone());
            world.set_all_nodes(&arn);
            world.update_attachments();
            Ok(rule)
        })
    }

    /// `ModifyRule`: replaces conditions and actions completely if given. Load balancer nodes follow within seconds.
    ///
    /// # Errors
    /// `RuleNotFound`, `OperationNotPermitted` for a default rule, and errors about the actions.
    pub fn modify_rule(
        &mut self,
        arn: &str,
        conditions: Option<Vec<Value>>,
        actions: Option<Vec<ListenerAction>>,
    ) -> ApiResult<ListenerRule> {
        let detail = self.detail(|| json!({"RuleArn": arn, "Actions": actions.as_deref().map(actions_detail)}));
        self.call("elasticloadbalancing:ModifyRule", detail, |world| {
            let Some(rule) = world.rules.get(arn) else {
                if world.listeners.keys().any(|listener| default_rule_arn(listener) == arn) {
                    return Err(ApiError::new("OperationNotPermitted", "Default rules cannot be modified"));
                }
                return Err(rule_not_found(arn));
            };
            let load_balancer = world.listeners.get(&rule.listener).map(|parent| parent.load_balancer.clone());
            let actions = match (actions, load_balancer) {
                (Some(actions), Some(load_balancer)) => Some(world.check_actions(&load_balancer, actions)?),
                _ => None,
            };
            let changed = actions.is_some();
            let Some(rule) = world.rules.get_mut(arn) else { return Err(rule_not_found(arn)) };
            if let Some(conditions) = conditions {
                rule.conditions = conditions;
            }
            let before = rule.actions.clone();
            if let Some(actions) = actions {
                rule.actions = actions;
            }
            let rule = rule.clone();
            if changed {
                world.rule_changed(arn, &before, &rule.actions);
                world.schedule_convergence(arn);
                world.update_attachments();
            }
            Ok(rule)
        })
    }

    /// `ModifyListener`: replaces the default actions completely if given.
    ///
    /// # Errors
    /// `ListenerNotFound`, and errors about the actions.
    pub fn modify_listener(&mut self, arn: &str, default_actions: Option<Vec<ListenerAction>>) -> ApiResult<Listener> {
        let detail = self
            .detail(|| json!({"ListenerArn": arn, "DefaultActions": default_actions.as_deref().map(actions_detail)}));
        self.call("elasticloadbalancing:ModifyListener", detail, |world| {
            let Some(listener) = world.listeners.get(arn) else { return Err(listener_not_found(arn)) };
            if let Some(actions) = default_actions {
                let load_balancer = listener.load_balancer.clone();
                let actions = world.check_actions(&load_balancer, actions)?;
                if let Some(listener) = world.listeners.get_mut(arn) {
                    let before = std::mem::replace(&mut listener.default_actions, actions.clone());
                    world.rule_changed(arn, &before, &actions);
                }
                world.schedule_convergence(arn);
                world.update_attachments();
            }
            world.listeners.get(arn).cloned().ok_or_else(|| listener_not_found(arn))
        })
    }

    /// `DeleteRule`
    ///
    /// # Errors
    /// `RuleNotFound`
    pub fn delete_rule(&mut self, arn: &str) -> ApiResult<()> {
        self.call("elasticloadbalancing:DeleteRule", self.detail(|| json!({"RuleArn": arn})), |world| {
            world.rules.remove(arn).ok_or_else(|| rule_not_found(arn))?;
            world.node_forwards.remove(arn);
            world.update_attachments();
            Ok(())
        })
    }

    /// `DescribeLoadBalancers`; no ARNs: all.
    ///
    /// # Errors
    /// `LoadBalancerNotFound`
    pub fn describe_load_balancers(&mut self, arns: &[String]) -> ApiResult<Vec<LoadBalancer>> {
        self.call(
            "elasticloadbalancing:DescribeLoadBalancers",
            self.detail(|| json!({"LoadBalancerArns": arns})),
            |world| {
                if arns.is_empty() {
                    return Ok(world.balancers.values().cloned().collect());
                }
                arns.iter()
                    .map(|arn| world.balancers.get(arn).cloned().ok_or_else(|| load_balancer_not_found(arn)))
                    .collect()
            },
        )
    }

    /// `DescribeListeners` of a balancer, or of these ARNs.
    ///
    /// # Errors
    /// `ListenerNotFound`, `LoadBalancerNotFound`
    pub fn describe_listeners(&mut self, load_balancer: Option<&str>, arns: &[String]) -> ApiResult<Vec<Listener>> {
        let detail = self.detail(|| json!({"LoadBalancerArn": load_balancer, "ListenerArns": arns}));
        self.call("elasticloadbalancing:DescribeListeners", detail, |world| match load_balancer {
            Some(balancer) if !world.balancers.contains_key(balancer) => Err(load_balancer_not_found(balancer)),
            Some(balancer) => {
                Ok(world.listeners.values().filter(|one| one.load_balancer == balancer).cloned().collect())
            }
            None => arns
                .iter()
                .map(|arn| world.listeners.get(arn).cloned().ok_or_else(|| listener_not_found(arn)))
                .collect(),
        })
    }

    /// `DescribeRules` of a listener (its default rule last), or of these ARNs.
    ///
    /// # Errors
    /// `RuleNotFound`, `ListenerNotFound`
    pub fn describe_rules(&mut self, listener: Option<&str>, arns: &[String]) -> ApiResult<Vec<ListenerRule>> {
        let detail = self.detail(|| json!({"ListenerArn": listener, "RuleArns": arns}));
        self.call("elasticloadbalancing:DescribeRules", detail, |world| match listener {
            Some(arn) => {
                let parent = world.listeners.get(arn).ok_or_else(|| listener_not_found(arn))?;
                let mut rules: Vec<ListenerRule> =
                    world.rules.values().filter(|rule| rule.listener == arn).cloned().collect();
                rules.sort_by_key(|rule| rule.priority);
                rules.push(default_rule(parent));
                Ok(rules)
            }
            None => arns
                .iter()
                .map(|arn| {
                    let default =
                        || world.listeners.values().find(|one| default_rule_arn(&one.arn) == *arn).map(default_rule);
                    world.rules.get(arn).cloned().or_else(default).ok_or_else(|| rule_not_found(arn))
                })
                .collect(),
        })
    }

    /// Validates actions as AWS does, and adds AWS's defaults.
    fn check_actions(&self, load_balancer: &str, mut actions: Vec<ListenerAction>) -> ApiResult<Vec<ListenerAction>> {
        if actions.is_empty() {
            return Err(validation_error("At least one action must be specified"));
        }
        if actions.len() > 1 && actions.iter().any(|action| action.order.is_none()) {
            return Err(ApiError::new("InvalidLoadBalancerAction", "An action order is mandatory for several actions"));
        }
        let last = actions.iter().max_by_key(|action| action.order).map(|action| &action.what);
        let ends = match last {
            Some(ActionKind::Forward(_)) => true,
            Some(ActionKind::Other { kind, .. }) => kind == "redirect" || kind == "fixed-response",
            None => false,
        };
        if !ends {
            let words = "The last action must be a forward, a fixed-response or a redirect";
            return Err(ApiError::new("InvalidLoadBalancerAction", words));
        }
        let count = actions.iter().filter(|action| matches!(action.what, ActionKind::Forward(_))).count();
        if count > 1 {
            return Err(ApiError::new("InvalidLoadBalancerAction", "There can be only one forward action"));
        }
        for action in &mut actions {
            if let ActionKind::Forward(forward) = &mut action.what {
                self.check_forward(load_balancer, forward)?;
            }
        }
        Ok(actions)
    }

    fn check_forward(&self, load_balancer: &str, forward: &mut ForwardActionConfig) -> ApiResult<()> {
        let groups = &mut forward.target_groups;
        if groups.is_empty() {
            return Err(validation_error("A forward action needs at least one target group"));
        }
        if groups.len() > MAX_GROUPS_PER_ACTION {
            return Err(ApiError::new("TooManyTargetGroups", "A forward action has at most 5 target groups"));
        }
        for (index, group) in groups.iter().enumerate() {
            if groups[..index].iter().any(|other| other.arn == group.arn) {
                return Err(validation_error(format!("Target group '{}' is named twice", group.arn)));
            }
            let weight = group.weight.unwrap_or(1);
            if !(0..=999).contains(&weight) {
                return Err(validation_error(format!("Weight '{weight}' must be between 0 and 999")));
            }
            if !self.groups.contains_key(&group.arn) {
                return Err(ApiError::new("TargetGroupNotFound", format!("Target group '{}' not found", group.arn)));
            }
            if self.balancer_of_group(&group.arn).is_some_and(|other| other != load_balancer) {
                let words = "The following target groups cannot be associated with more than one load balancer";
                return Err(ApiError::new("TargetGroupAssociationLimit", format!("{words}: {}", group.arn)));
            }
        }
        let rule_sticks = forward.stickiness.is_some_and(|stickiness| stickiness.enabled);
        if let Some(stickiness) = &forward.stickiness
            && stickiness.enabled
            && !stickiness.duration_seconds.is_some_and(|seconds| (1..=604_800).contains(&seconds))
        {
            return Err(validation_error("Stickiness duration must be between 1 and 604800 seconds"));
        }
        let targets_stick =
            groups.iter().any(|group| self.groups.get(&group.arn).is_some_and(|known| known.settings.stickiness));
        if groups.len() > 1 && targets_stick && !rule_sticks {
            let words = "Target group stickiness must be enabled on the rule if a target group has sticky targets";
            return Err(ApiError::new("InvalidConfigurationRequest", words));
        }
        for group in groups {
            group.weight = Some(group.weight.unwrap_or(1));
        }
        Ok(())
    }

    /// The target groups and weights that a rule or listener forwards to.
    pub(in crate::world) fn forwarded(&self, arn: &str) -> Vec<WeightedGroup> {
        let actions = match (self.rules.get(arn), self.listeners.get(arn)) {
            (Some(rule), _) => &rule.actions,
            (None, Some(listener)) => &listener.default_actions,
            (None, None) => return Vec::new(),
        };
        actions
            .iter()
            .find_map(|action| match &action.what {
                ActionKind::Forward(forward) => Some(forward.target_groups.clone()),
                ActionKind::Other { .. } => None,
            })
            .unwrap_or_default()
    }

    fn set_all_nodes(&mut self, arn: &str) {
        let forwarded = self.forwarded(arn);
        let nodes = usize::from(self.settings.timing.nodes.max(1));
        self.node_forwards.insert(arn.to_owned(), vec![forwarded; nodes]);
    }

    fn schedule_convergence(&mut self, arn: &str) {
        for node in 0..usize::from(self.settings.timing.nodes.max(1)) {
            self.after_random_ms(
                self.settings.timing.convergence_ms,
                AgendaItem::NodeConverges { rule: arn.to_owned(), node },
            );
        }
    }

    pub(in crate::world) fn node_converges(&mut self, arn: &str, node: usize) {
        let forwarded = self.forwarded(arn);
        if let Some(node_forwards) = self.node_forwards.get_mut(arn).and_then(|nodes| nodes.get_mut(node)) {
            *node_forwards = forwarded;
        }
        self.changed(|world| {
            Some(WorldChange::NodeConverged {
                rule: arn.to_owned(),
                node,
                groups: world.node_forwards.get(arn)?.get(node)?.clone(),
            })
        });
    }

    /// The balancer with rules or listeners that forward to the group, at any weight.
    pub(in crate::world) fn balancer_of_group(&self, group: &str) -> Option<&str> {
        let has = |actions: &[ListenerAction]| {
            actions.iter().any(|action| match &action.what {
                ActionKind::Forward(forward) => forward.target_groups.iter().any(|one| one.arn == group),
                ActionKind::Other { .. } => false,
            })
        };
        let listener = self.listeners.values().find(|listener| has(&listener.default_actions));
        let of_rule = || self.rules.values().find(|rule| has(&rule.actions));
        listener.or_else(|| self.listeners.get(&of_rule()?.listener)).map(|listener| listener.load_balancer.as_str())
    }
}

/// Logged form of actions: groups and weights of forwards, types of the others.
fn actions_detail(actions: &[ListenerAction]) -> Value {
    actions
        .iter()
        .map(|action| match &action.what {
            ActionKind::Forward(forward) => {
                let groups: serde_json::Map<String, Value> = forward
                    .target_groups
                    .iter()
                    .map(|group| (group.arn.clone(), group.weight.unwrap_or(1).into()))
                    .collect();
                json!({"forward": groups})
            }
            ActionKind::Other { kind, .. } => json!(kind),
        })
        .collect()
}

fn default_rule_arn(listener: &str) -> String {
    format!("{}/default", listener.replacen(":listener/", ":listener-rule/", 1))
}

fn default_rule(listener: &Listener) -> ListenerRule {
    ListenerRule {
        arn: default_rule_arn(&listener.arn),
        listener: listener.arn.clone(),
        priority: None,
        conditions: Vec::new(),
        actions: listener.default_actions.clone(),
    }
}

fn load_balancer_not_found(arn: &str) -> ApiError {
    ApiError::new("LoadBalancerNotFound", format!("Load balancer '{arn}' not found"))
}

fn listener_not_found(arn: &str) -> ApiError {
    ApiError::new("ListenerNotFound", format!("Listener '{arn}' not found"))
}

fn rule_not_found(arn: &str) -> ApiError {
    ApiError::new("RuleNotFound", format!("Rule '{arn}' not found"))
}
