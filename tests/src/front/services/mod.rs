//! The operations of each service over the world: a tree in, a tree out.
//!
//! Whether something is done or refused is the world's to say; here the shapes are taken apart and put together, and what
//! AWS refuses for its shape alone is refused.

mod alarms;
mod autoscaling;
mod balancer;
mod balancer_actions;
mod ecs;
mod input;

use super::protocol::{AwsError, Protocol};
use super::route::{AUTOSCALING, CLOUDWATCH, ECS, ELBV2, LAMBDA, RequestRoute};
use serde_json::{Value, json};
use simulation::world::{ApiError, World};

/// What an operation answers.
type OperationResult = Result<Value, AwsError>;

/// Does the operation; none: there is none of that name here.
pub(super) fn perform(world: &mut World, route: &RequestRoute, input: &Value) -> Option<OperationResult> {
    if !route.emulated {
        return None;
    }
    match route.service.as_str() {
        ECS => ecs::perform(world, &route.operation, input),
        ELBV2 => balancer::perform(world, &route.operation, input),
        CLOUDWATCH => alarms::perform(world, &route.operation, input),
        AUTOSCALING => autoscaling::perform(world, &route.operation, input),
        LAMBDA if route.operation == "GetAccountSettings" => Some(Ok(account_settings())),
        _ => None,
    }
}

/// What an account has that nobody ever asked for more (Lambda quotas).
fn account_settings() -> Value {
    json!({"AccountLimit": {"ConcurrentExecutions": 1000, "UnreservedConcurrentExecutions": 1000}})
}

/// The answer to an operation that is not spoken here.
pub(super) fn unknown_operation(route: &RequestRoute) -> AwsError {
    match route.protocol {
        Protocol::AwsQuery => AwsError::sender(
            "InvalidAction",
            format!("Could not find operation {} for version 2015-12-01", route.operation),
        ),
        Protocol::RpcV2Cbor | Protocol::RestJson => {
            AwsError::new(404, "UnknownOperationException", format!("The operation {} is not known", route.operation))
        }
        Protocol::AwsJson10 | Protocol::AwsJson11 => AwsError::sender(
            "UnknownOperationException",
            format!("The requested operation {} is not recognized by the service.", route.operation),
        ),
    }
}

/// The world's no, in the protocol's shape.
fn refused(error: ApiError) -> AwsError {
    AwsError::new(error.http_status(), error.code, error.message)
}
