//! `tidegate group`: consumer groups, their lag, and where they go on reading.

use std::collections::{BTreeMap, BTreeSet};

use clap::{Args, Subcommand};
use serde_json::json;
use tidegate_client::{Admin, GroupDescription, StartAt};

use super::CliError;
use super::client::ClientOptions;
use super::datetime;
use super::output::{Listing, counted, print_json, print_line};

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tidegate group list\n  tidegate group describe billing\n  \
                  tidegate group reset-offsets billing --topic orders --to-earliest            # shows what would change\n  \
                  tidegate group reset-offsets billing --topic orders --to-earliest --execute\n  \
                  tidegate group reset-offsets billing --all-topics --to-datetime 2025-01-31T09:00:00Z --execute\n  \
                  tidegate group delete-offsets billing --topic orders                         # which it no longer reads\n  \
                  tidegate group delete billing"
)]
pub struct GroupCommand {
    #[command(subcommand)]
    action: GroupAction,
    #[command(flatten)]
    client: ClientOptions,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum GroupAction {
    /// List groups
    List,
    /// Show how far a group is behind, partition by partition, and who reads what
    Describe { name: String },
    /// Delete groups and what they committed; they must have no members
    Delete {
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Forget what a group has committed of topics that it no longer reads
    #[command(
        after_help = "Example:\n  tidegate group delete-offsets billing --topic orders --topic invoices:0,1"
    )]
    DeleteOffsets {
        name: String,
        /// A topic, or some partitions of it; repeatable
        #[arg(long, value_name = "TOPIC[:PARTITION,…]", required = true)]
        topic: Vec<String>,
    },
    /// Set where a group goes on reading; shows the change, and makes it with --execute
    #[command(
        after_help = "Example:\n  tidegate group reset-offsets billing --topic orders:0,1 --to-offset 1200 --execute"
    )]
    ResetOffsets(ResetOffsets),
}

#[derive(Debug, Args)]
struct ResetOffsets {
    name: String,
    /// A topic, or some partitions of it; repeatable
    #[arg(
        long,
        value_name = "TOPIC[:PARTITION,…]",
        required_unless_present = "all_topics"
    )]
    topic: Vec<String>,
    /// Every topic that the group has committed offsets of
    #[arg(long, conflicts_with = "topic")]
    all_topics: bool,
    #[command(flatten)]
    to: ResetTo,
    /// Make the change
    #[arg(long)]
    execute: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct ResetTo {
    /// The oldest record there is
    #[arg(long)]
    to_earliest: bool,
    /// Behind the newest record
    #[arg(long)]
    to_latest: bool,
    /// This offset, or the nearest that exists
    #[arg(long, value_name = "OFFSET")]
    to_offset: Option<i64>,
    /// The first record at or after this time, such as 2025-01-31T09:00:00Z or 2025-01-31T10:00:00+01:00
    #[arg(long, value_name = "TIME", value_parser = datetime::parse)]
    to_datetime: Option<i64>,
}

impl ResetTo {
    fn start(&self) -> StartAt {
        match (self.to_offset, self.to_datetime) {
            (Some(offset), _) => StartAt::Offset(offset),
            (None, Some(time)) => StartAt::Timestamp(time),
            (None, None) if self.to_latest => StartAt::Latest,
            (None, None) => StartAt::Earliest,
        }
    }
}

pub async fn run(command: GroupCommand) -> Result<(), CliError> {
    let client = command.client.connect().await?;
    let shell = Shell {
        admin: client.admin(),
        options: command.client,
        json: command.json,
    };
    match command.action {
        GroupAction::List => shell.list().await,
        GroupAction::Describe { name } => shell.describe(&name).await,
        GroupAction::Delete { names } => shell.delete(&names).await,
        GroupAction::DeleteOffsets { name, topic } => shell.delete_offsets(&name, &topic).await,
        GroupAction::ResetOffsets(reset) => shell.reset(&reset).await,
    }
}

/// What every action needs.
struct Shell {
    admin: Admin,
    options: ClientOptions,
    json: bool,
}

type Offsets = BTreeMap<(String, i32), i64>;

impl Shell {
    fn explain(&self, error: tidegate_client::Error) -> CliError {
        self.options.explain(error)
    }

    async fn list(&self) -> Result<(), CliError> {
        let groups = self
            .admin
            .list_groups()
            .await
            .map_err(|error| self.explain(error))?;
        let mut listing = Listing::new(&["group", "state", "protocol"]);
        for group in groups {
            listing.row(vec![
                json!(group.group),
                json!(group.state),
                json!(group.protocol_type),
            ]);
        }
        if listing.is_empty() && !self.json {
            return print_line("no groups");
        }
        listing.print(self.json)
    }

