//! One run: a fresh server, a warm-up that shows how much fits into the time, and what counts.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use tidegate_client::Transport;

use super::cases::{Case, Client, Group};
use super::results::Run;
use super::{java, own, restart};
use crate::bare_quic;
use crate::broker::{Broker, data_folder};
use crate::options::Direction;
use crate::report::Measured;
use crate::run_on;
use crate::servers::{Durability, FloorFiles, Name, Programs, Running, Setup};

/// The warm-up's first part shows the rate, its second lasts so long.
const FIRST_MEGABYTES: u64 = 32;
const WARM_UP: Duration = Duration::from_secs(2);
/// Least that a run writes.
const LEAST_MEGABYTES: u64 = 32;
/// Seconds of a latency run before the one that counts, on a topic of its own: compilers that work meanwhile have done most of it
/// then, and what fell behind meanwhile is not owed by the run that counts.
const LATENCY_WARM_UP: u64 = 3;
/// Seconds at the beginning of the run that counts which do not.
const LATENCY_LEAD: u64 = 1;

/// Tidegate's segments, of which its pool holds eight as it comes: the files of the warm-up's topics are written again in the run
/// that counts, as those are that retention gives up in a broker that has run for a while.
const SEGMENT_BYTES: u64 = 128 << 20;

#[derive(Clone, Debug)]
pub struct Runner {
    pub programs: Programs,
    pub data: PathBuf,
    pub limit: Duration,
    pub seconds: u64,
    pub megabytes: u64,
    pub latency_seconds: u64,
    pub plugins: Option<PathBuf>,
}

impl Runner {
    /// Seconds that a run takes, roughly.
    pub fn about(&self, case: &Case, server: Name) -> u64 {
        let start = match server {
            // Its folder is made by a program of its own before.
            Name::Kafka => 7,
            // It writes its files first.
            Name::Floor if case.floor_files() == FloorFiles::Recycled => 1 + self.megabytes / 1000,
            _ => 1,
        };
        let counts = WARM_UP.as_secs() + self.seconds;
        start
            + match case.group {
                Group::Latency => self.latency_seconds + LATENCY_LEAD + LATENCY_WARM_UP + 1,
                // What is read is written first.
                Group::Consume => 2 * counts,
                Group::Produce | Group::Plugins => counts,
                // Writes all of it, at the pace of the slower ones, and starts once more.
                Group::Restart => start + self.megabytes / 200,
            }
    }

    /// Never fails: what went wrong is the run's result.
    pub async fn run(&self, case: &Case, client: Client, server: Name) -> Run {
        let measuring = self.measure(case, client, server);
        let measured = match tokio::time::timeout(self.limit, measuring).await {
            Ok(Ok(measured)) if measured.is_overloaded(case.group) => {
                let held = measured.records_per_second.unwrap_or(0.0);
                Err(format!("overloaded: held {held:.0} records a second"))
            }
            // The floor writes its files before it listens: that is no start.
            Ok(Ok(measured)) if server == Name::Floor => Ok(Measured {
                start: None,
                ..measured
            }),
            Ok(Ok(measured)) => Ok(measured),
            Ok(Err(error)) => Err(format!("{error:#}")),
            Err(_) => Err(format!("longer than {} s", self.limit.as_secs())),
        };
        Run {
            server,
            failure: measured.as_ref().err().cloned(),
            measured: measured.ok(),
        }
    }

    async fn measure(&self, case: &Case, client: Client, server: Name) -> Result<Measured> {
        let setup = Setup {
            name: server,
            durability: case.durability,
            data: data_folder(Some(&self.data)),
            floor_files: case.floor_files(),
            // The warm-up writes too.
            megabytes: 2 * self.megabytes + FIRST_MEGABYTES,
            partitions: case.number_of("partitions"),
        };
        let running = Running::start(&self.programs, &setup).await?;
        if !server.speaks_kafka() || case.is_bare(server) {
            return self
                .drive(case, client, server, Target::Own(&running))
                .await;
        }
        let broker = Broker::of(running, case.transport.into()).await?;
        if let Some(stop) = case.restart {
            let load = Load::Megabytes(self.megabytes);
            let further = self.further(case, server, &Target::Kafka(&broker), load)?;
            let (options, variant) = case.variant(client, broker.address(), &further)?;
            return restart::run(&options, &variant, broker, stop).await;
        }
        self.drive(case, client, server, Target::Kafka(&broker))
            .await
    }

