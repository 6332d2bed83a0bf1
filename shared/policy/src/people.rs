//! The people whom rules name, and groups of them.

use crate::arn;
use crate::names::{Kind, known_names};
use crate::problem::{Found, Mark};
use crate::read::{Entry, section};
use crate::walk::{self, At, Fields, Shape};
use rollout::Name;
use rollout::entry::Person;
use std::collections::{BTreeMap, BTreeSet};

const MOST_PEOPLE: usize = 200;
const MOST_GROUPS: usize = 50;
/// How many ARNs one person may have.
const MOST_ARNS: usize = 5;

pub(crate) const PERSON: Shape = Shape { name: "Person", keys: &["slack", "iam", "github", "mail"], required: &[] };

/// Everybody whom the file knows.
#[derive(Debug, Default)]
pub(crate) struct People {
    /// Those whose entry is sound.
    pub(crate) people: BTreeMap<Name, Person>,
    /// Likewise.
    pub(crate) groups: BTreeMap<Name, BTreeSet<Name>>,
    /// Where each person's entry stands, the wrong ones included.
    places: BTreeMap<Name, (Mark, String)>,
    /// The names of people and groups; none: a section is wrong as a whole.
    named: Option<Vec<Name>>,
    sound: bool,
}

/// What proves a person at a door: the key, and what is written there.
type Proof = (&'static str, String);

/// Reads `people` and `groups`.
pub(crate) fn people(file: &Fields<'_>, found: &mut Found) -> People {
    let before = found.count();
    let mut all = People { named: Some(Vec::new()), ..People::default() };
    let mut proofs: BTreeMap<Proof, String> = BTreeMap::new();
    if let Some((at, path)) = file.get("people") {
        match section(at, &path, "people by name", MOST_PEOPLE, found) {
            Some(entries) => {
                for Entry { name, key, at, path } in entries {
                    all.places.insert(name.clone(), (key, path.clone()));
                    if let Some(person) = person(at, &path, &mut proofs, found) {
                        all.people.insert(name, person);
                    }
                }
            }
            None => all.named = None,
        }
    }
    let members: Option<Vec<Name>> = all.named.as_ref().map(|_| all.places.keys().cloned().collect());
    let mut groups_named = Vec::new();
    if let Some((at, path)) = file.get("groups") {
        match section(at, &path, "groups by name", MOST_GROUPS, found) {
            Some(entries) => {
                for Entry { name, key, at, path } in entries {
                    groups_named.push(name.clone());
                    if all.places.contains_key(&name) {
                        let message = format!("`{name}` is a person already: give the group a name of its own");
                        found.add(key, &path, message);
                    }
                    let otherwise = "name people, or take the group away";
                    let kind = Kind::people(members.as_deref());
                    if let Some(names) = known_names(at, &path, kind, MOST_PEOPLE, otherwise, found) {
                        all.groups.insert(name, names.into_iter().map(|named| named.name).collect());
                    }
                }
            }
            None => all.named = None,
        }
    }
    if let Some(named) = &mut all.named {
        named.extend(all.places.keys().cloned());
        named.extend(groups_named);
    }
    all.sound = found.count() == before;
    all
}

impl People {
    /// The names of people and groups.
    pub(crate) fn kind(&self) -> Kind<'_> {
        Kind::people_and_groups(self.named.as_deref())
    }

    /// Whether nothing was wrong with them.
    pub(crate) fn sound(&self) -> bool {
        self.sound
    }

    /// Everybody whom these names mean, groups resolved; none where an entry of theirs is wrong.
    pub(crate) fn resolved<'p>(
        &'p self,
        names: impl Iterator<Item = &'p Name>,
    ) -> Option<BTreeMap<&'p Name, &'p Person>> {
        let mut all = BTreeMap::new();
        for name in names {
            let members: Vec<&Name> = match self.places.contains_key(name) {
                true => vec![name],
                false => self.groups.get(name)?.iter().collect(),
            };
            for member in members {
                all.insert(member, self.people.get(member)?);
            }
        }
        Some(all)
    }

    /// Somebody who shall approve can say so somewhere.
    pub(crate) fn check_door(&self, name: &Name, person: &Person, found: &mut Found) {
        let Some((mark, path)) = self.places.get(name) else { return };
        if person.slack.is_none() && person.iam.is_empty() && person.mail.is_none() {
            let message = format!(
                "`{name}` is to approve, and has no way to do so: add `slack`, `iam` or `mail`, or do not name them as an approver"
            );
            found.add(*mark, path, message);
        }
    }

    /// Signed links reach nobody but the person whom they are for.
    pub(crate) fn check_topics<'t>(&self, shared: impl Iterator<Item = &'t str> + Clone, found: &mut Found) {
        for (name, person) in &self.people {
            let Some((mark, path)) = self.places.get(name) else { continue };
            if let Some(topic) = person.mail.as_deref().filter(|topic| shared.clone().any(|other| other == *topic)) {
                let message = format!(
                    "`{}` is a topic of `notifications` too: links to approve with are sent to `mail`, so it needs a topic of {name}'s own",
                    walk::shown(topic)
                );
                found.add(*mark, &walk::join(path, "mail"), message);
            }
        }
    }
}

