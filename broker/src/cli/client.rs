//! How the commands that speak the Kafka protocol reach a broker, and what they say when that fails.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use tidegate_client::{Client, Error, ErrorCode, SaslMechanism, SaslOptions, TlsOptions};

use super::CliError;

/// A person waits: errors that may pass are tried again for a short while.
const RETRY_TIMEOUT: Duration = Duration::from_secs(5);

/// Flags that every client command takes.
#[derive(Clone, Debug, Args)]
pub struct ClientOptions {
    /// Broker to ask first: tcp://, tls:// or quic://host:port
    #[arg(
        long,
        short = 'b',
        visible_alias = "bootstrap-server",
        value_name = "ADDR",
        env = "TIDEGATE_BOOTSTRAP",
        default_value = "tcp://localhost:9092",
        global = true,
        help_heading = "Connection"
    )]
    pub bootstrap: String,
    /// CA certificates to trust, PEM (tls, quic)
    #[arg(
        long,
        value_name = "FILE",
        env = "TIDEGATE_CA",
        global = true,
        help_heading = "Connection"
    )]
    pub ca: Option<PathBuf>,
    /// This client's certificate, PEM
    #[arg(long, value_name = "FILE", global = true, help_heading = "Connection")]
    pub cert: Option<PathBuf>,
    /// The key of --cert, PEM
    #[arg(long, value_name = "FILE", global = true, help_heading = "Connection")]
    pub key: Option<PathBuf>,
    /// User to log in as; the password comes from --password-file or TIDEGATE_PASSWORD
    #[arg(
        long,
        value_name = "NAME",
        env = "TIDEGATE_USER",
        global = true,
        help_heading = "Connection"
    )]
    pub user: Option<String>,
    /// File whose first line is the password
    #[arg(
        long,
        value_name = "FILE",
        env = "TIDEGATE_PASSWORD_FILE",
        global = true,
        help_heading = "Connection"
    )]
    pub password_file: Option<PathBuf>,
    /// SCRAM-SHA-256, SCRAM-SHA-512 or PLAIN
    #[arg(
        long,
        value_name = "NAME",
        default_value = "SCRAM-SHA-256",
        global = true,
        help_heading = "Connection"
    )]
    pub mechanism: String,
}

impl ClientOptions {
    /// Connects, or says what to do about it.
    pub async fn connect(&self) -> Result<Client, CliError> {
        let mut builder = Client::builder()
            .bootstrap(&self.bootstrap)
            .client_id("tidegate-cli")
            .retry_timeout(RETRY_TIMEOUT)
            .tls(self.tls()?);
        if let Some(sasl) = self.sasl()? {
            builder = builder.sasl(sasl);
        }
        builder.connect().await.map_err(|error| self.explain(error))
    }

