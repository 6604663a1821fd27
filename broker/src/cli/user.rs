//! `tidegate user`: SCRAM users of a running broker, through its admin port.

use std::io::{BufRead, IsTerminal};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::CliError;
use super::admin_client::{AdminOptions, Call};

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tidegate user create alice --password-file alice.txt\n  \
                        pass show kafka/alice | tidegate user create alice\n  tidegate user list\n  tidegate user delete alice"
)]
pub struct UserCommand {
    #[command(subcommand)]
    action: UserAction,
    #[command(flatten)]
    admin: AdminOptions,
}

#[derive(Debug, Subcommand)]
enum UserAction {
    /// Create a user, or give an existing one a new password, which ends its sessions (read from the file, else from standard input)
    Create {
        name: String,
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
    },
    /// List user names
    List,
    /// Delete a user; its sessions end within a second
    Delete { name: String },
}

pub async fn run(command: UserCommand) -> Result<(), CliError> {
    match &command.action {
        UserAction::Create {
            name,
            password_file,
        } => {
            let password = read_password(password_file.as_deref())?;
            let path = user_path(name)?;
            let mut call = Call::new(Method::PUT, &path);
            call.body = json!({ "password": password }).to_string().into_bytes();
            command.admin.send(call).await?;
            println!("user {name} can authenticate with SCRAM-SHA-256 and SCRAM-SHA-512");
        }
        UserAction::List => {
            let answer = command
                .admin
                .send(Call::new(Method::GET, "/v1/users"))
                .await?;
            let users = answer.get("users").unwrap_or(&answer);
            users
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .for_each(|name| println!("{name}"));
        }
        UserAction::Delete { name } => {
            command
                .admin
                .send(Call::new(Method::DELETE, &user_path(name)?))
                .await?;
            println!("user {name} deleted");
        }
    }
    Ok(())
}

fn user_path(name: &str) -> Result<String, CliError> {
    let legal = |c: char| c.is_ascii_alphanumeric() || "._-@+=".contains(c);
    if name.is_empty() || !name.chars().all(legal) {
        return Err(CliError::new(format!(
            "user name {name:?}: use letters, digits and . _ - @ + ="
        )));
    }
    Ok(format!("/v1/users/{name}"))
}

/// One line: a password never comes from the arguments, which every process of the machine can read.
fn read_password(file: Option<&std::path::Path>) -> Result<String, CliError> {
    let mut line = String::new();
    match file {
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|error| {
                CliError::new(format!("--password-file {}: {error}", path.display()))
            })?;
            line.push_str(text.lines().next().unwrap_or_default());
        }
        None => {
            if std::io::stdin().is_terminal() {
                eprint!("password (it will show): ");
            }
            let read = std::io::stdin().lock().read_line(&mut line);
            read.map_err(|error| CliError::new(format!("standard input: {error}")))?;
        }
    }
    let password = line.trim_end_matches(['\r', '\n']).to_owned();
    if password.is_empty() {
        return Err(CliError::new("the password is empty"));
    }
    Ok(password)
}
