//! The registry: pushes, moved tags, deleted images, and the events about them.

use super::context::{Job, SharedState, SimContext};
use super::simulation::Simulation;
use crate::world::scene::{digest_of, release_of};
use engine::intake::ImagePushed;
use engine::{ImageRegistry, PushedImage};
use rollout::policy::RegistryPolicy;
use rollout::promotion::ImageState;
use rollout::snapshot::Reading;
use rollout::{Name, Release, Seconds, Timestamp};

/// How a push is announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushAnnouncement {
    /// By its event.
    Event,
    /// By its event, delivered twice.
    EventTwice,
    /// Not at all: the event is lost, but the registry holds the image.
    Silent,
}

/// Images that were pushed, whether or not their event was delivered.
#[derive(Debug, Clone)]
pub struct SimRegistry {
    pub(super) context: SimContext,
}

impl ImageRegistry for SimRegistry {
    async fn images(&self, _: &RegistryPolicy, repository: &str) -> Result<Vec<PushedImage>, String> {
        let read = || Ok(self.context.lock().images.get(repository).into_iter().flatten().cloned().collect());
        self.context.call("images", read, |reason| Err(reason.to_owned())).await
    }
}

impl SharedState {
    /// State of an image, by its reference.
    pub(super) fn image_state(&self, image: &str) -> Reading<ImageState> {
        let digest = image.split_once('@').map_or(image, |(_, digest)| digest);
        if let Some(state) = self.unavailable_images.get(digest) {
            Reading::Known(*state)
        } else if self.images.values().flatten().any(|held| held.digest.as_str() == digest) {
            Reading::Known(ImageState::Present)
        } else {
            Reading::Unknown("it was pushed to another registry".to_owned())
        }
    }
}

impl Simulation {
    /// Pushes the `number`th release, now.
    pub fn push(&mut self, number: u64, how: PushAnnouncement) -> Release {
        let service = self.target().service.clone();
        self.push_service(&service, number, how)
    }

    /// Pushes the `number`th release of a service, now.
    ///
    /// # Panics
    /// Where the application has no such service.
    pub fn push_service(&mut self, service: &Name, number: u64, how: PushAnnouncement) -> Release {
        let now = self.now();
        let release = self.release_of(service, number, now);
        let found = self.pairs.iter().find(|(target, _)| &target.service == service);
        let (_, names) = found.unwrap_or_else(|| panic!("{service} has no scene"));
        let pushed = ImagePushed {
            registry: names.registry(),
            repository: names.repository.clone(),
            digest: release.id.digest.clone(),
            tag: release.tag.clone(),
            pushed_at: now,
        };
        let image = PushedImage {
            repository_uri: names.repository_uri.clone(),
            digest: pushed.digest.clone(),
            tags: vec![pushed.tag.clone()],
            pushed_at: now,
            artifact_media_type: None,
        };
        let mut shared = self.context.lock();
        shared.unavailable_images.remove(pushed.digest.as_str());
        shared.images.entry(pushed.repository.clone()).or_default().push(image);
        if how != PushAnnouncement::Silent {
            shared.schedule(Seconds(1).after(now), Job::Push(pushed.clone(), 1));
        }
        if how == PushAnnouncement::EventTwice {
            shared.schedule(Seconds(3).after(now), Job::Push(pushed, 1));
        }
        release
    }

    /// Moves a tag onto the image of the `number`th release, now: ECR announces this as a push, and the image's push
    /// time stays as it was.
    pub fn tag(&mut self, number: u64, tag: &str, how: PushAnnouncement) {
        let now = self.now();
        let digest = self.release_of(&self.target().service.clone(), number, now).id.digest;
        let (repository, registry) = (self.pairs[0].1.repository.clone(), self.pairs[0].1.registry());
        let mut shared = self.context.lock();
        for image in shared.images.entry(repository.clone()).or_default() {
            image.tags.retain(|other| other != tag);
            if image.digest == digest {
                image.tags.push(tag.to_owned());
            }
        }
        drop(shared);
        if how != PushAnnouncement::Silent {
            let tag = tag.to_owned();
            self.push_event(ImagePushed { registry, repository, digest, tag, pushed_at: now });
        }
    }

    /// A lifecycle rule deletes the image of the `number`th release from the registry. Running tasks keep running.
    pub fn delete_image(&self, number: u64) {
        let digest = digest_of(number);
        let mut shared = self.context.lock();
        for images in shared.images.values_mut() {
            images.retain(|image| image.digest != digest);
        }
        shared.unavailable_images.insert(digest.as_str().to_owned(), ImageState::Gone);
    }

    /// The image of the `number`th release is archived, or restored.
    pub fn archive_image(&self, number: u64, archived: bool) {
        let digest = digest_of(number).as_str().to_owned();
        let mut shared = self.context.lock();
        if archived {
            shared.unavailable_images.insert(digest, ImageState::Archived);
        } else {
            shared.unavailable_images.remove(&digest);
        }
    }

    /// Sends a push event, whatever its origin.
    pub fn push_event(&mut self, pushed: ImagePushed) {
        let soon = Seconds(1).after(self.now());
        self.context.lock().schedule(soon, Job::Push(pushed, 1));
    }

    /// The `number`th release of a service, with the given push time.
    ///
    /// # Panics
    /// Where the application has no such service.
    #[must_use]
    pub fn release_of(&self, service: &Name, number: u64, pushed_at: Timestamp) -> Release {
        let found = self.pairs.iter().find(|(target, _)| &target.service == service);
        let (target, names) = found.unwrap_or_else(|| panic!("{service} has no scene"));
        release_of(target, &names.repository_uri, number, pushed_at)
    }
}
