//! The forms that texts of the file have.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use std::borrow::Cow;

macro_rules! text_type {
    ($(#[$doc:meta])* $type:ident, $schema:expr) => {
        $(#[$doc])*
        #[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub struct $type(pub String);

        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    };
}
text_type!(
    /// A name of Switchback's own: lower-case words joined by single hyphens.
    NameText,
    json_schema!({"type": "string", "maxLength": 63, "pattern": "^[a-z0-9]+(-[a-z0-9]+)*$"})
);
text_type!(
    /// A duration: `90s`, `5m`, `4h`, `1d`, or 0.
    DurationText,
    json_schema!({"anyOf": [{"type": "string", "pattern": "^(0|[0-9]+[smhd])$"}, {"const": 0}], "examples": ["90s", "5m", "4h", "1d"]})
);
text_type!(
    /// A share: `1%` to `100%`.
    PercentText,
    json_schema!({"type": "string", "pattern": "^0{0,2}[1-9][0-9]?%$|^100%$|^0[1-9][0-9]%$", "examples": ["10%", "100%"]})
);
text_type!(
    /// The ARN of a listener rule of an Application Load Balancer, or of a listener of an Application or Network Load Balancer.
    RuleOrListenerArn,
    json_schema!({"type": "string", "pattern": "^arn:aws[a-z-]*:elasticloadbalancing:[a-z0-9-]+:[0-9]{12}:(listener-rule/app|listener/(app|net))/"})
);
text_type!(
    /// The ARN of an SNS topic.
    TopicArn,
    json_schema!({"type": "string", "pattern": "^arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]{1,256}([.]fifo)?$"})
);
text_type!(
    /// The word `live`.
    LiveText,
    json_schema!({"type": "string", "const": "live"})
);
text_type!(
    /// The name of a family of task definitions. With the suffix of its versions it has at most 255 characters.
    FamilyName,
    json_schema!({"type": "string", "pattern": "^[A-Za-z0-9_-]{1,244}$", "examples": ["shop-api"]})
);
text_type!(
    /// The name of an alarm, not its ARN.
    AlarmName,
    json_schema!({"type": "string", "minLength": 1, "maxLength": 255})
);
text_type!(
    /// The ARN of an SNS topic that can have a subscription by mail.
    MailTopicArn,
    json_schema!({"type": "string", "pattern": "^arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]{1,256}$"})
);
text_type!(
    /// The ID of a member of Slack.
    SlackMember,
    json_schema!({"type": "string", "pattern": "^[UW][A-Z0-9]{2,23}$", "examples": ["U012AB3CD"]})
);
text_type!(
    /// The ID of a channel of Slack.
    SlackChannel,
    json_schema!({"type": "string", "pattern": "^[CGD][A-Z0-9]{2,23}$", "examples": ["C012AB3CD"]})
);
text_type!(
    /// The ARN of whoever calls AWS.
    CallerArn,
    json_schema!({
        "type": "string",
        "maxLength": 256,
        "pattern": "^arn:aws[a-z-]*:(iam::[0-9]{12}:(root|user/.+)|sts::[0-9]{12}:(assumed-role/[^/]+/[^/]+|federated-user/.+))$"
    })
);
text_type!(
    /// A number that is a name: digits, in quotes or not.
    NumericIdText,
    json_schema!({
        "anyOf": [{"type": "string", "pattern": "^[1-9][0-9]{0,19}$"}, {"type": "integer", "minimum": 1}],
        "examples": ["123456789"]
    })
);
text_type!(
    /// The number of an AWS account: 12 digits, in quotes or not.
    AccountText,
    json_schema!({
        "anyOf": [{"type": "string", "pattern": "^[0-9]{12}$"}, {"type": "integer", "minimum": 1, "maximum": 999_999_999_999_u64}],
        "examples": ["111122223333"]
    })
);
text_type!(
    /// The name of a Region.
    RegionText,
    json_schema!({
        "type": "string",
        "pattern": "^[a-z]{2,5}(-[a-z]+)+-[0-9]{1,2}$",
        "examples": ["eu-central-1"]
    })
);
text_type!(
    /// People of a group, each once.
    GroupMembers,
    json_schema!({
        "type": "array",
        "minItems": 1,
        "maxItems": 200,
        "uniqueItems": true,
        "items": {"type": "string", "maxLength": 63, "pattern": "^[a-z0-9]+(-[a-z0-9]+)*$"}
    })
);
text_type!(
    /// Other environments, each once.
    EnvironmentNames,
    json_schema!({
        "type": "array",
        "minItems": 1,
        "maxItems": 20,
        "uniqueItems": true,
        "items": {"type": "string", "maxLength": 63, "pattern": "^[a-z0-9]+(-[a-z0-9]+)*$"}
    })
);
text_type!(
    /// Days of the week and a time of day; one that ends before it begins ends on the day after.
    WindowText,
    json_schema!({
        "type": "string",
        "pattern": "^(daily|(mon|tue|wed|thu|fri|sat|sun)(-(mon|tue|wed|thu|fri|sat|sun))?(,(mon|tue|wed|thu|fri|sat|sun)(-(mon|tue|wed|thu|fri|sat|sun))?)*) ([01][0-9]|2[0-3]):[0-5][0-9]-(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$",
        "examples": ["mon-thu 09:00-16:00", "mon,wed 22:00-02:00", "daily 00:00-24:00"]
    })
);
text_type!(
    /// A date and a time of day.
    DateTimeText,
    json_schema!({
        "type": "string",
        "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2} ([01][0-9]|2[0-3]):[0-5][0-9]$",
        "examples": ["2026-12-20 18:00"]
    })
);
text_type!(
    /// A pattern of refs.
    RefPattern,
    json_schema!({"type": "string", "maxLength": 256, "pattern": "^refs/(heads|tags)/", "examples": ["refs/heads/main", "refs/tags/v*"]})
);
text_type!(
    /// A pattern of workflows.
    WorkflowPattern,
    json_schema!({
        "type": "string",
        "maxLength": 256,
        "pattern": "^[.]github/workflows/[^@]*$",
        "examples": [".github/workflows/promote.yml"]
    })
);
text_type!(
    /// A pattern of reusable workflows, as claim `job_workflow_ref` has them.
    ReusableWorkflowPattern,
    json_schema!({
        "type": "string",
        "maxLength": 256,
        "pattern": "^[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+/[.]github/workflows/[^@]+@(refs/(heads|tags)/.*|[0-9A-Fa-f]{40})$",
        "examples": ["octo-org/workflows/.github/workflows/deploy.yml@refs/heads/main"]
    })
);
text_type!(
    /// An event of GitHub Actions.
    EventName,
    json_schema!({
        "type": "string",
        "pattern": "^[a-z_]+$",
        "not": {"enum": ["pull_request", "pull_request_target"]},
        "examples": ["push", "workflow_dispatch"]
    })
);
