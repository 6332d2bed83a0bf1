//! An application whose environments have rules, and what people and workflows do to it.

use api::TargetStatus;
use rollout::deployment::GateProgress;
use rollout::{Fact, JournalEntry};
use serde_json::{Value, json};
use std::process::Output;
use std::time::{Duration, SystemTime};
use tests::harness::http::{Response, ask};
use tests::harness::issuer::GithubJob;
use tests::harness::scenario::{PATIENCE, Scenario, ScenarioOptions};
use tests::harness::slack::{ButtonPress, ChannelMessage, SignedInteraction, SlackUser};
use tests::harness::{AUDIENCE, REGION, Stack, Subscriber, ministack, stack, topic_arn};

/// Button and input of a message that asks for approval.
pub(crate) const APPROVE: &str = "switchback_approve";
pub(crate) const REJECT: &str = "switchback_reject";
pub(crate) const REASON: &str = "switchback_reason";

/// As quick as a deployment can be.
pub(crate) const QUICK: &str = "{steps: [{traffic: 100%}], bake: 1s, keep_warm: 0, drain: 1s}";

/// The numbers of the repository whose workflows may do something, and of its owner.
pub(crate) const REPOSITORY_ID: u64 = 740_740;
pub(crate) const OWNER_ID: u64 = 650_650;

/// The policy's people. `eve` is of the workspace, too, and nobody has named her.
pub(crate) fn person(name: &str) -> SlackUser {
    SlackUser::new(name)
}

/// One application: its environments in order, its channel in Slack.
#[derive(Debug)]
pub(crate) struct Shop {
    pub(crate) application: String,
    pub(crate) channel: String,
    pub(crate) environments: Vec<Scenario>,
    /// The ARN of Dave's topic.
    pub(crate) topic: String,
    /// What he is sent.
    pub(crate) mail: Subscriber,
}

/// An environment: its name, its rules as they stand in the file, and what its target is like.
pub(crate) struct Environment {
    pub(crate) name: &'static str,
    pub(crate) rules: &'static str,
    pub(crate) options: ScenarioOptions,
}

/// An environment of pushes that two of three people must agree to.
pub(crate) const APPROVAL_RULES: &str =
    "trigger: push, approval: {required: 2, from: [on-call, carol], expires: 1h, default: reject}";

impl Shop {
    /// Sets the scenes and applies the policy. Dave's mail goes to a topic named after the application.
    pub(crate) fn new(application: &str, environments: Vec<Environment>) -> Self {
        let channel = stack().slack().channel(application);
        let topic = format!("switchback-approve-dave-{application}");
        let mail = ok(Subscriber::of_topic(stack(), &topic));
        let topic = topic_arn(&topic);
        let mut policy = vec![
            format!("application: {application}"),
            format!("services: {{api: {{repository: {application}/api, tags: {{glob: \"v*\"}}}}}}"),
            "people:".to_owned(),
            // She is who starts the workflows of these tests.
            "  ada: {slack: U0ADA, github: 1815}".to_owned(),
            "  bob: {slack: U0BOB}".to_owned(),
            "  carol: {slack: U0CAROL}".to_owned(),
            format!("  dave: {{mail: \"{topic}\"}}"),
            // Whose credentials the operator's binary has in these tests.
            format!("  erin: {{iam: [\"arn:aws:iam::{}:root\"]}}", ministack::ACCOUNT),
            "groups: {on-call: [ada, bob, dave]}".to_owned(),
            format!("notifications: [{{slack: {channel}, facts: all}}]"),
        ];
        if environments.iter().any(|environment| environment.name == "staging") {
            policy.push(format!(
                "github: [{{repository_id: {REPOSITORY_ID}, repository_owner_id: {OWNER_ID}, refs: [refs/heads/main], \
                 workflows: [.github/workflows/promote.yaml], environment: promotion, events: [push, \
                 workflow_dispatch], may: [promote], environments: [staging]}}]"
            ));
        }
        policy.push("environments:".to_owned());
        let mut scenes = Vec::new();
        for Environment { name, rules, options } in &environments {
            let scene = Scenario::set(application, "api", name, options);
            policy.push(format!("  {name}: {{{rules}, targets: {{api: {}}}}}", scene.target_policy(options)));
            scenes.push(scene);
        }
        let shop = Self { application: application.to_owned(), channel, environments: scenes, topic, mail };
        shop.environments[0].apply(&policy.join("\n"));
        shop
    }

