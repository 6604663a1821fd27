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
        let stored = self.mode.stores().then(|| self.files.take()).transpose()?;
        Ok(Log::new(stored, self.mode.syncs()))
    }

    /// Forgets a topic. Files that were written before are used again at once; one who reads still gets what is in them.
    pub fn delete(&self, name: &[u8]) -> bool {
        let Some(topic) = lock(&self.topics).remove(name) else {
            return false;
        };
        if self.mode.recycles() {
            for stored in topic.iter().filter_map(|log| log.stored()) {
                self.files.give_back(stored);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::batch;

    fn file_names(folder: &std::path::Path) -> Vec<String> {
        let names = std::fs::read_dir(folder).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_that_was_written_before_is_used_again_whoever_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::open(folder.path()).unwrap();
        files.prepare(1, 5_000_000).unwrap();
        let topics = Topics::new(Mode::Recycle, files, 1);
        for _ in 0..3 {
            assert!(topics.create(b"t", -1).unwrap());
            let log = topics.log(b"t", 0).unwrap();
            assert_eq!(log.append(&mut batch(2)).unwrap(), 0, "a new log");
            let reader = log.read(0, 1000).unwrap();
            assert!(topics.delete(b"t"));
            drop((reader, log));
        }
        assert_eq!(file_names(folder.path()), ["0.log"]);
        let length = folder.path().join("0.log").metadata().unwrap().len();
        assert_eq!(length, 5_000_000, "it was not cut");
    }

    #[test]
    fn a_fresh_file_goes_with_its_topic() {
        let folder = tempfile::tempdir().unwrap();
        let topics = Topics::new(Mode::Log, Files::open(folder.path()).unwrap(), 2);
        assert!(topics.create(b"t", -1).unwrap());
        assert!(!topics.create(b"t", -1).unwrap(), "it is there");
        assert_eq!(file_names(folder.path()), ["0.log", "1.log"]);
        assert!(topics.delete(b"t"));
        assert!(!topics.delete(b"t"));
        assert!(topics.create(b"t", 1).unwrap());
        assert_eq!(file_names(folder.path()), ["2.log"]);
    }
}
