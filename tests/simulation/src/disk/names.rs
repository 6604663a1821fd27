//! The names of a simulated disk: what a listing shows, what is durable, and the changes in between.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::random::Random;

/// What a name stands for: a folder, or a file by its number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Item {
    Folder,
    File(usize),
}

/// One atomic change: a name goes, a name comes, or both.
#[derive(Clone, Debug)]
struct Change {
    from: Option<(PathBuf, Item)>,
    to: Option<(PathBuf, Item)>,
}

impl Change {
    fn touches(&self, folder: &Path) -> bool {
        [&self.from, &self.to]
            .into_iter()
            .flatten()
            .any(|(path, _)| path.parent() == Some(folder))
    }
    /// The file that it concerns.
    fn file(&self) -> Option<usize> {
        [&self.from, &self.to]
            .into_iter()
            .flatten()
            .find_map(|(_, item)| match item {
                Item::File(node) => Some(*node),
                Item::Folder => None,
            })
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, Item>) {
        if let Some((path, item)) = &self.from
            && names.get(path) == Some(item)
        {
            names.remove(path);
        }
        if let Some((path, item)) = &self.to {
            // A file has one name, whatever became of the changes before.
            if *item != Item::Folder {
                names.retain(|_, other| other != item);
            }
            names.insert(path.clone(), *item);
        }
    }
}

/// All names of a disk.
#[derive(Clone, Debug, Default)]
pub struct Names {
    seen: BTreeMap<PathBuf, Item>,
    durable: BTreeMap<PathBuf, Item>,
    pending: Vec<Change>,
}

impl Names {
    pub fn get(&self, path: &Path) -> Option<Item> {
        self.seen.get(path).copied()
    }

    /// The names in a folder and what they stand for, in their order.
    pub fn list(&self, folder: &Path) -> Vec<(String, Item)> {
        let inside = self.seen.range(folder.to_path_buf()..);
        inside
            .take_while(|(path, _)| path.starts_with(folder))
            .filter(|(path, _)| path.parent() == Some(folder))
            .filter_map(|(path, item)| Some((path.file_name()?.to_str()?.to_owned(), *item)))
            .collect()
    }

    /// Every name of a file.
    pub fn files(&self) -> impl Iterator<Item = (&Path, usize)> {
        self.seen.iter().filter_map(|(path, item)| match item {
            Item::File(node) => Some((path.as_path(), *node)),
            Item::Folder => None,
        })
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.seen);
        self.pending.push(change);
    }

    pub fn put(&mut self, path: &Path, item: Item) {
        self.change(Change {
            from: None,
            to: Some((path.to_owned(), item)),
        });
    }

    /// False when there is nothing to rename.
    pub fn rename(&mut self, from: &Path, to: &Path) -> bool {
        let Some(item) = self.get(from) else {
            return false;
        };
        self.change(Change {
            from: Some((from.to_owned(), item)),
            to: Some((to.to_owned(), item)),
        });
        true
    }

    /// Removes a name with all that lies under it; false when there is none.
    pub fn remove(&mut self, path: &Path) -> bool {
        let under = self.seen.range(path.to_path_buf()..);
        let mut gone: Vec<_> = under
            .take_while(|(name, _)| name.starts_with(path))
            .map(|(name, item)| (name.clone(), *item))
            .collect();
        // The innermost first.
        gone.reverse();
        let found = !gone.is_empty();
        for name in gone {
            self.change(Change {
                from: Some(name),
                to: None,
            });
        }
        found
    }

    /// Makes the names in one folder durable.
    pub fn sync(&mut self, folder: &Path) {
        let pending = std::mem::take(&mut self.pending);
        for change in pending {
            if change.touches(folder) {
                change.apply(&mut self.durable);
                // Its present name is durable: what led there no longer matters.
                self.pending
                    .retain(|before| before.file() != change.file() || change.file().is_none());
            } else {
                self.pending.push(change);
            }
        }
    }

    /// What a loss of power leaves: what was synced, and any of the other changes, in their order.
    pub fn lose_power(&mut self, random: &mut Random) {
        let pending = std::mem::take(&mut self.pending);
        let kept = random.index(pending.len() + 1);
        let scatters = random.percent(50);
        for (number, change) in pending.iter().enumerate() {
            let survives = match scatters {
                true => random.percent(50),
                false => number < kept,
            };
            if survives {
                change.apply(&mut self.durable);
            }
        }
        // A name in a folder that is gone is gone, too.
        let folders = self.durable.clone();
        let stands = |path: &Path| {
            path.ancestors()
                .skip(1)
                .filter(|folder| folder.parent().is_some())
                .all(|folder| folders.get(folder) == Some(&Item::Folder))
        };
        self.durable.retain(|path, _| stands(path));
        self.seen = self.durable.clone();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_durable_folder_by_folder() {
        let (folder, file) = (Path::new("/a"), Path::new("/a/x"));
        let mut names = Names::default();
        names.put(folder, Item::Folder);
        names.put(file, Item::File(0));
        let mut with_parent = names.clone();
        names.sync(folder);
        let lost = (0..50).any(|seed| {
            let mut names = names.clone();
            names.lose_power(&mut Random::new(seed));
            names.get(file).is_none()
        });
        assert!(lost, "the folder's own name was not synced");
        with_parent.sync(folder);
        with_parent.sync(Path::new("/"));
        with_parent.lose_power(&mut Random::new(1));
        assert_eq!(with_parent.get(file), Some(Item::File(0)));
    }

    #[test]
    fn a_rename_happens_whole_or_not_at_all() {
        let (from, to) = (Path::new("/from"), Path::new("/to"));
        for seed in 0..50 {
            let mut names = Names::default();
            names.put(from, Item::File(3));
            names.sync(Path::new("/"));
            names.rename(from, to);
            names.lose_power(&mut Random::new(seed));
            assert_eq!(names.files().count(), 1);
        }
    }
}
