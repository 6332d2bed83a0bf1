//! People and lists of names, as people say them.

use crate::layout::cut;
use rollout::text::visible;
use std::fmt::Display;

/// The longest name of a caller that is shown whole, in characters: a run of GitHub Actions fits, with its repository.
const LONGEST_NAME: usize = 160;

/// A caller as people know each other: the last part of an ARN, or the account whose root user it is.
#[must_use]
pub fn who(actor: &str) -> String {
    let fields: Vec<&str> = actor.splitn(6, ':').collect();
    let name = match fields.as_slice() {
        ["arn", _, _, _, account, "root"] => format!("root of {account}"),
        ["arn", _, _, _, _, resource] => resource.rsplit('/').next().unwrap_or(resource).to_owned(),
        _ => actor.to_owned(),
    };
    cut(&visible(&name), LONGEST_NAME)
}

/// A caller as whoever has to decide about what they ask needs to know them: a role's session bears a name that whoever
/// assumes the role may have chosen, so the role and the account are said with it.
#[must_use]
pub fn in_full(actor: &str) -> String {
    let fields: Vec<&str> = actor.splitn(6, ':').collect();
    match fields.as_slice() {
        ["arn", _, "sts" | "iam", _, account, resource] => format!("{} ({resource} of {account})", who(actor)),
        _ => cut(&visible(actor), LONGEST_NAME),
    }
}

/// The same within a sentence: who assumed a role, or an IAM user, by their name instead of the whole ARN.
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

/// `ada`, `ada and bob`, `ada, bob and carol`; `nobody` where there is none.
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
    fn names_stand_in_a_sentence() {
        assert_eq!(names::<&str>(&[]), "nobody");
        assert_eq!(names(&["ada"]), "ada");
        assert_eq!(names(&["ada", "bob"]), "ada and bob");
        assert_eq!(names(&["ada", "bob", "carol"]), "ada, bob and carol");
    }

    #[test]
    fn callers_are_named_shortly_in_a_sentence_and_things_are_not() {
        let alice = "arn:aws:sts::111122223333:assumed-role/deployer/alice";
        assert_eq!(with_short_names(&format!("aborted by {alice}: wrong day")), "aborted by alice: wrong day");
        assert_eq!(with_short_names("by (arn:aws:iam::111122223333:user/ops/bob)."), "by (bob).");
        for thing in ["arn:aws:iam::111122223333:role/x", "arn:aws:sns:eu-central-1:111122223333:a/b", "arn:aws", ""] {
            assert_eq!(with_short_names(thing), thing);
        }
    }

    #[test]
    fn a_caller_is_the_last_part_of_an_arn() {
        assert_eq!(who("arn:aws:sts::111122223333:assumed-role/deployer/alice"), "alice");
        assert_eq!(who("slack:U012AB3CD"), "slack:U012AB3CD");
        assert_eq!(who("arn:aws:iam::000000000000:root"), "root of 000000000000");
        assert_eq!(who("arn:aws:sts::000000000000:federated-user/carol"), "carol");
        assert_eq!(who("github:octo-org/shop-checkout@9876543210123"), "github:octo-org/shop-checkout@9876543210123");
    }

    #[test]
    fn whoever_decides_reads_which_role_it_is_that_calls_itself_so() {
        let alice = in_full("arn:aws:sts::111122223333:assumed-role/deployer/alice");
        assert_eq!(alice, "alice (assumed-role/deployer/alice of 111122223333)");
        assert_eq!(in_full("github:octo-org/shop@9876543210123"), "github:octo-org/shop@9876543210123");
        assert_eq!(in_full("bob"), "bob");
    }
}
