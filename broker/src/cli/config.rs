//! `tidegate config`: check a file as the broker would read it, print an example or the reference.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::CliError;
use crate::config::{Config, environment, example, reference};

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tidegate config example > tidegate.toml\n  tidegate config check tidegate.toml\n  \
                  tidegate config reference"
)]
pub struct ConfigCommand {
    #[command(subcommand)]
    action: ConfigAction,
}

#[derive(Debug, Subcommand)]
enum ConfigAction {
    /// Read a file and the TIDEGATE_ variables as the broker would; report every error, every warning, and what is promised
    Check { file: PathBuf },
    /// Print a file with every setting at its default, with unit, bounds and reason
    Example,
    /// Print the reference of every setting in Markdown
    Reference,
}

pub fn run(command: ConfigCommand) -> Result<(), CliError> {
    match command.action {
        ConfigAction::Check { file } => {
            let config = load(&file)?;
            println!("{} is valid\n", file.display());
            println!("{}", config.durability_statement());
        }
        ConfigAction::Example => print!("{}", example()),
        ConfigAction::Reference => print!("{}", reference()),
    }
    Ok(())
}

/// The configuration in `file`, overridden by the environment; warnings go to standard error.
pub fn load(file: &Path) -> Result<Config, CliError> {
    let config = Config::load(file, environment())
        .map_err(|errors| CliError::new(format!("the configuration is not valid\n{errors}")))?;
    for warning in config.warnings() {
        eprintln!("warning: {warning}");
    }
    Ok(config)
}
