//! Topics as requests see them: catalog entry, resolved settings and open logs in one place, looked up by name or id.
//!
//! A `TopicHandle` never changes; a change of the topic puts a new handle in its place. Changes are made one at a time: the
//! catalog first (it is the truth), then the logs, then the new handle becomes visible.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use kafka_protocol::ResponseError;
use parking_lot::RwLock;

use super::lanes::Lane;
use super::namespace;
use crate::catalog::{Catalog, CatalogError, Topic};
use crate::config::{BrokerConfig, TopicConfig};
use crate::env::{self, Clock, random_bytes};
use crate::log::{LogSet, PartitionLog};
use crate::plugin::PluginHost;
use crate::types::{PartitionId, PartitionIndex, TopicId};

/// One topic, ready to be used.
#[derive(Debug)]
pub struct TopicHandle {
    pub topic: Arc<Topic>,
    pub config: Arc<TopicConfig>,
    pub logs: Vec<Arc<PartitionLog>>,
    /// For each partition, the batches on their way through plugins that its producers sent to it.
    pub(super) lanes: Vec<Arc<Lane>>,
    /// A partitioner places records, or has placed some that are remembered: what a producer sent is to be looked for in
    /// every partition.
    pub(super) is_placed: bool,
}

impl TopicHandle {
    pub fn log(&self, partition: PartitionIndex) -> Option<&Arc<PartitionLog>> {
        usize::try_from(partition)
            .ok()
            .and_then(|index| self.logs.get(index))
    }

    /// The plugins that see this topic's records on their way in.
    pub fn plugins(&self) -> impl Iterator<Item = &str> {
        self.config
            .partitioner
            .iter()
            .chain(&self.config.transforms)
            .map(String::as_str)
    }
}

/// What `Topics` is made of.
#[derive(Debug)]
pub struct TopicsParts {
    pub catalog: Arc<Catalog>,
    pub logs: Arc<LogSet>,
    pub plugins: Arc<PluginHost>,
    pub defaults: TopicConfig,
    pub limits: BrokerConfig,
    pub clock: Clock,
}

/// Every topic of this broker.
#[derive(Debug)]
pub struct Topics {
    parts: Arc<TopicsParts>,
    handles: RwLock<Handles>,
    /// Held while a topic is created, changed or deleted.
    change: tokio::sync::Mutex<()>,
    settings: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Handles {
    by_name: HashMap<String, Arc<TopicHandle>>,
    by_id: HashMap<TopicId, Arc<TopicHandle>>,
}

impl Handles {
    fn put(&mut self, handle: Arc<TopicHandle>) {
        self.by_id.insert(handle.topic.id, handle.clone());
        self.by_name
            .insert(handle.topic.name.as_str().to_owned(), handle);
    }
}

/// What to create.
#[derive(Clone, Debug)]
pub struct NewTopic {
    /// The broker's name for it, already mapped from the client's.
    pub name: String,
    /// −1: the configured default.
    pub partitions: i32,
    pub configs: BTreeMap<String, String>,
    /// `None`: the broker itself.
    pub creator: Option<Creator>,
}

/// Who has a topic created.
#[derive(Clone, Debug)]
pub struct Creator {
    pub principal: String,
    /// The topics of one principal are bounded.
    pub has_share: bool,
}

/// A refusal in the protocol's words.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicError {
    pub code: ResponseError,
    pub message: String,
}

impl TopicError {
    fn new(code: ResponseError, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    fn unknown(name: &str) -> Self {
        Self::new(
            ResponseError::UnknownTopicOrPartition,
            format!("topic {name} does not exist"),
        )
    }

    /// A change that could not be made for a reason of the broker's own.
    pub fn storage(message: String) -> Self {
        tracing::error!(%message, "a topic could not be changed");
        Self::new(ResponseError::KafkaStorageError, message)
    }
}

impl From<CatalogError> for TopicError {
    fn from(error: CatalogError) -> Self {
        let message = error.to_string();
        match error {
            CatalogError::Exists(_) => Self::new(ResponseError::TopicAlreadyExists, message),
            CatalogError::Missing(_) => Self::new(ResponseError::UnknownTopicOrPartition, message),
            CatalogError::Invalid(_) => Self::new(ResponseError::InvalidRequest, message),
            CatalogError::Store(_) => Self::storage(message),
        }
    }
}

impl Topics {
    /// Opens the logs of every topic that the catalog names and removes from the disk those whose deletion was cut short.
    /// Files of a topic that the catalog has never heard of stay: it may be an older one. Recovery runs on several threads.
    /// Blocking.
    pub fn open(parts: TopicsParts) -> Result<Self, String> {
        let topics = parts.catalog.topics();
        let known: Vec<TopicId> = topics.iter().map(|topic| topic.id).collect();
        parts.remove_deleted()?;
        for stray in parts.logs.topics_on_disk()? {
            if !known.contains(&stray) {
                tracing::error!(
                    topic_id = %stray,
                    "the catalog does not know the topic of this folder, whose files are left alone: bring back the catalog \
                    that knows it, or remove the folder"
                );
            }
        }
        parts.logs.open_partitions(parts.partitions_of(&topics)?)?;
        let mut handles = Handles::default();
        for topic in topics {
            handles.put(Arc::new(parts.open_topic(topic, None)?));
        }
        let parts = Arc::new(parts);
        Ok(Self {
            parts,
            handles: RwLock::new(handles),
            change: tokio::sync::Mutex::default(),
            settings: tokio::sync::Mutex::default(),
        })
    }

