//! A task definition like another one, only that one container runs another image.
//!
//! Everything is kept: what `RegisterTaskDefinition` takes is copied field by field, and a test fails as soon as the
//! SDK knows a field that is not. An identical revision is reused, since an account may register about one a second.
//! It is told by its content, not by a mark on it: a tag can be copied onto a revision of other content by hand.

use super::AwsCloud;
use crate::error::Failure;
use aws_sdk_ecs::operation::register_task_definition::RegisterTaskDefinitionInput as Registration;
use aws_sdk_ecs::operation::register_task_definition::builders::RegisterTaskDefinitionFluentBuilder;
use aws_sdk_ecs::types::{
    ContainerDefinition, SortOrder, Tag, TaskDefinition, TaskDefinitionField, TaskDefinitionStatus,
};
use futures::future::join_all;
use rollout::Outcome;

/// How many of a family's newest revisions are looked at for an identical one.
const LOOKED_AT: i32 = 10;

/// A task definition with its tags, as `DescribeTaskDefinition` gives it.
#[derive(Debug, Clone)]
struct Described {
    definition: TaskDefinition,
    tags: Vec<Tag>,
}

impl Described {
    fn arn(&self) -> Option<&str> {
        self.definition.task_definition_arn()
    }

    fn is_active(&self) -> bool {
        // Emulators leave the status out.
        self.definition.status().is_none_or(|status| *status == TaskDefinitionStatus::Active)
    }

    /// Everything that `RegisterTaskDefinition` takes. What AWS works out by itself (ARN, revision, status, attributes
    /// required, compatibilities, who and when) is not among it, nor are tags that only AWS may give.
    #[expect(
        deprecated,
        reason = "inference accelerators can no longer be had, and are kept where they are still written"
    )]
    fn registration(&self) -> Registration {
        let TaskDefinition {
            family,
            task_role_arn,
            execution_role_arn,
            network_mode,
            container_definitions,
            volumes,
            placement_constraints,
            requires_compatibilities,
            cpu,
            memory,
            pid_mode,
            ipc_mode,
            proxy_configuration,
            inference_accelerators,
            ephemeral_storage,
            runtime_platform,
            enable_fault_injection,
            ..
        } = self.definition.clone();
        let tags = self.tags.iter().filter(|tag| !tag.key().unwrap_or_default().starts_with("aws:")).cloned().collect();
        // AWS refuses some lists that are empty, tags among them, and takes all that are absent.
        Registration::builder()
            .set_family(family)
            .set_task_role_arn(task_role_arn)
            .set_execution_role_arn(execution_role_arn)
            .set_network_mode(network_mode)
            .set_container_definitions(container_definitions)
            .set_volumes(unless_empty(volumes))
            .set_placement_constraints(unless_empty(placement_constraints))
            .set_requires_compatibilities(unless_empty(requires_compatibilities))
            .set_cpu(cpu)
            .set_memory(memory)
            .set_tags(unless_empty(Some(tags)))
            .set_pid_mode(pid_mode)
            .set_ipc_mode(ipc_mode)
            .set_proxy_configuration(proxy_configuration)
            .set_inference_accelerators(unless_empty(inference_accelerators))
            .set_ephemeral_storage(ephemeral_storage)
            .set_runtime_platform(runtime_platform)
            .set_enable_fault_injection(enable_fault_injection)
            .build()
            .expect("building checks no field: the service does")
    }
}

fn unless_empty<T>(list: Option<Vec<T>>) -> Option<Vec<T>> {
    list.filter(|list| !list.is_empty())
}

/// Puts `image` into `container`.
///
/// # Errors
/// A reason that names the containers there are, where that one is not among them.
fn with_image(mut registration: Registration, container: &str, image: &str) -> Result<Registration, String> {
    let containers = registration.container_definitions.as_deref_mut().unwrap_or_default();
    match containers.iter_mut().find(|definition| definition.name() == Some(container)) {
        Some(definition) => definition.image = Some(image.to_owned()),
        None => return Err(no_container(container, containers)),
    }
    Ok(registration)
}

