//! Where the servers' programs are, and of which version.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::process::Line;
use super::{Name, Recipe, Setup, kafka, recipes};

/// What was given on the command line, and the folder of the peers.
#[derive(Clone, Debug)]
pub struct Programs {
    pub tidegate: Option<PathBuf>,
    pub floor: Option<PathBuf>,
    /// What `bench peers install` fills.
    pub cache: PathBuf,
}

impl Programs {
    /// A server's program, or the reason why it cannot be measured and what would help.
    pub fn find(&self, name: Name) -> Result<PathBuf> {
        let install = format!(
            "`bench peers install --cache {}` installs it",
            self.cache.display()
        );
        let binary = |file: &str, install: &str| {
            let cached = self.cache.join("bin").join(file);
            let found = cached.is_file().then_some(cached);
            found.or_else(|| on_path(file)).with_context(|| {
                format!(
                    "no {file} in {} nor on the path: {install}",
                    self.cache.display()
                )
            })
        };
        let given = |file: &Option<PathBuf>, option: &str| {
            let file = file
                .clone()
                .with_context(|| format!("{option} is missing"))?;
            if !file.is_file() {
                bail!("{option} {}: no such file", file.display());
            }
            Ok(file)
        };
        if !name.speaks_kafka() && !cfg!(feature = "peers") {
            bail!("this `bench` was built without its client: build it with `--features peers`");
        }
        match name {
            Name::Tidegate => given(&self.tidegate, "--tidegate"),
            Name::Floor => match &self.floor {
                Some(_) => given(&self.floor, "--floor"),
                None => beside_this("floor"),
            },
            Name::Kafka => {
                let jars = self.jars();
                on_path("java").context("no java on the path: Kafka needs version 17 or newer")?;
                if !kafka_version(&jars).is_some_and(|version| version.starts_with('4')) {
                    bail!("no Kafka 4 in {}: {install}", jars.display());
                }
                Ok(jars)
            }
            Name::Krabka => binary(
                "krabka",
                "it is in no registry, so its binary must be put there",
            ),
            Name::Nats => binary("nats-server", &install),
            Name::Redis => binary("redis-server", &install),
        }
    }

    /// Kafka's jars, with its tools.
    pub fn jars(&self) -> PathBuf {
        self.cache.join("kafka")
    }

    pub fn recipe(&self, setup: &Setup) -> Result<Recipe> {
        let program = self.find(setup.name)?;
        match setup.name {
            Name::Tidegate => Ok(recipes::tidegate(&program, setup)),
            Name::Floor => Ok(recipes::floor(&program, setup)),
            Name::Kafka => kafka::recipe(&program, setup),
            Name::Krabka => recipes::krabka(&program, setup),
            Name::Nats => recipes::nats(&program, setup),
            Name::Redis => recipes::redis(&program, setup),
        }
    }

    /// What the program says of itself.
    pub fn version(&self, name: Name) -> Result<String> {
        let program = self.find(name)?;
        match name {
            Name::Floor => Ok(env!("CARGO_PKG_VERSION").to_owned()),
            Name::Kafka => kafka_version(&program).context("no Kafka"),
            _ => {
                let text = Line::new(&program).arg("--version").run()?;
                let first = text.lines().next().unwrap_or_default();
                let word = first
                    .split_whitespace()
                    .map(|word| word.trim_start_matches("v="))
                    .map(|word| word.trim_start_matches('v'))
                    .find(|word| word.starts_with(|first: char| first.is_ascii_digit()));
                Ok(word.unwrap_or(first).to_owned())
            }
        }
    }
}

/// The version in the name of Kafka's main jar.
fn kafka_version(jars: &Path) -> Option<String> {
    let files = std::fs::read_dir(jars).ok()?.flatten();
    let mut names = files.filter_map(|file| file.file_name().into_string().ok());
    names.find_map(|name| {
        let version = name.strip_prefix("kafka_2.13-")?.strip_suffix(".jar")?;
        Some(version.to_owned())
    })
}

pub fn on_path(file: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders)
        .map(|folder| folder.join(file))
        .find(|file| file.is_file())
}

/// A program of this package lies where this one does.
fn beside_this(file: &str) -> Result<PathBuf> {
    let this = std::env::current_exe()?;
    let found = this.with_file_name(file);
    if !found.is_file() {
        bail!(
            "no {}: give --floor, or build this package whole",
            found.display()
        );
    }
    Ok(found)
}
