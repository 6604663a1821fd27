//! The plugins that runs go through.

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

    /// As cargo names it.
    fn file(self) -> &'static str {
        match self {
            Self::Identity => "identity.wasm",
            Self::Mask => "mask_fields.wasm",
            Self::Partitioner => "partition_by_field.wasm",
        }
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
    let folder = options.plugins.as_ref();
    let folder = folder.context("runs with a plugin need --plugins DIR, where cargo put them")?;
    let file = folder.join(plugin.file());
    let component =
        std::fs::read(&file).with_context(|| format!("--plugins: {}", file.display()))?;
    let admin = broker.admin.as_ref();
    let admin = admin.context("plugins are deployed: give the admin port with --admin")?;
    let url = format!("http://{admin}/v1/plugins/{}", plugin.name());
    let url = reqwest::Url::parse_with_params(&url, [("config", plugin.config())])?;
    let request = reqwest::Client::new().put(url).body(component);
    let answer = request.send().await?;
    if !answer.status().is_success() {
        bail!("the plugin was refused: {}", answer.text().await?);
    }
    Ok(())
}