    /// Held from reading a topic's own settings to writing them changed, so that of two changes at once none is lost. Changes
    /// are rare: one lock serves all topics.
    pub async fn changing_settings(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.settings.lock().await
    }

    pub fn get(&self, name: &str) -> Option<Arc<TopicHandle>> {
        self.handles.read().by_name.get(name).cloned()
    }

    pub fn get_by_id(&self, id: TopicId) -> Option<Arc<TopicHandle>> {
        self.handles.read().by_id.get(&id).cloned()
    }

    /// Sorted by name.
    pub fn all(&self) -> Vec<Arc<TopicHandle>> {
        let mut all: Vec<_> = self.handles.read().by_name.values().cloned().collect();
        all.sort_by(|one, other| one.topic.name.cmp(&other.topic.name));
        all
    }

    /// The topics whose settings name this plugin.
    pub fn using_plugin(&self, plugin: &str) -> Vec<String> {
        let uses = |handle: &Arc<TopicHandle>| handle.plugins().any(|name| name == plugin);
        self.all()
            .iter()
            .filter(|handle| uses(handle))
            .map(|handle| handle.topic.name.to_string())
            .collect()
    }

    /// Checks without creating (CreateTopics `validate_only`); returns the resolved settings and partition count.
    pub fn validate(&self, new: &NewTopic) -> Result<(TopicConfig, i32), TopicError> {
        let limits = &self.parts.limits;
        if self.get(&new.name).is_some() {
            return Err(TopicError::new(
                ResponseError::TopicAlreadyExists,
                format!("topic {} exists already", new.name),
            ));
        }
        if let Some(other) = self.colliding(&new.name) {
            return Err(TopicError::new(
                ResponseError::InvalidTopicException,
                format!(
                    "topic {} collides with topic {other}: '.' and '_' count as the same",
                    new.name
                ),
            ));
        }
        if self.handles.read().by_name.len() >= limits.max_topics {
            return Err(TopicError::new(
                ResponseError::PolicyViolation,
                format!(
                    "this broker holds at most {} topics (broker.max-topics)",
                    limits.max_topics
                ),
            ));
        }
        self.check_share(new.creator.as_ref())?;
        let partitions = if new.partitions == -1 {
            limits.default_partitions
        } else {
            new.partitions
        };
        self.check_partition_count(partitions)?;
        Ok((self.parts.resolve(&new.configs)?, partitions))
    }

    /// One principal alone cannot fill what there is for all.
    fn check_share(&self, creator: Option<&Creator>) -> Result<(), TopicError> {
        let Some(creator) = creator.filter(|creator| creator.has_share) else {
            return Ok(());
        };
        let most = self.parts.limits.max_topics_per_principal;
        let own = |handle: &&Arc<TopicHandle>| {
            handle.topic.created_by.as_deref() == Some(&creator.principal)
        };
        if self.handles.read().by_name.values().filter(own).count() < most {
            return Ok(());
        }
        Err(TopicError::new(
            ResponseError::PolicyViolation,
            format!(
                "{} has created {most} topics, its share of this broker (broker.max-topics-per-principal)",
                creator.principal
            ),
        ))
    }

    /// A topic whose name differs from this one in dots and underscores alone.
    fn colliding(&self, name: &str) -> Option<String> {
        if !name.contains(['.', '_']) {
            return None;
        }
        let handles = self.handles.read();
        let mut names = handles.by_name.keys();
        names.find(|other| namespace::collide(name, other)).cloned()
    }

