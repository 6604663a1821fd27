//! How soon a server answers on data that is there.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tidegate_client::Client;

use crate::broker::Broker;
use crate::options::{Options, Variant};
use crate::report::Measured;
use crate::servers::Stop;
use crate::{create_topic, end_offset, produce};

/// How long partitions may take to be led again, behind the first answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Writes, ends the server and starts it again on what it has; it must still have all of it.
pub async fn run(
    options: &Options,
    variant: &Variant,
    mut broker: Broker,
    stop: Stop,
) -> Result<Measured> {
    let topic = create_topic(options, variant, &broker).await?;
    produce::run(options, variant, &broker, &topic).await?;
    let written = end_offset(&broker.client, &topic).await?;
    broker.restart(stop).await?;
    await_records(&broker.client, &topic, written).await?;
    Ok(Measured {
        start: broker.start,
        idle_bytes: broker.idle_bytes,
        peak_bytes: broker.peak_bytes(),
        ..Measured::default()
    })
}

async fn await_records(client: &Client, topic: &str, expected: i64) -> Result<()> {
    let begun = Instant::now();
    loop {
        let found = end_offset(client, topic).await;
        if found.as_ref().is_ok_and(|found| *found == expected) {
            return Ok(());
        }
        if begun.elapsed() > PATIENCE {
            let found = found?;
            bail!("{expected} records were written, and {found} are there after the start");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
