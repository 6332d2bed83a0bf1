//! The file as a whole, and its services.

use super::{AccountText, Environment, Grant, GroupMembers, NameText, Notification, Person, RegionText};
use std::collections::BTreeMap;

mapping! {
    /// What a Switchback application is, where it runs, and how its releases reach it.
    #[schemars(title = "switchback.yaml")]
    pub struct File {
        /// The application's name, the first part of every target's: application/service/environment.
        pub application: NameText,
        /// What is built. At least one.
        #[schemars(extend("minProperties" = 1, "maxProperties" = 50))]
        pub services: BTreeMap<NameText, Service>,
        /// The people whom rules name. Default: nobody.
        #[schemars(extend("minProperties" = 1, "maxProperties" = 200))]
        pub people: Option<BTreeMap<NameText, Person>>,
        /// Groups of them, by names that no person has. Default: none.
        #[schemars(extend("minProperties" = 1, "maxProperties" = 50))]
        pub groups: Option<BTreeMap<NameText, GroupMembers>>,
        /// What workflows of GitHub Actions may do. Default: nothing.
        #[schemars(length(max = 50))]
        pub github: Option<Vec<Grant>>,
        /// Where it runs. At least one.
        #[schemars(extend("minProperties" = 1, "maxProperties" = 20))]
        pub environments: BTreeMap<NameText, Environment>,
        /// Who is notified of what. Default: nobody.
        #[schemars(length(max = 20))]
        pub notifications: Option<Vec<Notification>>,
    }
}

mapping! {
    /// A service: where its images come from.
    pub struct Service {
        /// The registry that the repository is in, where that is not the control plane's own. Only pushes to it are believed.
        pub registry: Option<Registry>,
        /// The ECR repository's name, without the registry's host.
        #[schemars(length(min = 2, max = 256))]
        pub repository: String,
        /// Which tags become releases. Default: every tag.
        pub tags: Option<Tags>,
        /// While true, pushes become releases but start no deployment. Default: false.
        pub paused: Option<bool>,
        /// The services that go first in a release train. Default: none.
        #[schemars(length(min = 1, max = 50))]
        pub depends_on: Option<Vec<NameText>>,
    }
}

mapping! {
    /// A registry: an account's, in a Region. One of the keys may be left out: then it is the control plane's own.
    #[schemars(extend("minProperties" = 1))]
    pub struct Registry {
        /// The account, 12 digits.
        pub account: Option<AccountText>,
        /// The Region: `eu-central-1`.
        pub region: Option<RegionText>,
    }
}

mapping! {
    /// Which tags become releases: exactly one kind of pattern, and another one for what it shall not take.
    #[schemars(extend("oneOf" = [{"required": ["glob"]}, {"required": ["regex"]}, {"required": ["semver"]}]))]
    pub struct Tags {
        /// A shell pattern: `v*`, `release-??`, `{main,release}-*`.
        #[schemars(length(min = 1, max = 256))]
        pub glob: Option<String>,
        /// A regular expression that the whole tag must match: `v[0-9]+`.
        #[schemars(length(min = 1, max = 256))]
        pub regex: Option<String>,
        /// A range of semantic versions: `>=1.2, <2`. A tag's leading `v` is not looked at.
        #[schemars(length(min = 1, max = 256))]
        pub semver: Option<String>,
        /// Tags that are taken by the pattern, and shall not be: `{glob: "*-{amd64,arm64}"}`. Default: none.
        pub not: Option<NotTags>,
    }
}

mapping! {
    /// Which tags do not become releases: exactly one kind of pattern.
    #[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
    pub struct NotTags {
        /// A shell pattern: `v*`, `release-??`, `{main,release}-*`.
        #[schemars(length(min = 1, max = 256))]
        pub glob: Option<String>,
        /// A regular expression that the whole tag must match: `v[0-9]+`.
        #[schemars(length(min = 1, max = 256))]
        pub regex: Option<String>,
        /// A range of semantic versions: `>=1.2, <2`. A tag's leading `v` is not looked at.
        #[schemars(length(min = 1, max = 256))]
        pub semver: Option<String>,
    }
}
