//! Answers of an authorizer that still hold, so that it is not asked the same twice. Bounded; gone with their revision.

use std::collections::HashMap;

use parking_lot::RwLock;

use super::{PluginAction, Verdict};
use crate::types::TimestampMs;

/// Answers kept at most; on the next one everything is forgotten, which costs calls and nothing else.
const MAX_ENTRIES: usize = 16_384;
/// No answer holds longer, whatever the plugin says.
const MAX_AGE_MS: u32 = 3_600_000;

#[derive(Debug, Default)]
pub struct DecisionCache(RwLock<Entries>);

#[derive(Debug, Default)]
struct Entries {
    count: usize,
    callers: HashMap<String, HashMap<PluginAction, (Verdict, TimestampMs)>>,
}

impl DecisionCache {
    /// What is known of each action now.
    pub fn get(
        &self,
        caller: &str,
        actions: &[PluginAction],
        now: TimestampMs,
    ) -> Vec<Option<Verdict>> {
        let entries = self.0.read();
        let Some(known) = entries.callers.get(caller) else {
            return vec![None; actions.len()];
        };
        actions
            .iter()
            .map(|action| {
                let (verdict, until) = known.get(action)?;
                (now < *until).then(|| verdict.clone())
            })
            .collect()
    }

    pub fn put(
        &self,
        caller: &str,
        action: &PluginAction,
        answer: (Verdict, u32),
        now: TimestampMs,
    ) {
        let (verdict, cache_ms) = answer;
        if cache_ms == 0 {
            return;
        }
        let until = now.saturating_add(i64::from(cache_ms.min(MAX_AGE_MS)));
        let mut entries = self.0.write();
        if entries.count >= MAX_ENTRIES {
            *entries = Entries::default();
        }
        let known = entries.callers.entry(caller.to_owned()).or_default();
        if known.insert(action.clone(), (verdict, until)).is_none() {
            entries.count += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn action(name: &str) -> PluginAction {
        PluginAction {
            operation: 3,
            resource_type: 2,
            resource_name: name.into(),
        }
    }

    #[test]
    fn an_answer_holds_for_its_time_and_its_caller_alone() {
        let cache = DecisionCache::default();
        let actions = [action("a"), action("b")];
        cache.put("alice", &actions[0], (Verdict::Allow, 100), 1000);
        cache.put("alice", &actions[1], (Verdict::Allow, 0), 1000);
        let known = |caller, now| cache.get(caller, &actions, now);
        assert_eq!(known("alice", 1099), [Some(Verdict::Allow), None]);
        assert_eq!(known("alice", 1100), [None, None]);
        assert_eq!(known("bob", 1000), [None, None]);
    }

    #[test]
    fn it_never_holds_more_than_its_bound() {
        let cache = DecisionCache::default();
        for number in 0..=MAX_ENTRIES {
            cache.put(&number.to_string(), &action("a"), (Verdict::Allow, 1000), 0);
        }
        assert_eq!(cache.0.read().count, 1);
    }
}
