//! Copies a task definition with one container's image replaced, and reads the newest one of a family of templates.
//!
//! Everything is kept, even fields that this build's SDK does not know: the copy is made from the JSON document as
//! received, since the SDK's types silently drop every field newer than they are. Only fields that AWS computes are
//! left out, and a test checks that list against the SDK's schema.
//!
//! An identical revision is reused: an account may register about one a second. Identity is decided by content, not by
//! a tag: a tag can be copied by hand onto a revision of other content.

use super::{AwsCloud, short_name};
use crate::error::AwsFailure;
use aws_sdk_ecs::config::interceptors::AfterDeserializationInterceptorContextRef;
use aws_sdk_ecs::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_ecs::error::BoxError;
use aws_sdk_ecs::types::{SortOrder, TaskDefinition, TaskDefinitionField, TaskDefinitionStatus};
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::retry::RetryConfig;
use futures::future::join_all;
use futures::join;
use rollout::answers::template::{container_named, containers_mut, no_revision_reason, reading, version_of};
use rollout::template::TemplateReading;
use rollout::{Outcome, Reading};
use serde_json::{Map, Value};
use std::cmp::Reverse;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How many of a family's newest revisions are compared.
const REVISIONS_CHECKED: i32 = 10;

/// Registration attempts per effect.
const MAX_REGISTRATION_ATTEMPTS: u32 = 2;
/// Delay between them: an account may register about one a second.
const REGISTRATION_RETRY_DELAY: Duration = Duration::from_millis(1_200);

/// Fields that AWS computes, and rejects in a registration.
const READ_ONLY_FIELDS: &[&str] = &[
    "taskDefinitionArn",
    "revision",
    "status",
    "requiresAttributes",
    "compatibilities",
    "registeredAt",
    "registeredBy",
    "deregisteredAt",
    "deleteRequestedAt",
];

/// A task definition as received.
#[derive(Debug, Clone, PartialEq)]
struct DescribedDefinition {
    /// ARN, revision included.
    arn: String,
    /// Whether a service may be given this revision.
    is_active: bool,
    /// The parameters of a `RegisterTaskDefinition` call that creates an identical revision, tags included.
    document: Value,
}

/// Parses the response of `DescribeTaskDefinition`: `{"taskDefinition": {…}, "tags": […]}`.
fn described(answer: &Value) -> Option<DescribedDefinition> {
    let definition = answer.get("taskDefinition")?.as_object()?;
    let text = |name: &str| definition.get(name).and_then(Value::as_str);
    // AWS rejects some empty lists, tags among them, and accepts all missing ones.
    let is_present = |value: &Value| !value.is_null() && value.as_array().is_none_or(|list| !list.is_empty());
    let mut document: Map<String, Value> = definition
        .iter()
        .filter(|(name, value)| !READ_ONLY_FIELDS.contains(&name.as_str()) && is_present(value))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    // Only AWS may set tags of this kind.
    let is_reserved_tag =
        |tag: &Value| tag.get("key").and_then(Value::as_str).is_some_and(|key| key.starts_with("aws:"));
    let tags = answer.get("tags").and_then(Value::as_array).into_iter().flatten();
    let tags: Vec<Value> = tags.filter(|tag| !is_reserved_tag(tag)).cloned().collect();
    if !tags.is_empty() {
        document.insert("tags".to_owned(), tags.into());
    }
    Some(DescribedDefinition {
        arn: text("taskDefinitionArn")?.to_owned(),
        // Emulators omit the status.
        is_active: text("status").is_none_or(|status| status == TaskDefinitionStatus::Active.as_str()),
        document: document.into(),
    })
}

/// Those of these task definitions that are of exactly this family, the newest first. Emulators list them in another
/// order than the one asked for.
fn revisions_of(family: &str, arns: Vec<String>) -> Vec<String> {
    let revision = |arn: &str| {
        let (name, revision) = short_name(arn).rsplit_once(':')?;
        revision.parse::<u32>().ok().filter(|_| name == family)
    };
    let mut found: Vec<(u32, String)> = arns.into_iter().filter_map(|arn| Some((revision(&arn)?, arn))).collect();
    found.sort_by_key(|(revision, _)| Reverse(*revision));
    found.into_iter().map(|(_, arn)| arn).collect()
}

