//! The two emulators: ministack runs the product's functions, moto gives a second opinion on request shapes.

use super::HarnessError;
use super::child::Server;
use super::tools::tools;
use std::process::Command;

/// Account and Region that both emulators answer for, and that names in tests are made of.
pub const REGION: &str = "eu-central-1";

/// ministack: Lambda with `provided.al2023` binaries as plain processes,
/// EventBridge, SQS, DynamoDB, S3, ECR, CloudFormation and HTTP APIs.
pub mod ministack {
    use super::{Command, HarnessError, REGION, Server, tools};

    /// The account that ministack answers for.
    pub const ACCOUNT: &str = "000000000000";

    /// Starts one. What is in `environment` is handed on to every function that it runs:
    /// `AWS_ENDPOINT_URL_ECS` sends the functions' ECS calls elsewhere.
    ///
    /// # Errors
    /// [`HarnessError`] where it does not start.
    pub fn start(environment: &[(&str, &str)]) -> Result<Server, HarnessError> {
        Server::start("ministack", "/_ministack/health", |port, folder| {
            let mut command = Command::new(tools()?.python());
            command.args(["-m", "ministack"]);
            clean(&mut command);
            command
                .env("GATEWAY_PORT", port.to_string())
                .env("BIND_HOST", "127.0.0.1")
                // It is also how the functions find it.
                .env("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{port}"))
                .env("MINISTACK_ACCOUNT_ID", ACCOUNT)
                // These would listen on every address.
                .env("IOT_MTLS_ENABLED", "0")
                .env("SFTP_ENABLED", "0")
                .env("LAMBDA_EXECUTOR", "local")
                .env("LOG_LEVEL", "INFO")
                // Whatever it writes, it writes here.
                .env("TMPDIR", folder)
                .env("STATE_DIR", folder.join("state"))
                .env("S3_DATA_DIR", folder.join("s3"))
                .env("MINISTACK_REGION", REGION);
            for (key, value) in environment {
                command.env(key, value);
            }
            Ok(command)
        })
    }

    /// No proxy, no AWS settings and no credentials of whoever runs the tests reach the functions.
    pub(super) fn clean(command: &mut Command) {
        for (key, _) in std::env::vars_os() {
            let name = key.to_string_lossy().to_ascii_uppercase();
            if name.starts_with("AWS_") || name.ends_with("_PROXY") || name.starts_with("LOCALSTACK_") {
                command.env_remove(key);
            }
        }
        command
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .env("AWS_REGION", REGION)
            .env("AWS_DEFAULT_REGION", REGION)
            .env("AWS_EC2_METADATA_DISABLED", "true");
    }
}

/// moto in server mode.
pub mod moto {
    use super::{Command, HarnessError, Server, tools};

    /// The account that moto answers for.
    pub const ACCOUNT: &str = "123456789012";

    /// Starts one; `environment` is its own (`MOTO_ECS_SERVICE_RUNNING`).
    ///
    /// # Errors
    /// [`HarnessError`] where it does not start.
    pub fn start(environment: &[(&str, &str)]) -> Result<Server, HarnessError> {
        Server::start("moto", "/moto-api/data.json", |port, folder| {
            let mut command = Command::new(tools()?.python());
            command.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()]);
            super::ministack::clean(&mut command);
            command.env("TMPDIR", folder);
            for (key, value) in environment {
                command.env(key, value);
            }
            Ok(command)
        })
    }
}
