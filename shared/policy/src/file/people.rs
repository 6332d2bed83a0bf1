//! Who may do what, and who is notified of what: people, grants of workflows, notifications.

use super::{
    CallerArn, EventName, MailTopicArn, NameText, NumericIdText, RefPattern, ReusableWorkflowPattern, SlackChannel,
    SlackMember, TopicArn, WorkflowPattern,
};
use schemars::JsonSchema;

mapping! {
    /// A person, by what proves them at each door. What proves one person proves no other.
    pub struct Person {
        /// Slack's member ID: the profile has it under "Copy member ID".
        pub slack: Option<SlackMember>,
        /// ARNs of IAM users or of sessions of a role, as `aws sts get-caller-identity` shows them. Whoever may assume the role may
        /// choose the session's name, unless its trust policy fixes `sts:RoleSessionName`; IAM Identity Center fixes it.
        #[schemars(length(max = 5))]
        pub iam: Option<Vec<CallerArn>>,
        /// GitHub's number of their account: deployments that their workflows ask for, they do not approve themselves.
        pub github: Option<NumericIdText>,
        /// ARN of an SNS topic that only they are subscribed to: approvals are asked for there, by signed link. Its name begins with the
        /// stack's TopicPrefix.
        pub mail: Option<MailTopicArn>,
    }
}

mapping! {
    /// What workflows of a repository of GitHub may do. Every key that is there must fit the token of the job, and a pull request is
    /// never granted anything.
    pub struct Grant {
        /// GitHub's number of the repository, as `gh api repos/OWNER/NAME --jq .id` shows it: no other one ever gets it.
        pub repository_id: NumericIdText,
        /// GitHub's number of its owner, as `gh api repos/OWNER/NAME --jq .owner.id` shows it.
        pub repository_owner_id: NumericIdText,
        /// Branches and tags that it must run on; `*` ends at a slash, `**` does not. A merge queue's branches are meant only by
        /// patterns that begin with `refs/heads/gh-readonly-queue/`. Default: any other.
        #[schemars(length(min = 1, max = 20))]
        pub refs: Option<Vec<RefPattern>>,
        /// The GitHub environment that the job must have, with the protection that it has there, in upper or lower case. Default:
        /// any, or none.
        #[schemars(length(min = 1, max = 255))]
        pub environment: Option<String>,
        /// The workflows that it must be, by their paths in the repository, on one of `refs`. Default: any.
        #[schemars(length(min = 1, max = 20))]
        pub workflows: Option<Vec<WorkflowPattern>>,
        /// The reusable workflows one of which the job must come through, in full: owner, repository, path and ref. Default: any, or
        /// none.
        #[schemars(length(min = 1, max = 20))]
        pub reusable_workflows: Option<Vec<ReusableWorkflowPattern>>,
        /// What must have set it off. Default: push, workflow_dispatch, schedule, release, repository_dispatch or deployment.
        #[schemars(length(min = 1, max = 20))]
        pub events: Option<Vec<EventName>>,
        /// What it may do. Default: promote.
        #[schemars(length(min = 1, max = 3))]
        pub may: Option<Vec<Permission>>,
        /// With which services. Default: with all.
        #[schemars(length(min = 1, max = 50))]
        pub services: Option<Vec<NameText>>,
        /// In which environments of this file. At least one.
        #[schemars(length(min = 1, max = 50))]
        pub environments: Vec<NameText>,
    }
}

/// What a workflow can be allowed to do.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum Permission {
    /// Bring what the environments before have verified.
    Promote,
    /// Bring a release by its name, where the environment's rules let it in.
    Deploy,
    /// Use the hotfix lane.
    Hotfix,
}

mapping! {
    /// An SNS topic or a channel of Slack, exactly one of them, and what it is notified of.
    #[schemars(extend("oneOf" = [{"required": ["topic"]}, {"required": ["slack"]}]))]
    pub struct Notification {
        /// ARN of the SNS topic; its name begins with the stack's TopicPrefix.
        pub topic: Option<TopicArn>,
        /// ID of the channel of Slack, which the app has been invited to: one thread a release, and the buttons to approve with.
        pub slack: Option<SlackChannel>,
        /// Only of these environments. Default: of all.
        #[schemars(length(min = 1, max = 50))]
        pub environments: Option<Vec<NameText>>,
        /// Only of these services. Default: of all.
        #[schemars(length(min = 1, max = 50))]
        pub services: Option<Vec<NameText>>,
        /// Only of these facts of the journal. Default: attention.
        pub facts: Option<Facts>,
    }
}

/// Which facts of the journal are delivered.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "snake_case")]
pub enum Facts {
    /// What is worth a person's attention: start, trouble, rollback, end.
    Attention,
    /// How deployments ended.
    Verdicts,
    /// Every one.
    All,
}