    /// Warms up, and runs what counts.
    async fn drive(
        &self,
        case: &Case,
        client: Client,
        server: Name,
        target: Target<'_>,
    ) -> Result<Measured> {
        let run = (case, client, server);
        if case.group == Group::Latency {
            let warm = self.once(run, &target, Load::Rate(0, LATENCY_WARM_UP));
            // One that falls behind while it is cold may hold the rate later.
            warm.await.ok();
            let load = Load::Rate(LATENCY_LEAD, self.latency_seconds);
            return self.once(run, &target, load).await;
        }
        let first = Load::Megabytes(FIRST_MEGABYTES.min(self.megabytes));
        let first = self.once(run, &target, first).await?;
        let warm = self.amount(&first, WARM_UP.as_secs())?;
        let second = self.once(run, &target, Load::Megabytes(warm)).await?;
        let amount = self.amount(&second, self.seconds)?;
        self.once(run, &target, Load::Megabytes(amount)).await
    }

    /// What fits into some seconds, in 10⁶ bytes.
    fn amount(&self, measured: &Measured, seconds: u64) -> Result<u64> {
        let rate = measured.megabytes_per_second.context("no rate")?;
        let fits = (rate * seconds as f64) as u64;
        Ok(fits.clamp(LEAST_MEGABYTES.min(self.megabytes), self.megabytes))
    }

    async fn once(
        &self,
        (case, client, server): (&Case, Client, Name),
        target: &Target<'_>,
        load: Load,
    ) -> Result<Measured> {
        let further = self.further(case, server, target, load)?;
        let address = target.address(case.transport.into())?;
        let (options, variant) = case.variant(client, &address, &further)?;
        match (target, client) {
            (Target::Own(running), _) if case.is_bare(server) => {
                let direction = match case.group {
                    Group::Consume => Direction::Out,
                    _ => Direction::In,
                };
                let measured = bare_quic::run(&options, direction).await?;
                Ok(Measured {
                    start: Some(running.start),
                    idle_bytes: running.idle_bytes,
                    peak_bytes: running.peak_bytes(),
                    ..measured
                })
            }
            (Target::Own(running), _) => own::run(server, &options, &variant, running).await,
            (Target::Kafka(broker), Client::Java) => {
                java::run(&options, &variant, broker, &self.programs.jars()).await
            }
            (Target::Kafka(broker), _) => run_on(&options, &variant, broker).await,
        }
    }

    /// The amounts, and what makes this server do the case's work.
    fn further(
        &self,
        case: &Case,
        server: Name,
        target: &Target<'_>,
        load: Load,
    ) -> Result<Vec<String>> {
        let amounts = match load {
            Load::Megabytes(megabytes) => vec![("--megabytes", megabytes)],
            Load::Rate(warm_up, seconds) => vec![("--warm-up", warm_up), ("--seconds", seconds)],
        };
        let mut words: Vec<String> = amounts
            .iter()
            .flat_map(|(name, value)| [(*name).to_owned(), value.to_string()])
            .collect();
        if let Target::Own(running) = target {
            words.extend(["--pid".to_owned(), running.pid().to_string()]);
            if let Some(ca) = &running.ca {
                words.push(format!("--ca={}", ca.display()));
            }
        }
        if server == Name::Tidegate {
            words.push(format!("--topic-config=segment.bytes={SEGMENT_BYTES}"));
            if case.durability == Durability::Os {
                words.push("--topic-config=tidegate.durability=os".to_owned());
            }
        }
        if case.group == Group::Plugins {
            if let Some(folder) = &self.plugins {
                words.push(format!("--plugins={}", folder.display()));
            }
            if let Target::Kafka(broker) = target {
                let admin = broker.admin.as_ref().context("no admin port")?;
                words.push(format!("--admin={admin}"));
                let token = broker.admin_token_file.as_ref().context("no token")?;
                words.push(format!("--admin-token-file={}", token.display()));
            }
        }
        Ok(words)
    }
}

/// How much a run does.
#[derive(Clone, Copy, Debug)]
enum Load {
    /// 10⁶ bytes of values.
    Megabytes(u64),
    /// Seconds at the given rate: those that do not count, and those that do.
    Rate(u64, u64),
}

/// Whom a run drives.
enum Target<'t> {
    Kafka(&'t Broker),
    Own(&'t Running),
}

impl Target<'_> {
    fn address(&self, transport: Transport) -> Result<String> {
        match self {
            Self::Own(running) => running.address(transport),
            Self::Kafka(broker) => {
                let (transport, endpoint) = broker.endpoint()?;
                Ok(format!("{}://{endpoint}", transport.scheme()))
            }
        }
    }
}

impl Measured {
    /// A latency run that did not hold its rate has no percentiles.
    fn is_overloaded(&self, group: Group) -> bool {
        group == Group::Latency && self.p50.is_none()
    }
}
