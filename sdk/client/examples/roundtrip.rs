//! Sends records with every codec, reads them back through a group of two, and cleans up:
//! `cargo run -p tidegate-client --example roundtrip -- tcp://localhost:9092 [USER PASSWORD]`.
//!
//! With TLS or QUIC, `TIDEGATE_CA` names the file of the CA that signed the broker's certificate.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tidegate_client::{
    Acks, AclBinding, AclFilter, AclOperation, AclPatternType, AclPermission, AclResourceType,
    Assignor, Client, Compression, ConfigChange, Consumer, NewTopic, OffsetReset, Record, Result,
    SaslOptions, StartAt, TlsOptions,
};

const PARTITIONS: i32 = 6;
const RECORDS: usize = 5_000;

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments
        .next()
        .unwrap_or_else(|| "tcp://localhost:9092".into());
    let mut builder = Client::builder().bootstrap(address).client_id("roundtrip");
    if let Ok(ca) = std::env::var("TIDEGATE_CA") {
        builder = builder.tls(TlsOptions::new().ca_file(ca));
    }
    if let (Some(user), Some(password)) = (arguments.next(), arguments.next()) {
        let mechanism = std::env::var("TIDEGATE_MECHANISM").unwrap_or("SCRAM-SHA-256".into());
        builder = builder.sasl(SaslOptions::new(mechanism.parse()?, user, password));
    }
    let client = builder.connect().await?;
    let admin = client.admin();
    println!("{:?}", admin.describe_cluster().await?);

    let topic = format!("roundtrip-{}", std::process::id());
    let new = NewTopic::new(&topic)
        .partitions(PARTITIONS)
        .config("retention.ms", "3600000");
    admin.create_topic(&new).await?;
    configs(&client, &topic).await?;

    let sent = send(&client, &topic).await?;
    read_as_group(&client, &topic, sent).await?;
    read_from_offset(&client, &topic).await?;
    groups(&client, &topic).await?;
    if let Err(error) = permissions(&client, &topic).await {
        println!("permissions: {error}");
    }

    admin.delete_topic(&topic).await?;
    println!("all is well");
    Ok(())
}

async fn configs(client: &Client, topic: &str) -> Result<()> {
    let admin = client.admin();
    let changes = [
        ConfigChange::Set("retention.bytes".into(), "1000000000".into()),
        ConfigChange::Delete("retention.ms".into()),
    ];
    admin.alter_topic_configs(topic, &changes).await?;
    // Apache Kafka applies a change to what it answers a moment later.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let configs = admin.topic_configs(topic).await?;
    let set: Vec<_> = configs
        .iter()
        .filter(|entry| entry.source == tidegate_client::ConfigSource::Topic)
        .map(|entry| (entry.name.as_str(), entry.value.as_deref().unwrap_or("")))
        .collect();
    println!("configs set: {set:?}, of {}", configs.len());
    Ok(())
}

async fn send(client: &Client, topic: &str) -> Result<usize> {
    let codecs = [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];
    let mut sent = 0;
    for (acks, codec) in [Acks::All, Acks::Leader]
        .into_iter()
        .flat_map(|acks| codecs.map(|codec| (acks, codec)))
    {
        let producer = client.producer().acks(acks).compression(codec).build()?;
        let begun = Instant::now();
        let mut deliveries = Vec::new();
        for index in 0..RECORDS {
            let mut record = Record::to(topic)
                .value(format!("{codec} record {index} {}", "x".repeat(100)))
                .header("codec", codec.to_string());
            if index % 2 == 0 {
                record = record.key(format!("key-{}", index % 100));
            }
            deliveries.push(producer.enqueue(record).await?);
        }
        let mut last = BTreeMap::new();
        for delivery in deliveries {
            let stored = delivery.wait().await?;
            let before = last.insert(stored.partition, stored.offset);
            assert!(
                before.is_none() || before < Some(stored.offset),
                "order within a partition"
            );
        }
        producer.close().await?;
        sent += RECORDS;
        println!("{acks:?} {codec}: {RECORDS} in {:?}", begun.elapsed());
    }
    let silent = client.producer().acks(Acks::None).build()?;
    assert_eq!(
        silent.send(Record::to(topic).value("acks=0")).await?.offset,
        None
    );
    silent.close().await?;
    let error = client
        .producer()
        .build()?
        .send(Record::to("no such topic!").value("x"))
        .await
        .unwrap_err();
    println!("as it should: {error}");
    Ok(sent + 1)
}

fn group_member(client: &Client, topic: &str, assignor: Assignor) -> Result<Consumer> {
    client
        .consumer()
        .group(format!("{topic}-group"))
        .topics([topic])
        .assignors([assignor])
        .offset_reset(OffsetReset::Earliest)
        .heartbeat_interval(Duration::from_millis(500))
        .session_timeout(Duration::from_secs(10))
        .build()
}

