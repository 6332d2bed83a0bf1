//! Clusters and task definitions: accepted fields, and naming of revisions.

use super::shapes::{Cluster, EcsFailure, TaskDefinition};
use crate::world::error::{client_exception, invalid_parameter};
use crate::world::{ApiError, ApiResult, World};
use serde_json::{Value, json};

/// Fields of `RegisterTaskDefinition` (ECS API reference, 2026). All others are refused, read-only fields included.
const FIELDS: [&str; 18] = [
    "family",
    "taskRoleArn",
    "executionRoleArn",
    "networkMode",
    "containerDefinitions",
    "volumes",
    "placementConstraints",
    "requiresCompatibilities",
    "cpu",
    "memory",
    "tags",
    "pidMode",
    "ipcMode",
    "proxyConfiguration",
    "inferenceAccelerators",
    "ephemeralStorage",
    "runtimePlatform",
    "enableFaultInjection",
];

impl World {
    /// `CreateCluster`
    ///
    /// # Errors
    /// None in this model.
    pub fn create_cluster(&mut self, name: &str) -> ApiResult<Cluster> {
        self.call("ecs:CreateCluster", self.detail(|| json!({"clusterName": name})), |world| {
            let cluster = Cluster {
                cluster_arn: world.arn("ecs", &format!("cluster/{name}")),
                cluster_name: name.to_owned(),
                status: "ACTIVE".to_owned(),
            };
            Ok(world.clusters.entry(name.to_owned()).or_insert(cluster).clone())
        })
    }

    /// `DescribeClusters`
    ///
    /// # Errors
    /// None in this model; a missing cluster is a failure in the response.
    pub fn describe_clusters(&mut self, clusters: &[String]) -> ApiResult<(Vec<Cluster>, Vec<EcsFailure>)> {
        self.call("ecs:DescribeClusters", self.detail(|| json!({"clusters": clusters})), |world| {
            let (mut found, mut failures) = (Vec::new(), Vec::new());
            for cluster in clusters {
                match world.clusters.get(last_part(cluster)) {
                    Some(cluster) => found.push(cluster.clone()),
                    None => failures.push(EcsFailure { arn: cluster.clone(), reason: "MISSING".to_owned() }),
                }
            }
            Ok((found, failures))
        })
    }

    /// `RegisterTaskDefinition`: `document` is the complete request, tags included, and is stored unchanged.
    ///
    /// # Errors
    /// `ClientException` if a field is unknown or read-only, or a container has no name or image.
    pub fn register_task_definition(&mut self, document: Value) -> ApiResult<TaskDefinition> {
        let images: Vec<&Value> = document
            .get("containerDefinitions")
            .and_then(Value::as_array)
            .map(|containers| containers.iter().filter_map(|container| container.get("image")).collect())
            .unwrap_or_default();
        let detail = self.detail(|| json!({"family": document.get("family"), "images": images}));
        self.call("ecs:RegisterTaskDefinition", detail, |world| {
            let Value::Object(mut fields) = document else {
                return Err(ApiError::new("SerializationException", "The request is not an object"));
            };
            if let Some(unknown) = fields.keys().find(|key| !FIELDS.contains(&key.as_str())) {
                return Err(client_exception(format!("Unknown parameter in input: \"{unknown}\"")));
            }
            let family = fields.get("family").and_then(Value::as_str).unwrap_or_default().to_owned();
            let well_formed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            if family.is_empty() || family.len() > 255 || !family.chars().all(well_formed) {
                return Err(client_exception("Family contains invalid characters or is empty"));
            }
            check_containers(fields.get("containerDefinitions"))?;
            let tags = fields.remove("tags").unwrap_or_else(|| json!([]));
            let revisions = world.families.get(&family).map_or(0, Vec::len);
            let revision = u32::try_from(revisions + 1).map_err(|_| client_exception("Too many revisions"))?;
            let definition = TaskDefinition {
                arn: world.arn("ecs", &format!("task-definition/{family}:{revision}")),
                family: family.clone(),
                revision,
                status: "ACTIVE",
                registered_at: world.now,
                document: Value::Object(fields),
                tags,
            };
            world.families.entry(family).or_default().push(definition.clone());
            Ok(definition)
        })
    }

    /// `DescribeTaskDefinition`: `reference` is a family (its newest active revision), `family:revision`, or an ARN.
    ///
    /// # Errors
    /// `ClientException`: "Unable to describe task definition."
    pub fn describe_task_definition(&mut self, reference: &str) -> ApiResult<TaskDefinition> {
        self.call("ecs:DescribeTaskDefinition", self.detail(|| json!({"taskDefinition": reference})), |world| {
            world.definition(reference).cloned().ok_or_else(|| client_exception("Unable to describe task definition."))
        })
    }

