//! Large buffers that are used again.
//!
//! An allocator may give memory of this size back to the system and get it again as fresh pages, or keep more of it than
//! anybody bounds. So a **large** buffer returns to a pool of the process when the last [`Bytes`] that show a part of it are
//! gone. The pool keeps buffers in **classes** of one capacity each, a power of two, and up to `MAX_KEPT_BYTES` of them, also
//! when the broker is idle after a load.

use bytes::Bytes;
use parking_lot::Mutex;

/// Smallest buffer that is kept: below it the allocator keeps memory itself.
pub const LARGE_BYTES: usize = 64 << 10;
/// Classes of 64 KiB, 128 KiB … 8 MiB; what is larger goes back to the system.
const CLASSES: usize = 8;
/// All that is kept, together. Enough for the requests and answers that two cores have under way.
const MAX_KEPT_BYTES: usize = 16 << 20;

static POOL: Pool = Pool::new(MAX_KEPT_BYTES);

/// A buffer to be filled and then shown as [`Bytes`].
#[derive(Debug)]
pub struct Buffer {
    bytes: Vec<u8>,
    pool: &'static Pool,
}

impl Buffer {
    /// An empty buffer with room for `capacity` bytes at least. Small ones are not the pool's.
    pub fn with_capacity(capacity: usize) -> Self {
        Self::of(&POOL, capacity)
    }

    fn of(pool: &'static Pool, capacity: usize) -> Self {
        Self {
            bytes: pool.take(capacity),
            pool,
        }
    }

    pub fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Bytes that are there.
    pub fn filled(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes that there is room for, what is there included.
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Makes room for `capacity` bytes in all; what is there stays. Above the pool's classes the allocator grows it in place or
    /// moves its pages, so that there are never two of it.
    pub fn grow(&mut self, capacity: usize) {
        if capacity > LARGE_BYTES << (CLASSES - 1) {
            self.bytes
                .reserve_exact(capacity.saturating_sub(self.bytes.len()));
        } else if capacity > self.bytes.capacity() {
            let mut grown = Self::of(self.pool, capacity);
            grown.bytes.extend_from_slice(&self.bytes);
            *self = grown;
        }
    }

    /// Moves what is there to a smaller buffer where it fills less than half of a large one, so that `footprint` tells what it holds.
    pub fn fit(&mut self) {
        let capacity = self.bytes.capacity();
        if capacity >= LARGE_BYTES && self.bytes.len() < capacity / 2 {
            let mut fitting = Self::of(self.pool, self.bytes.len());
            fitting.bytes.extend_from_slice(&self.bytes);
            *self = fitting;
        }
    }

    /// What was filled in, without a copy.
    pub fn freeze(mut self) -> Bytes {
        if self.bytes.capacity() < LARGE_BYTES {
            return std::mem::take(&mut self.bytes).into();
        }
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.pool.give(std::mem::take(&mut self.bytes));
    }
}

/// The memory that a buffer for so many bytes takes.
pub fn footprint(bytes: usize) -> usize {
    if (LARGE_BYTES..=LARGE_BYTES << (CLASSES - 1)).contains(&bytes) {
        bytes.next_power_of_two()
    } else {
        bytes
    }
}

#[derive(Debug)]
struct Pool {
    kept: Mutex<Kept>,
    bound: usize,
}

#[derive(Debug)]
struct Kept {
    classes: [Vec<Vec<u8>>; CLASSES],
    bytes: usize,
}

impl Pool {
    const fn new(bound: usize) -> Self {
        Self {
            kept: Mutex::new(Kept {
                classes: [const { Vec::new() }; CLASSES],
                bytes: 0,
            }),
            bound,
        }
    }

