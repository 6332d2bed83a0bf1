//! The engine's ports on AWS and Slack, one module and one feature per port.
//!
//! A function enables the ports that it uses and links no other SDK. Nothing here touches an SDK before its first call,
//! so that a cold start pays only for what its event needs.
//!
//! | module | port | on |
//! |---|---|---|
//! | [`config`] | | clients created on first use, timeouts, retries, settings from the environment |
//! | [`error`] | | classification of SDK errors: throttled, unsure, refused or a conflict |
//! | `ledger` | [`engine::Ledger`], [`engine::Deliveries`], [`engine::PostedMessages`] | DynamoDB, one table |
//! | `wake_queue` | [`engine::WakeQueue`] | SQS |
//! | `registry` | [`engine::ImageRegistry`] | ECR, read only |
//! | `cloud` | [`engine::Cloud`], [`engine::Inspector`] | ECS, ELBv2, Application Auto Scaling, CloudWatch, Lambda |
//! | `channels` | [`engine::Channels`] | EventBridge, SNS, SQS for dead letters |
//! | `http` | | JSON over HTTPS to third-party APIs |
//! | `response_url` | | Slack's response URLs, for replies to button presses |
//! | `secrets` | | Secrets Manager, cached |
//! | `slack` | | Slack's Web API |
//! | `ports` | | what every function uses: the ledger, the wake queue and the clients |
//! | [`clock`] | [`engine::Clock`] | the machine's clock and random numbers |

#[cfg(feature = "channels")]
pub mod channels;
pub mod clock;
#[cfg(feature = "cloud")]
pub mod cloud;
pub mod config;
pub mod error;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "ledger")]
pub mod ledger;
#[cfg(all(feature = "ledger", feature = "wake_queue"))]
mod ports;
#[cfg(feature = "registry")]
pub mod registry;
#[cfg(feature = "http")]
pub mod response_url;
#[cfg(feature = "secrets")]
pub mod secrets;
#[cfg(feature = "slack")]
pub mod slack;
#[cfg(feature = "wake_queue")]
pub mod wake_queue;

pub use clock::SystemClock;
pub use config::{Clients, SettingError};
pub use error::AwsFailure;
#[cfg(all(feature = "ledger", feature = "wake_queue"))]
pub use ports::Ports;