    /// One environment, `dev`, whose pushes wait for two people. Nothing is pushed yet.
    pub(crate) fn with_approval(application: &str) -> Self {
        let options = ScenarioOptions { strategy: QUICK, ..ScenarioOptions::default() };
        Self::new(application, vec![Environment { name: "dev", rules: APPROVAL_RULES, options }])
    }

    /// `dev` by push, then `staging`, which only workflows promote to.
    pub(crate) fn with_staging(application: &str) -> Self {
        let options = ScenarioOptions { strategy: QUICK, ..ScenarioOptions::default() };
        Self::new(
            application,
            vec![
                Environment { name: "dev", rules: "trigger: push", options: options.clone() },
                Environment { name: "staging", rules: "after: [dev]", options },
            ],
        )
    }

    pub(crate) fn first(&self) -> &Scenario {
        &self.environments[0]
    }

    // --- workflows ---

    /// A job of the repository that the policy names, as the policy wants it.
    pub(crate) fn job(&self) -> GithubJob {
        let repository = format!("acme/{}", self.application);
        GithubJob { environment: Some("promotion".to_owned()), ..GithubJob::of(&repository, REPOSITORY_ID, OWNER_ID) }
    }

    /// What a workflow posts to promote a release to `staging`.
    pub(crate) fn promotion(&self, release: &str) -> Value {
        json!({
            "kind": "promote", "application": self.application, "environment": "staging", "services": {"api": release},
        })
    }

    /// Posts it with this token; an answer of any status is one.
    pub(crate) fn post(&self, token: Option<&str>, body: &Value) -> Response {
        let url = format!("{}/v1/promotions", api_url("PromotionsApi"));
        let bearer = token.map(|token| format!("Bearer {token}"));
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(bearer.iter().map(|bearer| ("authorization", bearer.as_str())));
        ok(ask("POST", &url, &headers, &body.to_string()))
    }

    /// Posts it as this job, with a token that was just issued.
    pub(crate) fn post_as(&self, job: &GithubJob, body: &Value) -> Response {
        self.post(Some(&stack().issuer().token(job, AUDIENCE)), body)
    }

    // --- people ---

    /// Waits for the message that asks for approval of a deployment of this target.
    pub(crate) fn approval_message(&self, scene: &Scenario, number: u64) -> ChannelMessage {
        let found = || {
            let messages = stack().slack().messages(&self.channel);
            let wanted = |message: &ChannelMessage| {
                let about = |value: &str| {
                    let value: Value = serde_json::from_str(value).unwrap_or_default();
                    value["t"] == scene.target() && value["d"] == number
                };
                message.buttons().iter().any(|(id, value)| id == APPROVE && about(value))
            };
            messages.into_iter().find(wanted).ok_or_else(|| "no message with buttons yet".to_owned())
        };
        scene.expect(&format!("people are asked about #{number}"), PATIENCE, found)
    }

    /// What Slack sends when somebody presses a button of a message as it was shown.
    pub(crate) fn press(
        &self,
        shown: &ChannelMessage,
        button: &str,
        by: &SlackUser,
        reason: &str,
    ) -> SignedInteraction {
        let typed: &[(&str, &str)] = if reason.is_empty() { &[] } else { &[(REASON, reason)] };
        ok(stack().slack().press_outdated(shown, ButtonPress { button, by, typed }))
    }

    /// What the deployed door answers to it: a status.
    pub(crate) fn send(&self, interaction: &SignedInteraction) -> u16 {
        ok(interaction.send(&format!("{}/slack/interactions", api_url("ApprovalsApi")))).status
    }

