//! Releases, by content and by age, and the tags that registries had.

use super::item::{Item, record, records, required_text};
use super::table::{Range, Written};
use super::{DynamoLedger, keys};
use engine::{LedgerError, ReleaseIntake, Releases, TagInventory};
use rollout::{Name, Release, ReleaseId};

/// Attempts to read and merge a release while others write to it: each tag of a build is an event of its own.
const MAX_MERGE_ATTEMPTS: u32 = 8;

const READING: &str = "reading a release";

impl Releases for DynamoLedger {
    async fn releases(&self, application: &Name, service: &Name, limit: usize) -> Result<Vec<Release>, LedgerError> {
        let pk = keys::releases_pk(application, service);
        let items = self.table.query("reading releases", &pk, &Range::Prefix(keys::PUSHED_PREFIX), true, limit).await?;
        records(&items, "release")
    }

    async fn release_by_id(&self, id: &ReleaseId) -> Result<Option<Release>, LedgerError> {
        let pk = keys::releases_pk(&id.application, &id.service);
        let found = self.table.get(READING, pk, keys::release_sk(&id.digest)).await?;
        found.map(|found| record(&found, "release")).transpose()
    }
}

impl ReleaseIntake for DynamoLedger {
    /// Writes both items of a release together, on condition that the release is still as read: two tags of one build
    /// may arrive at the same time, and neither may be lost.
    async fn put_release(&self, release: &Release) -> Result<Option<Release>, LedgerError> {
        let doing = "writing a release";
        let table = &self.table;
        let pk = keys::releases_pk(&release.id.application, &release.id.service);
        let sk = keys::release_sk(&release.id.digest);
        let items = |release: &Release| {
            let by_content = Item::new(&pk, &sk).record("release", release);
            let by_age_sk = keys::release_by_age_sk(release.pushed_at, &release.id.digest);
            let by_age = Item::new(&pk, by_age_sk).record("release", release);
            (by_content.attributes(), by_age.attributes())
        };
        let (by_content, by_age) = items(release);
        if table.transact(doing, vec![table.put_new(by_content), table.put(by_age)]).await? == Written::All {
            return Ok(None);
        }
        for _ in 0..MAX_MERGE_ATTEMPTS {
            let found = table.get(READING, pk.clone(), sk.clone()).await?;
            let Some(found) = found else { break };
            let before: Release = record(&found, "release")?;
            let mut merged = before.clone();
            merged.merge(release);
            if merged == before {
                return Ok(Some(before));
            }
            let (by_content, by_age) = items(&merged);
            let as_read = required_text(&found, "release")?;
            let writes = vec![table.put_if_unchanged(by_content, "release", as_read), table.put(by_age)];
            if table.transact(doing, writes).await? == Written::All {
                return Ok(Some(before));
            }
        }
        let reason = format!("others wrote to {} at every one of {MAX_MERGE_ATTEMPTS} tries", release.id);
        Err(LedgerError::Unavailable { doing, reason })
    }

    async fn tag_inventory(&self, application: &Name, service: &Name) -> Result<Option<TagInventory>, LedgerError> {
        let pk = keys::releases_pk(application, service);
        let found = self.table.get("reading the tags of before", pk, keys::REGISTRY_SK.to_owned()).await?;
        found.map(|found| record(&found, "seen")).transpose()
    }

    async fn put_tag_inventory(
        &self,
        application: &Name,
        service: &Name,
        seen: &TagInventory,
    ) -> Result<(), LedgerError> {
        let item = Item::new(keys::releases_pk(application, service), keys::REGISTRY_SK).record("seen", seen);
        self.table.write("writing the tags", item.attributes()).await
    }
}