fn person(at: At<'_>, path: &str, proofs: &mut BTreeMap<Proof, String>, found: &mut Found) -> Option<Person> {
    let before = found.count();
    let fields = Fields::new(at, path, &PERSON, found)?;
    let slack = fields.read("slack", found, |at, path, found| {
        let written = walk::text(at, path, "the ID of a member of Slack", found)?;
        own("slack", checked(written, slack_member(written), at.mark, path, found)?, at.mark, path, proofs, found)
    });
    let github = fields.read("github", found, |at, path, found| {
        let written = walk::digits(at, path, "GitHub's number of an account", found)?;
        own("github", written, at.mark, path, proofs, found)
    });
    let mail = fields.read("mail", found, |at, path, found| {
        let written = walk::text(at, path, "the ARN of an SNS topic", found)?;
        own("mail", checked(written, mail_topic(written), at.mark, path, found)?, at.mark, path, proofs, found)
    });
    let iam = fields.read("iam", found, |at, path, found| {
        let nodes = walk::list(at, path, "ARNs", MOST_ARNS, found)?;
        let mut arns = Vec::new();
        for (at, path) in nodes {
            let Some(written) = walk::text(at, &path, "the ARN of an IAM user or of a role's session", found) else {
                continue;
            };
            let Some(arn) = checked(written, arn::caller(written), at.mark, &path, found) else { continue };
            arns.extend(own("iam", arn, at.mark, &path, proofs, found));
        }
        Some(arns)
    });
    (found.count() == before).then(|| Person { slack, iam: iam.unwrap_or_default(), github, mail })
}

fn checked(written: &str, check: Result<(), String>, mark: Mark, path: &str, found: &mut Found) -> Option<String> {
    match check {
        Ok(()) => Some(written.to_owned()),
        Err(message) => {
            found.add(mark, path, message);
            None
        }
    }
}

/// What proves one person proves no other.
fn own(
    key: &'static str,
    written: String,
    mark: Mark,
    path: &str,
    proofs: &mut BTreeMap<Proof, String>,
    found: &mut Found,
) -> Option<String> {
    match proofs.get(&(key, written.clone())) {
        Some(owner) => {
            let message = format!(
                "`{}` is at `{owner}` already: it proves one person, so keep it in one place",
                walk::shown(&written)
            );
            found.add(mark, path, message);
            None
        }
        None => {
            proofs.insert((key, written.clone()), path.to_owned());
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

/// A channel, a group of before there were private channels, or a conversation with the bot.
pub(crate) fn slack_channel(text: &str) -> Result<(), String> {
    slack_id(text, &['C', 'G', 'D']).then_some(()).ok_or_else(|| {
        "expected the ID of a channel of Slack, such as `C012AB3CD`: the channel's details have it at their end"
            .to_owned()
    })
}

/// A topic that can have a subscription by mail.
fn mail_topic(text: &str) -> Result<(), String> {
    arn::topic(text)?;
    if text.ends_with(".fifo") {
        return Err("a FIFO topic sends no mail: write the ARN of a standard topic".to_owned());
    }
    Ok(())
}
