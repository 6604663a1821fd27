//! What is known of one position that a group has committed.

use std::collections::BTreeSet;

/// A committed offset.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Committed {
    /// As it was last acknowledged.
    certain: Option<i64>,
    /// What was asked for since and never answered.
    possible: BTreeSet<i64>,
    /// A commit is on its way.
    pub is_committing: bool,
}

impl Committed {
    pub fn ask(&mut self, offset: i64) {
        self.possible.insert(offset);
        self.is_committing = true;
    }

    pub fn acknowledge(&mut self, offset: i64) {
        self.certain = Some(offset);
        self.possible.clear();
        self.is_committing = false;
    }

    /// The commit was refused for certain.
    pub fn refuse(&mut self, offset: i64) {
        self.possible.remove(&offset);
        self.is_committing = false;
    }

    /// Checks what a group was told; −1 for nothing.
    pub fn check(&self, found: i64) -> Result<(), String> {
        let is_certain = found == self.certain.unwrap_or(-1);
        if is_certain || self.possible.contains(&found) {
            return Ok(());
        }
        Err(format!(
            "the committed offset is {found}; acknowledged was {:?}, asked for since {:?}",
            self.certain, self.possible
        ))
    }
}
