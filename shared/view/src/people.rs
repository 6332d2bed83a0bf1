//! People and lists of names, as people say them.

use crate::layout::cut;
use std::fmt::Display;

/// A caller as people know each other: the last part of an ARN.
#[must_use]
pub fn who(actor: &str) -> String {
    let short = if actor.starts_with("arn:") { actor.rsplit('/').next().unwrap_or(actor) } else { actor };
    cut(short, 24)
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
    fn a_caller_is_the_last_part_of_an_arn() {
        assert_eq!(who("arn:aws:sts::111122223333:assumed-role/deployer/alice"), "alice");
        assert_eq!(who("slack:U012AB3CD"), "slack:U012AB3CD");
    }
}