fn no_container(container: &str, containers: &[ContainerDefinition]) -> String {
    let names: Vec<_> = containers.iter().filter_map(ContainerDefinition::name).collect();
    format!("the task definition has no container {container}: it has {}", names.join(", "))
}

/// The same content in one order: AWS gives variables, secrets and tags back in another one than it took them in.
fn content(mut registration: Registration) -> Registration {
    for definition in registration.container_definitions.iter_mut().flatten() {
        definition.environment.iter_mut().for_each(|list| list.sort_by(|one, other| one.name().cmp(&other.name())));
        definition.secrets.iter_mut().for_each(|list| list.sort_by(|one, other| one.name().cmp(other.name())));
    }
    registration.tags.iter_mut().for_each(|list| list.sort_by(|one, other| one.key().cmp(&other.key())));
    registration
}

/// Hands everything of `registration` to the call.
#[expect(deprecated, reason = "inference accelerators can no longer be had, and are kept where they are still written")]
fn call(call: RegisterTaskDefinitionFluentBuilder, registration: Registration) -> RegisterTaskDefinitionFluentBuilder {
    call.set_family(registration.family)
        .set_task_role_arn(registration.task_role_arn)
        .set_execution_role_arn(registration.execution_role_arn)
        .set_network_mode(registration.network_mode)
        .set_container_definitions(registration.container_definitions)
        .set_volumes(registration.volumes)
        .set_placement_constraints(registration.placement_constraints)
        .set_requires_compatibilities(registration.requires_compatibilities)
        .set_cpu(registration.cpu)
        .set_memory(registration.memory)
        .set_tags(registration.tags)
        .set_pid_mode(registration.pid_mode)
        .set_ipc_mode(registration.ipc_mode)
        .set_proxy_configuration(registration.proxy_configuration)
        .set_inference_accelerators(registration.inference_accelerators)
        .set_ephemeral_storage(registration.ephemeral_storage)
        .set_runtime_platform(registration.runtime_platform)
        .set_enable_fault_injection(registration.enable_fault_injection)
}

impl AwsCloud {
    /// The image of a container in a task definition.
    pub(super) async fn image(&self, task_definition: &str, container: &str) -> Result<String, Failure> {
        let described = self.described(task_definition).await?;
        let containers = described.definition.container_definitions();
        let found = containers.iter().find(|definition| definition.name() == Some(container));
        let image = found.ok_or_else(|| no_container(container, containers)).and_then(|definition| {
            definition.image().map(str::to_owned).ok_or_else(|| format!("the container {container} has no image"))
        });
        image.map_err(|reason| Failure::Refused { reason })
    }

    /// Finds or registers the task definition that is like `like` but for one image.
    pub(super) async fn register_task_definition(&self, like: &str, container: &str, image: &str) -> Outcome {
        match self.find_or_register(like, container, image).await {
            Ok((task_definition, reused)) => Outcome::Registered { task_definition, reused },
            Err(failure) => failure.outcome(),
        }
    }

    async fn find_or_register(&self, like: &str, container: &str, image: &str) -> Result<(String, bool), Failure> {
        let like = self.described(like).await?;
        let wanted = with_image(like.registration(), container, image).map_err(|reason| Failure::Refused { reason })?;
        let content_wanted = content(wanted.clone());
        let is_wanted =
            |described: &Described| described.is_active() && content(described.registration()) == content_wanted;
        if is_wanted(&like)
            && let Some(arn) = like.arn()
        {
            return Ok((arn.to_owned(), true));
        }
        let family = wanted.family().unwrap_or_default().to_owned();
        // An unread revision costs a new one, nothing worse.
        let newest = self.newest(&family).await.unwrap_or_default();
        let described = join_all(newest.iter().map(|arn| self.described(arn))).await;
        let identical = described.into_iter().filter_map(Result::ok).find(is_wanted);
        if let Some(arn) = identical.as_ref().and_then(Described::arn) {
            return Ok((arn.to_owned(), true));
        }
        let answer = call(self.clients.ecs().await.register_task_definition(), wanted).send().await;
        let answer = answer.map_err(|error| Failure::of("RegisterTaskDefinition", &error))?;
        let arn = answer.task_definition().and_then(TaskDefinition::task_definition_arn);
        let arn =
            arn.ok_or_else(|| Failure::Unsure { reason: "RegisterTaskDefinition: no ARN was given".to_owned() })?;
        Ok((arn.to_owned(), false))
    }