    fn check_partition_count(&self, partitions: i32) -> Result<(), TopicError> {
        let most = self.parts.limits.max_partitions_per_topic;
        if (1..=most).contains(&partitions) {
            return Ok(());
        }
        Err(TopicError::new(
            ResponseError::InvalidPartitions,
            format!(
                "a topic has 1 to {most} partitions (broker.max-partitions-per-topic), not {partitions}"
            ),
        ))
    }

    pub async fn create(&self, new: NewTopic) -> Result<Arc<TopicHandle>, TopicError> {
        let _one_at_a_time = self.change.lock().await;
        let (_, partitions) = self.validate(&new)?;
        let topic = Topic {
            id: TopicId(uuid::Builder::from_random_bytes(random_bytes()).into_uuid()),
            name: new.name.into(),
            partitions,
            internal: false,
            configs: new.configs,
            created_ms: self.parts.clock.now_ms(),
            created_by: new.creator.map(|creator| creator.principal),
        };
        let opened = self
            .blocking(move |parts| {
                let topic = parts.catalog.create_topic(topic)?;
                parts.open_topic(topic, None).map_err(TopicError::storage)
            })
            .await?;
        tracing::info!(topic = %opened.topic.name, partitions, "topic created");
        Ok(self.publish(opened))
    }

    pub async fn delete(&self, name: &str) -> Result<Arc<TopicHandle>, TopicError> {
        let _one_at_a_time = self.change.lock().await;
        let handle = self.get(name).ok_or_else(|| TopicError::unknown(name))?;
        if handle.topic.internal {
            let message = format!("{name} is the broker's own topic");
            return Err(TopicError::new(
                ResponseError::InvalidTopicException,
                message,
            ));
        }
        let (owned, id) = (name.to_owned(), handle.topic.id);
        self.blocking(move |parts| parts.catalog.delete_topic(&owned).map_err(TopicError::from))
            .await?;
        {
            let mut handles = self.handles.write();
            handles.by_name.remove(name);
            handles.by_id.remove(&id);
        }
        self.blocking(move |parts| parts.logs.delete_topic(id).map_err(TopicError::storage))
            .await?;
        tracing::info!(topic = name, "topic deleted");
        Ok(handle)
    }

    /// Nothing is left of a deleted topic. Remembered a while longer it does no harm.
    pub async fn forget_deleted(&self, id: TopicId) {
        let forgotten = self
            .blocking(move |parts| Ok(parts.catalog.forget_deleted_topic(id)?))
            .await;
        if let Err(error) = forgotten {
            tracing::warn!(topic_id = %id, error = %error.message, "a deleted topic stays in the catalog's memory until the next start");
        }
    }

    /// Raises the partition count to `partitions`; with `validate_only` nothing changes.
    pub async fn grow(
        &self,
        name: &str,
        partitions: i32,
        validate_only: bool,
    ) -> Result<(), TopicError> {
        let _one_at_a_time = self.change.lock().await;
        let handle = self.get(name).ok_or_else(|| TopicError::unknown(name))?;
        self.check_partition_count(partitions)?;
        if partitions <= handle.topic.partitions {
            let message = format!(
                "topic {name} has {} partitions already",
                handle.topic.partitions
            );
            return Err(TopicError::new(ResponseError::InvalidPartitions, message));
        }
        if validate_only {
            return Ok(());
        }
        let grown = self
            .blocking(move |parts| {
                let topic = parts
                    .catalog
                    .set_partitions(handle.topic.name.as_str(), partitions)?;
                parts
                    .open_topic(topic, Some(&handle))
                    .map_err(TopicError::storage)
            })
            .await?;
        self.publish(grown);
        Ok(())
    }

    /// Replaces the topic's own settings; with `validate_only` nothing changes.
    pub async fn configure(
        &self,
        name: &str,
        configs: BTreeMap<String, String>,
        validate_only: bool,
    ) -> Result<(), TopicError> {
        let _one_at_a_time = self.change.lock().await;
        let handle = self.get(name).ok_or_else(|| TopicError::unknown(name))?;
        self.parts.resolve(&configs)?;
        if validate_only {
            return Ok(());
        }
        let changed = self
            .blocking(move |parts| {
                let topic = parts
                    .catalog
                    .set_topic_configs(handle.topic.name.as_str(), configs)?;
                parts
                    .open_topic(topic, Some(&handle))
                    .map_err(TopicError::storage)
            })
            .await?;
        tracing::info!(topic = name, "topic settings changed");
        self.publish(changed);
        Ok(())
    }

