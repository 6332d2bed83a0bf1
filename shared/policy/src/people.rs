//! The people whom rules name, and their groups.

use crate::names::{Entry, NameKind, read_known_names, read_section};
use crate::problem::{Mark, ProblemCollector};
use crate::values::{self, Fields, LocatedNode};
use crate::{arn, file};
use rollout::Name;
use rollout::entry::Person;
use std::collections::{BTreeMap, BTreeSet};

const MAX_PEOPLE: usize = 200;
const MAX_GROUPS: usize = 50;
/// Maximum number of ARNs per person.
const MAX_ARNS: usize = 5;

/// All people and groups of the file.
#[derive(Debug, Default)]
pub(crate) struct People {
    /// Those with a valid entry.
    pub(crate) people: BTreeMap<Name, Person>,
    /// Those with a valid entry.
    pub(crate) groups: BTreeMap<Name, BTreeSet<Name>>,
    /// Position of each person's entry, invalid ones included.
    locations: BTreeMap<Name, (Mark, String)>,
    /// The names of all people and groups; `None` where a section is invalid as a whole.
    named: Option<Vec<Name>>,
    valid: bool,
}

/// What identifies a person on one channel: the file's key, and its value.
type ChannelIdentity = (&'static str, String);

/// Reads `people` and `groups`.
pub(crate) fn read_people(file: &Fields<'_>, problems: &mut ProblemCollector) -> People {
    let problems_before = problems.count();
    let mut all = People { named: Some(Vec::new()), ..People::default() };
    let mut identity_owners: BTreeMap<ChannelIdentity, String> = BTreeMap::new();
    if let Some((node, path)) = file.get("people") {
        match read_section(node, &path, "people by name", MAX_PEOPLE, problems) {
            Some(entries) => {
                for Entry { name, key_mark, node, path } in entries {
                    all.locations.insert(name.clone(), (key_mark, path.clone()));
                    if let Some(person) = read_person(node, &path, &mut identity_owners, problems) {
                        all.people.insert(name, person);
                    }
                }
            }
            None => all.named = None,
        }
    }
    let members: Option<Vec<Name>> = all.named.as_ref().map(|_| all.locations.keys().cloned().collect());
    let mut group_names = Vec::new();
    if let Some((node, path)) = file.get("groups") {
        match read_section(node, &path, "groups by name", MAX_GROUPS, problems) {
            Some(entries) => {
                for Entry { name, key_mark, node, path } in entries {
                    group_names.push(name.clone());
                    if all.locations.contains_key(&name) {
                        let message = format!("`{name}` is a person already: give the group a name of its own");
                        problems.add(key_mark, &path, message);
                    }
                    let empty_hint = "name people, or take the group away";
                    let name_kind = NameKind::people(members.as_deref());
                    if let Some(names) = read_known_names(node, &path, name_kind, MAX_PEOPLE, empty_hint, problems) {
                        all.groups.insert(name, names.into_iter().map(|named| named.name).collect());
                    }
                }
            }
            None => all.named = None,
        }
    }
    if let Some(named) = &mut all.named {
        named.extend(all.locations.keys().cloned());
        named.extend(group_names);
    }
    all.valid = problems.count() == problems_before;
    all
}

impl People {
    /// The names of people and groups.
    pub(crate) fn name_kind(&self) -> NameKind<'_> {
        NameKind::people_and_groups(self.named.as_deref())
    }

    /// Whether both sections were valid.
    pub(crate) fn valid(&self) -> bool {
        self.valid
    }

    /// All people that these names refer to, with groups resolved; `None` where one of their entries is invalid.
    pub(crate) fn resolve<'p>(
        &'p self,
        names: impl Iterator<Item = &'p Name>,
    ) -> Option<BTreeMap<&'p Name, &'p Person>> {
        let mut all = BTreeMap::new();
        for name in names {
            let members: Vec<&Name> = match self.locations.contains_key(name) {
                true => vec![name],
                false => self.groups.get(name)?.iter().collect(),
            };
            for member in members {
                all.insert(member, self.people.get(member)?);
            }
        }
        Some(all)
    }

    /// Checks that an approver has at least one channel to approve through.
    pub(crate) fn check_can_approve(&self, name: &Name, person: &Person, problems: &mut ProblemCollector) {
        let Some((mark, path)) = self.locations.get(name) else { return };
        if person.slack.is_none() && person.iam.is_empty() && person.mail.is_none() {
            let message = format!(
                "`{name}` is to approve, and has no way to do so: add `slack`, `iam` or `mail`, or do not name them as an approver"
            );
            problems.add(*mark, path, message);
        }
    }

    /// Checks that signed links reach only the person they are for.
    pub(crate) fn check_mail_topics<'t>(
        &self,
        shared: impl Iterator<Item = &'t str> + Clone,
        problems: &mut ProblemCollector,
    ) {
        for (name, person) in &self.people {
            let Some((mark, path)) = self.locations.get(name) else { continue };
            if let Some(topic) = person.mail.as_deref().filter(|topic| shared.clone().any(|other| other == *topic)) {
                let message = format!(
                    "`{}` is a topic of `notifications` too: links to approve with are sent to `mail`, so it needs a topic of {name}'s own",
                    values::shorten(topic)
                );
                problems.add(*mark, &values::join(path, "mail"), message);
            }
        }
    }
}

