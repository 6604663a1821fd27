//! The composition root: configuration in, a running broker out. It alone knows every part, the order in which they start
//! (truth first, doors last) and the order in which they stop (doors first, truth last).

mod gauges;
mod upkeep;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::admin::{AdminServer, AdminState};
use crate::catalog::{Catalog, Topic};
use crate::config::{Config, Transport, read_token};
use crate::coordinator::Coordinator;
use crate::coordinator::transaction::surroundings::Local;
use crate::coordinator::transaction::{TransactionLog, Transactions};
use crate::env::budget::Memory;
use crate::env::descriptors;
use crate::env::files::{self, Disk};
use crate::env::{self, Clock};
use crate::kafka::bounds::Bounds;
use crate::kafka::context::Services;
use crate::kafka::dispatch::KafkaService;
use crate::kafka::topics::{Topics, TopicsParts, check_catalog};
use crate::log::{Background, LogSet};
use crate::net::{Limits, Listeners};
use crate::observe::{Health, Metrics};
use crate::plugin::PluginHost;
use crate::security::authorize::Authorizer;
use crate::security::certificate::PrincipalRules;
use crate::security::logins::Logins;
use crate::security::secret;

/// Why a broker did not start: which part, and what was wrong.
#[derive(Debug, thiserror::Error)]
#[error("{part}: {message}")]
pub struct StartError {
    pub part: &'static str,
    pub message: String,
}

fn failed<E: std::fmt::Display>(part: &'static str) -> impl FnOnce(E) -> StartError {
    move |error| StartError {
        part,
        message: error.to_string(),
    }
}

/// A running broker.
#[derive(Debug)]
pub struct Broker {
    services: Arc<Services>,
    health: Arc<Health>,
    listeners: Listeners,
    admin: Option<AdminServer>,
    background: Vec<JoinHandle<()>>,
}

impl Broker {
    /// Recovers what is on disk, then opens the listeners: from its return every address answers.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let config = upkeep::share_descriptors(config, descriptors::limit());
        let metrics = Arc::new(Metrics::new(config.observe.max_series));
        let health = Arc::new(Health::default());
        let services = {
            let (config, metrics) = (config.clone(), metrics.clone());
            let recovery = tokio::task::spawn_blocking(move || {
                recover(config, metrics, Surroundings::default())
            });
            Arc::new(recovery.await.map_err(failed("recovery"))??)
        };
        services
            .transactions
            .recover()
            .map_err(failed("transactions"))?;
        metrics.set_collector(gauges::collector(&services));
        health.set_check(gauges::readiness(&services));
        let rules = PrincipalRules::parse(&config.security.principal_rules)
            .map_err(failed("security.principal-rules"))?;
        let service = Arc::new(KafkaService {
            services: services.clone(),
        });
        let limits = Limits {
            settings: config.net.clone(),
            memory: services.memory.clone(),
        };
        let listeners =
            Listeners::start(&config.listeners, limits, rules, service, metrics.clone())
                .await
                .map_err(failed("listeners"))?;
        let admin = match config.admin.bind {
            Some(_) => {
                let state = admin_state(&services, &health, &listeners);
                Some(
                    crate::admin::start(&config.admin, state)
                        .await
                        .map_err(failed("admin"))?,
                )
            }
            None => None,
        };
        let timers = tokio::spawn(services.coordinator.clone().run_timers());
        let timeouts = tokio::spawn(services.transactions.clone().run_timers());
        let retention = tokio::spawn(upkeep::enforce_retention(services.clone()));
        let files = tokio::spawn(upkeep::check_files(services.clone()));
        let summaries = tokio::spawn(upkeep::summarize_lines(services.clone()));
        health.serving();
        Ok(Self {
            services,
            health,
            listeners,
            admin,
            background: vec![timers, timeouts, retention, files, summaries],
        })
    }

    /// Name, transport and bound address of each listener.
    pub fn addresses(&self) -> Vec<(String, Transport, SocketAddr)> {
        self.listeners.addresses()
    }

    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(AdminServer::address)
    }

    pub fn services(&self) -> &Arc<Services> {
        &self.services
    }

    /// Reads the listeners' certificate files again. Connections that are up keep the ones they have.
    pub fn reload_certificates(&self) -> Result<(), String> {
        self.listeners.reload_certificates()
    }

    /// Stops accepting, lets started requests finish until the deadline, then syncs and closes the logs.
    pub async fn shutdown(self) {
        self.health.draining();
        self.listeners
            .shutdown(self.services.config.broker.shutdown_deadline)
            .await;
        if let Some(admin) = self.admin {
            admin.shutdown().await;
        }
        self.background.iter().for_each(JoinHandle::abort);
        let (logs, plugins) = (self.services.logs.clone(), self.services.plugins.clone());
        let end = move || {
            // What still runs there may append.
            plugins.workers().stop();
            logs.shutdown();
        };
        if let Err(error) = tokio::task::spawn_blocking(end).await {
            tracing::error!(%error, "the logs were not closed cleanly; the next start will verify their ends");
        }
    }
}

