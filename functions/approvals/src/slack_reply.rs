//! The reply to the person who pressed a button, posted before Slack stops waiting for the response.

use aws::Clients;
use aws::response_url::ResponseUrls;
use serde_json::Value;
use std::time::{Duration, Instant};

/// Deadline of the response to Slack, from the start of the invocation: Slack waits 3 s, network time included.
const SLACK_DEADLINE: Duration = Duration::from_millis(2_500);
/// Time-out of the reply to the person.
const REPLY_TIMEOUT: Duration = Duration::from_secs(1);
/// Below this remaining time no reply is attempted.
const MIN_REPLY_TIME: Duration = Duration::from_millis(50);

/// Posts the reply once, in the time that is left since `began`. A reply that fails is only logged: the decision stands.
pub(crate) async fn post(response_urls: &ResponseUrls, clients: &Clients, url: &str, message: &Value, began: Instant) {
    let left = SLACK_DEADLINE.saturating_sub(began.elapsed()).min(REPLY_TIMEOUT);
    if left < MIN_REPLY_TIME {
        tracing::warn!("there was no time left to reply to the person who pressed the button");
        return;
    }
    match response_urls.post(clients, url, message, left).await {
        Ok(200..300) => {}
        Ok(status) => tracing::warn!(http.status = status, "Slack did not take the reply to who pressed"),
        Err(error) => tracing::warn!("the reply to the person who pressed the button could not be sent: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_fit_within_slacks_three_seconds() {
        assert!(SLACK_DEADLINE < Duration::from_secs(3) && REPLY_TIMEOUT < SLACK_DEADLINE);
    }
}
