//! Signals of AWS: alarms and edited rules wake the targets that watch them.

use crate::fixture::fixture;
use engine::WatchedResource;
use engine::intake::signal;

#[tokio::test]
async fn a_signal_wakes_only_the_watching_targets() {
    let fixture = fixture().await;
    let woken = |watch: WatchedResource| {
        let fixture = &fixture;
        async move {
            signal(&fixture.ledger, &fixture.wakes, &watch).await.expect("they are woken");
            fixture.wakes.woken()
        }
    };
    let all = ["shop/api/dev", "shop/api/late", "shop/api/live", "shop/web/late", "shop/worker/dev"];
    assert_eq!(woken(WatchedResource::Alarm("fleet-5xx".to_owned())).await, all);
    let service = |cluster: &str| WatchedResource::EcsService(cluster.to_owned(), "api-live-green".to_owned());
    assert_eq!(woken(service("main")).await, ["shop/api/live"]);
    assert_eq!(woken(WatchedResource::Alarm("somebody-elses".to_owned())).await, [""; 0]);
    assert_eq!(woken(service("other")).await, [""; 0]);
}

#[tokio::test]
async fn a_partially_delivered_signal_is_an_error() {
    let fixture = fixture().await;
    fixture.wakes.fail_for("shop/api/dev");
    let failed = signal(&fixture.ledger, &fixture.wakes, &WatchedResource::Alarm("fleet-5xx".to_owned())).await;
    let error = failed.expect_err("one was not woken");
    assert_eq!(error.to_string(), "1 of 5 targets could not be woken: the queue does not exist");
    assert_eq!(fixture.wakes.woken(), ["shop/api/late", "shop/api/live", "shop/web/late", "shop/worker/dev"]);
}