    async fn describe(&self, name: &str) -> Result<(), CliError> {
        let description = self.existing(name).await?;
        let committed = self
            .admin
            .group_offsets(name)
            .await
            .map_err(|error| self.explain(error))?;
        let readers = readers(&description);
        let keys: BTreeSet<&(String, i32)> = committed.keys().chain(readers.keys()).collect();
        let topics: BTreeSet<&str> = keys.iter().map(|(topic, _)| topic.as_str()).collect();
        let mut ends = Offsets::new();
        for topic in topics {
            ends.extend(
                self.offsets_of(topic, StartAt::Latest)
                    .await
                    .unwrap_or_default(),
            );
        }
        let mut listing = Listing::new(&[
            "topic",
            "partition",
            "committed",
            "end",
            "lag",
            "member",
            "host",
        ]);
        for key in keys {
            let offset = committed.get(key).copied();
            let end = ends.get(key).copied();
            let lag = end
                .map(|end| end - offset.unwrap_or(0))
                .filter(|_| offset.is_some());
            let (member, host) = readers.get(key).copied().unzip();
            listing.row(vec![
                json!(key.0),
                json!(key.1),
                json!(offset),
                json!(end),
                json!(lag),
                json!(member),
                json!(host),
            ]);
        }
        if self.json {
            return print_json(&json!({
                "group": name,
                "state": description.state,
                "assignor": description.assignor,
                "members": description.members.len(),
                "partitions": listing.to_json(),
            }));
        }
        let members = counted(description.members.len() as u64, "member");
        print_line(&format!("group {name}: {}, {members}", description.state))?;
        if listing.is_empty() {
            return print_line("it has committed nothing");
        }
        listing.print(false)
    }

    /// Coordinators describe groups that do not exist as dead.
    async fn existing(&self, name: &str) -> Result<GroupDescription, CliError> {
        let described = self.admin.describe_group(name).await;
        let missing = || {
            CliError::new(format!(
                "there is no group {name}\n  `tidegate group list` shows what exists"
            ))
        };
        match described {
            Ok(description) if description.state == "Dead" => Err(missing()),
            Err(error) if error.code() == Some(tidegate_client::ErrorCode::GroupIdNotFound) => {
                Err(missing())
            }
            Ok(description) => Ok(description),
            Err(error) => Err(self.explain(error)),
        }
    }

    async fn delete(&self, names: &[String]) -> Result<(), CliError> {
        for name in names {
            self.admin
                .delete_group(name)
                .await
                .map_err(|error| self.explain(error))?;
            if !self.json {
                print_line(&format!("group {name} deleted"))?;
            }
        }
        if self.json {
            print_json(&json!({ "deleted": names }))?;
        }
        Ok(())
    }

    async fn delete_offsets(&self, name: &str, topics: &[String]) -> Result<(), CliError> {
        let committed = self
            .admin
            .group_offsets(name)
            .await
            .map_err(|error| self.explain(error))?;
        let mut deleted = Vec::new();
        for text in topics {
            let selection = Selection::parse(text)?;
            let of_topic = committed.keys().filter(|(topic, partition)| {
                *topic == selection.topic && selection.holds(*partition)
            });
            let partitions: Vec<i32> = of_topic.map(|(_, partition)| *partition).collect();
            if partitions.is_empty() {
                return Err(CliError::new(format!(
                    "group {name} has committed nothing of {text}\n  `tidegate group describe {name}` shows what it has"
                )));
            }
            self.admin
                .delete_group_offsets(name, &selection.topic, &partitions)
                .await
                .map_err(|error| self.explain(error))?;
            if !self.json {
                let offsets = counted(partitions.len() as u64, "offset");
                print_line(&format!("{offsets} of {} deleted", selection.topic))?;
            }
            deleted.push(json!({ "topic": selection.topic, "partitions": partitions }));
        }
        match self.json {
            true => print_json(&json!({ "group": name, "deleted": deleted })),
            false => Ok(()),
        }
    }

