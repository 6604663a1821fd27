//! `tidegate plugin`: WebAssembly plugins of a running broker, through its admin port.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::Value;

use super::CliError;
use super::admin_client::{AdminOptions, Call};
use super::output::{Listing, print_line};
use crate::env::Clock;

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tidegate plugin deploy by-customer partition_by_field.wasm --config field=customer.id\n  \
                        tidegate topic alter orders --config tidegate.partitioner=by-customer\n  \
                        tidegate plugin list\n  tidegate plugin rollback by-customer\n  tidegate plugin remove by-customer"
)]
pub struct PluginCommand {
    #[command(subcommand)]
    action: PluginAction,
    #[command(flatten)]
    admin: AdminOptions,
}

#[derive(Debug, Subcommand)]
enum PluginAction {
    /// Check, compile and activate a component under a name; a name that exists gets a new revision
    Deploy {
        name: String,
        /// A WebAssembly component (.wasm)
        file: PathBuf,
        /// A setting for the plugin; may be given more than once
        #[arg(long, value_name = "KEY=VALUE")]
        config: Vec<String>,
    },
    /// List plugins with their revisions, and what is being compiled
    List {
        /// Print the broker's answer as JSON
        #[arg(long)]
        json: bool,
    },
    /// Make an earlier revision active again (without a number: the one before)
    Rollback {
        name: String,
        #[arg(long)]
        revision: Option<u32>,
    },
    /// Remove a plugin that no topic and no setting names
    Remove { name: String },
    /// End the compilation of a component that is being deployed under a name
    Cancel { name: String },
    /// What the broker runs to compile a component: standard input into its cache
    #[command(hide = true)]
    Compile {
        #[arg(long)]
        cache: PathBuf,
        #[arg(long)]
        memory: u64,
        #[arg(long)]
        seconds: u64,
    },
}

pub async fn run(command: PluginCommand) -> Result<(), CliError> {
    let admin = &command.admin;
    match &command.action {
        PluginAction::Deploy { name, file, config } => {
            let path = plugin_path(name)?;
            let mut call = Call::new(Method::PUT, &path);
            call.body = std::fs::read(file)
                .map_err(|error| CliError::new(format!("{}: {error}", file.display())))?;
            call.query = vec![("config", config_json(config)?)];
            let answer = admin.send(call).await?;
            println!("plugin {name}: revision {} is active", active(&answer));
        }
        PluginAction::List { json } => {
            let answer = admin.send(Call::new(Method::GET, "/v1/plugins")).await?;
            if *json {
                println!("{answer:#}")
            } else {
                print_table(&answer)?
            }
        }
        PluginAction::Rollback { name, revision } => {
            let path = format!("{}/rollback", plugin_path(name)?);
            let mut call = Call::new(Method::POST, &path);
            call.query = revision
                .iter()
                .map(|number| ("revision", number.to_string()))
                .collect();
            let answer = admin.send(call).await?;
            println!("plugin {name}: revision {} is active", active(&answer));
        }
        PluginAction::Remove { name } => {
            admin
                .send(Call::new(Method::DELETE, &plugin_path(name)?))
                .await?;
            println!("plugin {name} removed");
        }
        PluginAction::Cancel { name } => {
            let path = format!("{}/compilation", plugin_path(name)?);
            admin.send(Call::new(Method::DELETE, &path)).await?;
            println!("plugin {name}: its compilation is cancelled");
        }
        PluginAction::Compile {
            cache,
            memory,
            seconds,
        } => {
            crate::plugin::compile_in_child(cache, *memory, *seconds).map_err(CliError::new)?;
        }
    }
    Ok(())
}

fn plugin_path(name: &str) -> Result<String, CliError> {
    let legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.is_empty() || !name.chars().all(legal) {
        return Err(CliError::new(format!(
            "plugin name {name:?}: use letters, digits and . _ -"
        )));
    }
    Ok(format!("/v1/plugins/{name}"))
}

fn config_json(pairs: &[String]) -> Result<String, CliError> {
    let split = |pair: &String| match pair.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), Value::from(value))),
        _ => Err(CliError::new(format!("--config {pair}: write KEY=VALUE"))),
    };
    let map: serde_json::Map<String, Value> = pairs.iter().map(split).collect::<Result<_, _>>()?;
    Ok(Value::Object(map).to_string())
}

fn active(answer: &Value) -> u64 {
    answer
        .get("active")
        .and_then(Value::as_u64)
        .unwrap_or_default()
}

fn print_table(answer: &Value) -> Result<(), CliError> {
    let plugins = answer.get("plugins").unwrap_or(answer);
    let mut listing = Listing::new(&[
        "plugin", "world", "revision", "active", "digest", "bytes", "config",
    ]);
    for plugin in plugins.as_array().into_iter().flatten() {
        let revisions = plugin.get("revisions").and_then(Value::as_array);
        for revision in revisions.into_iter().flatten() {
            let field = |name: &str| revision.get(name).cloned().unwrap_or_default();
            let is_active = revision.get("revision") == plugin.get("active");
            let digest = field("digest")
                .as_str()
                .unwrap_or_default()
                .chars()
                .take(12)
                .collect::<String>();
            listing.row(vec![
                plugin.get("name").cloned().unwrap_or_default(),
                field("world"),
                field("revision"),
                Value::from(if is_active { "yes" } else { "" }),
                Value::from(digest),
                field("size_bytes"),
                Value::from(field("config").to_string()),
            ]);
        }
    }
    let compiling = answer.get("compiling").and_then(Value::as_array);
    for one in compiling.into_iter().flatten() {
        let field = |name: &str| one.get(name).cloned().unwrap_or_default();
        let since = field("since_ms").as_i64().unwrap_or_default();
        let seconds = (Clock::system().now_ms() - since).max(0) / 1000;
        listing.row(vec![
            field("name"),
            Value::default(),
            Value::default(),
            Value::from(format!("compiling for {seconds} s")),
            Value::default(),
            field("size_bytes"),
            Value::default(),
        ]);
    }
    if listing.is_empty() {
        return print_line("no plugins; deploy one with `tidegate plugin deploy NAME FILE.wasm`");
    }
    listing.print(false)
}
