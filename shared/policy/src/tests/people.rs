//! People, groups, and permissions of workflows.

use super::files::{one_target, report};
use crate::parse;
use rollout::entry::{MAIL_PREFIX, Permission, Person, SLACK_PREFIX};
use rollout::{Actor, Name, TargetId};

const EXAMPLE: &str = include_str!("../../examples/switchback.yaml");
const TOPIC: &str = "arn:aws:sns:eu-central-1:111122223333";

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

/// A file with one target, with further lines at its top.
fn file_with(top: &str) -> String {
    format!("{top}\n{}", one_target(""))
}

/// The messages of such a file's problems, without positions.
fn messages(top: &str) -> Vec<String> {
    match parse(&file_with(top)) {
        Ok(_) => vec![],
        Err(problems) => problems.0.iter().map(|problem| format!("{}: {}", problem.path, problem.message)).collect(),
    }
}

#[test]
fn an_approver_is_recognized_by_each_of_their_identities() {
    let policy = parse(EXAMPLE).unwrap_or_else(|problems| panic!("{problems}"));
    let prod = policy.applied(&TargetId::parse("shop/api/prod").expect("a target"), 1).expect("in the file");
    let names: Vec<&str> = prod.entry.approvers.keys().map(Name::as_str).collect();
    assert_eq!(names, ["ada", "bob", "carol"], "the group is resolved");
    let ada: &Person = &prod.entry.approvers[&name("ada")];
    let person = |known: &str| Actor::Person { name: known.to_owned() };
    let workflow = |id: &str| Actor::Workflow { name: "github:shop/shop@1".to_owned(), actor_id: Some(id.to_owned()) };
    for actor in [
        person(&format!("{SLACK_PREFIX}U012AB3CD")),
        person(&format!("{MAIL_PREFIX}ada")),
        person("arn:aws:sts::111122223333:assumed-role/deployer/ada"),
        workflow("1234567"),
    ] {
        assert!(ada.is(&name("ada"), &actor), "{actor}");
    }
    for actor in [
        person(&format!("{SLACK_PREFIX}U045EF6GH")),
        person(&format!("{MAIL_PREFIX}bob")),
        workflow("7"),
        person("ada"),
    ] {
        assert!(!ada.is(&name("ada"), &actor), "{actor}");
    }
}

#[test]
fn a_persons_identities_are_validated() {
    const MEMBER: &str = "people.ada.slack: expected the ID of a member of Slack, such as `U012AB3CD`";
    const CALLER: &str = "people.ada.iam[0]: expected the ARN of an IAM user or of a role's session";
    for (person, problem) in [
        ("slack: '@ada'", MEMBER),
        ("slack: C012AB3CD", MEMBER),
        ("slack: u012ab3cd", MEMBER),
        ("slack: U0", MEMBER),
        ("github: ada", "people.ada.github: expected GitHub's number of an account: digits only"),
        ("github: -5", "people.ada.github: expected GitHub's number"),
        ("github: 012", "people.ada.github: expected GitHub's number"),
        ("github: 1e3", "people.ada.github: expected GitHub's number"),
        ("github: 123456789012345678901", "people.ada.github: expected GitHub's number"),
        ("mail: ada@example.com", "people.ada.mail: expected the ARN of an SNS topic"),
        (&format!("mail: '{TOPIC}:ada.fifo'"), "people.ada.mail: a FIFO topic sends no mail"),
        ("iam: ada", "people.ada.iam: expected a list of ARNs"),
        ("iam: [ada]", CALLER),
        ("iam: ['*']", CALLER),
        ("iam: ['arn:aws:iam::111122223333:user/*']", CALLER),
        ("iam: ['arn:aws:iam::1111:user/ada']", CALLER),
        ("iam: ['arn:aws:iam::111122223333:group/all']", CALLER),
        ("iam: ['arn:aws:sts::111122223333:assumed-role/deployer']", CALLER),
        ("iam: ['arn:aws:sts::111122223333:assumed-role/deployer/']", CALLER),
        ("iam: ['arn:aws:iam::111122223333:role/deployer']", "people.ada.iam[0]: this is a role"),
        ("email: a", "people.ada.email: unknown key `email`: did you mean `mail`?"),
    ] {
        let messages = messages(&format!("people: {{ada: {{{person}}}}}"));
        assert!(messages.len() == 1 && messages[0].starts_with(problem), "{person}: {messages:?}");
    }
    for person in [
        "slack: W012AB3CD",
        "github: '1'",
        "github: 18446744073709551615",
        "iam: []",
        "iam: ['arn:aws:iam::111122223333:user/people/ada', 'arn:aws-cn:sts::111122223333:assumed-role/r/ada@x.org']",
        "iam: ['arn:aws:sts::111122223333:federated-user/ada']",
    ] {
        assert_eq!(messages(&format!("people: {{ada: {{{person}}}}}")), [""; 0], "{person}");
    }
}