/// The same content in a canonical order: AWS returns variables, secrets and tags in another order than it received
/// them in.
fn normalized(mut document: Value) -> Value {
    fn sort(list: Option<&mut Value>, by: &str) {
        let key = |entry: &Value| entry.get(by).and_then(Value::as_str).unwrap_or_default().to_owned();
        if let Some(list) = list.and_then(Value::as_array_mut) {
            list.sort_by_key(key);
        }
    }
    for container in containers_mut(&mut document) {
        sort(container.get_mut("environment"), "name");
        sort(container.get_mut("secrets"), "name");
    }
    sort(document.get_mut("tags"), "key");
    document
}

/// Captures a response's JSON document beside the SDK's parsed output.
#[derive(Debug, Clone, Default)]
struct RawResponse(Arc<Mutex<Option<Value>>>);

impl RawResponse {
    fn take(&self) -> Option<Value> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Intercept for RawResponse {
    fn name(&self) -> &'static str {
        "AsItCame"
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        // An error's body is not needed, and not always JSON.
        let document = context.response().body().bytes().and_then(|body| serde_json::from_slice(body).ok());
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = document;
        Ok(())
    }
}

impl AwsCloud {
    /// The image of a container in a task definition.
    pub(super) async fn image(&self, task_definition: &str, container: &str) -> Result<String, AwsFailure> {
        let document = self.described(task_definition).await?.document;
        let refused = |reason| AwsFailure::Refused { reason };
        let found = container_named(&document, container, "the task definition").map_err(refused)?;
        let image = found.get("image").and_then(Value::as_str);
        image.map(str::to_owned).ok_or_else(|| refused(format!("the container {container} has no image")))
    }

    /// The newest active revision of a family of templates, and how it differs from the version `live`, if one is
    /// given, which is read in parallel.
    pub(super) async fn newest_template(
        &self,
        container: &str,
        family: &str,
        live: Option<&str>,
    ) -> Reading<TemplateReading> {
        let live = async {
            match live {
                Some(version) => self.described(version).await.map(Some),
                None => Ok(None),
            }
        };
        let (newest, live) = join!(Box::pin(self.newest_described(family)), Box::pin(live));
        let read = newest.and_then(|newest| {
            let live = live?.map(|live| live.document);
            let read = reading(newest.arn, &newest.document, live.as_ref(), container);
            read.map_err(|reason| AwsFailure::Refused { reason })
        });
        match read {
            Ok(template) => Reading::Known(template),
            Err(failure) => Reading::Unknown(failure.reason().to_owned()),
        }
    }

    async fn newest_described(&self, family: &str) -> Result<DescribedDefinition, AwsFailure> {
        match self.newest_revisions(family).await?.first() {
            Some(newest) => self.described(newest).await,
            None => Err(AwsFailure::Refused { reason: no_revision_reason(family) }),
        }
    }

    /// Finds or registers the task definition that equals `template` except for one image and, where `family` is given,
    /// its family.
    pub(super) async fn register_task_definition(
        &self,
        template: &str,
        container: &str,
        image: &str,
        family: Option<&str>,
    ) -> Outcome {
        match self.find_or_register(template, container, image, family).await {
            Ok((version, reused)) => Outcome::Registered { version, reused },
            Err(failure) => failure.outcome(),
        }
    }

    async fn find_or_register(
        &self,
        template: &str,
        container: &str,
        image: &str,
        family: Option<&str>,
    ) -> Result<(String, bool), AwsFailure> {
        let template = self.described(template).await?;
        let wanted = version_of(template.document.clone(), container, image, family);
        let wanted = wanted.map_err(|reason| AwsFailure::Refused { reason })?;
        let wanted_content = normalized(wanted.clone());
        let is_wanted =
            |found: &DescribedDefinition| found.is_active && normalized(found.document.clone()) == wanted_content;
        if is_wanted(&template) {
            return Ok((template.arn, true));
        }
        let family = wanted.get("family").and_then(Value::as_str).unwrap_or_default().to_owned();
        let mut attempts = 0;
        loop {
            // A revision that cannot be read only costs a superfluous registration.
            let newest_revisions = self.newest_revisions(&family).await.unwrap_or_default();
            let found = join_all(newest_revisions.iter().map(|arn| self.described(arn))).await;
            if let Some(identical) = found.into_iter().filter_map(Result::ok).find(is_wanted) {
                return Ok((identical.arn, true));
            }
            attempts += 1;
            match self.register(&family, &wanted).await {
                // The registration may have succeeded with only its response lost: the next attempt looks for it first.
                Err(AwsFailure::Unsure { .. } | AwsFailure::Throttled { .. })
                    if attempts < MAX_REGISTRATION_ATTEMPTS =>
                {
                    tokio::time::sleep(REGISTRATION_RETRY_DELAY).await;
                }
                registered => return Ok((registered?, false)),
            }
        }
    }

