//! What happened, as lines and as one number: two runs of a seed must give the same number.

/// A running FNV-1a hash of every line, and the lines themselves when somebody wants to read them.
#[derive(Clone, Debug)]
pub struct Trace {
    hash: u64,
    prints: bool,
    /// The latest lines, for the report of a failure.
    tail: std::collections::VecDeque<String>,
}

/// Lines kept for a failure's report.
const TAIL: usize = 40;

/// Goes on with an FNV-1a hash.
pub(crate) fn hash_on(mut hash: u64, bytes: &[u8]) -> u64 {
    for byte in bytes {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash
}

/// Where an FNV-1a hash begins.
pub(crate) const HASH_START: u64 = 0xcbf2_9ce4_8422_2325;

impl Trace {
    /// `prints`: every line goes to standard output as it comes.
    pub fn new(prints: bool) -> Self {
        Self {
            hash: HASH_START,
            prints,
            tail: std::collections::VecDeque::new(),
        }
    }

    pub fn prints(&self) -> bool {
        self.prints
    }

    pub fn line(&mut self, line: String) {
        self.hash = hash_on(self.hash, line.as_bytes());
        if self.prints {
            println!("{line}");
        }
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        self.tail.push_back(line);
    }

    /// The number that stands for everything up to now.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The latest lines.
    pub fn tail(&self) -> String {
        self.tail.iter().map(|line| format!("  {line}\n")).collect()
    }
}
