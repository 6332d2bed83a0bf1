//! Lists of deployments, journal entries and releases.

use crate::journal::{description, verdict_words};
use crate::layout::{hanging_indent, table};
use crate::paint::Paint;
use crate::people::{display_name, with_short_names};
use crate::time_format::{ago, format_duration, instant, time_of_day};
use jiff::Timestamp;
use rollout::deployment::DeploymentRecord;
use rollout::release::latest_with_tag;
use rollout::{JournalEntry, Release, Seconds};

/// A target's deployments, newest first.
#[must_use]
pub fn deployments(records: &[DeploymentRecord], now: Timestamp) -> String {
    if records.is_empty() {
        return "No deployments yet.\n".to_owned();
    }
    let rows: Vec<_> = records
        .iter()
        .map(|record| {
            let end = record.ended_at.unwrap_or(now);
            vec![
                format!("#{}", record.number),
                record.release.tag.clone(),
                record.verdict.map_or("running", verdict_words).to_owned(),
                ago(record.started_at, now),
                format_duration(Seconds::between(record.started_at, end)),
                display_name(&record.actor.to_string()),
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
        return "No releases yet: push an image whose tag the policy accepts.\n".to_owned();
    }
    // A tag names only the image that carries it now.
    let carries_tag =
        |release: &Release, tag: &str| latest_with_tag(releases, tag).is_some_and(|named| named.id == release.id);
    let rows: Vec<_> = releases
        .iter()
        .map(|release| {
            let from = &release.provenance;
            let from = [&from.commit, &from.git_ref, &from.run, &from.actor];
            vec![
                if carries_tag(release, &release.tag) {
                    release.tag.clone()
                } else {
                    format!("{} (moved)", release.tag)
                },
                release.id.digest.short().to_owned(),
                ago(release.pushed_at, now),
                other_tags(release, &carries_tag),
                from.into_iter().flatten().cloned().collect::<Vec<_>>().join(" "),
            ]
        })
        .collect();
    table(&["RELEASE", "DIGEST", "PUSHED", "ALSO", "FROM"], &rows)
}

/// The release's other tags, as many as fit the column.
fn other_tags(release: &Release, carries_tag: &impl Fn(&Release, &str) -> bool) -> String {
    const MAX_SHOWN: usize = 3;
    let tags: Vec<&str> = release.tags.keys().map(String::as_str).collect();
    let tags: Vec<&str> = tags.into_iter().filter(|tag| *tag != release.tag && carries_tag(release, tag)).collect();
    match tags.len().saturating_sub(MAX_SHOWN) {
        0 => tags.join(", "),
        more => format!("{} and {more} more", tags[..MAX_SHOWN].join(", ")),
    }
}

/// One entry: time of day, mark of its tone, and a sentence.
#[must_use]
pub fn entry(entry: &JournalEntry, paint: Paint) -> String {
    let (tone, text) = description(entry);
    let head = format!("{}  {} ", paint.faint(&time_of_day(entry.at)), paint.mark(tone));
    format!("{}\n", hanging_indent(&head, 12, &text))
}

/// Entries, oldest first; each new day starts with a line with its date.
#[must_use]
pub fn entries(entries: &[JournalEntry], paint: Paint) -> String {
    let mut text = String::new();
    let mut day = String::new();
    for journal_entry in entries {
        let today = instant(journal_entry.at).chars().take(10).collect::<String>();
        if today != day {
            text.push_str(&format!("{}\n", paint.faint(&format!("{today} (UTC)"))));
            day = today;
        }
        text.push_str(&entry(journal_entry, paint));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use rollout::ReleaseId;

    /// Issue 10, case 9: `v1.0.3` is moved back onto the image of `v1.0.1`.
    #[test]
    fn releases_list_all_tags_and_mark_moved_ones() {
        let at = |second: i64| Timestamp::from_second(1_790_000_000 + second).expect("a time");
        let release = |digit: &str, tag: &str, second: i64| {
            let id = ReleaseId::parse(&format!("shop/api@sha256:{}", digit.repeat(64))).expect("a release");
            Release::new(id, "registry/shop/api", tag, at(second))
        };
        let (mut older, newer) = (release("a", "v1.0.1", 10), release("b", "v1.0.3", 20));
        older.add_tag("v1.0.3", at(30));
        let table = releases(&[newer, older], at(40));
        let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[1][..3], ["v1.0.3", "(moved)", "bbbbbbbbbbbb"]);
        assert_eq!((lines[2][0], lines[2][1], lines[2].last()), ("v1.0.3", "aaaaaaaaaaaa", Some(&"v1.0.1")));
    }
}