    /// Registers `document` unchanged and returns its ARN. `RegisterTaskDefinition` has no idempotency token: SDK
    /// retries are off, since a retry after a lost response would leave an unused revision behind.
    async fn register(&self, family: &str, document: &Value) -> Result<String, AwsFailure> {
        let body = document.to_string();
        let no_retries = RetryConfig::standard().with_max_attempts(1);
        let answer = self
            .clients
            .ecs()
            .await
            .register_task_definition()
            .family(family)
            .customize()
            .config_override(aws_sdk_ecs::config::Builder::new().retry_config(no_retries))
            .mutate_request(move |request| {
                request.headers_mut().insert("content-length", body.len().to_string());
                *request.body_mut() = SdkBody::from(body.as_str());
            })
            .send()
            .await
            .map_err(|error| AwsFailure::of("RegisterTaskDefinition", &error))?;
        let arn = answer.task_definition().and_then(TaskDefinition::task_definition_arn).map(str::to_owned);
        arn.ok_or_else(|| AwsFailure::Unsure { reason: "RegisterTaskDefinition: no ARN was given".to_owned() })
    }

    async fn described(&self, task_definition: &str) -> Result<DescribedDefinition, AwsFailure> {
        let raw_response = RawResponse::default();
        self.clients
            .ecs()
            .await
            .describe_task_definition()
            .task_definition(task_definition)
            .include(TaskDefinitionField::Tags)
            .customize()
            .interceptor(raw_response.clone())
            .send()
            .await
            .map_err(|error| AwsFailure::of("DescribeTaskDefinition", &error))?;
        let reason = || format!("DescribeTaskDefinition: the answer does not describe {task_definition}");
        raw_response.take().as_ref().and_then(described).ok_or_else(|| AwsFailure::Unsure { reason: reason() })
    }

