//! The smallest possible function: baseline for the cold start of the real ones.
//! `cargo build --release -p lambda --example hello`

use lambda_runtime::{Error, LambdaEvent, Runtime, service_fn};
use serde_json::Value;

fn main() -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answer = |event: LambdaEvent<Value>| async move { Ok::<_, Error>(event.payload) };
    runtime.block_on(Runtime::new(service_fn(answer)).run())
}
