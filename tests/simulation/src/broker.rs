//! One life of the broker: everything but sockets, opened on the simulated disk.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tidegate::broker::{Surroundings, recover};
use tidegate::config::{Config, Transport};
use tidegate::env::Clock;
use tidegate::kafka::context::Services;
use tidegate::kafka::dispatch::{KafkaConnection, KafkaService};
use tidegate::log::{Background, Work};
use tidegate::net::{ConnectionInfo, Service};
use tidegate::observe::Metrics;

use crate::disk::{Mounted, SimulatedDisk};
use crate::ops::transaction::EXPIRY_MS;

/// Where the broker's data is on the simulated disk.
pub const DATA: &str = "/data";
/// Series of metrics: enough for what a run touches.
const SERIES: usize = 1000;

/// A broker without listeners.
#[derive(Debug)]
pub struct Broker {
    service: KafkaService,
}

/// Small segments and few partitions, so that a short run meets what takes a long one weeks.
fn config() -> Config {
    let mut config = Config::default();
    config.broker.data_dir = DATA.into();
    config.broker.auto_create_topics = false;
    config.topic_defaults.segment_bytes = 16 << 10;
    config.topic_defaults.index_interval_bytes = 1 << 10;
    config.log.flush_lanes = 2;
    config.log.recycle_bytes = 128 << 10;
    // A simulated disk is full after less.
    config.log.disk_reserve = 0;
    config.log.producer_expiry = Duration::from_secs(3600 * 24 * 3650);
    config.groups.offsets_partitions = 2;
    config.groups.offsets_retention = Duration::from_secs(3600 * 24 * 3650);
    config.transactions.state_partitions = 2;
    config.transactions.id_expiration = Duration::from_millis(EXPIRY_MS);
    config.groups.initial_rebalance_delay = Duration::from_millis(10);
    config
}

impl Broker {
    /// Recovers what is on the disk.
    ///
    /// # Errors
    /// Why the broker would not start.
    pub fn start(disk: &SimulatedDisk, clock: &Clock) -> Result<Self, String> {
        let surroundings = Surroundings {
            clock: clock.clone(),
            disk: Some(Arc::new(Mounted::new(disk))),
            background: Background::Manual,
        };
        let services = recover(config(), Arc::new(Metrics::new(SERIES)), surroundings)
            .map_err(|error| error.to_string())?;
        let recovered = services.transactions.recover();
        recovered.map_err(|error| format!("transactions: {error}"))?;
        tokio::spawn(services.coordinator.clone().run_timers());
        tokio::spawn(services.transactions.clone().run_timers());
        let services = Arc::new(services);
        Ok(Self {
            service: KafkaService { services },
        })
    }

    pub fn connect(&self) -> KafkaConnection {
        self.service.connect(ConnectionInfo {
            listener: "simulated".into(),
            transport: Transport::Tcp,
            peer: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)),
            certificate_principal: None,
            sasl_mechanisms: Arc::new([]),
            advertised: ("localhost".into(), 9092),
        })
    }

    pub fn services(&self) -> &Services {
        &self.service.services
    }

    /// Does one unit of work behind the logs; false when there is none of that kind.
    pub fn step(&self, work: Work) -> bool {
        self.services().logs.step(work)
    }

    /// Why partitions have stopped accepting, each with its name.
    pub fn stopped(&self) -> Vec<String> {
        let logs = self.services().logs.partitions();
        logs.iter()
            .filter_map(|log| Some(format!("{}: {}", log.id(), log.stats().stopped?)))
            .collect()
    }

    /// Whether a partition has stopped accepting.
    pub fn has_stopped(&self, topic: &str, partition: i32) -> bool {
        let handle = self.services().topics.get(topic);
        handle.is_some_and(|handle| {
            let log = handle.log(partition);
            log.is_some_and(|log| log.stats().stopped.is_some())
        })
    }
}
