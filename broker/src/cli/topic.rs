//! `tidegate topic`: create, list, describe, change and delete topics.

use clap::{Args, Subcommand};
use serde_json::json;
use tidegate_client::{
    Admin, Client, ConfigChange, ConfigSource, NewTopic, StartAt, TopicDescription,
};

use super::CliError;
use super::client::{ClientOptions, key_value};
use super::output::{Listing, counted, print_json, print_line};

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tidegate topic create orders --partitions 12 --config retention.ms=604800000\n  \
                  tidegate topic list\n  tidegate topic describe orders\n  \
                  tidegate topic alter orders --config tidegate.transform=mask --delete-config retention.ms\n  \
                  tidegate topic add-partitions orders --total 24\n  tidegate topic delete orders"
)]
pub struct TopicCommand {
    #[command(subcommand)]
    action: TopicAction,
    #[command(flatten)]
    client: ClientOptions,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum TopicAction {
    /// Create a topic
    #[command(
        after_help = "Example:\n  tidegate topic create orders --partitions 12 --config retention.ms=604800000"
    )]
    Create {
        name: String,
        /// Number of partitions; without it the broker's default
        #[arg(long, short = 'p', value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
        partitions: Option<i32>,
        /// Copies of each partition; without it the broker's default
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(i16).range(1..))]
        replication_factor: Option<i16>,
        /// A setting by Kafka's name; repeatable
        #[arg(long, short = 'c', value_name = "KEY=VALUE", value_parser = key_value)]
        config: Vec<(String, String)>,
        /// Succeed when the topic exists already
        #[arg(long)]
        if_not_exists: bool,
        /// Only say whether the topic could be created
        #[arg(long)]
        dry_run: bool,
    },
    /// List topics
    List {
        /// Also those that the broker keeps for itself
        #[arg(long)]
        internal: bool,
    },
    /// Show a topic's partitions, offsets and settings
    Describe {
        name: String,
        /// Also settings that were not set on the topic
        #[arg(long)]
        all_configs: bool,
    },
    /// Delete topics and their records
    Delete {
        #[arg(required = true)]
        names: Vec<String>,
        /// Succeed when a topic does not exist
        #[arg(long)]
        if_exists: bool,
    },
    /// Change a topic's settings; those not named stay as they are
    #[command(
        after_help = "Example:\n  tidegate topic alter orders --config retention.ms=3600000 --delete-config cleanup.policy"
    )]
    Alter {
        name: String,
        /// A setting by Kafka's name; repeatable
        #[arg(long, short = 'c', value_name = "KEY=VALUE", value_parser = key_value)]
        config: Vec<(String, String)>,
        /// Back to the broker's default; repeatable
        #[arg(long, value_name = "KEY")]
        delete_config: Vec<String>,
    },
    /// Delete a topic's older records; the newer ones keep their offsets
    #[command(
        after_help = "Examples:\n  tidegate topic delete-records orders --before latest\n  \
                      tidegate topic delete-records orders --partition 3 --before 1000"
    )]
    DeleteRecords {
        name: String,
        /// The first offset to be kept, or `latest` to keep none of those that consumers see
        #[arg(long, value_name = "OFFSET", value_parser = bound)]
        before: Before,
        /// Only this partition; repeatable; without it all of them
        #[arg(long, short = 'p', value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
        partition: Vec<i32>,
    },
    /// Raise a topic's number of partitions; keys may move to other partitions
    AddPartitions {
        name: String,
        /// How many there are to be afterwards
        #[arg(long, short = 'p', visible_alias = "partitions", value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
        total: i32,
    },
}

/// Up to where records go.
#[derive(Clone, Copy, Debug)]
enum Before {
    Offset(i64),
    Latest,
}

fn bound(text: &str) -> Result<Before, String> {
    if text == "latest" {
        return Ok(Before::Latest);
    }
    let offset = text.parse().ok().filter(|offset| *offset >= 0);
    offset
        .map(Before::Offset)
        .ok_or_else(|| format!("{text:?} is neither an offset nor `latest`"))
}

