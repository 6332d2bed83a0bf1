//! Names of callers and lists of names, for people.

use crate::layout::truncate;
use rollout::text::visible;
use std::fmt::Display;

/// Longest caller name shown in full, in characters: a GitHub Actions run with its repository fits.
const MAX_NAME_CHARS: usize = 160;

/// Short name of a caller: the last part of an ARN, or the account for a root user.
#[must_use]
pub fn display_name(actor: &str) -> String {
    let fields: Vec<&str> = actor.splitn(6, ':').collect();
    let name = match fields.as_slice() {
        ["arn", _, _, _, account, "root"] => format!("root of {account}"),
        ["arn", _, _, _, _, resource] => resource.rsplit('/').next().unwrap_or(resource).to_owned(),
        _ => actor.to_owned(),
    };
    truncate(&visible(&name), MAX_NAME_CHARS)
}

/// Name of a caller for the person who decides on their request: a caller that assumes a role chooses the session name,
/// so role and account are shown with it.
#[must_use]
pub fn full_identity(actor: &str) -> String {
    let fields: Vec<&str> = actor.splitn(6, ':').collect();
    match fields.as_slice() {
        ["arn", _, "sts" | "iam", _, account, resource] => format!("{} ({resource} of {account})", display_name(actor)),
        _ => truncate(&visible(actor), MAX_NAME_CHARS),
    }
}

/// Replaces ARNs within a sentence: an assumed role or an IAM user is shown by name.
#[must_use]
pub fn with_short_names(text: &str) -> String {
    let short = |word: &str| -> Option<String> {
        let start = word.find("arn:aws")?;
        let (before, arn) = word.split_at(start);
        let fields: Vec<&str> = arn.splitn(6, ':').collect();
        let [_, _, "sts" | "iam", _, _, resource] = fields.as_slice() else { return None };
        let (kind, path) = resource.split_once('/')?;
        let name = path.rsplit('/').next().filter(|_| matches!(kind, "assumed-role" | "user"))?;
        Some(format!("{before}{name}"))
    };
    text.split(' ').map(|word| short(word).unwrap_or_else(|| word.to_owned())).collect::<Vec<_>>().join(" ")
}

/// `ada`, `ada and bob`, `ada, bob and carol`; `nobody` for an empty list.
#[must_use]
pub fn names<T: Display>(names: &[T]) -> String {
    match names {
        [] => "nobody".to_owned(),
        [one] => one.to_string(),
        [before @ .., last] => {
            let before: Vec<String> = before.iter().map(ToString::to_string).collect();
            format!("{} and {last}", before.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_joined_for_a_sentence() {
        assert_eq!(names::<&str>(&[]), "nobody");
        assert_eq!(names(&["ada"]), "ada");
        assert_eq!(names(&["ada", "bob"]), "ada and bob");
        assert_eq!(names(&["ada", "bob", "carol"]), "ada, bob and carol");
    }

    #[test]
    fn caller_arns_are_shortened_and_resource_arns_are_not() {
        let alice = "arn:aws:sts::111122223333:assumed-role/deployer/alice";
        assert_eq!(with_short_names(&format!("aborted by {alice}: wrong day")), "aborted by alice: wrong day");
        assert_eq!(with_short_names("by (arn:aws:iam::111122223333:user/ops/bob)."), "by (bob).");
        for thing in ["arn:aws:iam::111122223333:role/x", "arn:aws:sns:eu-central-1:111122223333:a/b", "arn:aws", ""] {
            assert_eq!(with_short_names(thing), thing);
        }
    }

    #[test]
    fn display_name_is_the_last_part_of_an_arn() {
        assert_eq!(display_name("arn:aws:sts::111122223333:assumed-role/deployer/alice"), "alice");
        assert_eq!(display_name("slack:U012AB3CD"), "slack:U012AB3CD");
        assert_eq!(display_name("arn:aws:iam::000000000000:root"), "root of 000000000000");
        assert_eq!(display_name("arn:aws:sts::000000000000:federated-user/carol"), "carol");
        assert_eq!(
            display_name("github:octo-org/shop-checkout@9876543210123"),
            "github:octo-org/shop-checkout@9876543210123"
        );
    }

    #[test]
    fn full_identity_includes_role_and_account() {
        let alice = full_identity("arn:aws:sts::111122223333:assumed-role/deployer/alice");
        assert_eq!(alice, "alice (assumed-role/deployer/alice of 111122223333)");
        assert_eq!(full_identity("github:octo-org/shop@9876543210123"), "github:octo-org/shop@9876543210123");
        assert_eq!(full_identity("bob"), "bob");
    }
}