    /// ARNs of the newest active revisions of a family, the newest first.
    pub(super) async fn newest_revisions(&self, family: &str) -> Result<Vec<String>, AwsFailure> {
        let answer = self
            .clients
            .ecs()
            .await
            .list_task_definitions()
            .family_prefix(family)
            .status(TaskDefinitionStatus::Active)
            .sort(SortOrder::Desc)
            .max_results(REVISIONS_CHECKED)
            .send()
            .await
            .map_err(|error| AwsFailure::of("ListTaskDefinitions", &error))?;
        Ok(revisions_of(family, answer.task_definition_arns.unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_ecs::operation::register_task_definition::RegisterTaskDefinitionInput as Registration;
    use serde_json::json;

    fn answer() -> Value {
        json!({
            "taskDefinition": {
                "taskDefinitionArn": "arn:aws:ecs:eu-west-1:123456789012:task-definition/api:7",
                "family": "api",
                "revision": 7,
                "status": "ACTIVE",
                "requiresAttributes": [{"name": "com.amazonaws.ecs.capability.docker-remote-api.1.18"}],
                "compatibilities": ["EC2", "FARGATE"],
                "registeredAt": 1_700_000_000.5,
                "registeredBy": "arn:aws:iam::123456789012:role/somebody",
                "placementConstraints": [],
                "volumes": [{"name": "cache", "host": {}}],
                "cpu": "256",
                "aFieldOfTomorrow": {"on": true},
                "containerDefinitions": [
                    {
                        "name": "api",
                        "image": "registry/shop/api@sha256:old",
                        "environment": [{"name": "B", "value": "2"}, {"name": "A", "value": "1"}],
                        "secrets": [{"name": "PASSWORD", "valueFrom": "arn:aws:ssm:parameter/password"}],
                        "mountPoints": [],
                        "aFieldOfTomorrow": 7,
                    },
                    {"name": "proxy", "image": "registry/proxy:1"},
                ],
            },
            "tags": [{"key": "team", "value": "shop"}, {"key": "aws:cloudformation:stack-name", "value": "shop"}],
        })
    }

    fn document() -> Value {
        described(&answer()).expect("a task definition").document
    }

    /// The field names of a shape, from the SDK's own schema.
    macro_rules! names {
        ($shape:ty) => {
            <$shape>::SCHEMA.members().iter().filter_map(|member| member.member_name()).map(str::to_owned)
        };
    }

    /// Issue 10, case 14: a service in IPv6-only subnets pulls from the dual-stack host, and from no other one.
    #[test]
    fn the_live_images_registry_host_is_kept() {
        let with = |image: &str| json!({"containerDefinitions": [{"name": "api", "image": image}]});
        let live = with("111122223333.dkr-ecr.eu-central-1.on.aws/shop/api@sha256:old");
        let release = "111122223333.dkr.ecr.eu-central-1.amazonaws.com/shop/api@sha256:new";
        let wanted = with("111122223333.dkr-ecr.eu-central-1.on.aws/shop/api@sha256:new");
        assert_eq!(version_of(live, "api", release, None), Ok(wanted));
        assert_eq!(version_of(with("ghcr.io/shop/api:v1"), "api", release, None), Ok(with(release)));
    }

    #[test]
    fn every_field_except_read_only_ones_is_registered() {
        let mut described: Vec<_> =
            names!(TaskDefinition).filter(|name| !READ_ONLY_FIELDS.contains(&name.as_str())).collect();
        described.push("tags".to_owned());
        described.sort();
        let mut registered: Vec<_> = names!(Registration).collect();
        registered.sort();
        assert_eq!(described, registered, "a field that is new to the SDK is read-only, or it is not");
        for name in READ_ONLY_FIELDS {
            assert!(names!(TaskDefinition).any(|known| known == *name), "{name} is no field of a task definition");
        }
    }

    #[test]
    fn unknown_fields_are_kept_unchanged() {
        let expected = json!({
            "family": "api",
            "volumes": [{"name": "cache", "host": {}}],
            "cpu": "256",
            "aFieldOfTomorrow": {"on": true},
            "containerDefinitions": answer()["taskDefinition"]["containerDefinitions"],
            "tags": [{"key": "team", "value": "shop"}],
        });
        assert_eq!(document(), expected);
    }

    #[test]
    fn only_the_named_containers_image_changes() {
        let after =
            version_of(document(), "api", "registry/shop/api@sha256:new", None).expect("the container is there");
        assert_eq!(after["containerDefinitions"][0]["image"], "registry/shop/api@sha256:new");
        assert_eq!(version_of(after, "api", "registry/shop/api@sha256:old", None), Ok(document()));
    }

    #[test]
    fn an_unknown_container_is_refused_listing_the_known_ones() {
        let reason = version_of(document(), "web", "image", None).expect_err("there is none of that name");
        assert_eq!(reason, "the task definition has no container web: it has api, proxy");
    }

    #[test]
    fn a_copy_in_another_family_keeps_every_field() {
        let image = "registry/shop/api@sha256:new";
        let mut expected = version_of(document(), "api", image, None).expect("the container is there");
        expected["family"] = "api-switchback".into();
        let copy = version_of(document(), "api", image, Some("api-switchback"));
        assert_eq!(copy, Ok(expected));
        let again = version_of(document(), "api", "registry/shop/api@sha256:old", Some("api"));
        assert_eq!(again, Ok(document()), "nothing but the family and the image");
    }

    #[test]
    fn a_template_is_reused_only_in_the_wanted_family() {
        let image = "registry/shop/api@sha256:old";
        let is_template = |family| {
            let wanted = version_of(document(), "api", image, family).expect("the container is there");
            normalized(wanted) == normalized(document())
        };
        assert!(is_template(None));
        assert!(is_template(Some("api")));
        assert!(!is_template(Some("api-switchback")));
    }

    #[test]
    fn revisions_are_those_of_the_family_alone_newest_first() {
        let arns = |names: &[&str]| -> Vec<String> {
            names.iter().map(|name| format!("arn:aws:ecs:eu-west-1:123456789012:task-definition/{name}")).collect()
        };
        let listed = arns(&["api-switchback:12", "api:9", "api:10", "api-v2:11", "api:2", "api"]);
        assert_eq!(revisions_of("api", listed), arns(&["api:10", "api:9", "api:2"]));
        assert_eq!(revisions_of("ap", arns(&["api:1"])), arns(&[]));
    }

    #[test]
    fn an_empty_tag_list_is_left_out() {
        let mut bare = answer();
        bare["tags"] = json!([]);
        assert_eq!(described(&bare).expect("a task definition").document.get("tags"), None);
    }

    #[test]
    fn content_is_compared_regardless_of_order() {
        let mut shuffled = document();
        shuffled["containerDefinitions"][0]["environment"].as_array_mut().expect("variables").reverse();
        assert_eq!(normalized(shuffled.clone()), normalized(document()));
        shuffled["containerDefinitions"][1]["image"] = "registry/proxy:2".into();
        assert_ne!(normalized(shuffled), normalized(document()));
    }

    #[test]
    fn an_inactive_revision_is_not_active() {
        let mut retired = answer();
        retired["taskDefinition"]["status"] = "INACTIVE".into();
        assert!(!described(&retired).expect("a task definition").is_active);
        assert!(described(&answer()).expect("a task definition").is_active);
    }
}