pub async fn run(command: TopicCommand) -> Result<(), CliError> {
    let client = command.client.connect().await?;
    let shell = Shell {
        admin: client.admin(),
        client,
        options: command.client,
        json: command.json,
    };
    match command.action {
        TopicAction::Create {
            name,
            partitions,
            replication_factor,
            config,
            if_not_exists,
            dry_run,
        } => {
            let mut topic = NewTopic::new(&name)
                .partitions(partitions.unwrap_or(-1))
                .replication_factor(replication_factor.unwrap_or(-1));
            for (key, value) in config {
                topic = topic.config(key, value);
            }
            shell.create(&name, &topic, if_not_exists, dry_run).await
        }
        TopicAction::List { internal } => shell.list(internal).await,
        TopicAction::Describe { name, all_configs } => shell.describe(&name, all_configs).await,
        TopicAction::Delete { names, if_exists } => shell.delete(&names, if_exists).await,
        TopicAction::Alter {
            name,
            config,
            delete_config,
        } => shell.alter(&name, config, delete_config).await,
        TopicAction::DeleteRecords {
            name,
            before,
            partition,
        } => shell.delete_records(&name, before, partition).await,
        TopicAction::AddPartitions { name, total } => {
            let added = shell.admin.create_partitions(&name, total).await;
            added.map_err(|error| shell.options.explain(error))?;
            shell.say(&format!("topic {name} has {total} partitions"))
        }
    }
}

/// The setting that says what an acknowledgement is worth.
const DURABILITY: &str = "tidegate.durability";

/// What a durability promises, in a line.
fn promise(durability: &str) -> String {
    let meaning = match durability {
        "fsync" => "acks=all is answered after fdatasync and survives loss of power",
        "os" => {
            "acks=all is answered from the page cache and survives the end of the process, not loss of power"
        }
        _ => "unknown to this version of the command",
    };
    format!("durability {durability}: {meaning}")
}

/// What every action needs.
struct Shell {
    client: Client,
    admin: Admin,
    options: ClientOptions,
    json: bool,
}

impl Shell {
    /// Machines get an object in place of the sentence.
    fn say(&self, sentence: &str) -> Result<(), CliError> {
        if self.json {
            print_json(&json!({ "result": sentence }))
        } else {
            print_line(sentence)
        }
    }

    async fn create(
        &self,
        name: &str,
        topic: &NewTopic,
        if_not_exists: bool,
        dry_run: bool,
    ) -> Result<(), CliError> {
        let created = if dry_run {
            self.admin.validate_topic(topic).await
        } else {
            self.admin.create_topic(topic).await
        };
        let exists = Some(tidegate_client::ErrorCode::TopicAlreadyExists);
        match created {
            Ok(()) if dry_run => self.say(&format!("topic {name} could be created")),
            Ok(()) => self.say(&format!("topic {name} created")),
            Err(error) if if_not_exists && error.code() == exists => {
                self.say(&format!("topic {name} exists already"))
            }
            Err(error) => Err(self.options.explain(error)),
        }
    }

    async fn list(&self, internal: bool) -> Result<(), CliError> {
        let listed = self.admin.list_topics().await;
        let topics = listed.map_err(|error| self.options.explain(error))?;
        let mut listing = Listing::new(&["topic", "partitions", "internal"]);
        for topic in topics.iter().filter(|topic| internal || !topic.internal) {
            listing.row(vec![
                json!(topic.name),
                json!(topic.partitions.len()),
                json!(topic.internal),
            ]);
        }
        if listing.is_empty() && !self.json {
            return print_line("no topics; create one with `tidegate topic create NAME`");
        }
        listing.print(self.json)
    }

    /// Each partition's place, offsets and number of records.
    async fn partitions(&self, topic: &TopicDescription) -> Result<Listing, CliError> {
        let explain = |error| self.options.explain(error);
        let name = &topic.name;
        let starts = self
            .admin
            .list_offsets(name, StartAt::Earliest)
            .await
            .map_err(explain)?;
        let ends = self
            .admin
            .list_offsets(name, StartAt::Latest)
            .await
            .map_err(explain)?;
        let mut partitions = Listing::new(&[
            "partition",
            "leader",
            "replicas",
            "isr",
            "start",
            "end",
            "records",
        ]);
        for partition in &topic.partitions {
            let start = starts.get(&partition.index).copied();
            let end = ends.get(&partition.index).copied();
            let records = start.zip(end).map(|(start, end)| end - start);
            partitions.row(vec![
                json!(partition.index),
                json!(partition.leader),
                json!(partition.replicas),
                json!(partition.in_sync_replicas),
                json!(start),
                json!(end),
                json!(records),
            ]);
        }
        Ok(partitions)
    }

