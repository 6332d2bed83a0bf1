//! The reference systems as they are shipped: what their Terraform creates in each environment, and their policies.

use crate::terraform::{Configuration, Problem, Resource};
use rollout::doctor::inspected::IamScope;
use rollout::policy::Policy;
use rollout::{EcsServiceName, TargetId, TargetPolicy};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A reference system.
#[derive(Debug)]
pub(crate) struct System {
    /// Its folder.
    pub(crate) folder: PathBuf,
    /// Text of its `switchback.yaml`.
    pub(crate) text: String,
    /// Its policy.
    pub(crate) policy: Policy,
    /// What its configuration creates, by environment.
    pub(crate) environments: BTreeMap<String, Configuration>,
    /// What exists once in the account, from a configuration of its own.
    pub(crate) account: Option<Configuration>,
    /// What the control plane may touch, by the parameters that its README names.
    pub(crate) scope: IamScope,
}

/// The two-tier service; `live_tasks`: the variable of that name.
#[track_caller]
pub(crate) fn two_tier(live_tasks: u64) -> System {
    let folder = folder("two-tier");
    let main = read(Configuration::read(&folder, None, &[("live_tasks", json!(live_tasks))]));
    let scope = IamScope {
        clusters: "two-tier".to_owned(),
        load_balancers: String::new(),
        repositories: String::new(),
        task_roles: "two-tier-".to_owned(),
        hooks: "switchback-hook-".to_owned(),
        topics: "switchback-".to_owned(),
    };
    System::new(folder, BTreeMap::from([("main".to_owned(), main)]), None, scope)
}

/// Skillancer; `autoscaling`: the variable of that name, false until the first deployments.
#[track_caller]
pub(crate) fn skillancer(autoscaling: bool) -> System {
    let folder = folder("skillancer");
    let environment = |name: &str| {
        let file = format!("{name}.tfvars");
        (name.to_owned(), read(Configuration::read(&folder, Some(&file), &[("autoscaling", json!(autoscaling))])))
    };
    let environments = ["dev", "staging", "prod"].map(environment).into();
    let account = read(Configuration::read(&folder.join("account"), None, &[]));
    let scope = IamScope {
        clusters: "skillancer".to_owned(),
        load_balancers: "skillancer".to_owned(),
        repositories: "skillancer".to_owned(),
        task_roles: "skillancer".to_owned(),
        hooks: "switchback-hook-".to_owned(),
        topics: "switchback-".to_owned(),
    };
    System::new(folder, environments, Some(account), scope)
}

/// Both systems, with running services.
#[track_caller]
pub(crate) fn both() -> [System; 2] {
    [two_tier(2), skillancer(true)]
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("systems").join(name)
}

#[track_caller]
fn read(configuration: Result<Configuration, Problem>) -> Configuration {
    configuration.unwrap_or_else(|problem| panic!("{problem}"))
}

impl System {
    #[track_caller]
    fn new(
        folder: PathBuf,
        environments: BTreeMap<String, Configuration>,
        account: Option<Configuration>,
        scope: IamScope,
    ) -> Self {
        let text = std::fs::read_to_string(folder.join("switchback.yaml")).expect("the system has a policy");
        let policy = policy::parse(&text).unwrap_or_else(|problems| panic!("{}:\n{problems}", folder.display()));
        Self { folder, text, policy, environments, account, scope }
    }

    /// Every target, its policy, and the configuration that creates its resources.
    pub(crate) fn targets(&self) -> impl Iterator<Item = (TargetId, &TargetPolicy, &Configuration)> {
        self.policy.targets().map(move |(target, policy)| {
            let configuration = &self.environments[target.environment.as_str()];
            (target, policy, configuration)
        })
    }

    /// Every configuration.
    pub(crate) fn configurations(&self) -> impl Iterator<Item = &Configuration> {
        self.environments.values().chain(&self.account)
    }

    /// The only instance of a kind that has this value of an attribute, in whichever configuration.
    #[track_caller]
    pub(crate) fn get(&self, kind: &str, attribute: &str, value: &str) -> &Resource {
        let mut found = self.configurations().filter_map(|configuration| configuration.find(kind, attribute, value));
        found.next().unwrap_or_else(|| panic!("{}: no {kind} has {attribute} = {value}", self.folder.display()))
    }
}

/// The last part of an ARN, or a name as it is.
pub(crate) fn last_part(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

/// The resource of an ECS service that a policy names.
#[track_caller]
pub(crate) fn ecs_service<'a>(configuration: &'a Configuration, named: EcsServiceName<'_>) -> &'a Resource {
    let is_it = |service: &&Resource| {
        last_part(service.text("cluster")) == last_part(named.cluster) && service.text("name") == named.name
    };
    let found = configuration.all("aws_ecs_service").find(is_it);
    found.unwrap_or_else(|| panic!("no aws_ecs_service is {} in {}", named.name, named.cluster))
}

/// The task definition that a service is created with.
#[track_caller]
pub(crate) fn task_definition<'a>(configuration: &'a Configuration, service: &Resource) -> &'a Resource {
    configuration.get("aws_ecs_task_definition", "arn", service.text("task_definition"))
}

/// The containers of a task definition.
#[track_caller]
pub(crate) fn containers(definition: &Resource) -> Vec<Value> {
    let containers = serde_json::from_str(definition.text("container_definitions"));
    containers.unwrap_or_else(|error| panic!("{}: container_definitions: {error}", definition.place))
}

/// The container of a service whose image is replaced.
#[track_caller]
pub(crate) fn container(configuration: &Configuration, named: EcsServiceName<'_>) -> Value {
    let definition = task_definition(configuration, ecs_service(configuration, named));
    let found = containers(definition).into_iter().find(|container| container["name"] == named.container);
    found.unwrap_or_else(|| panic!("{}: there is no container {}", definition.place, named.container))
}

/// The rule or listener with this ARN, and the name of the block that says where it forwards to.
#[track_caller]
pub(crate) fn rule<'a>(configuration: &'a Configuration, arn: &str) -> (&'a Resource, &'static str) {
    match arn.contains(":listener-rule/") {
        true => (configuration.get("aws_lb_listener_rule", "arn", arn), "action"),
        false => (configuration.get("aws_lb_listener", "arn", arn), "default_action"),
    }
}

/// The target groups that an action forwards to, by ARN, and their weights; empty: it does not forward.
pub(crate) fn forwards(action: &Value) -> Vec<(&str, u64)> {
    let groups = action["forward"][0]["target_group"].as_array().into_iter().flatten();
    groups.filter_map(|group| Some((group["arn"].as_str()?, group["weight"].as_u64()?))).collect()
}
