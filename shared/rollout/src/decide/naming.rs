//! Additional tags of known releases: people see the more specific tag wherever the release appears.

use super::builder::Builder;
use crate::journal::Fact;
use crate::names::ReleaseId;
use crate::release::ReleaseRef;

/// Shows the release by `tag` everywhere in this target's state. Journals nothing if the release is unknown or already
/// has this tag.
pub(super) fn name(builder: &mut Builder, id: &ReleaseId, tag: &str) {
    let mut before: Option<String> = None;
    let mut rename = |known: &mut ReleaseRef| {
        let renamed = &known.id == id && known.tag != tag;
        if renamed {
            before.get_or_insert(std::mem::replace(&mut known.tag, tag.to_owned()));
        }
        renamed
    };
    let state = &mut builder.state;
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
    if let Some(running) = &builder.state.running
        && deployment.is_some()
    {
        // The history shows a running deployment under the same tag as the state.
        let record = running.record(&builder.state.target);
        builder.record(record);
    }
    let fact = Fact::ReleaseNamed { digest: id.digest.to_string(), tag: tag.to_owned(), before };
    builder.note(deployment, fact);
}
