//! The file's format as types: the only place where its keys are declared. No value of them is ever built: they exist
//! for the JSON Schema and for the lists of known keys.
//!
//! A doc comment is a description in the schema, line breaks included. The reader walks the tree itself (it must
//! continue after a problem, and know line numbers), and takes from these types which keys a mapping has.
//! `tests/keys.rs` checks that schema, reader, writer and example have the same keys, and the same words for a choice.

/// Declares a mapping of the file as a struct whose fields are its keys, and lists them for the reader as `KEYS`.
macro_rules! mapping {
    (
        $(#[$meta:meta])*
        pub struct $type:ident {
            $($(#[$key_meta:meta])* pub $key:ident: $kind:ty,)+
        }
    ) => {
        #[derive(Debug, schemars::JsonSchema)]
        #[schemars(deny_unknown_fields)]
        $(#[$meta])*
        pub struct $type {
            $($(#[$key_meta])* pub $key: $kind,)+
        }

        impl $type {
            /// In the order in which messages list them.
            pub(crate) const KEYS: &'static [$crate::file::KnownKey] =
                &[$($crate::file::KnownKey::new(stringify!($key), stringify!($kind))),+];
        }
    };
}

mod application;
mod environment;
mod people;
mod target;
mod text_types;

use schemars::generate::SchemaSettings;
use serde_json::Value;

pub use application::{File, NotTags, Registry, Service, Tags};
pub use environment::{
    After, AfterSome, Approval, Concurrency, DefaultAnswer, Drift, Environment, Freeze, Gate, Hotfix, TrainRollback,
    Trains, Trigger,
};
pub use people::{Facts, Grant, Notification, Permission, Person};
pub use target::{
    Alarm, AlarmEntry, AtStart, Configuration, Deadlines, Defaults, Ecs, Firing, Hook, Hooks, InPlaceTargetGroup, Leg,
    Missing, StableFiring, Step, Strategy, Target, Task, TaskFailures, Template, TemplateFamily, TrafficEntry,
};
pub use text_types::{
    AccountText, AlarmName, CallerArn, DateTimeText, DurationText, EnvironmentNames, EventName, FamilyName,
    GroupMembers, LiveText, MailTopicArn, NameText, NumericIdText, PercentText, RefPattern, RegionText,
    ReusableWorkflowPattern, RuleOrListenerArn, SlackChannel, SlackMember, TopicArn, WindowText, WorkflowPattern,
};

/// A key that a mapping may have.
#[derive(Debug)]
pub(crate) struct KnownKey {
    pub(crate) name: &'static str,
    pub(crate) required: bool,
}

impl KnownKey {
    /// As in the schema, a key is required unless its type is an `Option`.
    const fn new(name: &'static str, rust_type: &str) -> Self {
        Self { name, required: !matches!(rust_type.as_bytes(), [b'O', b'p', b't', b'i', b'o', b'n', ..]) }
    }
}

/// The JSON Schema of `switchback.yaml` (draft 2020-12), as it lies beside this crate's manifest for editors.
#[must_use]
pub fn schema() -> String {
    let schema = SchemaSettings::draft2020_12().for_deserialize().into_generator().into_root_schema_for::<File>();
    let mut schema = schema.to_value();
    strip_null(&mut schema);
    format!("{schema:#}\n")
}

/// Removes `null` from optional keys: `key:` without a value is a mistake, and the reader reports it.
fn strip_null(schema: &mut Value) {
    match schema {
        Value::Object(keywords) => {
            if let Some(Value::Array(kinds)) = keywords.get_mut("type") {
                kinds.retain(|kind| kind != "null");
                if let [only] = kinds.as_slice() {
                    let only = only.clone();
                    keywords.insert("type".to_owned(), only);
                }
            }
            if let Some(Value::Array(options)) = keywords.get_mut("anyOf") {
                options.retain(|option| option["type"] != "null");
                if let [Value::Object(only)] = options.as_slice() {
                    let only = only.clone();
                    keywords.remove("anyOf");
                    for (keyword, value) in only {
                        keywords.entry(keyword).or_insert(value);
                    }
                }
            }
            keywords.values_mut().for_each(strip_null);
        }
        Value::Array(values) => values.iter_mut().for_each(strip_null),
        _ => {}
    }
}
