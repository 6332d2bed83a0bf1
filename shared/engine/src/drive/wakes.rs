//! The wakes that a pass sends: retries for a target whose lease is held, and takeover from a pass that dies.

use super::*;

/// Pauses between the retries of a wake whose target was held: in total as long as a lease. Most passes end within seconds;
/// longer ones are retried at increasing intervals, because a message that SQS delivers twice is retried twice from then on, and
/// many retries would block each other.
const RETRY_PAUSES: [Seconds; 8] =
    [Seconds(3), Seconds(3), Seconds(3), Seconds(5), Seconds(8), Seconds(13), Seconds(20), Seconds(20)];

/// A wake that found its target held is sent again in two forms: itself, up to 8 times at growing pauses ([`RETRY_PAUSES`]), since
/// the holder may have observed before the wake's cause; and once, when it first meets this holder, as a takeover wake that may
/// steal the lease after it ends. Of all wakes that meet one holder, only one per kind is retried: it observes later than all of
/// them arrived. A takeover wake that finds another holder ends here: that holder acquired the lease after the wake was sent and so
/// observes later; without this rule, wakes that chase successive holders would never become fewer.
pub(super) async fn retry_later<L: Leases, D: WakeQueue>(
    wake: &Wake,
    holder: LeaseId,
    lasts: Seconds,
    retry_counts: RetryCounts,
    ledger: &L,
    wake_queue: &D,
) {
    let Some(retries) = next_retry_count(wake, &holder, retry_counts) else { return };
    let retry = Retry { holder: &holder, kind: wake.kind(), retries };
    let registered = match wake.overdue {
        // The registered takeover wake has not arrived: it was lost, or never sent.
        true => Ok(RetryRegistration::Accepted),
        false => ledger.register_retry(&wake.target, &retry).await,
    };
    match registered {
        Ok(RetryRegistration::AlreadyScheduled) => return,
        Ok(RetryRegistration::LeaseReleased) => {
            return send_wake(wake_queue, &Wake { retries: 0, found_holder: None, ..wake.clone() }, Seconds(1)).await;
        }
        Ok(RetryRegistration::Accepted) => {}
        // One observation too many is better than none.
        Err(error) => tracing::warn!(target_id = %wake.target, "the retry of a wake could not be registered: {error}"),
    }
    for (wake, delay) in retry_wakes(wake, &holder, lasts, retries) {
        send_wake(wake_queue, &wake, delay).await;
    }
}

/// The retry count for this holder if the wake is retried once more; `None`: another wake of its kind is, or it is a takeover
/// wake, which is never retried.
pub(super) fn next_retry_count(wake: &Wake, holder: &LeaseId, retry_counts: RetryCounts) -> Option<u8> {
    let retries = if wake.found_holder.as_ref() == Some(holder) { wake.retries } else { 0 };
    let another = !wake.overdue && retry_counts.of(wake.kind()).is_some_and(|others| others >= retries);
    (wake.steal.is_none() && !another).then_some(retries)
}

/// The follow-up wakes of one that found its target held, each with its delay.
pub(super) fn retry_wakes(wake: &Wake, holder: &LeaseId, lasts: Seconds, retries: u8) -> Vec<(Wake, Seconds)> {
    let mut wakes = Vec::new();
    if retries == 0 {
        let steal = Some(holder.clone());
        let takeover = Wake { steal, retries: 0, found_holder: None, overdue: false, ..wake.clone() };
        wakes.push((takeover, Seconds(lasts.min(MAX_LEASE).0 + STEAL_MARGIN.0)));
    }
    if let Some(pause) = RETRY_PAUSES.get(usize::from(retries)) {
        let found_holder = Some(holder.clone());
        wakes.push((Wake { retries: retries + 1, found_holder, overdue: false, ..wake.clone() }, *pause));
    }
    wakes
}

/// Sends a takeover wake for `lease`, due when the lease has ended; sends nothing if it is `None`. If the lease was released by
/// then, the wake is an ordinary one and may be skipped.
pub(super) async fn schedule_takeover<D: WakeQueue>(wake_queue: &D, wake: Wake, lease: Option<LeaseId>, left: Seconds) {
    if let Some(lease) = lease {
        let wake = Wake { steal: Some(lease), ..wake };
        send_wake(wake_queue, &wake, Seconds(left.0 + STEAL_MARGIN.0)).await;
    }
}

/// A wake for this target, urgent during a rollback.
pub(super) fn next_wake(state: &TargetState) -> Wake {
    Wake {
        urgent: state.running.as_ref().is_some_and(Deployment::is_rolling_back_urgently),
        ..Wake::of(state.target.clone())
    }
}

pub(super) async fn send_wake<D: WakeQueue>(wake_queue: &D, wake: &Wake, delay: Seconds) {
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

    /// The follow-up wakes; `others`: the retry count of another wake of the kind for this holder.
    fn retry_wakes_after(wake: &Wake, others: Option<u8>) -> Vec<(Wake, Seconds)> {
        let retry_counts = RetryCounts { normal: others, ..RetryCounts::default() };
        let holder = lease("holder");
        let retries = next_retry_count(wake, &holder, retry_counts);
        retries.map(|retries| retry_wakes(wake, &holder, Seconds(60), retries)).unwrap_or_default()
    }

    #[test]
    fn a_wake_for_a_held_target_is_retried_and_schedules_a_takeover() {
        let first = wake();
        let again = Wake { retries: 1, found_holder: Some(lease("holder")), ..first.clone() };
        let takeover = Wake { steal: Some(lease("holder")), ..first.clone() };
        assert_eq!(retry_wakes_after(&first, None), [(takeover, Seconds(65)), (again.clone(), Seconds(3))]);
        assert_eq!(
            retry_wakes_after(&again, Some(0)),
            [(Wake { retries: 2, ..again.clone() }, Seconds(3))],
            "one takeover wake is enough"
        );
        assert_eq!(retry_wakes_after(&Wake { retries: 8, ..again }, Some(7)), [], "the takeover wake comes now");
        assert_eq!(RETRY_PAUSES.iter().map(|pause| pause.0).sum::<u64>(), MAX_LEASE.0);
    }

    #[test]
    fn only_one_wake_of_each_kind_retries_per_holder() {
        let again = Wake { retries: 1, found_holder: Some(lease("holder")), ..wake() };
        assert_eq!(retry_wakes_after(&wake(), Some(0)), [], "another one looks later than this one came");
        assert_eq!(retry_wakes_after(&wake(), Some(5)), []);
        assert_eq!(retry_wakes_after(&again, Some(1)), [], "it was delivered twice");
        let urgent = wake().urgent();
        assert_eq!(
            (urgent.kind(), retry_wakes_after(&urgent, Some(0)).len()),
            (WakeKind::Urgent, 2),
            "it does not wait for less"
        );
        let idle = wake().idle(None);
        assert_eq!((idle.kind(), retry_wakes_after(&idle, Some(0)).len()), (WakeKind::Idle, 2));
        // The retry count starts again with the next holder.
        let met = Wake { found_holder: Some(lease("the one before")), retries: 4, ..wake() };
        let followed = retry_wakes_after(&met, None);
        assert_eq!(followed.iter().map(|(wake, _)| wake.retries).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(retry_wakes_after(&met, Some(0)), []);
    }

    #[test]
    fn a_takeover_wake_for_another_holder_is_not_retried() {
        assert_eq!(retry_wakes_after(&Wake { steal: Some(lease("the one before")), ..wake() }, None), []);
    }
}
