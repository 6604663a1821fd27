//! Everything that a coordinator keeps, by id and in the order of ids.
//!
//! There may be a hundred thousand. Whoever walks over all of them takes a slice at a time, holds no lock between two slices, and
//! yields there if it is on a thread that serves requests: what comes or goes meanwhile may be missed.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use tokio::time::Instant;

/// Cells that are taken at once.
const SLICE: usize = 256;
/// How long a walk may go on without letting others run.
const TURN: Duration = Duration::from_millis(2);

#[derive(Debug)]
pub(super) struct Directory<C> {
    cells: RwLock<BTreeMap<Arc<str>, Arc<C>>>,
}

impl<C> Default for Directory<C> {
    fn default() -> Self {
        Self {
            cells: RwLock::default(),
        }
    }
}

impl<C> Directory<C> {
    pub fn get(&self, id: &str) -> Option<Arc<C>> {
        self.cells.read().get(id).cloned()
    }

    /// The cell of an id, made if there is none; `make` runs under the directory's lock.
    pub fn get_or_insert<E>(
        &self,
        id: &str,
        make: impl FnOnce(&Arc<str>) -> Result<Arc<C>, E>,
    ) -> Result<Arc<C>, E> {
        if let Some(cell) = self.get(id) {
            return Ok(cell);
        }
        match self.cells.write().entry(id.into()) {
            Entry::Occupied(entry) => Ok(Arc::clone(entry.get())),
            Entry::Vacant(entry) => {
                let cell = make(entry.key())?;
                Ok(Arc::clone(entry.insert(cell)))
            }
        }
    }

    pub fn remove(&self, id: &str) {
        self.cells.write().remove(id);
    }

    /// The first cells behind an id; all are when it is `None`.
    fn slice(&self, behind: Option<&str>) -> Vec<(Arc<str>, Arc<C>)> {
        let from = behind.map_or(Bound::Unbounded, Bound::Excluded);
        let cells = self.cells.read();
        let slice = cells.range::<str, _>((from, Bound::Unbounded)).take(SLICE);
        slice
            .map(|(id, cell)| (Arc::clone(id), Arc::clone(cell)))
            .collect()
    }

    /// Every cell, for a thread that may block.
    pub fn walk(&self) -> impl Iterator<Item = Arc<C>> {
        let mut slice = Vec::new().into_iter();
        let mut last: Option<Arc<str>> = None;
        std::iter::from_fn(move || {
            let (id, cell) = match slice.next() {
                Some(next) => next,
                None => {
                    slice = self.slice(last.as_deref()).into_iter();
                    slice.next()?
                }
            };
            last = Some(id);
            Some(cell)
        })
    }

    /// Runs `step` on every cell, on a thread that serves requests too.
    pub async fn for_each(&self, mut step: impl FnMut(Arc<C>)) {
        let mut turn = Turn::new();
        for cell in self.walk() {
            step(cell);
            turn.pass().await;
        }
    }
}

/// Whose turn it is on a serving thread: a long walk passes it on in time.
pub(super) struct Turn(Instant);

impl Turn {
    pub fn new() -> Self {
        Self(Instant::now())
    }

    pub async fn pass(&mut self) {
        if self.0.elapsed() >= TURN {
            tokio::task::yield_now().await;
            self.0 = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(ids: impl IntoIterator<Item = usize>) -> Directory<usize> {
        let directory = Directory::default();
        for id in ids {
            let made = directory.get_or_insert(&format!("{id:05}"), |_| Ok::<_, ()>(Arc::new(id)));
            assert_eq!(made.as_deref(), Ok(&id));
        }
        directory
    }

    #[test]
    fn a_walk_sees_all_in_order_whatever_comes_and_goes_meanwhile() {
        for count in [0, 1, SLICE - 1, SLICE, SLICE + 1, 3 * SLICE] {
            let directory = directory((0..count).rev());
            let mut walk = directory.walk();
            let seen: Vec<usize> = std::iter::from_fn(|| {
                let id = *walk.next()?;
                // Neither the one that was just seen nor one that is behind it holds up the walk.
                directory.remove(&format!("{id:05}"));
                directory
                    .get_or_insert("", |_| Ok::<_, ()>(Arc::new(0)))
                    .ok()?;
                Some(id)
            })
            .collect();
            assert!(seen.iter().copied().eq(0..count), "{count}: {seen:?}");
        }
    }

    #[test]
    fn an_id_has_one_cell_and_a_refusal_makes_none() {
        let directory = directory([7]);
        let again = directory.get_or_insert("00007", |_| Err("it is there"));
        assert_eq!(again.as_deref(), Ok(&7));
        let refused = directory.get_or_insert("8", |_| Err("full"));
        assert_eq!(refused, Err("full"));
        assert_eq!(directory.walk().count(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_walk_passes_its_turn_on() {
        let directory = directory(0..10);
        let mut others = 0;
        let walk = directory.for_each(|_| std::thread::yield_now());
        tokio::pin!(walk);
        loop {
            tokio::select! {
                biased;
                () = &mut walk => break,
                () = std::future::ready(()) => others += 1,
            }
            tokio::time::advance(TURN).await;
        }
        assert_eq!(others, 0, "a short one does not");
        let mut turn = Turn::new();
        tokio::time::advance(TURN).await;
        let mut pass = Box::pin(turn.pass());
        assert!(futures_util::poll!(pass.as_mut()).is_pending());
    }
}
