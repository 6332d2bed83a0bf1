//! Notifications: which receivers are notified of which journal facts.

use crate::journal::Fact;
use crate::names::{Name, TargetId};
use serde::{Deserialize, Serialize};

/// One receiver of notifications, and what it receives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotificationPolicy {
    /// SNS topic or Slack channel.
    #[serde(flatten)]
    pub receiver: Receiver,
    /// Only of these environments; empty: all.
    pub environments: Vec<Name>,
    /// Only of these services; empty: all.
    pub services: Vec<Name>,
    /// Which facts are sent.
    pub facts: FactFilter,
}

impl NotificationPolicy {
    /// Whether this receiver is notified of `fact` on `target`.
    #[must_use]
    pub fn matches(&self, target: &TargetId, fact: &Fact) -> bool {
        let among = |names: &[Name], name: &Name| names.is_empty() || names.contains(name);
        let is_selected = match self.facts {
            FactFilter::Attention => fact.needs_attention(),
            FactFilter::Verdicts => matches!(fact, Fact::Ended { .. }),
            FactFilter::All => true,
        };
        is_selected && among(&self.environments, &target.environment) && among(&self.services, &target.service)
    }
}

/// Where notifications go.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Receiver {
    /// ARN of an SNS topic.
    Topic(String),
    /// ID of a Slack channel: `C012AB3CD`.
    Slack(String),
}

/// Which journal facts a receiver is notified of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FactFilter {
    /// Those that need a person's attention: starts, trouble, rollbacks, ends. The default.
    Attention,
    /// Only the ends of deployments.
    Verdicts,
    /// Every fact.
    All,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::Verdict;

    #[test]
    fn a_receiver_gets_only_the_facts_it_subscribed_to() {
        let name = |text: &str| Name::new(text).expect("a name");
        let target = TargetId::parse("shop/api/prod").expect("a target");
        let everywhere = NotificationPolicy {
            receiver: Receiver::Topic("arn:aws:sns:eu-central-1:111122223333:deployments".to_owned()),
            environments: vec![],
            services: vec![],
            facts: FactFilter::Attention,
        };
        let ended = Fact::Ended { verdict: Verdict::Succeeded, reason: String::new(), live: None };
        let hook = Fact::HookStarted { hook: "smoke".to_owned() };
        let notified =
            |route: &NotificationPolicy| [&ended, &Fact::Resumed, &hook].map(|fact| route.matches(&target, fact));
        assert_eq!(notified(&everywhere), [true, true, false]);
        assert_eq!(
            notified(&NotificationPolicy { facts: FactFilter::Verdicts, ..everywhere.clone() }),
            [true, false, false]
        );
        assert_eq!(notified(&NotificationPolicy { facts: FactFilter::All, ..everywhere.clone() }), [true; 3]);
        let elsewhere = [
            NotificationPolicy { environments: vec![name("dev")], facts: FactFilter::All, ..everywhere.clone() },
            NotificationPolicy { services: vec![name("site")], facts: FactFilter::All, ..everywhere.clone() },
        ];
        for route in elsewhere {
            assert_eq!(notified(&route), [false; 3], "{route:?}");
        }
        let here = NotificationPolicy {
            environments: vec![name("dev"), name("prod")],
            services: vec![name("api")],
            ..everywhere
        };
        assert_eq!(notified(&here), [true, true, false]);
    }
}