    async fn reset(&self, reset: &ResetOffsets) -> Result<(), CliError> {
        let name = &reset.name;
        let description = self.admin.describe_group(name).await;
        match description {
            Ok(description) if !description.members.is_empty() => {
                return Err(CliError::new(format!(
                    "group {name} has {} members, which would overwrite the offsets\n  stop them first",
                    description.members.len()
                )));
            }
            Err(error) if error.code() != Some(tidegate_client::ErrorCode::GroupIdNotFound) => {
                return Err(self.explain(error));
            }
            _ => {}
        }
        let current = self
            .admin
            .group_offsets(name)
            .await
            .map_err(|error| self.explain(error))?;
        let wanted = self.wanted(reset, &current).await?;
        let mut listing = Listing::new(&["topic", "partition", "committed", "new"]);
        for (key, offset) in &wanted {
            listing.row(vec![
                json!(key.0),
                json!(key.1),
                json!(current.get(key)),
                json!(offset),
            ]);
        }
        if listing.is_empty() {
            return Err(CliError::new(format!(
                "group {name} has committed nothing; name topics with --topic"
            )));
        }
        if reset.execute {
            let altered = self.admin.alter_group_offsets(name, &wanted).await;
            altered.map_err(|error| self.explain(error))?;
        }
        if self.json {
            return print_json(
                &json!({ "executed": reset.execute, "partitions": listing.to_json() }),
            );
        }
        listing.print(false)?;
        let note = if reset.execute {
            "done"
        } else {
            "nothing was changed; add --execute to do it"
        };
        print_line(note)
    }

    async fn wanted(&self, reset: &ResetOffsets, current: &Offsets) -> Result<Offsets, CliError> {
        let selections: Vec<Selection> = if reset.all_topics {
            let topics: BTreeSet<&String> = current.keys().map(|(topic, _)| topic).collect();
            topics
                .into_iter()
                .map(|topic| Selection::whole(topic))
                .collect()
        } else {
            reset
                .topic
                .iter()
                .map(|text| Selection::parse(text))
                .collect::<Result<_, _>>()?
        };
        let mut wanted = Offsets::new();
        for selection in selections {
            let earliest = self.offsets_of(&selection.topic, StartAt::Earliest).await?;
            let latest = self.offsets_of(&selection.topic, StartAt::Latest).await?;
            let found = self.offsets_of(&selection.topic, reset.to.start()).await?;
            for (key, offset) in found {
                let bounds = earliest.get(&key).zip(latest.get(&key));
                if let Some((first, end)) = bounds
                    && selection.holds(key.1)
                {
                    wanted.insert(key, offset.clamp(*first, (*end).max(*first)));
                }
            }
        }
        Ok(wanted)
    }

    async fn offsets_of(&self, topic: &str, at: StartAt) -> Result<Offsets, CliError> {
        let offsets = self.admin.list_offsets(topic, at).await;
        let offsets = offsets.map_err(|error| self.explain(error))?;
        Ok(offsets
            .into_iter()
            .map(|(partition, offset)| ((topic.to_owned(), partition), offset))
            .collect())
    }
}

/// Who reads a partition: client id and host.
fn readers(description: &GroupDescription) -> BTreeMap<(String, i32), (&str, &str)> {
    let mut readers = BTreeMap::new();
    for member in &description.members {
        for (topic, partitions) in &member.assignment {
            for partition in partitions {
                let reader = (member.client_id.as_str(), member.host.as_str());
                readers.insert((topic.clone(), *partition), reader);
            }
        }
    }
    readers
}

/// A topic, or some of its partitions.
#[derive(PartialEq, Eq, Debug)]
struct Selection {
    topic: String,
    partitions: Option<BTreeSet<i32>>,
}

impl Selection {
    fn whole(topic: &str) -> Self {
        Self {
            topic: topic.to_owned(),
            partitions: None,
        }
    }

    fn parse(text: &str) -> Result<Self, CliError> {
        let Some((topic, list)) = text.split_once(':') else {
            return Ok(Self::whole(text));
        };
        let partitions = list.split(',').map(|number| number.trim().parse::<i32>());
        let partitions = partitions
            .collect::<Result<BTreeSet<i32>, _>>()
            .map_err(|_| CliError::new(format!("--topic {text}: write TOPIC or TOPIC:0,1,2")))?;
        Ok(Self {
            topic: topic.to_owned(),
            partitions: Some(partitions),
        })
    }

    fn holds(&self, partition: i32) -> bool {
        self.partitions
            .as_ref()
            .is_none_or(|some| some.contains(&partition))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selection_names_a_topic_or_some_of_its_partitions() {
        assert_eq!(
            Selection::parse("orders").unwrap(),
            Selection::whole("orders")
        );
        let some = Selection::parse("orders:0, 2").unwrap();
        assert!(some.holds(2) && !some.holds(1));
        assert!(Selection::parse("orders:x").is_err());
    }
}
