//! `bench peers`: puts the other servers into one folder, with the package managers' own clients, and says what it did.
//!
//! This is the only part of the program that uses the network, and nothing of it runs while something is measured.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};

use crate::servers::{Line, Name, Programs, on_path};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Downloads and builds what is missing in a folder
    Install(Folder),
    /// Says what is there, of which version, and how to get the rest
    List(Folder),
}

#[derive(Debug, Args)]
pub struct Folder {
    /// Where the peers are kept
    #[arg(long, value_name = "DIR")]
    cache: PathBuf,
    /// The version of Apache Kafka
    #[arg(long, value_name = "VERSION", default_value = "4.1.0")]
    kafka: String,
}

/// One peer's way into the folder.
struct Way {
    name: Name,
    /// What must be on the path.
    needs: &'static [&'static str],
    install: fn(&Folder) -> Result<()>,
    /// How to get it when that does not work.
    otherwise: &'static str,
}

const WAYS: [Way; 4] = [
    Way {
        name: Name::Kafka,
        needs: &["java", "mvn"],
        install: kafka,
        otherwise: "Kafka is taken from its Maven artifacts: install a Java runtime (17 or newer) and Maven; or copy the jars of a \
                    distribution's libs folder into CACHE/kafka",
    },
    Way {
        name: Name::Nats,
        needs: &["go"],
        install: nats,
        otherwise: "install Go, or put a nats-server into CACHE/bin or on the path",
    },
    Way {
        name: Name::Redis,
        needs: &["apt-get"],
        install: redis,
        otherwise: "install your system's package of the Redis server, or put a redis-server into CACHE/bin",
    },
    Way {
        name: Name::Krabka,
        needs: &[],
        install: krabka,
        otherwise: "it is in no package registry: build github.com/krabka-io/krabka-broker from a checkout, and put its binary into \
                    CACHE/bin as `krabka`",
    },
];

pub fn run(command: &Command) -> Result<()> {
    match command {
        Command::Install(folder) => install(folder),
        Command::List(folder) => {
            list(folder);
            Ok(())
        }
    }
}

fn programs(folder: &Folder) -> Programs {
    Programs {
        tidegate: None,
        floor: None,
        cache: folder.cache.clone(),
    }
}

fn list(folder: &Folder) {
    for way in WAYS {
        match programs(folder).version(way.name) {
            Ok(version) => println!("{}: {version}", way.name),
            Err(_) => println!("{}: missing: {}", way.name, way.otherwise(folder)),
        }
    }
}

impl Way {
    fn otherwise(&self, folder: &Folder) -> String {
        let cache = folder.cache.display().to_string();
        self.otherwise.replace("CACHE", &cache)
    }

    /// Says what was done.
    fn take(&self, folder: &Folder) -> Result<String> {
        if let Ok(version) = programs(folder).version(self.name) {
            return Ok(format!("{version} is there already"));
        }
        for program in self.needs {
            on_path(program).with_context(|| format!("no {program} on the path"))?;
        }
        (self.install)(folder)?;
        let version = programs(folder).version(self.name)?;
        Ok(format!("{version} was installed"))
    }
}

fn install(folder: &Folder) -> Result<()> {
    let folder = &Folder {
        cache: std::path::absolute(&folder.cache)?,
        kafka: folder.kafka.clone(),
    };
    std::fs::create_dir_all(&folder.cache)
        .with_context(|| format!("--cache {}", folder.cache.display()))?;
    let mut missing = 0;
    for way in WAYS {
        match way.take(folder) {
            Ok(done) => println!("{}: {done}", way.name),
            Err(error) => {
                missing += 1;
                println!("{}: not installed: {error:#}", way.name);
                println!("    {}", way.otherwise(folder));
            }
        }
    }
    if missing > 0 {
        println!(
            "{missing} missing; `bench compare` measures the others and says who was not there."
        );
    }
    Ok(())
}