    async fn described(&self, task_definition: &str) -> Result<Described, Failure> {
        let answer = self
            .clients
            .ecs()
            .await
            .describe_task_definition()
            .task_definition(task_definition)
            .include(TaskDefinitionField::Tags)
            .send()
            .await
            .map_err(|error| Failure::of("DescribeTaskDefinition", &error))?;
        let none =
            || Failure::Unsure { reason: format!("DescribeTaskDefinition: nothing was said of {task_definition}") };
        Ok(Described { tags: answer.tags.unwrap_or_default(), definition: answer.task_definition.ok_or_else(none)? })
    }

    /// The newest active revisions of a family.
    async fn newest(&self, family: &str) -> Result<Vec<String>, Failure> {
        let answer = self
            .clients
            .ecs()
            .await
            .list_task_definitions()
            .family_prefix(family)
            .status(TaskDefinitionStatus::Active)
            .sort(SortOrder::Desc)
            .max_results(LOOKED_AT)
            .send()
            .await
            .map_err(|error| Failure::of("ListTaskDefinitions", &error))?;
        let of_family = |arn: &String| {
            let name = arn.rsplit('/').next().unwrap_or(arn);
            name.rsplit_once(':').is_some_and(|(name, _)| name == family)
        };
        Ok(answer.task_definition_arns.unwrap_or_default().into_iter().filter(of_family).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_ecs::types::{
        Compatibility, EphemeralStorage, IpcMode, KeyValuePair, LogConfiguration, LogDriver, NetworkMode, OsFamily,
        PidMode, ProxyConfiguration, RuntimePlatform, Secret, TaskDefinitionPlacementConstraint, Volume,
    };
    use aws_smithy_types::DateTime;

    /// What AWS works out by itself, and refuses to be told.
    const READ_ONLY: &[&str] = &[
        "taskDefinitionArn",
        "revision",
        "status",
        "requiresAttributes",
        "compatibilities",
        "registeredAt",
        "deregisteredAt",
        "deleteRequestedAt",
        "registeredBy",
    ];

    fn variable(name: &str, value: &str) -> KeyValuePair {
        KeyValuePair::builder().name(name).value(value).build()
    }

    fn tag(key: &str, value: &str) -> Tag {
        Tag::builder().key(key).value(value).build()
    }

    /// A task definition in which every field is set that can be.
    #[expect(
        deprecated,
        reason = "inference accelerators can no longer be had, and are kept where they are still written"
    )]
    fn full() -> Described {
        let secret = Secret::builder().name("PASSWORD").value_from("arn:aws:ssm:…:parameter/password").build();
        let logs = LogConfiguration::builder().log_driver(LogDriver::Awslogs).options("awslogs-group", "shop").build();
        let api = ContainerDefinition::builder()
            .name("api")
            .image("registry/shop/api@sha256:old")
            .essential(true)
            .environment(variable("B", "2"))
            .environment(variable("A", "1"))
            .secrets(secret.expect("a secret"))
            .log_configuration(logs.expect("logs"))
            .docker_labels("team", "shop")
            .build();
        let proxy = ContainerDefinition::builder().name("proxy").image("registry/proxy:1").build();
        let accelerator = aws_sdk_ecs::types::InferenceAccelerator::builder()
            .device_name("device")
            .device_type("eia2.medium")
            .build();
        let definition = TaskDefinition::builder()
            .task_definition_arn("arn:aws:ecs:eu-west-1:123456789012:task-definition/api:7")
            .family("api")
            .revision(7)
            .status(TaskDefinitionStatus::Active)
            .task_role_arn("arn:aws:iam::123456789012:role/task")
            .execution_role_arn("arn:aws:iam::123456789012:role/execution")
            .network_mode(NetworkMode::Awsvpc)
            .container_definitions(api)
            .container_definitions(proxy)
            .volumes(Volume::builder().name("cache").build())
            .placement_constraints(TaskDefinitionPlacementConstraint::builder().expression("attribute:x == y").build())
            .requires_compatibilities(Compatibility::Fargate)
            .compatibilities(Compatibility::Fargate)
            .cpu("256")
            .memory("512")
            .pid_mode(PidMode::Task)
            .ipc_mode(IpcMode::Task)
            .proxy_configuration(ProxyConfiguration::builder().container_name("proxy").build().expect("a proxy"))
            .inference_accelerators(accelerator.expect("an accelerator"))
            .ephemeral_storage(EphemeralStorage::builder().size_in_gib(30).build())
            .runtime_platform(RuntimePlatform::builder().operating_system_family(OsFamily::Linux).build())
            .enable_fault_injection(true)
            .registered_at(DateTime::from_secs(0))
            .registered_by("somebody")
            .build();
        Described { definition, tags: vec![tag("team", "shop"), tag("aws:cloudformation:stack-name", "shop")] }
    }