#[test]
fn an_identity_belongs_to_one_person_only() {
    let people = format!(
        "people:
  ada: {{slack: U012AB3CD, github: 1, mail: '{TOPIC}:ada', iam: ['arn:aws:iam::111122223333:user/ada']}}
  bob: {{slack: U012AB3CD, github: '1', mail: '{TOPIC}:ada', iam: ['arn:aws:iam::111122223333:user/ada']}}"
    );
    assert_eq!(
        report(&file_with(&people)),
        format!(
            "3:16: people.bob.slack: `U012AB3CD` is at `people.ada.slack` already: it proves one person, so keep it in one place
3:35: people.bob.github: `1` is at `people.ada.github` already: it proves one person, so keep it in one place
3:46: people.bob.mail: `{TOPIC}:ada` is at `people.ada.mail` already: it proves one person, so keep it in one place
3:97: people.bob.iam[0]: `arn:aws:iam::111122223333:user/ada` is at `people.ada.iam[0]` already: it proves one person, so keep it in one place"
        )
    );
    let shared = format!("people: {{ada: {{mail: '{TOPIC}:all'}}}}\nnotifications: [{{topic: '{TOPIC}:all'}}]");
    assert_eq!(
        messages(&shared),
        [format!(
            "people.ada.mail: `{TOPIC}:all` is a topic of `notifications` too: links to approve with are sent to `mail`, so it \
             needs a topic of ada's own"
        )]
    );
}

#[test]
fn groups_contain_known_people_and_have_unique_names() {
    let people = "people: {ada: {slack: U012AB3CD}, bob: {slack: U045EF6GH}}\n";
    for (groups, problem) in [
        ("{ada: [bob]}", "groups.ada: `ada` is a person already: give the group a name of its own"),
        ("{all: [ada, bop]}", "groups.all[1]: there is no person `bop`: did you mean `bob`?"),
        ("{all: [ada, ada]}", "groups.all[1]: `ada` is there already: take one away"),
        ("{all: []}", "groups.all: the list is empty: name people, or take the group away"),
        ("{all: ada}", "groups.all: expected a list of names (`[…]`), found `ada`"),
        ("{}", "groups: there are 0 groups by name: expected 1 to 50"),
    ] {
        assert_eq!(messages(&format!("{people}groups: {groups}")), [problem], "{groups}");
    }
    assert_eq!(
        messages("groups: {all: [ada]}"),
        ["groups.all[0]: there is no person `ada`: `people` has no such name"]
    );
    // Where a person's entry is invalid, only that is reported.
    let messages = messages("people: {ada: {slack: ada}}\ngroups: {all: [ada]}");
    assert!(messages.len() == 1 && messages[0].starts_with("people.ada.slack"), "{messages:?}");
}

#[test]
fn people_groups_and_grants_are_limited_in_number() {
    let people: String = (0..201).map(|n| format!("  p{n}: {{slack: U{n:08}}}\n")).collect();
    assert_eq!(messages(&format!("people:\n{people}")), ["people: there are 201 people by name: expected 1 to 200"]);
    let groups: String = (0..51).map(|n| format!("  g{n}: [ada]\n")).collect();
    let ada = "people: {ada: {slack: U012AB3CD}}\n";
    assert_eq!(messages(&format!("{ada}groups:\n{groups}")), ["groups: there are 51 groups by name: expected 1 to 50"]);
    let arns: String = (0..6).map(|n| format!("'arn:aws:iam::111122223333:user/u{n}',")).collect();
    assert_eq!(
        messages(&format!("people: {{ada: {{iam: [{arns}]}}}}")),
        ["people.ada.iam: there are 6 ARNs, at most 5 are allowed"]
    );
    let grant = "{repository_id: 1, repository_owner_id: 2, environments: [dev]}";
    let grants = vec![grant; 51].join(", ");
    assert_eq!(messages(&format!("github: [{grants}]")), ["github: there are 51 grants, at most 50 are allowed"]);
}

#[test]
fn a_minimal_grant_allows_promoting_every_service() {
    let policy = parse(&file_with("github: [{repository_id: 1, repository_owner_id: '2', environments: [dev]}]"))
        .unwrap_or_else(|problems| panic!("{problems}"));
    let [grant] = policy.grants.as_slice() else { panic!("{:?}", policy.grants) };
    assert_eq!((grant.repository_id.as_str(), grant.repository_owner_id.as_str()), ("1", "2"));
    assert_eq!(grant.permissions.iter().copied().collect::<Vec<_>>(), [Permission::Promote]);
    assert!(grant.services.is_empty() && grant.refs.is_empty() && grant.events.is_empty());
    assert!(grant.workflows.is_empty() && grant.github_environment.is_none());
    assert_eq!(grant.environments, [name("dev")]);
}

