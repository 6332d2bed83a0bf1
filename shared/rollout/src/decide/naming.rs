//! Another tag of a release that is known here: people see the one that says more, wherever the release stands.

use super::pass::Pass;
use crate::journal::Fact;
use crate::names::ReleaseId;
use crate::target::ReleaseRef;

/// Calls the release by `tag` wherever this target remembers it. Nothing is noted where it is not known, or called so already.
pub(super) fn name(pass: &mut Pass, id: &ReleaseId, tag: &str) {
    let mut before: Option<String> = None;
    let mut rename = |known: &mut ReleaseRef| {
        let renamed = &known.id == id && known.tag != tag;
        if renamed {
            before.get_or_insert(std::mem::replace(&mut known.tag, tag.to_owned()));
        }
        renamed
    };
    let state = &mut pass.state;
    let mut deployment = None;
    if let Some(running) = &mut state.running
        && rename(&mut running.release)
    {
        deployment = Some(running.number);
    }
    let sides = [&mut state.stable, &mut state.previous].into_iter().flatten();
    sides.filter_map(|side| side.release.as_mut()).for_each(|known| {
        rename(known);
    });
    state.queued.iter_mut().for_each(|queued| {
        rename(&mut queued.release);
    });
    state.verified.iter_mut().for_each(|verified| {
        rename(&mut verified.release);
    });
    let Some(before) = before else { return };
    if let Some(running) = &pass.state.running
        && deployment.is_some()
    {
        // The history calls a running deployment as its state does.
        let record = running.record(None, &pass.state.target);
        pass.record(record);
    }
    let fact = Fact::ReleaseNamed { digest: id.digest.to_string(), tag: tag.to_owned(), before };
    pass.note(deployment, fact);
}