    fn client() -> aws_sdk_ecs::Client {
        let config = aws_sdk_ecs::Config::builder().behavior_version(aws_sdk_ecs::config::BehaviorVersion::latest());
        aws_sdk_ecs::Client::from_conf(config.build())
    }

    /// The names of a shape's fields, as the SDK's own schema has them.
    macro_rules! names {
        ($shape:ty) => {
            <$shape>::SCHEMA.members().iter().filter_map(|member| member.member_name()).map(str::to_owned)
        };
    }

    /// Which fields of a value are set, by what its own `Debug` says: `field: None` is not.
    fn unset(value: &Registration) -> Vec<String> {
        let text = format!("{value:#?}");
        let top_level = text.lines().filter(|line| line.starts_with("    ") && !line.starts_with("     "));
        top_level.filter_map(|line| line.trim().strip_suffix(": None,")).map(str::to_owned).collect()
    }

    #[test]
    fn every_field_that_can_be_registered_is_copied() {
        let copied = full().registration();
        assert_eq!(unset(&copied), Vec::<String>::new(), "the SDK takes fields that the copy does not set");
        let sent = call(client().register_task_definition(), copied.clone()).as_input().clone().build();
        assert_eq!(sent.expect("building checks no field"), copied, "a field is lost on the way into the call");
    }

    #[test]
    fn every_field_that_is_described_is_copied_or_read_only() {
        let mut described: Vec<_> = names!(TaskDefinition).collect();
        described.push("tags".to_owned());
        described.sort();
        let mut treated: Vec<_> = names!(Registration).collect();
        treated.extend(READ_ONLY.iter().map(|name| (*name).to_owned()));
        treated.sort();
        assert_eq!(described, treated);
    }

    #[test]
    fn only_the_named_containers_image_changes() {
        let before = full().registration();
        let after = with_image(before.clone(), "api", "registry/shop/api@sha256:new").expect("the container is there");
        let containers = after.container_definitions();
        assert_eq!(containers[0].image(), Some("registry/shop/api@sha256:new"));
        assert_eq!(with_image(after, "api", "registry/shop/api@sha256:old"), Ok(before));
    }

    #[test]
    fn an_unknown_container_is_refused_with_the_ones_there_are() {
        let reason = with_image(full().registration(), "web", "image").expect_err("there is none of that name");
        assert_eq!(reason, "the task definition has no container web: it has api, proxy");
    }

    #[test]
    fn tags_that_only_aws_may_give_stay_behind_and_an_empty_list_is_absent() {
        assert_eq!(full().registration().tags(), [tag("team", "shop")]);
        let bare = Described { tags: vec![], ..full() };
        assert_eq!(bare.registration().tags, None);
    }

    #[test]
    fn the_same_content_in_another_order_is_the_same() {
        let mut shuffled = full();
        let containers = shuffled.definition.container_definitions.as_mut().expect("containers");
        containers[0].environment.as_mut().expect("variables").reverse();
        shuffled.tags.reverse();
        assert_eq!(content(shuffled.registration()), content(full().registration()));

        let containers = shuffled.definition.container_definitions.as_mut().expect("containers");
        containers[1].image = Some("registry/proxy:2".to_owned());
        assert_ne!(content(shuffled.registration()), content(full().registration()));
    }
}
