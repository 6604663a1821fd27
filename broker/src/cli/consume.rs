//! `tidegate consume`: print a topic's records.

use std::io::{self, BufWriter, Write};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use clap::Args;
use serde_json::{Map, Value, json};
use tidegate_client::{Client, Consumer, ConsumerRecord, OffsetReset, StartAt};

use super::CliError;
use super::client::ClientOptions;
use super::output::{counted, written};

/// Records printed between two looks at the signals.
const POLL_RECORDS: usize = 500;

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tidegate consume orders --from-beginning --max-messages 10\n  \
                  tidegate consume orders --group billing\n  \
                  tidegate consume orders --partition 3 --offset 1200 --format '%o %k %v\\n'\n  \
                  tidegate consume orders --from-beginning --timeout 2s --format json | jq .value\n\n\
                  Format: %t topic, %p partition, %o offset, %T timestamp (ms), %k key, %v value, %h headers, %% percent; \
                  \\n and \\t as usual. `json` prints one object a line; keys and values that are not UTF-8 appear as \
                  key_base64 and value_base64."
)]
pub struct ConsumeCommand {
    topic: String,
    /// Read as a member of this group and commit what was printed
    #[arg(long, short = 'g', value_name = "NAME")]
    group: Option<String>,
    /// Begin with the oldest record (a group: where it has committed nothing)
    #[arg(long)]
    from_beginning: bool,
    /// End after so many records
    #[arg(long, short = 'n', value_name = "N")]
    max_messages: Option<u64>,
    /// How to print a record: a pattern, or json
    #[arg(long, short = 'F', value_name = "PATTERN", default_value = "%v\\n")]
    format: String,
    /// Print one JSON object a line, as --format json
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// Read this partition alone
    #[arg(long, short = 'p', value_name = "N", conflicts_with = "group")]
    partition: Option<i32>,
    /// Begin at this offset of --partition
    #[arg(
        long,
        short = 'o',
        value_name = "OFFSET",
        requires = "partition",
        conflicts_with = "from_beginning"
    )]
    offset: Option<i64>,
    /// End when no record came for so long, such as 500ms, 10s or 2m
    #[arg(long, value_name = "TIME", value_parser = duration)]
    timeout: Option<Duration>,
    #[command(flatten)]
    client: ClientOptions,
}

pub async fn run(command: ConsumeCommand) -> Result<(), CliError> {
    let format = Format::parse(if command.json {
        "json"
    } else {
        &command.format
    })?;
    let client = command.client.connect().await?;
    let mut consumer = command.consumer(&client).await?;
    let printed = print_records(&command, &format, &mut consumer).await;
    // Commits what was printed, and lets the group go on at once.
    let closed = consumer.close().await;
    let printed = printed?;
    closed.map_err(|error| command.client.explain(error))?;
    eprintln!("{} read from {}", counted(printed, "record"), command.topic);
    Ok(())
}

async fn print_records(
    command: &ConsumeCommand,
    format: &Format,
    consumer: &mut Consumer,
) -> Result<u64, CliError> {
    let limit = command.max_messages.unwrap_or(u64::MAX);
    let patience = command.timeout.unwrap_or(Duration::from_secs(3600));
    let mut out = BufWriter::new(io::stdout().lock());
    let mut stop = std::pin::pin!(tokio::signal::ctrl_c());
    let mut printed = 0;
    while printed < limit {
        let wanted = usize::try_from(limit - printed)
            .unwrap_or(usize::MAX)
            .min(POLL_RECORDS);
        let records = tokio::select! {
            records = consumer.poll(wanted, patience) => records,
            _ = &mut stop => break,
        };
        let records = records.map_err(|error| command.client.explain(error))?;
        if records.is_empty() && command.timeout.is_some() {
            break;
        }
        for record in &records {
            written(format.write(&mut out, record))?;
            printed += 1;
        }
        written(out.flush())?;
    }
    Ok(printed)
}