    async fn describe(&self, name: &str, all_configs: bool) -> Result<(), CliError> {
        let explain = |error| self.options.explain(error);
        let topics = self.admin.describe_topics(&[name]).await.map_err(explain)?;
        let Some(topic) = topics.into_iter().next() else {
            return Err(CliError::new(format!(
                "the broker says nothing of topic {name}"
            )));
        };
        let partitions = self.partitions(&topic).await?;
        let mut configs = Listing::new(&["setting", "value", "set"]);
        let mut durability = None;
        for entry in self.admin.topic_configs(name).await.map_err(explain)? {
            if entry.name == DURABILITY {
                durability.clone_from(&entry.value);
            }
            let on_topic = entry.source == ConfigSource::Topic;
            if all_configs || on_topic {
                configs.row(vec![json!(entry.name), json!(entry.value), json!(on_topic)]);
            }
        }
        if self.json {
            return print_json(&json!({
                "topic": topic.name,
                "internal": topic.internal,
                "durability": durability,
                "partitions": partitions.to_json(),
                "configs": configs.to_json(),
            }));
        }
        print_line(&format!("topic {}", topic.name))?;
        // Kafka's brokers have no such setting.
        if let Some(durability) = durability {
            print_line(&promise(&durability))?;
        }
        partitions.print(false)?;
        if configs.is_empty() {
            print_line("no settings of its own; --all-configs shows those it inherits")
        } else {
            configs.print(false)
        }
    }

    async fn delete(&self, names: &[String], if_exists: bool) -> Result<(), CliError> {
        let unknown = Some(tidegate_client::ErrorCode::UnknownTopicOrPartition);
        for name in names {
            match self.admin.delete_topic(name).await {
                Ok(()) => self.say(&format!("topic {name} deleted"))?,
                Err(error) if if_exists && error.code() == unknown => {
                    self.say(&format!("topic {name} does not exist"))?;
                }
                Err(error) => return Err(self.options.explain(error)),
            }
        }
        Ok(())
    }

    async fn delete_records(
        &self,
        name: &str,
        before: Before,
        partitions: Vec<i32>,
    ) -> Result<(), CliError> {
        let known = self.client.topic(name, false).await;
        let known = known.map_err(|error| self.options.explain(error))?;
        let all = known.partitions.iter().map(|partition| partition.index);
        let partitions = match partitions.is_empty() {
            true => all.collect(),
            false => partitions,
        };
        let before = match before {
            Before::Offset(offset) => Some(offset),
            Before::Latest => None,
        };
        let mut listing = Listing::new(&["partition", "start"]);
        for partition in partitions {
            let deleted = self.admin.delete_records(name, partition, before).await;
            let start = deleted.map_err(|error| self.options.explain(error))?;
            listing.row(vec![json!(partition), json!(start)]);
        }
        listing.print(self.json)
    }

    async fn alter(
        &self,
        name: &str,
        set: Vec<(String, String)>,
        delete: Vec<String>,
    ) -> Result<(), CliError> {
        let set = set
            .into_iter()
            .map(|(key, value)| ConfigChange::Set(key, value));
        let changes: Vec<ConfigChange> = set
            .chain(delete.into_iter().map(ConfigChange::Delete))
            .collect();
        if changes.is_empty() {
            return Err(CliError::new(
                "nothing to change\n  give --config KEY=VALUE or --delete-config KEY",
            ));
        }
        // A setting of a topic that does not exist would be refused in words about settings.
        let known = self.client.topic(name, false).await;
        known.map_err(|error| self.options.explain(error))?;
        let altered = self.admin.alter_topic_configs(name, &changes).await;
        altered.map_err(|error| self.options.explain(error))?;
        self.say(&format!(
            "topic {name}: {} changed",
            counted(changes.len() as u64, "setting")
        ))
    }
}
