//! SQS: how a wake is sent.

use crate::fixture::{fixture, lease, target};
use aws::wake_queue::SqsWakeQueue;
use engine::{Wake, WakeQueue as _};
use rollout::Seconds;

#[tokio::test]
async fn a_wake_is_sent_as_a_delayed_message() {
    let fixture = fixture().await;
    let sqs = fixture.clients.sqs().await;
    let queue = sqs.create_queue().queue_name("wakes").send().await.expect("the queue is made");
    let url = queue.queue_url().expect("an address").to_owned();
    let wake_queue = SqsWakeQueue::new(fixture.clients.clone(), &url);
    let now = Wake { steal: Some(lease("held-before")), ..Wake::of(target("shop/api/production")) };
    let later = Wake::of(target("shop/api/staging"));
    // Longer than SQS takes: it is cut, not refused.
    wake_queue.send(&later, Seconds(100_000)).await.expect("sent");
    wake_queue.send(&now, Seconds(0)).await.expect("sent");

    let received = sqs.receive_message().queue_url(&url).max_number_of_messages(10).send().await.expect("an answer");
    let bodies: Vec<&str> = received.messages().iter().filter_map(|message| message.body()).collect();
    assert_eq!(bodies, ["{\"target\":\"shop/api/production\",\"steal\":\"held-before\"}"]);
    assert_eq!(serde_json::from_str::<Wake>(bodies[0]).expect("a wake"), now);

    let nowhere = SqsWakeQueue::new(fixture.clients.clone(), format!("{url}-elsewhere"));
    let error = nowhere.send(&now, Seconds(0)).await.expect_err("there is no such queue");
    assert!(error.starts_with("SendMessage: "), "{error}");
}
