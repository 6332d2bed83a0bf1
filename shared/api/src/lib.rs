//! What people, workflows and approvers ask of the control plane: each request is authorised, validated and turned into a command
//! and a wake, or answered from the ledger. Nothing here runs a deployment.
//!
//! Async, without AWS and without an HTTP library: text in, status and JSON out.
//!
//! | module | what it does |
//! |---|---|
//! | [`types`] | request and response types, as JSON: the command line and scripts read them |
//! | [`refusal`] | [`Refusal`]: the shape of every error |
//! | `wire` | reads requests and writes responses |
//! | [`command_service`] | shared by all entry points: checks, commands and wakes; queries |
//! | [`operations`] | operator requests, signed with IAM: apply, plan, deploy, promote, approve, brakes, queries, doctor |
//! | [`workflows`] | requests from GitHub Actions workflows, within the policy's grants |
//! | [`approval_links`] | signed approval links, sent by mail |
//! | [`approvals`] | approval decisions, from any channel: command line, Slack, signed link |

pub mod types;

pub mod refusal;

mod wire;

pub mod command_service;

pub mod operations;
pub mod workflows;

pub mod approval_links;
pub mod approvals;

pub use command_service::CommandService;
pub use refusal::{ErrorBody, MAX_MESSAGE_CHARS, Refusal};
pub use types::{
    AbortRequest, ApplyRequest, ApplyResponse, BrakeResponse, BrakesResponse, CommandResponse, DecisionRequest,
    DeployRequest, DoctorRequest, DoctorResponse, FreezeRequest, HistoryResponse, HoldReason, HotfixRequest,
    JournalResponse, MAX_CALLER_CHARS, MAX_LISTED, MAX_REASON_CHARS, MAX_REQUEST_KEY_CHARS, MAX_TRAIN_MEMBERS,
    OverrideRequest, PlanRequest, PlanResponse, PromoteRequest, ReleasesResponse, ResumeRequest, RollbackRequest,
    RunningSummary, StopTheLineRequest, TargetStatus, TargetSummary, TargetsResponse, TrainRequest, TrainResponse,
    UnfreezeRequest,
};
