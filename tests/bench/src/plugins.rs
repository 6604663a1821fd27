//! The plugins that runs go through.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::broker::Broker;
use crate::options::{Options, Values};

/// A plugin of this repository, deployed under its name here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Plugin {
    /// A transform that sees nothing and changes nothing
    Identity,
    /// A transform that masks one field of each value
    Mask,
    /// A partitioner by one field of each value
    Partitioner,
}

impl Plugin {
    pub fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Mask => "mask",
            Self::Partitioner => "partitioner",
        }
    }

    /// Its package in this repository.
    fn package(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Mask => "mask-fields",
            Self::Partitioner => "partition-by-field",
        }
    }

    /// Its component: in `folder` where one is given, else built from the source tree.
    fn component(self, folder: Option<&Path>) -> Result<PathBuf> {
        let package = self.package();
        if let Some(folder) = folder {
            return Ok(folder.join(format!("{}.wasm", package.replace('-', "_"))));
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let built = tidegate_plugin_build::build(&root, &[package])?;
        built.into_iter().next().context("no component was built")
    }

    fn config(self) -> &'static str {
        match self {
            Self::Identity => "{}",
            Self::Mask => r#"{"mask":"customer.id"}"#,
            Self::Partitioner => r#"{"field":"customer.id"}"#,
        }
    }

    /// Of a topic that is bound to it.
    pub fn topic_setting(self) -> &'static str {
        match self {
            Self::Identity | Self::Mask => "tidegate.transform",
            Self::Partitioner => "tidegate.partitioner",
        }
    }

    /// What it can read.
    pub fn values(self) -> Option<Values> {
        (self != Self::Identity).then_some(Values::Json)
    }
}

pub async fn deploy(plugin: Plugin, options: &Options, broker: &Broker) -> Result<()> {
    let file = plugin.component(options.plugins.as_deref())?;
    let component = std::fs::read(&file).with_context(|| file.display().to_string())?;
    let admin = broker.admin.as_ref();
    let admin = admin.context("plugins are deployed: give the admin port with --admin")?;
    let url = format!("http://{admin}/v1/plugins/{}", plugin.name());
    let url = reqwest::Url::parse_with_params(&url, [("config", plugin.config())])?;
    let mut request = reqwest::Client::new().put(url).body(component);
    if let Some(file) = &broker.admin_token_file {
        let token = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
        request = request.bearer_auth(token.trim());
    }
    let answer = request.send().await?;
    if !answer.status().is_success() {
        bail!("the plugin was refused: {}", answer.text().await?);
    }
    Ok(())
}
