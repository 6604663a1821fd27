//! The topics by name, made when somebody names them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use anyhow::Result;

use crate::Mode;
use crate::files::Files;
use crate::log::{Log, lock};

/// One topic: a log for each partition.
pub type Topic = Arc<Vec<Arc<Log>>>;

#[derive(Debug)]
pub struct Topics {
    mode: Mode,
    files: Files,
    default_partitions: i32,
    topics: Mutex<HashMap<Vec<u8>, Topic>>,
}

impl Topics {
    pub fn new(mode: Mode, files: Files, default_partitions: i32) -> Self {
        Self {
            mode,
            files,
            default_partitions,
            topics: Mutex::default(),
        }
    }

    pub fn mode(&self) -> Mode {
        self.mode
    }

    pub fn get(&self, name: &[u8]) -> Option<Topic> {
        lock(&self.topics).get(name).cloned()
    }

    pub fn log(&self, name: &[u8], partition: i32) -> Option<Arc<Log>> {
        let topic = self.get(name)?;
        topic.get(usize::try_from(partition).ok()?).cloned()
    }

    pub fn names(&self) -> Vec<Vec<u8>> {
        lock(&self.topics).keys().cloned().collect()
    }

    /// Makes a topic, with as many partitions as usual when `partitions` is none of its own; `false` when it is there
    /// already.
    pub fn create(&self, name: &[u8], partitions: i32) -> Result<bool> {
        let mut topics = lock(&self.topics);
        if topics.contains_key(name) {
            return Ok(false);
        }
        let count = if partitions > 0 {
            partitions
        } else {
            self.default_partitions
        };
        let logs: Result<Vec<_>> = (0..count).map(|_| self.new_log().map(Arc::new)).collect();
        topics.insert(name.to_owned(), Arc::new(logs?));
        Ok(true)
    }

    fn new_log(&self) -> Result<Log> {
        let file = self.mode.stores().then(|| self.files.take()).transpose()?;
        Ok(Log::new(file, self.mode.syncs()))
    }

    /// Forgets a topic; its files are used again once nobody reads them.
    pub fn delete(&self, name: &[u8]) -> bool {
        let Some(topic) = lock(&self.topics).remove(name) else {
            return false;
        };
        let logs = Arc::into_inner(topic).unwrap_or_default();
        for log in logs.into_iter().filter_map(Arc::into_inner) {
            if let Some(file) = log.into_file() {
                self.files.give_back(file);
            }
        }
        true
    }
}
