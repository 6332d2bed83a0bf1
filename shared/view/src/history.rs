//! Deployments, journal lines and releases, one under the other.

use crate::journal::{told, verdict_words};
use crate::layout::{beside, table};
use crate::paint::Paint;
use crate::people::{who, with_short_names};
use crate::when::{ago, clock, instant, lasts};
use jiff::Timestamp;
use rollout::target::DeploymentRecord;
use rollout::{JournalEntry, Release, Seconds};

/// A target's deployments, newest first.
#[must_use]
pub fn deployments(records: &[DeploymentRecord], now: Timestamp) -> String {
    if records.is_empty() {
        return "Nothing was deployed here yet.\n".to_owned();
    }
    let rows: Vec<_> = records
        .iter()
        .map(|record| {
            let took = record.ended_at.unwrap_or(now);
            vec![
                format!("#{}", record.number),
                record.release.tag.clone(),
                record.verdict.map_or("running", verdict_words).to_owned(),
                ago(record.started_at, now),
                lasts(Seconds::between(record.started_at, took)),
                who(&record.actor.to_string()),
                with_short_names(&if record.hotfix {
                    format!("hotfix; {}", record.reason)
                } else {
                    record.reason.clone()
                }),
            ]
        })
        .collect();
    table(&["", "RELEASE", "VERDICT", "STARTED", "TOOK", "BY", "WHY"], &rows)
}

/// A service's releases, newest push first.
#[must_use]
pub fn releases(releases: &[Release], now: Timestamp) -> String {
    if releases.is_empty() {
        return "No release is known yet: push an image whose tag the policy takes.\n".to_owned();
    }
    let rows: Vec<_> = releases
        .iter()
        .map(|release| {
            let from = &release.provenance;
            let from = [&from.commit, &from.git_ref, &from.run, &from.actor];
            vec![
                release.tag.clone(),
                release.id.digest.short().to_owned(),
                ago(release.pushed_at, now),
                from.into_iter().flatten().cloned().collect::<Vec<_>>().join(" "),
            ]
        })
        .collect();
    table(&["RELEASE", "DIGEST", "PUSHED", "FROM"], &rows)
}

/// One entry: the time of day, how it is meant, and a sentence.
#[must_use]
pub fn entry(entry: &JournalEntry, paint: Paint) -> String {
    let (tone, text) = told(entry);
    let head = format!("{}  {} ", paint.faint(&clock(entry.at)), paint.mark(tone));
    format!("{}\n", beside(&head, 12, &text))
}

/// Entries, oldest first; the day is said where it begins.
#[must_use]
pub fn entries(entries: &[JournalEntry], paint: Paint) -> String {
    let mut text = String::new();
    let mut day = String::new();
    for one in entries {
        let today = instant(one.at).chars().take(10).collect::<String>();
        if today != day {
            text.push_str(&format!("{}\n", paint.faint(&format!("{today} (UTC)"))));
            day = today;
        }
        text.push_str(&entry(one, paint));
    }
    text
}