    /// Somebody presses a button, and Slack tells it.
    pub(crate) fn press_and_send(&self, shown: &ChannelMessage, button: &str, by: &str, reason: &str) {
        let status = self.send(&self.press(shown, button, &person(by), reason));
        assert_eq!(status, 200, "what Slack has signed is answered");
    }

    /// Ephemeral messages to those who pressed a button, as far as they are about this application.
    pub(crate) fn ephemeral_messages(&self) -> Vec<String> {
        let received = stack().slack().ephemeral_messages();
        let texts = received.iter().filter_map(|message| message["text"].as_str().map(str::to_owned));
        texts.filter(|text| text.contains(&format!("{}/", self.application))).collect()
    }
}

/// The operator's binary with these arguments, signed as the account's root: what it said, and how it ended.
pub(crate) fn operator(arguments: &[&str]) -> Output {
    let mut command = stack().operator();
    command
        .args(arguments)
        .env("SWITCHBACK_ENDPOINT", api_url("OperationsApi"))
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .env("AWS_REGION", REGION);
    ok(command.output())
}

/// The same, where it is to end well; answers what it printed.
pub(crate) fn operator_ok(arguments: &[&str]) -> String {
    let output = operator(arguments);
    let received = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{arguments:?}: {output:?}\n{received}");
    received
}

/// Waits until a push has become a release of a service (`application/service`).
pub(crate) fn wait_for_release(scene: &Scenario, service: &str, tag: &str) {
    scene.expect(&format!("{tag} is known"), Duration::from_secs(20), || {
        let listed = operator_ok(&["releases", service]);
        if listed.contains(tag) { Ok(()) } else { Err(listed) }
    });
}

/// Where an HTTP API of the deployed product is.
pub(crate) fn api_url(api: &str) -> String {
    ok(Stack::api_url(stack(), api))
}

pub(crate) fn ok<T, E: std::fmt::Display>(outcome: Result<T, E>) -> T {
    outcome.unwrap_or_else(|error| panic!("{error}"))
}

/// The machine's time, in seconds since 1970.
pub(crate) fn now_s() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or_default()
}

/// The state of a target, as operators see it.
pub(crate) fn status(scene: &Scenario) -> TargetStatus {
    ok(scene.operations().status())
}

/// The gates at which the target's deployment waits.
pub(crate) fn gates(scene: &Scenario) -> GateProgress {
    scene.expect("a deployment waits at its gates", PATIENCE, || {
        let running = status(scene).state.running.ok_or("nothing runs")?;
        running.gates.filter(|gates| gates.requested_at.is_some()).ok_or_else(|| "nobody is asked yet".to_owned())
    })
}

/// Waits until so many have said yes.
pub(crate) fn votes(scene: &Scenario, wanted: usize) {
    scene.expect(&format!("{wanted} have said yes"), Duration::from_secs(30), || {
        let votes = status(scene).state.running.and_then(|running| running.gates).map_or(0, |gates| gates.votes.len());
        if votes == wanted { Ok(()) } else { Err(format!("{votes} have")) }
    });
}

/// Commands that were refused, by what was asked, with the reason.
pub(crate) fn refusals(entries: &[JournalEntry]) -> Vec<(String, String)> {
    let refused = entries.iter().filter_map(|entry| match &entry.fact {
        Fact::CommandRefused { command, reason } => Some((command.clone(), reason.to_string())),
        _ => None,
    });
    refused.collect()
}

/// Waits until the journal tells of so many refusals, and answers them.
pub(crate) fn refused(scene: &Scenario, wanted: usize) -> Vec<(String, String)> {
    scene.expect(&format!("{wanted} refusals are in the journal"), Duration::from_secs(30), || {
        let refusals = refusals(&scene.journal());
        if refusals.len() >= wanted { Ok(refusals) } else { Err(format!("{refusals:?}")) }
    })
}
