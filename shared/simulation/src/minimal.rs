//! The smallest part of what happened that still ends badly.

use std::cell::Cell;

/// Leaves things out of `all`, one after another, as long as the rest still `fails`: what stays cannot do without any
/// one of its parts (Zeller, Hildebrandt: "Simplifying and Isolating Failure-Inducing Input").
///
/// `fails` is asked at most `most` times; after that, what is left stays.
#[must_use]
pub fn smallest<T: Clone>(all: &[T], most: usize, mut fails: impl FnMut(&[T]) -> bool) -> Vec<T> {
    let left = Cell::new(most);
    let mut fails = |part: &[T]| {
        let asked = left.get() > 0;
        left.set(left.get().saturating_sub(1));
        asked && fails(part)
    };
    if all.is_empty() || fails(&[]) {
        return Vec::new();
    }
    let mut rest = all.to_vec();
    let mut parts = 2;
    // Of ten thousands of parts, even to leave one out is work: nothing is tried that would not be asked about.
    while rest.len() > 1 && left.get() > 0 {
        let size = rest.len().div_ceil(parts);
        let without = |from: usize| -> Vec<T> {
            let kept = rest.iter().enumerate().filter(|(index, _)| !(from..from + size).contains(index));
            kept.map(|(_, item)| item.clone()).collect()
        };
        // What came last matters least often: it is left out first.
        let tried = (0..rest.len()).step_by(size).rev().take_while(|_| left.get() > 0);
        let found = tried.map(without).find(|smaller| fails(smaller));
        match found {
            Some(smaller) => {
                rest = smaller;
                parts = parts.saturating_sub(1).max(2);
            }
            None if size == 1 => break,
            None => parts = (parts * 2).min(rest.len()),
        }
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_takes_is_found_and_nothing_else_stays() {
        let all: Vec<u32> = (0..100).collect();
        let mut asked = 0;
        let found = smallest(&all, 1_000, |part| {
            asked += 1;
            part.contains(&17) && part.contains(&18) && part.contains(&71)
        });
        assert_eq!(found, [17, 18, 71]);
        assert!(asked < 150, "{asked} questions");
    }

    #[test]
    fn what_fails_by_itself_takes_nothing() {
        assert_eq!(smallest(&[1, 2, 3], 10, |_| true), [0; 0]);
    }

    #[test]
    fn what_never_fails_again_stays_whole() {
        assert_eq!(smallest(&[1, 2, 3], 1_000, |part| part.len() == 3), [1, 2, 3]);
        assert_eq!(smallest(&[1, 2, 3], 0, |_| true), [1, 2, 3]);
        let many: Vec<u32> = (0..300_000).collect();
        assert_eq!(smallest(&many, 5, |_| false), many);
    }
}