/// What a broker stands on. By default the machine's clock and disk, and threads of its own for the work behind the logs.
#[derive(Clone, Debug)]
pub struct Surroundings {
    pub clock: Clock,
    /// Where catalog and logs are; the plugins' folder is always the machine's. `None` means the machine's.
    pub disk: Option<Arc<dyn Disk>>,
    pub background: Background,
}

impl Default for Surroundings {
    fn default() -> Self {
        Self {
            clock: Clock::system(),
            disk: None,
            background: Background::Threads,
        }
    }
}

/// Opens everything that is on disk. Blocking.
pub fn recover(
    mut config: Config,
    metrics: Arc<Metrics>,
    surroundings: Surroundings,
) -> Result<Services, StartError> {
    let Surroundings {
        clock,
        disk,
        background,
    } = surroundings;
    let data = &config.broker.data_dir;
    let is_given = disk.is_some();
    let disk = disk.unwrap_or_else(files::machine);
    let catalog = open_catalog(disk.as_ref(), is_given, data)?;
    let folder = data.join("log");
    let logs = LogSet::open_with(disk, &folder, config.log.clone(), clock.clone(), background)
        .map_err(failed("log"))?;
    check_catalog(&catalog, &logs).map_err(failed("catalog"))?;
    identify(&mut config, &catalog)?;
    introduce(&logs, &catalog, &metrics);
    let plugins = open_plugins(&config, &catalog, &metrics, &clock)?;
    let coordinator = Coordinator::open(
        config.groups.clone(),
        catalog.clone(),
        logs.clone(),
        clock.clone(),
    )
    .map_err(failed("groups"))?;
    let deleted = catalog.deleted_topics().map_err(failed("catalog"))?;
    let transaction_log = TransactionLog::open(&config.transactions, &catalog, &logs, &clock)
        .map_err(failed("transactions"))?;
    let topics = Topics::open(TopicsParts {
        catalog: catalog.clone(),
        logs: logs.clone(),
        plugins: plugins.clone(),
        defaults: config.topic_defaults.clone(),
        limits: config.broker.clone(),
        clock: clock.clone(),
    })
    .map_err(failed("topics"))?;
    end_deletions(&catalog, &coordinator, deleted);
    let local = Box::new(Local {
        catalog: catalog.clone(),
        logs: logs.clone(),
        groups: coordinator.clone(),
    });
    let settings = config.transactions.clone();
    let transactions = Transactions::open(settings, transaction_log, local, clock.clone());
    let authorizer =
        Authorizer::new(&config.security, catalog.clone()).map_err(failed("security"))?;
    let logins = logins(&config, is_given, &clock)?;
    Ok(Services {
        memory: Memory::new(&config.net),
        bounds: Bounds::new(&config.broker),
        config,
        catalog,
        logs,
        topics,
        coordinator,
        transactions,
        plugins,
        authorizer,
        logins,
        metrics,
        clock,
    })
}

/// Who is told of syncs, and who is asked for space when the catalog finds the disk full.
fn introduce(logs: &Arc<LogSet>, catalog: &Catalog, metrics: &Arc<Metrics>) {
    let making_room = logs.clone();
    catalog.on_full_disk(Box::new(move || making_room.make_room()));
    let observer = metrics.clone();
    logs.on_flush(Arc::new(move |elapsed: Duration, bytes: u64| {
        observer.flushed(elapsed, bytes)
    }));
}

/// The file with the secret that unknown users' salts follow from.
const DECOY_SECRET_FILE: &str = "decoy.secret";

/// What logins share. On a given disk nothing outlives the process, and the secret need not either.
fn logins(config: &Config, is_given: bool, clock: &Clock) -> Result<Arc<Logins>, StartError> {
    if is_given {
        return Ok(Logins::new(clock.clone(), &env::random_bytes::<32>()));
    }
    let text = secret::kept(&config.broker.data_dir, DECOY_SECRET_FILE)
        .and_then(|file| read_token(&file))
        .map_err(failed("security"))?;
    Ok(Logins::new(clock.clone(), text.as_bytes()))
}