    /// `ListTaskDefinitions`: ARNs of active revisions, of one family or of all.
    ///
    /// # Errors
    /// None in this model.
    pub fn list_task_definitions(&mut self, family: Option<&str>, newest_first: bool) -> ApiResult<Vec<String>> {
        self.call("ecs:ListTaskDefinitions", self.detail(|| json!({"familyPrefix": family})), |world| {
            let wanted = |name: &&String| family.is_none_or(|family| family == name.as_str());
            let families = world.families.keys().filter(wanted);
            let mut arns: Vec<String> = families
                .flat_map(|family| &world.families[family])
                .filter(|definition| definition.status == "ACTIVE")
                .map(|definition| definition.arn.clone())
                .collect();
            if newest_first {
                arns.reverse();
            }
            Ok(arns)
        })
    }

    /// `DeregisterTaskDefinition`: no new tasks or services can use it; running tasks continue.
    ///
    /// # Errors
    /// `ClientException`
    pub fn deregister_task_definition(&mut self, reference: &str) -> ApiResult<TaskDefinition> {
        self.call("ecs:DeregisterTaskDefinition", self.detail(|| json!({"taskDefinition": reference})), |world| {
            let missing = || client_exception("The specified task definition does not exist.");
            let (family, revision) =
                world.definition(reference).map(|found| (found.family.clone(), found.revision)).ok_or_else(missing)?;
            let revisions = world.families.get_mut(&family).ok_or_else(missing)?;
            let found = revisions.iter_mut().find(|found| found.revision == revision).ok_or_else(missing)?;
            found.status = "INACTIVE";
            Ok(found.clone())
        })
    }

    /// The revision that a reference names, active or not; a bare family refers to its newest active revision.
    pub(in crate::world) fn definition(&self, reference: &str) -> Option<&TaskDefinition> {
        let reference = reference.split_once(":task-definition/").map_or(reference, |(_, rest)| rest);
        match reference.split_once(':') {
            Some((family, revision)) => {
                let revision: u32 = revision.parse().ok()?;
                self.families.get(family)?.iter().find(|found| found.revision == revision)
            }
            None => self.families.get(reference)?.iter().rev().find(|found| found.status == "ACTIVE"),
        }
    }

    /// The revision that a reference names, if it can start new tasks.
    pub(super) fn usable_definition(&self, reference: &str) -> ApiResult<TaskDefinition> {
        match self.definition(reference) {
            Some(found) if found.status == "ACTIVE" => Ok(found.clone()),
            Some(_) => Err(client_exception("TaskDefinition is inactive")),
            None => Err(client_exception("TaskDefinition not found.")),
        }
    }

    /// Whether the given configurations match the revision's launch-time volumes: one for each, and no other.
    pub(super) fn check_volumes(definition: &TaskDefinition, given: Option<&Value>) -> ApiResult<()> {
        let given = given.and_then(Value::as_array).into_iter().flatten();
        let given: Vec<&str> = given.filter_map(|volume| volume.get("name")?.as_str()).collect();
        if let Some(missing) = definition.launch_volumes().find(|name| !given.contains(name)) {
            return Err(invalid_parameter(format!(
                "The volume {missing} is configured at launch: it has no configuration"
            )));
        }
        match given.iter().find(|name| !definition.launch_volumes().any(|known| known == **name)) {
            Some(unknown) => Err(invalid_parameter(format!(
                "The volume {unknown} is not configured at launch in the task definition"
            ))),
            None => Ok(()),
        }
    }

    /// The name of an existing cluster, from a name or ARN.
    pub(super) fn cluster_name(&self, cluster: &str) -> ApiResult<String> {
        let name = if cluster.is_empty() { "default" } else { last_part(cluster) };
        if self.clusters.contains_key(name) {
            Ok(name.to_owned())
        } else {
            Err(ApiError::new("ClusterNotFoundException", "Cluster not found."))
        }
    }
}

/// The last part of an ARN; a plain name is returned unchanged.
pub(in crate::world) fn last_part(reference: &str) -> &str {
    reference.rsplit('/').next().unwrap_or(reference)
}

fn check_containers(containers: Option<&Value>) -> ApiResult<()> {
    let containers = containers.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if containers.is_empty() {
        return Err(client_exception("Container list cannot be empty."));
    }
    for container in containers {
        let text = |field: &str| container.get(field).and_then(Value::as_str).unwrap_or_default();
        if text("name").is_empty() {
            return Err(client_exception("Container.name should not be null or empty."));
        }
        if text("image").is_empty() {
            return Err(client_exception("Container.image should not be null or empty."));
        }
        let named_alike = |other: &&Value| other.get("name") == container.get("name");
        if containers.iter().filter(named_alike).count() > 1 {
            return Err(invalid_parameter("Container names must be unique."));
        }
    }
    let essential = |container: &Value| container.get("essential").and_then(Value::as_bool).unwrap_or(true);
    if !containers.iter().any(essential) {
        return Err(client_exception("At least one container must be essential."));
    }
    Ok(())
}
