//! The audit trail: who changed what, and what was denied, as structured log events under the target `tidegate::audit`.
//! A filter such as `warn,tidegate::audit=info` keeps it when little else is logged. Secrets never come here.
//!
//! What was denied is written at the will of whoever asks, so it is bounded for each principal; what is left out is counted,
//! and a line says how much it was. What was changed is always written.

use std::time::{Duration, Instant};

use super::throttle::{Rate, Throttle};

/// The longest name in a line, in bytes; what is cut off ends in `…`.
const MAX_NAME: usize = 256;

/// How many denials of one principal are written.
const DENIALS: Rate = Rate {
    at_once: 20,
    interval: Duration::from_secs(1),
    keys: 4_096,
};

/// Something that an operator changed, such as `plugin deployed`.
pub fn changed(what: &str, name: &str, who: &str) {
    tracing::info!(target: "tidegate::audit", what, name, who, "changed");
}

/// Who was denied what, of whatever name.
#[derive(Clone, Copy, Debug)]
pub struct Denial<'a> {
    pub principal: &'a str,
    pub host: &'a str,
    pub operation: &'a str,
    pub resource_type: &'a str,
}

/// Denials on their way to the audit trail.
#[derive(Debug)]
pub struct Denials {
    throttle: Throttle<String>,
}

impl Default for Denials {
    fn default() -> Self {
        Self {
            throttle: Throttle::new(DENIALS),
        }
    }
}

impl Denials {
    /// Tells that an operation was denied on each of the names. `share` is who is bounded. Returns the number of lines left
    /// out.
    pub fn tell<'a>(
        &self,
        share: &str,
        denial: &Denial<'_>,
        names: impl ExactSizeIterator<Item = &'a str>,
        now: Instant,
    ) -> u64 {
        let lines = names.len() as u64;
        let Some((written, before)) = self.throttle.admit_some(share.to_owned(), lines, now) else {
            return lines;
        };
        left_out(share, before);
        let Denial {
            principal,
            host,
            operation,
            resource_type,
        } = denial;
        for name in names.take(usize::try_from(written).unwrap_or(usize::MAX)) {
            let resource = format!("{resource_type}:{}", cut(name));
            tracing::info!(target: "tidegate::audit", principal, operation, resource, host, "denied");
        }
        lines - written
    }

    /// Says what was left out since the last time.
    pub fn summarize(&self, now: Instant) {
        for (share, count) in self.throttle.take_left_out(now) {
            left_out(share.as_deref().unwrap_or("others"), count);
        }
    }
}

fn left_out(principal: &str, count: u64) {
    if count > 0 {
        tracing::info!(target: "tidegate::audit", principal, count, "denied as well, and left out here");
    }
}

/// A name that a client chose, short enough for a line.
fn cut(name: &str) -> std::borrow::Cow<'_, str> {
    if name.len() <= MAX_NAME {
        return name.into();
    }
    let end = name.floor_char_boundary(MAX_NAME);
    format!("{}…", &name[..end]).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DENIAL: Denial<'static> = Denial {
        principal: "User:mallory",
        host: "192.0.2.1",
        operation: "Describe",
        resource_type: "Topic",
    };

    #[test]
    fn half_a_million_denials_are_twenty_lines() {
        let denials = Denials::default();
        let names = vec!["secret"; 500_000];
        let now = Instant::now();
        let tell = |share, now| denials.tell(share, &DENIAL, names.iter().copied(), now);
        assert_eq!(tell("User:mallory", now), 499_980);
        assert_eq!(tell("User:mallory", now), 500_000);
        assert_eq!(tell("User:alice", now), 499_980, "others are not affected");
        let later = now + Duration::from_secs(2);
        assert_eq!(tell("User:mallory", later), 499_998);
    }

    #[test]
    fn long_names_are_cut_at_a_character() {
        assert_eq!(cut("orders"), "orders");
        let long = "ä".repeat(MAX_NAME);
        let seen = cut(&long);
        assert!(seen.len() <= MAX_NAME + '…'.len_utf8());
        assert!(seen.ends_with("ä…"));
    }
}

/// A login that failed. Names are what clients said, and need not exist.
#[derive(Clone, Copy, Debug)]
pub struct FailedLogin<'a> {
    pub user: &'a str,
    pub host: &'a str,
    pub listener: &'a str,
    pub mechanism: &'a str,
    pub reason: &'a str,
    /// Failures since the last line that got none of their own.
    pub left_out: u64,
}

/// A login that failed: the caller bounds how many are written.
pub fn login_failed(login: &FailedLogin<'_>) {
    let FailedLogin {
        user,
        host,
        listener,
        mechanism,
        reason,
        left_out,
    } = *login;
    tracing::info!(target: "tidegate::audit", user, host, listener, mechanism, reason, left_out, "authentication failed");
}
