//! Changes nothing: what is left is the cost of the call itself.

use tidegate_plugin::{
    Answer, Batch, CallError, Change, Config, Origin, Record, Reject, Transform,
};

struct Identity;

impl Transform for Identity {
    fn new(config: &Config) -> Result<Self, String> {
        config.only(&[])?;
        Ok(Self)
    }

    fn transform(&self, _record: &Record<'_>, _origin: &Origin<'_>) -> Result<Change, Reject> {
        Ok(Change::Keep)
    }

    fn apply(&self, _batch: &Batch<'_>, _origin: &Origin<'_>) -> Result<Answer, CallError> {
        Ok(Answer::Unchanged)
    }
}

tidegate_plugin::export_transform!(Identity);

#[cfg(test)]
mod tests {
    use tidegate_plugin::Arena;

    use super::*;

    #[test]
    fn every_batch_is_unchanged() {
        let mut arena = Arena::default();
        arena.push(Some(b"key"), None, [], 0);
        let answer = Identity.apply(&arena.batch(), &Origin::default());
        assert!(matches!(answer, Ok(Answer::Unchanged)));
    }
}