    fn take(&self, capacity: usize) -> Vec<u8> {
        if capacity < LARGE_BYTES {
            return Vec::with_capacity(capacity);
        }
        let Some(class) = class_of(capacity.next_power_of_two()) else {
            return Vec::with_capacity(capacity);
        };
        let kept = {
            let mut kept = self.kept.lock();
            let buffer = kept.classes[class].pop();
            kept.bytes -= buffer.as_ref().map_or(0, Vec::capacity);
            buffer
        };
        kept.unwrap_or_else(|| Vec::with_capacity(LARGE_BYTES << class))
    }

    fn give(&self, mut buffer: Vec<u8>) {
        let Some(class) = class_of(buffer.capacity()) else {
            return;
        };
        buffer.clear();
        let mut kept = self.kept.lock();
        if kept.bytes + buffer.capacity() <= self.bound {
            kept.bytes += buffer.capacity();
            kept.classes[class].push(buffer);
        }
    }
}

/// The class whose buffers have exactly this capacity.
fn class_of(capacity: usize) -> Option<usize> {
    (0..CLASSES).find(|class| LARGE_BYTES << class == capacity)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(bound: usize) -> &'static Pool {
        Box::leak(Box::new(Pool::new(bound)))
    }

    #[test]
    fn a_buffer_comes_back_when_the_last_of_its_bytes_are_gone() {
        let pool = pool(4 << 20);
        let mut buffer = Buffer::of(pool, 100_000);
        let memory = buffer.bytes().as_ptr();
        buffer.bytes().extend_from_slice(&[7; 100_000]);
        let all = buffer.freeze();
        let part = all.slice(50_000..50_010);
        drop(all);
        assert_ne!(Buffer::of(pool, 100_000).bytes().as_ptr(), memory, "in use");
        assert_eq!(part[..], [7; 10]);
        drop(part);
        let mut again = Buffer::of(pool, 128 << 10);
        assert_eq!(again.bytes().len(), 0);
        let others: Vec<Buffer> = (0..2).map(|_| Buffer::of(pool, 90_000)).collect();
        let pointers = others.iter().map(|other| other.bytes.as_ptr());
        let found = pointers
            .chain([again.bytes.as_ptr()])
            .any(|one| one == memory);
        assert!(found, "the memory is used again");
    }

    #[test]
    fn keeps_no_more_than_its_bound_and_nothing_small_or_huge() {
        let pool = pool(1 << 20);
        let many: Vec<Buffer> = (0..20).map(|_| Buffer::of(pool, LARGE_BYTES)).collect();
        drop(many);
        assert_eq!(pool.kept.lock().bytes, 1 << 20);
        drop(Buffer::of(pool, 1000));
        drop(Buffer::of(pool, 64 << 20));
        assert_eq!(pool.kept.lock().bytes, 1 << 20);
        let taken = Buffer::of(pool, LARGE_BYTES);
        assert_eq!(pool.kept.lock().bytes, (1 << 20) - LARGE_BYTES);
        drop(taken);
    }

    #[test]
    fn a_buffer_that_is_mostly_empty_is_given_up_for_one_that_fits() {
        for (capacity, filled, fits) in [
            (1 << 20, 10, 10),
            (1 << 20, 100_000, 128 << 10),
            (1 << 20, 600_000, 1 << 20),
            (10 << 20, 100_000, 128 << 10),
            (10, 5, 10),
        ] {
            let mut buffer = Buffer::of(pool(1 << 20), capacity);
            buffer.bytes().resize(filled, 7);
            buffer.fit();
            assert_eq!(buffer.capacity(), fits, "{filled} of {capacity}");
            assert!(buffer.capacity() <= footprint(filled).max(10));
            assert!(buffer.freeze()[..] == vec![7; filled]);
        }
    }

    #[test]
    fn grows_and_keeps_what_is_there() {
        let mut buffer = Buffer::of(pool(1 << 20), 10);
        buffer.bytes().extend_from_slice(b"abc");
        buffer.grow(1 << 20);
        assert!(buffer.bytes().capacity() >= 1 << 20);
        assert_eq!(buffer.freeze()[..], b"abc"[..]);
    }
}
