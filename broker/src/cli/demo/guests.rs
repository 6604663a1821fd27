//! Builds the first-party plugins with the cargo that built the broker.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use crate::cli::CliError;

const TARGET: &str = "wasm32-wasip2";

/// The components that the demo deploys.
#[derive(Debug)]
pub struct Guests {
    pub partitioner: PathBuf,
    pub transform: PathBuf,
    pub authorizer: PathBuf,
}

/// Adds the WebAssembly target when it is missing, then builds.
pub async fn build(root: &Path) -> Result<Guests, CliError> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let packages = ["partition-by-field", "mask-fields", "role-authorizer"];
    let mut command = Command::new(cargo);
    command
        .current_dir(root)
        .args(["build", "--release", "--quiet", "--target", TARGET]);
    packages.iter().for_each(|package| {
        command.args(["--package", package]);
    });
    if let Err(first) = run(&mut command).await {
        add_target(root).await?;
        run(&mut command)
            .await
            .map_err(|_| CliError::new(format!("the plugins could not be built:\n{first}")))?;
    }
    let folder = target_folder(root).join(TARGET).join("release");
    let component = |package: &str| folder.join(format!("{}.wasm", package.replace('-', "_")));
    Ok(Guests {
        partitioner: component(packages[0]),
        transform: component(packages[1]),
        authorizer: component(packages[2]),
    })
}

fn target_folder(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from)
}

async fn add_target(root: &Path) -> Result<(), CliError> {
    let mut rustup = Command::new("rustup");
    rustup.current_dir(root).args(["target", "add", TARGET]);
    run(&mut rustup).await.map_err(|error| {
        CliError::new(format!("the target {TARGET} is missing and could not be added:\n{error}\n  try: rustup target add {TARGET}"))
    })
}

async fn run(command: &mut Command) -> Result<(), String> {
    let output = command
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await;
    let output =
        output.map_err(|error| format!("{:?}: {error}", command.as_std().get_program()))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}