#[test]
fn a_grant_usable_from_any_branch_is_warned_about() {
    let warned = |keys: &str| {
        let text =
            file_with(&format!("github: [{{repository_id: 1, repository_owner_id: 2, environments: [dev]{keys}}}]"));
        crate::warnings(&parse(&text).unwrap_or_else(|problems| panic!("{problems}")))
    };
    for keys in ["", ", workflows: [.github/workflows/promote.yml]", ", events: [push]"] {
        let warnings = warned(keys);
        assert!(
            warnings.len() == 1 && warnings[0].starts_with("github[0] has neither `refs` nor `environment`"),
            "{warnings:?}"
        );
    }
    for keys in [
        ", refs: [refs/heads/main]",
        ", environment: production",
        ", reusable_workflows: [shop/ci/.github/workflows/deploy.yml@refs/heads/main]",
    ] {
        assert_eq!(warned(keys), Vec::<String>::new(), "{keys}");
    }
    assert_eq!(crate::warnings(&parse(EXAMPLE).expect("sound")), Vec::<String>::new());
}

#[test]
fn problems_of_a_grant_are_reported_at_their_path() {
    let grant = |keys: &str| {
        messages(&format!("github: [{{repository_id: 1, repository_owner_id: 2, environments: [dev], {keys}}}]"))
    };
    for (keys, problem) in [
        ("refs: [main]", "github[0].refs[0]: `main` is not a ref in full: write `refs/heads/…` for branches"),
        ("refs: ['**']", "github[0].refs[0]: `**` is not a ref in full"),
        ("refs: [refs/pull/1/merge]", "github[0].refs[0]: pull requests are never granted anything"),
        (
            "refs: ['refs/heads/[a']",
            "github[0].refs[0]: `refs/heads/[a` is not a glob such as `refs/tags/v*`: unclosed",
        ),
        ("refs: []", "github[0].refs: the list is empty: name refs, or take the key away"),
        ("refs: refs/heads/main", "github[0].refs: expected a list of refs"),
        ("refs: [refs/heads/a, refs/heads/a]", "github[0].refs[1]: `refs/heads/a` is there already"),
        ("workflows: [promote.yml]", "github[0].workflows[0]: `promote.yml` is not a workflow's path"),
        (
            "workflows: ['.github/workflows/a.yml@refs/heads/main']",
            "github[0].workflows[0]: write the workflow's path alone",
        ),
        (
            "reusable_workflows: [.github/workflows/deploy.yml@refs/heads/main]",
            "github[0].reusable_workflows[0]: `.github/workflows/deploy.yml@refs/heads/main` is not a reusable workflow in full",
        ),
        (
            "reusable_workflows: [shop/ci/.github/workflows/deploy.yml]",
            "github[0].reusable_workflows[0]: `shop/ci/.github/workflows/deploy.yml` is not a reusable workflow in full",
        ),
        (
            "reusable_workflows: ['shop/*/.github/workflows/deploy.yml@refs/heads/main']",
            "github[0].reusable_workflows[0]: `shop/*/.github/workflows/deploy.yml@refs/heads/main` is not a reusable",
        ),
        ("reusable_workflows: [shop/ci/.github/workflows/deploy.yml@v1]", "github[0].reusable_workflows[0]: `shop/ci"),
        ("events: [pull_request]", "github[0].events[0]: `pull_request` is never granted anything"),
        ("events: [pull_request_target]", "github[0].events[0]: `pull_request_target` is never granted anything"),
        ("events: ['*']", "github[0].events[0]: `*` is not an event of GitHub Actions, such as `push`"),
        (
            "may: [promot]",
            "github[0].may[0]: expected one of `promote`, `deploy`, `hotfix`, found `promot`; did you mean `promote`?",
        ),
        ("may: []", "github[0].may: the list is empty: a workflow that may do nothing needs no grant"),
        ("may: [deploy, deploy]", "github[0].may[1]: `deploy` is there already: take one away"),
        ("services: [apy]", "github[0].services[0]: there is no service `apy`: did you mean `api`?"),
        ("services: []", "github[0].services: the list is empty: name services, or take the key away for all"),
        ("environment: ''", "github[0].environment: expected the name of a GitHub environment, found an empty text"),
        ("repository: shop/shop", "github[0].repository: unknown key `repository`"),
    ] {
        let messages = grant(keys);
        assert!(messages.len() == 1 && messages[0].starts_with(problem), "{keys}: {messages:?}");
    }
    assert_eq!(
        messages("github: [{repository_id: shop, repository_owner_id: 2.5, environments: [def]}, {}]"),
        [
            "github[0].repository_id: expected GitHub's number of the repository: digits only, such as `123456789`, and no name; found `shop`",
            "github[0].repository_owner_id: expected GitHub's number of the repository's owner: digits only, such as `123456789`, and no name; found the number 2.5",
            "github[0].environments[0]: there is no environment `def`: did you mean `dev`?",
            "github[1]: `environments` is missing: add it",
            "github[1]: `repository_id` is missing: add it",
            "github[1]: `repository_owner_id` is missing: add it",
        ]
    );
    assert_eq!(
        messages("github: [{repository_id: 1, repository_owner_id: 2, environments: []}]"),
        ["github[0].environments: the list is empty: name environments"]
    );
}