    fn publish(&self, handle: TopicHandle) -> Arc<TopicHandle> {
        let handle = Arc::new(handle);
        self.handles.write().put(handle.clone());
        handle
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&TopicsParts) -> Result<T, TopicError> + Send + 'static,
    ) -> Result<T, TopicError> {
        let parts = self.parts.clone();
        match env::blocking(move || work(&parts)).await {
            Ok(result) => result,
            Err(error) => Err(TopicError::storage(format!(
                "the change was interrupted: {error}"
            ))),
        }
    }
}

/// Fails when logs are there and the catalog is as new: it was lost, and nobody would find the records any more. Before
/// anything is put into the catalog.
pub fn check_catalog(catalog: &Catalog, logs: &LogSet) -> Result<(), String> {
    let found = logs.topics_on_disk()?.len();
    let deleted = catalog.deleted_topics();
    let deleted = deleted.map_err(|error| error.to_string())?;
    if found == 0 || !deleted.is_empty() || !catalog.topics().is_empty() {
        return Ok(());
    }
    Err(format!(
        "names no topic, and the log folder holds {found}: bring back the catalog.redb that belongs to it, or move the log \
        folder away to begin anew"
    ))
}

impl TopicsParts {
    /// Removes the files of topics whose deletion was cut short.
    fn remove_deleted(&self) -> Result<(), String> {
        let on_disk = self.logs.topics_on_disk()?;
        let deleted = self.catalog.deleted_topics();
        for topic in deleted.map_err(|error| error.to_string())? {
            if on_disk.contains(&topic.id) {
                tracing::info!(topic = %topic.name, topic_id = %topic.id, "removing the files of a topic whose deletion was cut short");
                self.logs.delete_topic(topic.id)?;
            }
        }
        Ok(())
    }

    fn resolve(&self, configs: &BTreeMap<String, String>) -> Result<TopicConfig, TopicError> {
        let config = TopicConfig::resolve(&self.defaults, configs).map_err(|errors| {
            let message = errors
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("; ");
            TopicError::new(ResponseError::InvalidConfig, message)
        })?;
        let partitioners = config.partitioner.iter().map(|name| (name, "partitioner"));
        for (name, world) in
            partitioners.chain(config.transforms.iter().map(|name| (name, "transform")))
        {
            self.check_plugin(name, world)?;
        }
        Ok(config)
    }

    fn check_plugin(&self, name: &str, wanted: &str) -> Result<(), TopicError> {
        let message = match self.plugins.world(name) {
            Some(world) if world == wanted => return Ok(()),
            Some(world) => format!("plugin {name} is a {world}, not a {wanted}"),
            None => {
                format!(
                    "no plugin named {name} is deployed; deploy it first: tidegate plugin deploy {name} FILE.wasm"
                )
            }
        };
        Err(TopicError::new(ResponseError::InvalidConfig, message))
    }

    fn resolved(&self, topic: &Topic) -> Result<Arc<TopicConfig>, String> {
        let resolved = TopicConfig::resolve(&self.defaults, &topic.configs).map_err(|errors| {
            let list: Vec<_> = errors.iter().map(ToString::to_string).collect();
            format!("topic {}: {}", topic.name, list.join("; "))
        })?;
        Ok(Arc::new(resolved))
    }

    fn partitions_of(
        &self,
        topics: &[Arc<Topic>],
    ) -> Result<Vec<(PartitionId, Arc<TopicConfig>)>, String> {
        let mut partitions = Vec::new();
        for topic in topics {
            let config = self.resolved(topic)?;
            partitions.extend((0..topic.partitions).map(|index| {
                let id = PartitionId {
                    topic: topic.id,
                    index,
                };
                (id, config.clone())
            }));
        }
        Ok(partitions)
    }

    /// Opens (or finds open) every partition of a topic and gives each its current settings. Lanes are kept from the handle
    /// `before`, whose requests may be under way.
    fn open_topic(
        &self,
        topic: Arc<Topic>,
        before: Option<&TopicHandle>,
    ) -> Result<TopicHandle, String> {
        let config = self.resolved(&topic)?;
        let partitions = self.partitions_of(std::slice::from_ref(&topic))?;
        let logs = self.logs.open_partitions(partitions)?;
        for log in &logs {
            log.set_config(config.clone());
        }
        let lane = |index: usize| {
            let kept = before.and_then(|before| before.lanes.get(index));
            kept.cloned().unwrap_or_default()
        };
        let lanes = (0..logs.len()).map(lane).collect();
        let is_placed = config.partitioner.is_some()
            || before.is_some_and(|before| before.is_placed)
            || logs.iter().any(|log| log.has_marks());
        Ok(TopicHandle {
            topic,
            config,
            logs,
            lanes,
            is_placed,
        })
    }
}