fn read_person(
    node: LocatedNode<'_>,
    path: &str,
    identity_owners: &mut BTreeMap<ChannelIdentity, String>,
    problems: &mut ProblemCollector,
) -> Option<Person> {
    let problems_before = problems.count();
    let fields = Fields::new(node, path, file::Person::KEYS, problems)?;
    let slack = fields.read("slack", problems, |node, path, problems| {
        let written = values::checked_text(node, path, "the ID of a member of Slack", slack_member, problems)?;
        claim_identity("slack", written, node.mark, path, identity_owners, problems)
    });
    let github = fields.read("github", problems, |node, path, problems| {
        let written = values::digits(node, path, "GitHub's number of an account", problems)?;
        claim_identity("github", written, node.mark, path, identity_owners, problems)
    });
    let mail = fields.read("mail", problems, |node, path, problems| {
        let written = values::checked_text(node, path, "the ARN of an SNS topic", mail_topic, problems)?;
        claim_identity("mail", written, node.mark, path, identity_owners, problems)
    });
    let iam = fields.read("iam", problems, |node, path, problems| {
        let description = "the ARN of an IAM user or of a role's session";
        let mut arns = Vec::new();
        for (node, path) in values::list(node, path, "ARNs", MAX_ARNS, problems)? {
            if let Some(written) = values::checked_text(node, &path, description, arn::caller, problems) {
                arns.extend(claim_identity("iam", written, node.mark, &path, identity_owners, problems));
            }
        }
        Some(arns)
    });
    (problems.count() == problems_before).then(|| Person { slack, iam: iam.unwrap_or_default(), github, mail })
}

/// An identity belongs to one person only.
fn claim_identity(
    key: &'static str,
    written: String,
    mark: Mark,
    path: &str,
    identity_owners: &mut BTreeMap<ChannelIdentity, String>,
    problems: &mut ProblemCollector,
) -> Option<String> {
    match identity_owners.get(&(key, written.clone())) {
        Some(owner) => {
            let message = format!(
                "`{}` is at `{owner}` already: it proves one person, so keep it in one place",
                values::shorten(&written)
            );
            problems.add(mark, path, message);
            None
        }
        None => {
            identity_owners.insert((key, written.clone()), path.to_owned());
            Some(written)
        }
    }
}

/// Slack, "Locate your Slack URL or ID": an upper-case letter for the kind, then upper-case letters and digits.
fn slack_id(text: &str, kinds: &[char]) -> bool {
    text.starts_with(kinds)
        && (3..=24).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
}

fn slack_member(text: &str) -> Result<(), String> {
    slack_id(text, &['U', 'W']).then_some(()).ok_or_else(|| {
        "expected the ID of a member of Slack, such as `U012AB3CD`: their profile has it under \"Copy member ID\""
            .to_owned()
    })
}

/// A channel, a legacy private channel (group), or a direct conversation with the bot.
pub(crate) fn slack_channel(text: &str) -> Result<(), String> {
    slack_id(text, &['C', 'G', 'D']).then_some(()).ok_or_else(|| {
        "expected the ID of a channel of Slack, such as `C012AB3CD`: the channel's details have it at their end"
            .to_owned()
    })
}

/// Checks for a topic that can have an email subscription.
fn mail_topic(text: &str) -> Result<(), String> {
    arn::topic(text)?;
    if text.ends_with(".fifo") {
        return Err("a FIFO topic sends no mail: write the ARN of a standard topic".to_owned());
    }
    Ok(())
}
