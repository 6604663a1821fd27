//! Calls of the admin port, for the commands that change a running broker outside the Kafka protocol.

use std::path::PathBuf;

use clap::Args;
use serde_json::Value;

use super::CliError;

/// The largest answer that is read.
const MAX_ANSWER_BYTES: usize = 16 << 20;

#[derive(Clone, Debug, Args)]
pub struct AdminOptions {
    /// The broker's admin address
    #[arg(
        long,
        value_name = "ADDR",
        env = "TIDEGATE_ADMIN",
        default_value = "127.0.0.1:9644",
        global = true
    )]
    admin: String,
    /// File with the bearer token, where the broker asks for one (`admin.token-file`)
    #[arg(
        long,
        value_name = "FILE",
        env = "TIDEGATE_ADMIN_TOKEN_FILE",
        global = true
    )]
    token_file: Option<PathBuf>,
}

/// One call and what it carries.
#[derive(Debug)]
pub struct Call<'a> {
    pub method: reqwest::Method,
    pub path: &'a str,
    pub query: Vec<(&'a str, String)>,
    pub body: Vec<u8>,
}

impl<'a> Call<'a> {
    pub fn new(method: reqwest::Method, path: &'a str) -> Self {
        Self {
            method,
            path,
            query: Vec::new(),
            body: Vec::new(),
        }
    }
}

impl AdminOptions {
    /// The answer's JSON, or what the broker says is wrong.
    pub async fn send(&self, call: Call<'_>) -> Result<Value, CliError> {
        let base = if self.admin.contains("://") {
            self.admin.clone()
        } else {
            format!("http://{}", self.admin)
        };
        let mut url = reqwest::Url::parse(&format!("{base}{}", call.path))
            .map_err(|error| CliError::new(format!("--admin {}: {error}", self.admin)))?;
        url.query_pairs_mut()
            .extend_pairs(call.query.iter().map(|(key, value)| (*key, value.as_str())));
        let mut request = reqwest::Client::new()
            .request(call.method, url)
            .body(call.body);
        if let Some(file) = &self.token_file {
            let token = std::fs::read_to_string(file).map_err(|error| {
                CliError::new(format!("--token-file {}: {error}", file.display()))
            })?;
            request = request.bearer_auth(token.trim());
        }
        let response = request
            .send()
            .await
            .map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        let body = read_bounded(response).await?;
        let answer: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        if status.is_success() {
            return Ok(answer);
        }
        let text = |key: &str| answer.get(key).and_then(Value::as_str).map(str::to_owned);
        let said = text("detail")
            .or_else(|| text("error"))
            .unwrap_or_else(|| format!("the broker answered {status}"));
        Err(CliError::new(match text("fix") {
            Some(fix) => format!("{said}\n  {fix}"),
            None => said,
        }))
    }

    fn unreachable(&self, error: &reqwest::Error) -> CliError {
        if error.is_connect() {
            return CliError::new(format!(
                "nothing answers on the admin address {}\n  start a broker with `tidegate serve --dev`, or name its address \
                 with --admin",
                self.admin
            ));
        }
        CliError::new(format!("the admin port {}: {error}", self.admin))
    }
}

async fn read_bounded(mut response: reqwest::Response) -> Result<Vec<u8>, CliError> {
    let mut body = Vec::new();
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|error| CliError::new(format!("the answer broke off: {error}")))?
    {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(CliError::new(
                "the admin port's answer is larger than 16 MiB: is this a Tidegate broker?",
            ));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
