//! The commands of the `tidegate` binary: one file each. Client commands go through the Kafka protocol, `user` and `plugin`
//! through the admin port, `log` and `config` read files (`log recover` asks the admin port).

use clap::{Parser, Subcommand};

pub mod acl;
pub mod admin_client;
mod admin_token;
pub mod client;
pub mod config;
pub mod consume;
mod datetime;
pub mod demo;
pub mod group;
pub mod log;
pub mod output;
pub mod plugin;
pub mod produce;
pub mod serve;
pub mod topic;
pub mod transaction;
pub mod user;

/// What went wrong and what to do about it, for a person to read.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct CliError(pub String);

impl CliError {
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

#[derive(Debug, Parser)]
#[command(
    name = "tidegate",
    version,
    about = "An event broker that speaks the Kafka protocol over QUIC, TLS and TCP and runs your WebAssembly plugins",
    after_help = "Try it:\n  tidegate serve --dev --data ./data\n  tidegate topic create orders --partitions 12\n  \
                  echo 'hello' | tidegate produce orders\n  tidegate consume orders --from-beginning --max-messages 1"
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the broker
    Serve(serve::ServeCommand),
    /// Play a real data set through a broker with plugins, then keep serving
    Demo(demo::DemoCommand),
    /// Create, list, describe, change and delete topics
    Topic(topic::TopicCommand),
    /// Send lines of standard input as records
    Produce(produce::ProduceCommand),
    /// Print records
    Consume(consume::ConsumeCommand),
    /// List and describe consumer groups, show their lag, reset their offsets
    Group(group::GroupCommand),
    /// List, describe and terminate transactions; find and abort those that hang
    Transaction(transaction::TransactionCommand),
    /// Add, list and remove ACLs
    Acl(acl::AclCommand),
    /// Create, list and delete SCRAM users
    User(user::UserCommand),
    /// Deploy, list, roll back and remove WebAssembly plugins
    Plugin(plugin::PluginCommand),
    /// Inspect and verify log files offline; recover a partition of a running broker
    Log(log::LogCommand),
    /// Check a configuration file, print an example or the reference
    Config(config::ConfigCommand),
}

impl Cli {
    /// The process's arguments; wrong ones end the process with an explanation.
    pub fn from_arguments() -> Self {
        Self::parse()
    }

    pub async fn run(self) -> Result<(), CliError> {
        match self.command {
            Command::Serve(command) => serve::run(command).await,
            Command::Demo(command) => demo::run(command).await,
            Command::Topic(command) => topic::run(command).await,
            Command::Produce(command) => produce::run(command).await,
            Command::Consume(command) => consume::run(command).await,
            Command::Group(command) => group::run(command).await,
            Command::Transaction(command) => transaction::run(command).await,
            Command::Acl(command) => acl::run(command).await,
            Command::User(command) => user::run(command).await,
            Command::Plugin(command) => plugin::run(command).await,
            Command::Log(command) => log::run(command).await,
            Command::Config(command) => config::run(command),
        }
    }
}
