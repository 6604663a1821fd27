//! Calls of the admin port, for the commands that change a running broker outside the Kafka protocol.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::Value;

use super::{CliError, admin_token};

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
    /// File with the admin token; by default the broker on this machine tells where it lies
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
        let client = reqwest::Client::builder()
            // The token goes to the broker alone.
            .redirect(reqwest::redirect::Policy::none());
        let client = match self.on_loopback()?.is_empty() {
            true => client,
            false => client.no_proxy(),
        };
        let client = client
            .build()
            .map_err(|error| CliError::new(error.to_string()))?;
        let token = self.token(&client).await?;
        let mut url = self.url(call.path)?;
        url.query_pairs_mut()
            .extend_pairs(call.query.iter().map(|(key, value)| (*key, value.as_str())));
        let mut request = client.request(call.method, url).body(call.body);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let (status, answer) = self.answer(request).await?;
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

    /// The token of the file that was named, else of the one that the broker names, where that is on this machine.
    async fn token(&self, client: &reqwest::Client) -> Result<Option<String>, CliError> {
        if let Some(file) = &self.token_file {
            let token = std::fs::read_to_string(file).map_err(|error| {
                CliError::new(format!("--token-file {}: {error}", file.display()))
            })?;
            return Ok(Some(token.trim().to_owned()));
        }
        let addresses = self.on_loopback()?;
        if addresses.is_empty() {
            return Ok(None);
        }
        let asked = client.get(self.url("/v1/broker")?);
        let (_, answer) = self.answer(asked).await?;
        let Some(file) = answer.get("token_file").and_then(Value::as_str) else {
            return Ok(None);
        };
        let mut refused = None;
        for address in addresses {
            match admin_token::of_listener(Path::new(file), address) {
                Ok(token) => return Ok(Some(token)),
                Err(error) => refused = Some(error),
            }
        }
        refused.map_or(Ok(None), Err)
    }

    fn url(&self, path: &str) -> Result<reqwest::Url, CliError> {
        let base = match self.admin.contains("://") {
            true => self.admin.clone(),
            false => format!("http://{}", self.admin),
        };
        reqwest::Url::parse(&format!("{base}{path}"))
            .map_err(|error| CliError::new(format!("--admin {}: {error}", self.admin)))
    }

    /// The admin port's addresses when all of them are on this machine, else none.
    fn on_loopback(&self) -> Result<Vec<SocketAddr>, CliError> {
        // A name that leads nowhere is told by the call itself.
        let addresses = self.url("/")?.socket_addrs(|| None).unwrap_or_default();
        let all = addresses.iter().all(|address| address.ip().is_loopback());
        Ok(if all { addresses } else { Vec::new() })
    }

    async fn answer(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<(reqwest::StatusCode, Value), CliError> {
        let response = request
            .send()
            .await
            .map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        let body = read_bounded(response).await?;
        Ok((status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
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
