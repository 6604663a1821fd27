//! Builds the first-party plugins with the cargo that built the broker.

use std::path::{Path, PathBuf};

use crate::cli::CliError;

/// The components that the demo deploys.
#[derive(Debug)]
pub struct Guests {
    pub partitioner: PathBuf,
    pub transform: PathBuf,
    pub authorizer: PathBuf,
}

const PACKAGES: [&str; 3] = ["partition-by-field", "mask-fields", "role-authorizer"];

pub async fn build(root: &Path) -> Result<Guests, CliError> {
    let root = root.to_owned();
    let built = crate::env::blocking(move || tidegate_plugin_build::build(&root, &PACKAGES)).await;
    let built = built
        .map_err(|error| error.to_string())
        .and_then(|built| built.map_err(|error| error.to_string()))
        .map_err(CliError::new)?;
    match <[PathBuf; 3]>::try_from(built) {
        Ok([partitioner, transform, authorizer]) => Ok(Guests {
            partitioner,
            transform,
            authorizer,
        }),
        Err(_) => Err(CliError::new("a plugin's component is missing")),
    }
}
