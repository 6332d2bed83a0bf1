//! What shall go wrong, and when: a list that tests write and that every request is held against.

use super::protocol::AwsError;
use super::route::{AUTOSCALING, CLOUDWATCH, ELBV2, LAMBDA};
use std::time::Duration;

/// One way in which a call goes wrong.
#[derive(Debug, Clone, PartialEq)]
pub enum FaultKind {
    /// The service's own throttling error; nothing is done.
    Throttle,
    /// The service's own internal error, status 500; nothing is done.
    InternalError,
    /// The service's own answer to a caller without the permission; nothing is done.
    Deny,
    /// This error; nothing is done.
    Refuse(AwsError),
    /// The call is done, this much later (wall time). The client may have gone by then; it is done all the same.
    Delay(Duration),
    /// The connection is closed; nothing is done.
    DisconnectBefore,
    /// The call is done, and the connection is closed instead of an answer.
    ApplyThenDisconnect,
}

/// A harm, and the calls that it befalls.
#[derive(Debug, Clone)]
pub struct Fault {
    service: String,
    operation: Option<String>,
    fault_kind: FaultKind,
    from: u64,
    times: u64,
    seen: u64,
}

impl Fault {
    /// Befalls the next call of `operation`, and no other. Service names: [`route`](super::route)'s constants,
    /// and `dynamodb`, `sqs`, `ecr` for what is passed on.
    pub fn on(service: &str, operation: &str, fault_kind: FaultKind) -> Self {
        Self {
            service: service.to_owned(),
            operation: Some(operation.to_owned()),
            fault_kind,
            from: 1,
            times: 1,
            seen: 0,
        }
    }

    /// Befalls the next call of the service, whatever it is.
    pub fn on_any(service: &str, fault_kind: FaultKind) -> Self {
        Self { service: service.to_owned(), operation: None, fault_kind, from: 1, times: 1, seen: 0 }
    }

    /// Spares the first `nth - 1` matching calls (`nth` counts from 1).
    #[must_use]
    pub fn from_nth(mut self, nth: u64) -> Self {
        self.from = nth;
        self
    }

    /// Befalls this many calls instead of one.
    #[must_use]
    pub fn times(mut self, times: u64) -> Self {
        self.times = times;
        self
    }

    /// Befalls every matching call until the faults are cleared.
    #[must_use]
    pub fn always(self) -> Self {
        self.times(u64::MAX)
    }

    fn triggers(&mut self, service: &str, operation: &str) -> bool {
        let matches = self.service == service && self.operation.as_deref().is_none_or(|wanted| wanted == operation);
        if !matches {
            return false;
        }
        self.seen += 1;
        self.seen >= self.from && self.seen - self.from < self.times
    }
}

/// The list. Every matching fault counts the call; the first one in the list that is due befalls it.
#[derive(Debug, Default)]
pub(super) struct FaultList(Vec<Fault>);

impl FaultList {
    pub(super) fn add(&mut self, fault: Fault) {
        self.0.push(fault);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn next(&mut self, service: &str, operation: &str) -> Option<FaultKind> {
        let mut fault_kind = None;
        for fault in &mut self.0 {
            if fault.triggers(service, operation) && fault_kind.is_none() {
                fault_kind = Some(fault.fault_kind.clone());
            }
        }
        fault_kind
    }
}

/// The throttling error of a service, with its own code and status.
#[must_use]
pub fn throttled(service: &str) -> AwsError {
    match service {
        ELBV2 => AwsError::sender("Throttling", "Rate exceeded"),
        CLOUDWATCH => AwsError::sender("ThrottlingException", "Rate exceeded").query_code("Throttling"),
        LAMBDA => AwsError::new(429, "TooManyRequestsException", "Rate Exceeded.")
            .field("Reason", "ReservedFunctionConcurrentInvocationLimitExceeded")
            .field("Type", "User"),
        "dynamodb" => AwsError::sender(
            "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException",
            "The level of configured provisioned throughput for the table was exceeded.",
        ),
        "sqs" => AwsError::sender("com.amazonaws.sqs#RequestThrottled", "Rate exceeded").query_code("RequestThrottled"),
        _ => AwsError::sender("ThrottlingException", "Rate exceeded"),
    }
}

/// The internal error of a service, status 500.
#[must_use]
pub fn internal_error(service: &str) -> AwsError {
    let message = "The request processing has failed because of an unknown error, exception or failure.";
    match service {
        ELBV2 => AwsError::new(500, "InternalFailure", message),
        CLOUDWATCH => AwsError::new(500, "InternalServiceFault", message).query_code("InternalServiceError"),
        AUTOSCALING => AwsError::new(500, "InternalServiceException", message),
        LAMBDA => AwsError::new(500, "ServiceException", message).field("Type", "Service"),
        "dynamodb" => AwsError::new(500, "com.amazonaws.dynamodb.v20120810#InternalServerError", message),
        "sqs" => AwsError::new(500, "com.amazonaws.sqs#InternalFailure", message).query_code("InternalFailure"),
        _ => AwsError::new(500, "ServerException", message),
    }
}

/// What a service answers to a caller without the permission.
#[must_use]
pub fn denied(service: &str, operation: &str) -> AwsError {
    let (prefix, status, code) = match service {
        ELBV2 => ("elasticloadbalancing", 403, "AccessDenied"),
        CLOUDWATCH => ("cloudwatch", 403, "AccessDenied"),
        AUTOSCALING => ("application-autoscaling", 400, "AccessDeniedException"),
        LAMBDA => ("lambda", 403, "AccessDeniedException"),
        other => (other, 400, "AccessDeniedException"),
    };
    let action = if service == LAMBDA { "InvokeFunction" } else { operation };
    let refusal = AwsError::new(
        status,
        code,
        format!(
            "User: arn:aws:sts::123456789012:assumed-role/switchback/session is not authorized to perform: {prefix}:{action} \
             because no identity-based policy allows the {prefix}:{action} action"
        ),
    );
    if service == CLOUDWATCH { refusal.query_code("AccessDenied") } else { refusal }
}

#[cfg(test)]
mod tests {
    use super::{Fault, FaultKind, FaultList};

    #[test]
    fn a_fault_hits_only_the_calls_it_names() {
        let mut faults = FaultList::default();
        faults.add(Fault::on("ecs", "UpdateService", FaultKind::Throttle).from_nth(2).times(2));
        let triggered: Vec<bool> = (0..5).map(|_| faults.next("ecs", "UpdateService").is_some()).collect();
        assert_eq!(triggered, [false, true, true, false, false]);
        assert_eq!(faults.next("ecs", "DescribeServices"), None);
    }
}