impl ConsumeCommand {
    async fn consumer(&self, client: &Client) -> Result<Consumer, CliError> {
        let explain = |error| self.client.explain(error);
        let mut builder = client.consumer().allow_create(false);
        if let Some(group) = &self.group {
            let reset = if self.from_beginning {
                OffsetReset::Earliest
            } else {
                OffsetReset::Latest
            };
            client.topic(&self.topic, false).await.map_err(explain)?;
            builder = builder
                .group(group)
                .topics([&self.topic])
                .offset_reset(reset);
            return builder.build().map_err(explain);
        }
        let start = match self.offset {
            Some(offset) => StartAt::Offset(offset),
            None if self.from_beginning => StartAt::Earliest,
            None => StartAt::Latest,
        };
        let topic = client.topic(&self.topic, false).await.map_err(explain)?;
        let all = topic.partitions.iter().map(|partition| partition.index);
        let wanted: Vec<i32> = match self.partition {
            None => all.collect(),
            Some(partition) => all.filter(|index| *index == partition).collect(),
        };
        if wanted.is_empty() {
            return Err(CliError::new(format!(
                "topic {} has no partition {}: it has {}, from 0",
                self.topic,
                self.partition.unwrap_or_default(),
                topic.partitions.len()
            )));
        }
        for partition in wanted {
            builder = builder.assign(self.topic.as_str(), partition, start);
        }
        builder.build().map_err(explain)
    }
}

/// `500ms`, `10s`, `2m`; a bare number counts seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits
        .parse()
        .map_err(|_| format!("{text}: write a number and ms, s or m, such as 500ms or 10s"))?;
    match &text[digits.len()..] {
        "ms" => Ok(Duration::from_millis(number)),
        "s" | "" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(number.saturating_mul(60))),
        unit => Err(format!("{text}: the unit {unit} is none of ms, s and m")),
    }
}

/// How a record is printed.
#[derive(PartialEq, Eq, Debug)]
enum Format {
    Json,
    Pattern(Vec<Piece>),
}

#[derive(PartialEq, Eq, Debug)]
enum Piece {
    Text(String),
    Topic,
    Partition,
    Offset,
    Timestamp,
    Key,
    Value,
    Headers,
}

impl Format {
    fn parse(pattern: &str) -> Result<Self, CliError> {
        if pattern == "json" {
            return Ok(Self::Json);
        }
        let mut pieces = Vec::new();
        let mut text = String::new();
        let mut rest = pattern.chars();
        while let Some(c) = rest.next() {
            let piece = match (
                c,
                if c == '%' || c == '\\' {
                    rest.next()
                } else {
                    None
                },
            ) {
                ('%', Some('t')) => Piece::Topic,
                ('%', Some('p')) => Piece::Partition,
                ('%', Some('o')) => Piece::Offset,
                ('%', Some('T')) => Piece::Timestamp,
                ('%', Some('k')) => Piece::Key,
                ('%', Some('v' | 's')) => Piece::Value,
                ('%', Some('h')) => Piece::Headers,
                (_, next) => {
                    text.push(match (c, next) {
                        ('%', Some('%')) => '%',
                        ('\\', Some('n')) => '\n',
                        ('\\', Some('t')) => '\t',
                        ('\\', Some('\\')) => '\\',
                        ('%' | '\\', next) => {
                            let next = next.map(String::from).unwrap_or_default();
                            return Err(CliError::new(format!(
                                "--format: {c}{next} means nothing; use %t %p %o %T %k %v %h %% \\n \\t \\\\ or json"
                            )));
                        }
                        (plain, _) => plain,
                    });
                    continue;
                }
            };
            if !text.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut text)));
            }
            pieces.push(piece);
        }
        if !text.is_empty() {
            pieces.push(Piece::Text(text));
        }
        Ok(Self::Pattern(pieces))
    }

    fn write(&self, out: &mut impl Write, record: &ConsumerRecord) -> io::Result<()> {
        let pieces = match self {
            Self::Json => return writeln!(out, "{}", to_json(record)),
            Self::Pattern(pieces) => pieces,
        };
        for piece in pieces {
            match piece {
                Piece::Text(text) => out.write_all(text.as_bytes())?,
                Piece::Topic => out.write_all(record.topic.as_bytes())?,
                Piece::Partition => write!(out, "{}", record.partition)?,
                Piece::Offset => write!(out, "{}", record.offset)?,
                Piece::Timestamp => write!(out, "{}", record.timestamp)?,
                Piece::Key => out.write_all(record.key.as_deref().unwrap_or_default())?,
                Piece::Value => out.write_all(record.value.as_deref().unwrap_or_default())?,
                Piece::Headers => write_headers(out, record)?,
            }
        }
        Ok(())
    }
}