/// Ends deletions of topics that a crash cut short: the catalog remembers them until nothing can come back.
fn end_deletions(catalog: &Arc<Catalog>, coordinator: &Arc<Coordinator>, deleted: Vec<Topic>) {
    if deleted.is_empty() {
        return;
    }
    let forgotten = coordinator.forget_topics(|topic| {
        deleted.iter().any(|one| one.name.as_str() == topic) && catalog.topic(topic).is_none()
    });
    let (catalog, coordinator) = (catalog.clone(), coordinator.clone());
    tokio::spawn(async move {
        if !coordinator.are_forgotten(forgotten).await {
            return;
        }
        let ended = env::blocking(move || {
            let mut ids = deleted.iter().map(|topic| topic.id);
            ids.try_for_each(|id| catalog.forget_deleted_topic(id))
        });
        if let Ok(Err(error)) = ended.await {
            tracing::warn!(%error, "deleted topics stay in the catalog's memory until the next start");
        }
    });
}

/// Gives the cluster the id that the catalog keeps, where the configuration has none.
fn identify(config: &mut Config, catalog: &Catalog) -> Result<(), StartError> {
    if config.broker.cluster_id.is_empty() {
        let id = catalog.cluster_id(env::random_bytes());
        config.broker.cluster_id = id.map_err(failed("catalog"))?;
    }
    Ok(())
}

/// Makes the data folder, and opens the catalog in it: on the machine's own disk as its store knows best.
fn open_catalog(disk: &dyn Disk, is_given: bool, data: &Path) -> Result<Arc<Catalog>, StartError> {
    files::create_folder_durably(disk, data).map_err(|error| StartError {
        part: "broker.data-dir",
        message: format!("{} cannot be created: {error}", data.display()),
    })?;
    let opened = match is_given {
        true => Catalog::open_on(disk, data),
        false => {
            upkeep::keep_private(data);
            Catalog::open(data)
        }
    };
    opened.map_err(failed("catalog"))
}

fn open_plugins(
    config: &Config,
    catalog: &Arc<Catalog>,
    metrics: &Arc<Metrics>,
    clock: &Clock,
) -> Result<Arc<PluginHost>, StartError> {
    let plugins = PluginHost::open(
        &config.broker.data_dir.join("plugins"),
        config.plugins.clone(),
        catalog.clone(),
        metrics.clone(),
        clock.clone(),
    )
    .map_err(failed("plugins"))?;
    check_authorizers(config, &plugins)?;
    Ok(plugins)
}

/// A missing authorizer would deny everything without saying so: better not to start.
fn check_authorizers(config: &Config, plugins: &PluginHost) -> Result<(), StartError> {
    for name in &config.security.authorizers {
        let message = match plugins.world(name) {
            Some(world) if world == "authorizer" => continue,
            Some(world) => format!("{name} is a {world}, not an authorizer"),
            None => format!("{name} is not deployed; name its file under [plugins.preload.{name}]"),
        };
        return Err(StartError {
            part: "security.authorizers",
            message,
        });
    }
    Ok(())
}

fn admin_state(
    services: &Arc<Services>,
    health: &Arc<Health>,
    listeners: &Listeners,
) -> AdminState {
    let users_of_plugins = services.clone();
    let in_use_by = move |plugin: &str| {
        let topics = users_of_plugins.topics.using_plugin(plugin);
        let mut users: Vec<String> = topics
            .iter()
            .map(|topic| format!("topic {topic}"))
            .collect();
        let authorizers = &users_of_plugins.config.security.authorizers;
        users.extend(
            authorizers
                .iter()
                .filter(|name| *name == plugin)
                .map(|_| "security.authorizers".to_owned()),
        );
        users
    };
    AdminState {
        catalog: services.catalog.clone(),
        logs: services.logs.clone(),
        plugins: services.plugins.clone(),
        metrics: services.metrics.clone(),
        health: health.clone(),
        logins: services.logins.clone(),
        data_dir: services.config.broker.data_dir.clone(),
        broker_id: services.config.broker.id,
        cluster_id: services.config.broker.cluster_id.clone(),
        addresses: listeners.addresses(),
        max_artifact_bytes: services.config.plugins.max_artifact_bytes,
        scram_iterations: services.config.security.scram_iterations,
        in_use_by: Arc::new(in_use_by),
    }
}
