//! Templates that the owners' own tooling registers: what the cloud port reads of a family, and where the versions made
//! of one are registered.

use engine::Cloud as _;
use futures::executor::block_on;
use rollout::template::{TemplateReading, TemplateSource};
use rollout::{Effect, Outcome, Reading, TargetResources};
use serde_json::{Value, json};
use simulation::LiveCloud;
use simulation::world::scene::digest_of;
use simulation::world::{ApiResult, PairNames, PairSetup, RollingNames, Settings, World};
use std::sync::{Arc, Mutex, MutexGuard};

const FAMILY: &str = "shop-api-dev";
const VERSIONS: &str = "shop-api-dev-switchback";

fn setup() -> PairSetup {
    PairSetup::new("shop", "api", "dev")
}

/// Names of a scene's resources.
enum SceneNames {
    Pair(Box<PairNames>),
    Rolling(Box<RollingNames>),
}

/// A scene whose policy names a family of templates, and the cloud port over its world.
struct TemplateFixture {
    world: Arc<Mutex<World>>,
    cloud: LiveCloud,
    resources: TargetResources,
    template: TemplateSource,
    names: SceneNames,
    /// ARN of the live version.
    live: String,
    repository_uri: String,
}

impl TemplateFixture {
    fn pair() -> Self {
        let built = setup().with_template().build(Settings::default());
        let (live, repository_uri) = (built.names.task_definition.clone(), built.names.repository_uri.clone());
        let names = SceneNames::Pair(Box::new(built.names));
        Self::over(built.world, built.policy.resources, built.policy.template, names, live, repository_uri)
    }

    fn rolling() -> Self {
        let built = setup().rolling().with_template().build(Settings::default());
        let (live, repository_uri) = (built.names.task_definition.clone(), built.names.repository_uri.clone());
        let names = SceneNames::Rolling(Box::new(built.names));
        Self::over(built.world, built.policy.resources, built.policy.template, names, live, repository_uri)
    }

    fn over(
        world: World,
        resources: TargetResources,
        template: TemplateSource,
        names: SceneNames,
        live: String,
        repository_uri: String,
    ) -> Self {
        let world = Arc::new(Mutex::new(world));
        Self { cloud: LiveCloud::new(Arc::clone(&world)), world, resources, template, names, live, repository_uri }
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().expect("no test has panicked")
    }

    fn try_register(&self, family: &str, change: impl FnOnce(&mut Value)) -> ApiResult<String> {
        match &self.names {
            SceneNames::Pair(names) => names.register_template(&mut self.world(), family, change),
            SceneNames::Rolling(names) => names.register_template(&mut self.world(), family, change),
        }
    }

    fn register_template(&self, family: &str, change: impl FnOnce(&mut Value)) -> String {
        self.try_register(family, change).expect("it is sound")
    }

    fn newest(&self, family: &str, live: Option<&str>) -> Reading<TemplateReading> {
        block_on(self.cloud.template(&self.resources, family, live))
    }

    fn known(&self, family: &str) -> TemplateReading {
        match self.newest(family, Some(&self.live)) {
            Reading::Known(template) => template,
            Reading::Unknown(reason) => panic!("{reason}"),
        }
    }

    /// Registers a copy of `template` with the `number`th release's image.
    fn register(&self, template: &str, number: u64, family: Option<&str>) -> Outcome {
        let image = format!("{}@{}", self.repository_uri, digest_of(number));
        let effect =
            Effect::RegisterVersion { template: template.to_owned(), image, family: family.map(str::to_owned) };
        block_on(self.cloud.perform(&self.resources, &effect))
    }

    /// Registers as above, and describes the version.
    fn version(&self, template: &str, number: u64, family: Option<&str>) -> (String, Value) {
        match self.register(template, number, family) {
            Outcome::Registered { version, .. } => {
                let document = self.world().describe_task_definition(&version).expect("it is there").document;
                (version, document)
            }
            other => panic!("{other:?}"),
        }
    }
}

fn both() -> [TemplateFixture; 2] {
    [TemplateFixture::pair(), TemplateFixture::rolling()]
}

fn with_cpu(cpu: &str) -> impl FnOnce(&mut Value) {
    let cpu = cpu.to_owned();
    move |document| document["cpu"] = cpu.into()
}

