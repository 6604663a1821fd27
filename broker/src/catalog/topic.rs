//! Topics by name and by id.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::store::{Change, Store, Table};
use super::{Catalog, CatalogError};
use crate::types::{TimestampMs, TopicId, TopicName};

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Topic {
    pub id: TopicId,
    pub name: TopicName,
    pub partitions: i32,
    pub internal: bool,
    /// The topic's own settings, as given.
    pub configs: BTreeMap<String, String>,
    pub created_ms: TimestampMs,
    /// The principal that had it created, whose share it counts against; `None` for the broker's own and for those from before
    /// this was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
}

/// The two maps hold the same topics.
#[derive(Debug, Default)]
pub(super) struct Topics {
    by_name: BTreeMap<TopicName, Arc<Topic>>,
    by_id: HashMap<TopicId, Arc<Topic>>,
}

impl Topics {
    pub fn load(store: &Store) -> Result<Self, CatalogError> {
        let mut topics = Self::default();
        for (_, topic) in store.load(Table::Topic)? {
            topics.insert(Arc::new(topic));
        }
        Ok(topics)
    }

    fn insert(&mut self, topic: Arc<Topic>) {
        self.by_id.insert(topic.id, Arc::clone(&topic));
        self.by_name.insert(topic.name.clone(), topic);
    }

    fn remove(&mut self, topic: &Topic) {
        self.by_id.remove(&topic.id);
        self.by_name.remove(topic.name.as_str());
    }
}

fn missing(name: &str) -> CatalogError {
    CatalogError::Missing(format!("topic {name:?}"))
}

impl Catalog {
    pub fn topic(&self, name: &str) -> Option<Arc<Topic>> {
        self.topics.read().by_name.get(name).cloned()
    }

    pub fn topic_by_id(&self, id: TopicId) -> Option<Arc<Topic>> {
        self.topics.read().by_id.get(&id).cloned()
    }

    /// Sorted by name.
    pub fn topics(&self) -> Vec<Arc<Topic>> {
        self.topics.read().by_name.values().cloned().collect()
    }

    /// # Errors
    /// `Exists` when the name or the id is taken, `Invalid` without a partition or above the size bounds.
    pub fn create_topic(&self, topic: Topic) -> Result<Arc<Topic>, CatalogError> {
        let store = self.store.lock();
        if self.topic(topic.name.as_str()).is_some() {
            return Err(CatalogError::Exists(format!(
                "topic {:?}",
                topic.name.as_str()
            )));
        }
        if self.topic_by_id(topic.id).is_some() {
            return Err(CatalogError::Exists(format!("topic id {}", topic.id)));
        }
        if topic.partitions < 1 {
            return Err(CatalogError::Invalid(format!(
                "topic {:?} asks for {} partitions; it needs at least 1",
                topic.name.as_str(),
                topic.partitions
            )));
        }
        let change = Change::put(Table::Topic, topic.name.as_str(), &topic)?;
        store.commit_if_room(&[change])?;
        Ok(self.show_topic(topic))
    }

    /// Deletes a topic, and remembers it until `forget_deleted_topic`: its files and its groups' offsets are still to go.
    pub fn delete_topic(&self, name: &str) -> Result<Arc<Topic>, CatalogError> {
        let store = self.store.lock();
        let topic = self.topic(name).ok_or_else(|| missing(name))?;
        store.commit(&[
            Change::remove(Table::Topic, name),
            Change::put(Table::DeletedTopic, &topic.id.to_string(), &*topic)?,
        ])?;
        self.topics.write().remove(&topic);
        Ok(topic)
    }

    /// Topics that were deleted, of which something may be left.
    pub fn deleted_topics(&self) -> Result<Vec<Topic>, CatalogError> {
        let deleted = self.store.lock().load(Table::DeletedTopic)?.into_iter();
        Ok(deleted.map(|(_, topic)| topic).collect())
    }

    /// Nothing is left of a deleted topic.
    pub fn forget_deleted_topic(&self, id: TopicId) -> Result<(), CatalogError> {
        let change = Change::remove(Table::DeletedTopic, &id.to_string());
        self.store.lock().commit(&[change])
    }

    /// Replaces a topic's own settings.
    pub fn set_topic_configs(
        &self,
        name: &str,
        configs: BTreeMap<String, String>,
    ) -> Result<Arc<Topic>, CatalogError> {
        let store = self.store.lock();
        let current = self.topic(name).ok_or_else(|| missing(name))?;
        self.put_topic(
            &store,
            Topic {
                configs,
                ..Topic::clone(&current)
            },
        )
    }

    /// Raises a topic's partition count.
    ///
    /// # Errors
    /// `Invalid` when `partitions` is not above the present count: records cannot leave a partition.
    pub fn set_partitions(&self, name: &str, partitions: i32) -> Result<Arc<Topic>, CatalogError> {
        let store = self.store.lock();
        let current = self.topic(name).ok_or_else(|| missing(name))?;
        if partitions <= current.partitions {
            return Err(CatalogError::Invalid(format!(
                "topic {name:?} has {} partitions and can only be given more, not {partitions}",
                current.partitions
            )));
        }
        self.put_topic(
            &store,
            Topic {
                partitions,
                ..Topic::clone(&current)
            },
        )
    }

    fn put_topic(&self, store: &Store, topic: Topic) -> Result<Arc<Topic>, CatalogError> {
        store.commit(&[Change::put(Table::Topic, topic.name.as_str(), &topic)?])?;
        Ok(self.show_topic(topic))
    }

    fn show_topic(&self, topic: Topic) -> Arc<Topic> {
        let topic = Arc::new(topic);
        self.topics.write().insert(Arc::clone(&topic));
        topic
    }
}
