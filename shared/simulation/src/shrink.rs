//! Shrinking: reduces a failing run to a minimal set of events that still fails.

use std::cell::Cell;

/// Removes elements from `all` one after another as long as the rest still `fails`; no single element of the result can
/// be removed (Zeller, Hildebrandt: "Simplifying and Isolating Failure-Inducing Input").
///
/// Calls `fails` at most `max_tries` times, then returns the smallest failing subset found so far.
#[must_use]
pub fn minimize<T: Clone>(all: &[T], max_tries: usize, mut fails: impl FnMut(&[T]) -> bool) -> Vec<T> {
    let tries_left = Cell::new(max_tries);
    let mut fails = |part: &[T]| {
        let asked = tries_left.get() > 0;
        tries_left.set(tries_left.get().saturating_sub(1));
        asked && fails(part)
    };
    if all.is_empty() || fails(&[]) {
        return Vec::new();
    }
    let mut rest = all.to_vec();
    let mut parts = 2;
    // With tens of thousands of elements even building a subset is expensive: build none that will not be tested.
    while rest.len() > 1 && tries_left.get() > 0 {
        let size = rest.len().div_ceil(parts);
        let without = |from: usize| -> Vec<T> {
            let kept = rest.iter().enumerate().filter(|(index, _)| !(from..from + size).contains(index));
            kept.map(|(_, item)| item.clone()).collect()
        };
        // The last events matter least often, so they are removed first.
        let tried = (0..rest.len()).step_by(size).rev().take_while(|_| tries_left.get() > 0);
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
    fn finds_the_minimal_failing_subset() {
        let all: Vec<u32> = (0..100).collect();
        let mut asked = 0;
        let found = minimize(&all, 1_000, |part| {
            asked += 1;
            part.contains(&17) && part.contains(&18) && part.contains(&71)
        });
        assert_eq!(found, [17, 18, 71]);
        assert!(asked < 150, "{asked} questions");
    }

    #[test]
    fn an_always_failing_input_shrinks_to_nothing() {
        assert_eq!(minimize(&[1, 2, 3], 10, |_| true), [0; 0]);
    }

    #[test]
    fn keeps_the_input_when_no_subset_fails() {
        assert_eq!(minimize(&[1, 2, 3], 1_000, |part| part.len() == 3), [1, 2, 3]);
        assert_eq!(minimize(&[1, 2, 3], 0, |_| true), [1, 2, 3]);
        let many: Vec<u32> = (0..300_000).collect();
        assert_eq!(minimize(&many, 5, |_| false), many);
    }
}