/// Kafka's broker and tools with all that they need, and a binding for their log.
fn kafka(folder: &Folder) -> Result<()> {
    let version = &folder.kafka;
    if !version.starts_with("4.") {
        bail!("--kafka {version}: only versions 4 and their settings are known");
    }
    let work = folder.cache.join("kafka.pom");
    std::fs::create_dir_all(&work)?;
    let project = work.join("pom.xml");
    std::fs::write(&project, project_of(version)).with_context(|| project.display().to_string())?;
    let goal = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies";
    let jars = programs(folder).jars();
    Line::new("mvn")
        .args(["-q", "-B", "-f"])
        .path(&project)
        .args([goal, "-DincludeScope=runtime"])
        .arg(format!("-DoutputDirectory={}", jars.display()))
        .run()?;
    Ok(())
}

fn project_of(version: &str) -> String {
    let dependency = |group: &str, artifact: &str, version: &str| {
        format!(
            "<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{version}</version></dependency>\n"
        )
    };
    let dependencies = [
        dependency("org.apache.kafka", "kafka_2.13", version),
        dependency("org.apache.kafka", "kafka-tools", version),
        dependency("org.apache.logging.log4j", "log4j-slf4j-impl", "2.24.3"),
    ];
    format!(
        "<project>\n<modelVersion>4.0.0</modelVersion>\n<groupId>bench</groupId><artifactId>peers</artifactId><version>1</version>\n\
         <dependencies>\n{}</dependencies>\n</project>\n",
        dependencies.concat()
    )
}

fn nats(folder: &Folder) -> Result<()> {
    let binaries = binaries(folder)?;
    let mut line = Line::new("env").arg(format!("GOBIN={}", binaries.display()));
    line = line.args(["go", "install", "github.com/nats-io/nats-server/v2@latest"]);
    line.run()?;
    Ok(())
}

/// Fetches the package with those that it needs and that are not there, and unpacks them beside each other.
const UNPACK: &str = r#"
set -e
cd "$1"
rm -rf root *.deb
needed=$(apt-get -s --no-install-recommends install redis-server | sed -n 's/^Inst \([^ ]*\).*/\1/p')
apt-get download redis-server redis-tools $needed
for file in *.deb; do dpkg -x "$file" root; done
"#;

/// Starts the unpacked server with the libraries that were unpacked with it; the process is the server's own.
const START: &str = r#"#!/bin/sh
root="${0%/*}/../redis.deb/root"
for folder in "$root"/lib/*-linux-gnu* "$root"/usr/lib/*-linux-gnu*; do
    LD_LIBRARY_PATH="$folder${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
done
export LD_LIBRARY_PATH
exec "$root/usr/bin/redis-server" "$@"
"#;

/// The package is unpacked and not installed: no service starts.
fn redis(folder: &Folder) -> Result<()> {
    let work = folder.cache.join("redis.deb");
    std::fs::create_dir_all(&work)?;
    Line::new("sh")
        .args(["-c", UNPACK, "sh"])
        .path(&work)
        .run()
        .context("`apt-get update` may be missing")?;
    if !work.join("root/usr/bin/redis-server").is_file() {
        bail!("the package has no server");
    }
    let program = binaries(folder)?.join("redis-server");
    std::fs::write(&program, START)?;
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755))?;
    Ok(())
}

fn krabka(_: &Folder) -> Result<()> {
    bail!("there is no package of it")
}

fn binaries(folder: &Folder) -> Result<PathBuf> {
    let path: &Path = &folder.cache;
    let path = path.join("bin");
    std::fs::create_dir_all(&path)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_project_names_kafka_its_tools_and_a_binding_for_its_log() {
        let project = project_of("4.1.0");
        for artifact in ["kafka_2.13", "kafka-tools", "log4j-slf4j-impl"] {
            assert!(project.contains(&format!("<artifactId>{artifact}</artifactId>")));
        }
        assert_eq!(project.matches("<version>4.1.0</version>").count(), 2);
    }

    #[test]
    fn what_is_missing_says_how_to_get_it() {
        let folder = Folder {
            cache: std::env::temp_dir().join("bench-no-such-folder"),
            kafka: "4.1.0".into(),
        };
        let way = WAYS.iter().find(|way| way.name == Name::Krabka).unwrap();
        let error = way.take(&folder).unwrap_err();
        assert!(error.to_string().contains("no package"));
        assert!(way.otherwise(&folder).contains("bench-no-such-folder/bin"));
    }
}