fn write_headers(out: &mut impl Write, record: &ConsumerRecord) -> io::Result<()> {
    for (index, header) in record.headers.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        write!(out, "{comma}{}=", header.name)?;
        out.write_all(header.value.as_deref().unwrap_or_default())?;
    }
    Ok(())
}

fn to_json(record: &ConsumerRecord) -> Value {
    let mut object = Map::new();
    object.insert("topic".into(), json!(&*record.topic));
    object.insert("partition".into(), json!(record.partition));
    object.insert("offset".into(), json!(record.offset));
    object.insert("timestamp".into(), json!(record.timestamp));
    insert_bytes(&mut object, "key", record.key.as_ref());
    insert_bytes(&mut object, "value", record.value.as_ref());
    let headers = record.headers.iter().map(|header| {
        let mut one = Map::new();
        one.insert("name".into(), json!(header.name));
        insert_bytes(&mut one, "value", header.value.as_ref());
        Value::Object(one)
    });
    object.insert("headers".into(), headers.collect());
    Value::Object(object)
}

fn insert_bytes(object: &mut Map<String, Value>, name: &str, bytes: Option<&Bytes>) {
    match bytes.map(|bytes| std::str::from_utf8(bytes)) {
        None => object.insert(name.into(), Value::Null),
        Some(Ok(text)) => object.insert(name.into(), json!(text)),
        Some(Err(_)) => {
            let encoded = BASE64.encode(bytes.map(|bytes| &bytes[..]).unwrap_or_default());
            object.insert(format!("{name}_base64"), json!(encoded))
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_client::Header;

    fn printed(pattern: &str) -> String {
        let record = ConsumerRecord {
            topic: "t".into(),
            partition: 3,
            offset: 42,
            timestamp: 1_700_000_000_000,
            key: Some(Bytes::from_static(b"k")),
            value: Some(Bytes::from_static(b"\xff")),
            headers: vec![Header::new("a", "1"), Header::new("b", "2")],
        };
        let mut out = Vec::new();
        Format::parse(pattern)
            .unwrap()
            .write(&mut out, &record)
            .unwrap();
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn patterns_print_what_they_name() {
        assert_eq!(
            printed(r"%t-%p@%o %k\t%T %h 100%%\n"),
            "t-3@42 k\t1700000000000 a=1,b=2 100%\n"
        );
    }

    #[test]
    fn json_keeps_bytes_that_are_not_text() {
        let value: Value = serde_json::from_str(&printed("json")).unwrap();
        assert_eq!(value["key"], "k");
        assert_eq!(value["value_base64"], "/w==");
        assert_eq!(value["headers"][1]["name"], "b");
    }

    #[test]
    fn a_wrong_pattern_names_its_mistake() {
        for pattern in ["%x", "abc%", "\\q"] {
            let error = Format::parse(pattern).unwrap_err().to_string();
            assert!(error.contains("means nothing"), "{error}");
        }
    }

    #[test]
    fn times_are_read_with_their_unit() {
        for (text, expected) in [
            ("500ms", 500),
            ("10s", 10_000),
            ("3", 3_000),
            ("2m", 120_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(expected)));
        }
        assert!(duration("10h").is_err() && duration("soon").is_err());
    }
}