async fn read_as_group(client: &Client, topic: &str, sent: usize) -> Result<()> {
    let mut first = group_member(client, topic, Assignor::Range)?;
    let mut seen = BTreeMap::new();
    let mut note = |records: Vec<tidegate_client::ConsumerRecord>| {
        let count = records.len();
        for record in records {
            *seen
                .entry((record.partition, record.offset))
                .or_insert(0usize) += 1;
        }
        count
    };
    // A first taste alone, then with a second member, which takes half of the partitions over.
    while note(first.poll(500, Duration::from_secs(10)).await?) == 0 {}
    println!("one member reads {} partitions", first.assignment().len());
    let mut second = group_member(client, topic, Assignor::Range)?;
    let mut idle = 0;
    while idle < 3 {
        let wait = Duration::from_millis(1500);
        let (one, two) = tokio::join!(first.poll(1000, wait), second.poll(1000, wait));
        idle = if note(one?) + note(two?) == 0 {
            idle + 1
        } else {
            0
        };
    }
    println!(
        "two members read {} and {} partitions",
        first.assignment().len(),
        second.assignment().len()
    );
    let description = client
        .admin()
        .describe_group(&format!("{topic}-group"))
        .await?;
    println!(
        "{} with {} members",
        description.state,
        description.members.len()
    );
    assert_eq!(description.members.len(), 2);
    first.close().await?;
    second.close().await?;
    assert_eq!(seen.len(), sent, "every record once");
    let again = seen.values().filter(|count| **count > 1).count();
    println!("{sent} records read, {again} of them twice");

    let mut third = group_member(client, topic, Assignor::RoundRobin)?;
    let rest = third.poll(10, Duration::from_secs(4)).await?;
    assert_eq!(rest.len(), 0, "the group had committed everything");
    third.close().await
}

async fn read_from_offset(client: &Client, topic: &str) -> Result<()> {
    let mut consumer = client
        .consumer()
        .assign(topic, 0, StartAt::Offset(10))
        .assign(topic, 1, StartAt::Earliest)
        .assign(topic, 2, StartAt::Timestamp(0))
        .build()?;
    let mut counts = BTreeMap::new();
    loop {
        let records = consumer.poll(1000, Duration::from_secs(1)).await?;
        if records.is_empty() {
            break;
        }
        for record in records {
            let (first, count) = counts.entry(record.partition).or_insert((record.offset, 0));
            assert_eq!(record.offset, *first + *count, "offsets follow each other");
            *count += 1;
        }
    }
    println!("from offsets: {counts:?}");
    assert_eq!(counts[&0].0, 10);
    consumer.seek(topic, 0, StartAt::Offset(3))?;
    assert_eq!(consumer.recv().await?.offset, 3);
    let ends = client.admin().list_offsets(topic, StartAt::Latest).await?;
    assert_eq!(consumer.position(topic, 1), Some(ends[&1]));
    consumer.close().await
}

async fn groups(client: &Client, topic: &str) -> Result<()> {
    let admin = client.admin();
    let group = format!("{topic}-group");
    let offsets = admin.group_offsets(&group).await?;
    println!("committed: {offsets:?}");
    assert_eq!(offsets.len(), PARTITIONS as usize);
    let first = BTreeMap::from([((topic.to_owned(), 0), 7)]);
    admin.alter_group_offsets(&group, &first).await?;
    assert_eq!(
        admin.group_offsets(&group).await?[&(topic.to_owned(), 0)],
        7
    );
    assert!(
        admin
            .list_groups()
            .await?
            .iter()
            .any(|known| known.group == group)
    );
    admin.delete_group(&group).await?;
    admin.create_partitions(topic, PARTITIONS + 2).await?;
    let topics = admin.describe_topics(&[topic]).await?;
    println!(
        "{} has {} partitions",
        topics[0].name,
        topics[0].partitions.len()
    );
    Ok(())
}

async fn permissions(client: &Client, topic: &str) -> Result<()> {
    let admin = client.admin();
    let binding = AclBinding {
        resource_type: AclResourceType::Topic,
        resource_name: topic.to_owned(),
        pattern_type: AclPatternType::Prefixed,
        principal: "User:alice".into(),
        host: "*".into(),
        operation: AclOperation::Read,
        permission: AclPermission::Allow,
    };
    admin.create_acls(std::slice::from_ref(&binding)).await?;
    let filter = AclFilter {
        resource_name: Some(topic.to_owned()),
        ..AclFilter::default()
    };
    assert_eq!(
        admin.list_acls(&filter).await?,
        std::slice::from_ref(&binding)
    );
    assert_eq!(
        admin.delete_acls(&AclFilter::from(&binding)).await?,
        [binding]
    );
    println!("permissions: created, listed, deleted");
    Ok(())
}