#[test]
fn a_scene_names_the_family_of_its_first_task_definition_on_request() {
    assert_eq!(setup().build(Settings::default()).policy.template, TemplateSource::Live);
    for fixture in both() {
        assert_eq!(fixture.template, TemplateSource::Family(FAMILY.to_owned()));
        let newest = fixture.known(FAMILY);
        assert_eq!(newest.version, fixture.live);
        assert!(newest.is_unchanged(), "{newest:?}");
    }
}

#[test]
fn the_newest_template_is_read_with_its_differences_from_the_live_version() {
    for fixture in both() {
        fixture.register_template(FAMILY, with_cpu("512"));
        let newest = fixture.register_template(FAMILY, |document| {
            document["memory"] = "1024".into();
            document["containerDefinitions"][0]["environment"] = json!([{"name": "PORT", "value": "80"}]);
        });
        // A family of which this one is the beginning of the name.
        fixture.register_template("shop-api-dev-2", with_cpu("4096"));
        let template = fixture.known(FAMILY);
        assert_eq!(template.version, newest);
        let changes: Vec<_> = template
            .changes
            .iter()
            .map(|change| {
                let value = |value: &Option<String>| value.clone().unwrap_or_default();
                (change.field.as_str(), value(&change.before), value(&change.after))
            })
            .collect();
        let change = |field, before: &str, after: &str| (field, before.to_owned(), after.to_owned());
        // The placeholder for the image is no difference.
        let expected = [
            change("container app: environment PORT", "8080", "80"),
            change("cpu", "256", "512"),
            change("memory", "512", "1024"),
        ];
        assert_eq!(changes, expected);

        let Reading::Known(alone) = fixture.newest(FAMILY, None) else { panic!("it is readable") };
        assert!(alone.version == newest && alone.is_unchanged(), "{alone:?}");
    }
}

#[test]
fn a_deregistered_revision_is_no_template() {
    for fixture in both() {
        let newest = fixture.register_template(FAMILY, with_cpu("512"));
        let deregister = |arn: &str| fixture.world().deregister_task_definition(arn).expect("it is there");
        deregister(&newest);
        assert_eq!(fixture.known(FAMILY).version, fixture.live);
        deregister(&fixture.live);
        let Reading::Unknown(reason) = fixture.newest(FAMILY, Some(&fixture.live)) else { panic!("there is none") };
        assert!(reason.contains(FAMILY) && reason.contains("no active task definition"), "{reason}");
    }
}

#[test]
fn a_template_without_the_container_of_the_release_is_unknown() {
    for fixture in both() {
        let rename = |document: &mut Value| document["containerDefinitions"][0]["name"] = "web".into();
        fixture.register_template(FAMILY, rename);
        let Reading::Unknown(reason) = fixture.newest(FAMILY, None) else { panic!("it has no container app") };
        assert!(reason.contains("has no container app"), "{reason}");
    }
}

#[test]
fn a_template_that_may_not_be_read_is_unknown() {
    let fixture = TemplateFixture::rolling();
    fixture.world().deny("ecs:ListTaskDefinitions", true);
    let Reading::Unknown(reason) = fixture.newest(FAMILY, None) else { panic!("it is denied") };
    assert!(reason.contains("AccessDenied"), "{reason}");
}

#[test]
fn a_version_made_of_a_template_is_registered_in_its_own_family_once() {
    for fixture in both() {
        let template = fixture.register_template(FAMILY, with_cpu("512"));
        let (version, document) = fixture.version(&template, 7, Some(VERSIONS));
        assert!(version.contains(":task-definition/shop-api-dev-switchback:"), "{version}");
        assert_eq!((&document["cpu"], &document["family"]), (&json!("512"), &json!(VERSIONS)));
        assert_eq!(fixture.register(&template, 7, Some(VERSIONS)), Outcome::Registered { version, reused: true });
        assert_eq!(fixture.known(FAMILY).version, template, "no version is taken for a template");
    }
}

#[test]
fn a_template_that_runs_the_image_already_is_copied_into_the_other_family() {
    for fixture in both() {
        let same_family = Outcome::Registered { version: fixture.live.clone(), reused: true };
        assert_eq!(fixture.register(&fixture.live, 0, None), same_family);
        let (version, mut copy) = fixture.version(&fixture.live, 0, Some(VERSIONS));
        assert_ne!(version, fixture.live);
        copy["family"] = FAMILY.into();
        let first = fixture.world().describe_task_definition(&fixture.live).expect("it is there");
        let tags = fixture.world().describe_task_definition(&version).expect("it is there").tags;
        assert_eq!((copy, tags), (first.document, first.tags), "nothing but the family differs");
    }
}
