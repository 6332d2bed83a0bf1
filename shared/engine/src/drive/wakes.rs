//! The wakes that a pass leaves behind: to come again where a target is held, and to take over from a pass that dies.

use super::*;

/// How long after each try a wake that found its target held is retried: together as long as a lease. Most passes are
/// over in seconds. One that is not is waited for in longer and longer pauses: a message that SQS delivers twice is retried
/// twice from then on, and many retries would keep each other out.
const RETRY_PAUSES: [Seconds; 8] =
    [Seconds(3), Seconds(3), Seconds(3), Seconds(5), Seconds(8), Seconds(13), Seconds(20), Seconds(20)];

/// A wake that found its target held comes back twice: shortly, since the holder may have looked before what the wake
/// is about; and after longer than a lease, with the right to take the target from a holder that died. Of all wakes that find
/// one holder only one of each kind does so: it looks later than all of them came. One that had the right to take the target and
/// found another holder ends here: whoever took the target since then has looked later than the wake came, and wakes that only
/// ever follow each other's holders would never get fewer.
pub(super) async fn retry_later<L: Ledger, D: WakeQueue>(
    wake: &Wake,
    holder: LeaseId,
    lasts: Seconds,
    retries: Retries,
    ledger: &L,
    wake_queue: &D,
) {
    let Some(tries) = retries_now(wake, &holder, retries) else { return };
    let retry = Retry { holder: &holder, kind: wake.kind(), tries };
    let noted = match wake.overdue {
        // What was noted has not come: the one that was to take over was lost, or never sent.
        true => Ok(RetryNoted::Yes),
        false => ledger.note_retry(&wake.target, &retry).await,
    };
    match noted {
        Ok(RetryNoted::Another) => return,
        Ok(RetryNoted::Free) => {
            return tell(wake_queue, &Wake { tries: 0, found: None, ..wake.clone() }, Seconds(1)).await;
        }
        Ok(RetryNoted::Yes) => {}
        // One look too many is better than none.
        Err(error) => tracing::warn!(target_id = %wake.target, "that a wake comes again was not noted: {error}"),
    }
    for (wake, delay) in comes_again(wake, &holder, lasts, tries) {
        tell(wake_queue, &wake, delay).await;
    }
}

/// How often this wake has come again for this holder, if it is to come once more; none: another one of its kind does.
pub(super) fn retries_now(wake: &Wake, holder: &LeaseId, retries: Retries) -> Option<u8> {
    let tries = if wake.found.as_ref() == Some(holder) { wake.tries } else { 0 };
    let another = !wake.overdue && retries.of(wake.kind()).is_some_and(|others| others >= tries);
    (wake.steal.is_none() && !another).then_some(tries)
}

/// The wakes that follow one that found its target held, and how long after it.
pub(super) fn comes_again(wake: &Wake, holder: &LeaseId, lasts: Seconds, tries: u8) -> Vec<(Wake, Seconds)> {
    let mut wakes = Vec::new();
    if tries == 0 {
        let after_the_lease =
            Wake { steal: Some(holder.clone()), tries: 0, found: None, overdue: false, ..wake.clone() };
        wakes.push((after_the_lease, Seconds(lasts.min(LEASE).0 + STEAL_MARGIN.0)));
    }
    if let Some(pause) = RETRY_PAUSES.get(usize::from(tries)) {
        wakes.push((Wake { tries: tries + 1, found: Some(holder.clone()), overdue: false, ..wake.clone() }, *pause));
    }
    wakes
}

/// Sends a wake to whoever takes over from `lease`, if it is still the target's when it is over. Otherwise it is one more look.
pub(super) async fn schedule_takeover<D: WakeQueue>(wake_queue: &D, wake: Wake, lease: Option<LeaseId>, left: Seconds) {
    if let Some(lease) = lease {
        let wake = Wake { steal: Some(lease), ..wake };
        tell(wake_queue, &wake, Seconds(left.0 + STEAL_MARGIN.0)).await;
    }
}

/// A wake for this target, urgent while its traffic is to go back.
pub(super) fn next_wake(state: &TargetState) -> Wake {
    Wake { urgent: state.running.as_ref().is_some_and(pace::is_urgent), ..Wake::of(state.target.clone()) }
}

pub(super) async fn tell<D: WakeQueue>(wake_queue: &D, wake: &Wake, delay: Seconds) {
    if let Err(reason) = wake_queue.send(wake, delay).await {
        tracing::warn!(target_id = %wake.target, reason, "the wake could not be sent; the sweeper will wake the target");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::WakeKind;

    fn lease(id: &str) -> LeaseId {
        LeaseId(id.to_owned())
    }

    fn wake() -> Wake {
        Wake::of(TargetId::parse("shop/api/prod").expect("a target"))
    }

    /// What follows where `others` is how often another wake of the kind has come again for the holder.
    fn wakes_of(wake: &Wake, others: Option<u8>) -> Vec<(Wake, Seconds)> {
        let retries = Retries { usual: others, ..Retries::default() };
        let holder = lease("holder");
        let tries = retries_now(wake, &holder, retries);
        tries.map(|tries| comes_again(wake, &holder, Seconds(60), tries)).unwrap_or_default()
    }

    #[test]
    fn a_wake_that_finds_its_target_held_is_retried_and_may_take_it_over_after_the_lease() {
        let first = wake();
        let again = Wake { tries: 1, found: Some(lease("holder")), ..first.clone() };
        let takeover = Wake { steal: Some(lease("holder")), ..first.clone() };
        assert_eq!(wakes_of(&first, None), [(takeover, Seconds(65)), (again.clone(), Seconds(3))]);
        assert_eq!(
            wakes_of(&again, Some(0)),
            [(Wake { tries: 2, ..again.clone() }, Seconds(3))],
            "one takeover wake is enough"
        );
        assert_eq!(wakes_of(&Wake { tries: 8, ..again }, Some(7)), [], "the takeover wake comes now");
        assert_eq!(RETRY_PAUSES.iter().map(|pause| pause.0).sum::<u64>(), LEASE.0);
    }

    #[test]
    fn of_many_wakes_that_find_one_holder_one_of_each_kind_comes_again() {
        let again = Wake { tries: 1, found: Some(lease("holder")), ..wake() };
        assert_eq!(wakes_of(&wake(), Some(0)), [], "another one looks later than this one came");
        assert_eq!(wakes_of(&wake(), Some(5)), []);
        assert_eq!(wakes_of(&again, Some(1)), [], "it was delivered twice");
        let urgent = wake().urgent();
        assert_eq!(
            (urgent.kind(), wakes_of(&urgent, Some(0)).len()),
            (WakeKind::Urgent, 2),
            "it does not wait for less"
        );
        let at_rest = wake().at_rest(None);
        assert_eq!((at_rest.kind(), wakes_of(&at_rest, Some(0)).len()), (WakeKind::AtRest, 2));
        // The next holder is met anew.
        let met = Wake { found: Some(lease("the one before")), tries: 4, ..wake() };
        let followed = wakes_of(&met, None);
        assert_eq!(followed.iter().map(|(wake, _)| wake.tries).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(wakes_of(&met, Some(0)), []);
    }

    #[test]
    fn one_that_may_take_it_from_another_holder_breeds_no_others() {
        assert_eq!(wakes_of(&Wake { steal: Some(lease("the one before")), ..wake() }, None), []);
    }
}