    fn tls(&self) -> Result<TlsOptions, CliError> {
        let mut tls = TlsOptions::new();
        if let Some(ca) = &self.ca {
            tls = tls.ca_file(ca);
        }
        match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => Ok(tls.identity_files(cert, key)),
            (None, None) => Ok(tls),
            _ => Err(CliError::new("--cert and --key go together: give both")),
        }
    }

    fn sasl(&self) -> Result<Option<SaslOptions>, CliError> {
        let Some(user) = &self.user else {
            return Ok(None);
        };
        let mechanism: SaslMechanism = self
            .mechanism
            .parse()
            .map_err(|error: Error| CliError::new(format!("--mechanism: {error}")))?;
        if mechanism == SaslMechanism::Plain && !is_encrypted(&self.bootstrap) {
            eprintln!("warning: PLAIN over tcp:// shows the password to the network");
        }
        let password = self.password(user)?;
        Ok(Some(SaslOptions::new(mechanism, user, password)))
    }

    /// From a file or the environment: arguments can be read by every process of the machine.
    fn password(&self, user: &str) -> Result<String, CliError> {
        match &self.password_file {
            Some(file) => {
                let text = std::fs::read_to_string(file).map_err(|error| {
                    CliError::new(format!("--password-file {}: {error}", file.display()))
                })?;
                Ok(text.lines().next().unwrap_or_default().to_owned())
            }
            None => std::env::var("TIDEGATE_PASSWORD").map_err(|_| {
                CliError::new(format!(
                    "no password for user {user}\n  give --password-file FILE, or set TIDEGATE_PASSWORD"
                ))
            }),
        }
    }

    /// The error, and what mends it.
    pub fn explain(&self, error: Error) -> CliError {
        match self.fix(&error) {
            Some(fix) => CliError::new(format!("{error}\n  {fix}")),
            None => CliError::new(error.to_string()),
        }
    }

    fn fix(&self, error: &Error) -> Option<String> {
        let fix = match error {
            Error::Connect {
                io: Some(io::ErrorKind::ConnectionRefused),
                ..
            } => "nothing listens there: start a broker with `tidegate serve --dev`, or name its address with --bootstrap".into(),
            Error::Connect { io: Some(io::ErrorKind::TimedOut), .. } if self.bootstrap.starts_with("quic") => {
                "is the QUIC listener on this UDP port? `tidegate serve --dev` puts it on 9094".into()
            }
            Error::Connect { reason, .. } if reason.contains("certificate") => {
                "name the CA that signed the broker's certificate with --ca FILE; `tidegate serve --dev` keeps its own at DATA/certificates/ca.pem".into()
            }
            Error::Connect { reason, .. } if reason.contains("handshake eof") => {
                "does this listener speak TLS? without it use tcp://".into()
            }
            Error::Disconnected { .. } if self.user.is_none() => {
                "does this listener speak TLS (use tls://), or want a login (use --user)?".into()
            }
            Error::Authentication { .. } => {
                "check --user, --mechanism and the password; `tidegate user list` shows who exists".into()
            }
            Error::Broker { code, subject, .. } => self.fix_code(*code, subject)?,
            _ => return None,
        };
        Some(fix)
    }

    fn fix_code(&self, code: ErrorCode, subject: &str) -> Option<String> {
        let who = self.user.as_deref().unwrap_or("ANONYMOUS");
        let fix = match code {
            ErrorCode::UnknownTopicOrPartition => {
                format!(
                    "`tidegate topic list` shows what exists; `tidegate topic create {}` makes it",
                    last_word(subject)
                )
            }
            ErrorCode::TopicAlreadyExists => {
                format!("`tidegate topic describe {}` shows it", last_word(subject))
            }
            ErrorCode::TopicAuthorizationFailed => {
                format!(
                    "a super user can allow it: `tidegate acl add --allow-principal User:{who} --operation OPERATION --topic {}`",
                    last_word(subject)
                )
            }
            ErrorCode::GroupAuthorizationFailed => {
                format!(
                    "a super user can allow it: `tidegate acl add --allow-principal User:{who} --operation Read --group {}`",
                    last_word(subject)
                )
            }
            ErrorCode::ClusterAuthorizationFailed => {
                format!(
                    "a super user can allow it: `tidegate acl add --allow-principal User:{who} --operation OPERATION --cluster`"
                )
            }
            ErrorCode::TransactionalIdAuthorizationFailed => {
                format!(
                    "a super user can allow it: `tidegate acl add --allow-principal User:{who} --operation Write --transactional-id {}`",
                    last_word(subject)
                )
            }
            ErrorCode::InvalidRegularExpression => {
                "the regular expression cannot be read: write one as RE2 has them, such as 'billing-.*'".into()
            }
            ErrorCode::NonEmptyGroup => {
                "stop its members first: `tidegate group describe` shows them".into()
            }
            ErrorCode::SecurityDisabled => {
                "set security.authorization = true in the broker's configuration".into()
            }
            ErrorCode::IllegalSaslState => "this listener wants a login: give --user".into(),
            _ => return None,
        };
        Some(fix)
    }
}

fn is_encrypted(bootstrap: &str) -> bool {
    ["tls://", "ssl://", "quic://"]
        .iter()
        .any(|scheme| bootstrap.starts_with(scheme))
}

/// Errors say `topic orders`; commands want `orders`.
fn last_word(subject: &str) -> &str {
    subject.rsplit(' ').next().unwrap_or(subject)
}

/// Splits `key=value`.
pub fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => {
            Ok((key.trim().to_owned(), value.to_owned()))
        }
        _ => Err(format!(
            "{text}: write key=value, such as retention.ms=3600000"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Alone {
        #[command(flatten)]
        options: ClientOptions,
    }

    fn options(arguments: &[&str]) -> ClientOptions {
        let arguments = ["tidegate"].iter().chain(arguments);
        Alone::parse_from(arguments).options
    }

    #[tokio::test]
    async fn a_closed_port_is_explained_with_the_way_to_open_it() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("tcp://{}", listener.local_addr().unwrap());
        drop(listener);
        let error = options(&["--bootstrap", &address])
            .connect()
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(&address) && error.contains("tidegate serve --dev"),
            "{error}"
        );
    }

    #[test]
    fn half_an_identity_is_refused() {
        let error = options(&["--cert", "a.pem"]).tls().unwrap_err();
        assert!(error.to_string().contains("go together"));
    }

    #[test]
    fn a_password_is_never_an_argument() {
        assert!(Alone::try_parse_from(["tidegate", "--password", "x"]).is_err());
    }

    #[test]
    fn settings_are_read_as_key_and_value() {
        assert_eq!(key_value("a.b=c=d").unwrap(), ("a.b".into(), "c=d".into()));
        assert!(key_value("a.b").is_err() && key_value("=x").is_err());
    }
}
