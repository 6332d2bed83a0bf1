//! How long a decision takes: a ten-step deployment, driven from the push to its verdict, per decision.
//! Run with `cargo bench -p rollout`.
#![expect(
    clippy::unwrap_used,
    unreachable_pub,
    dead_code,
    clippy::disallowed_methods,
    reason = "a bench, which shares the tests' scene"
)]

use criterion::{Criterion, criterion_group, criterion_main};
use rollout::policy::Step;
use rollout::{Inbox, Percent, Seconds, decide};
use std::hint::black_box;

#[path = "../tests/decide/fixture.rs"]
mod fixture;

fn ten_steps(criterion: &mut Criterion) {
    let mut policy = fixture::policy();
    policy.strategy.steps =
        (1..=10).map(|step| Step { traffic: Percent::new(step * 10).unwrap(), hold: Seconds(60) }).collect();
    let mut world = fixture::TargetFixture::with(policy);
    world.decide(&[fixture::deploy("v2")]);
    // Every moment of the deployment, as the driver would find it.
    let mut moments = vec![];
    while world.state.running.is_some() {
        moments.push((world.state.clone(), world.snapshot.clone(), world.now));
        if let rollout::Next::At(at) = world.decide(&[]) {
            world.now = at;
        }
    }
    println!("{} decisions from start to verdict", moments.len());
    let inbox = Inbox::default();
    let mut next = (0..moments.len()).cycle();
    criterion.bench_function("decide, ten steps", |bencher| {
        bencher.iter(|| {
            let (state, snapshot, now) = &moments[next.next().unwrap()];
            black_box(decide(black_box(state), &inbox, Some(black_box(snapshot)), *now))
        });
    });
    // The bar: under 20 µs on average over the whole deployment.
    let started = std::time::Instant::now();
    let rounds = 200_000;
    for index in 0..rounds {
        let (state, snapshot, now) = &moments[index % moments.len()];
        let _ = black_box(decide(black_box(state), &inbox, Some(black_box(snapshot)), *now));
    }
    let each = started.elapsed().as_nanos() / rounds as u128;
    assert!(each < 20_000, "{each} ns a decision, over the bar of 20 µs");
    println!("{each} ns a decision on average; the bar is 20,000 ns");
}

criterion_group!(benches, ten_steps);
criterion_main!(benches);
