//! Structured logs: what is logged, in which form, and to standard error.
//!
//! Whatever a client can provoke, it can provoke at will, and nobody can say of every line who provokes it: so each *place* in
//! the code that logs (a callsite) is bounded, those of the audit trail excepted, which have a bound of their own
//! (`audit.rs`). What is left out is counted, and said by `summarize`. Lines of the levels `debug` and `trace` are written as
//! they come: who asks for them wants them all.

use std::io::IsTerminal as _;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, fmt};

use super::throttle::{Rate, Throttle};
use crate::config::LogFormat;

/// How many lines one place in the code may write.
const LINES: Rate = Rate {
    at_once: 200,
    interval: Duration::from_millis(100),
    keys: 4_096,
};

/// Where a line comes from, with the place's name: its file and line.
type Place = (Identifier, &'static str);

/// Logging is the process's, and so is its bound.
static THROTTLE: LazyLock<Throttle<Place>> = LazyLock::new(|| Throttle::new(LINES));

/// Parses a filter such as `info,tidegate::net=debug`, or says which part of it is wrong.
pub fn parse_filter(filter: &str) -> Result<EnvFilter, String> {
    for part in filter
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        if let Err(error) = EnvFilter::builder().parse(part) {
            return Err(format!("{part:?} is no log filter: {error}"));
        }
        // A lone word is read as a module's name; a misspelt level would silently log everything of no module.
        let level = part
            .parse::<tracing_subscriber::filter::LevelFilter>()
            .is_ok();
        if !level && !part.contains(['=', ':', '[', '_']) && part != "tidegate" {
            return Err(format!(
                "{part:?} is neither a level (off, error, warn, info, debug, trace) nor module=level"
            ));
        }
    }
    EnvFilter::builder()
        .parse(filter)
        .map_err(|error| format!("{filter:?} is no log filter: {error}"))
}

/// Whether `parse_filter` would take the filter.
pub fn check_filter(filter: &str) -> Result<(), String> {
    parse_filter(filter).map(|_| ())
}

/// Starts logging for this process. Fails on a wrong filter, and when logging was started before.
pub fn init(format: LogFormat, filter: &str) -> Result<(), String> {
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines = match format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    let outcome = tracing_subscriber::registry()
        .with(parse_filter(filter)?)
        .with(Bounded(&THROTTLE))
        .with(lines)
        .try_init();
    outcome.map_err(|error| format!("logging cannot be started: {error}"))
}

/// Leaves out lines of places that write too many.
struct Bounded(&'static Throttle<Place>);

impl<S: Subscriber> Layer<S> for Bounded {
    fn event_enabled(&self, event: &Event<'_>, _context: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        if *metadata.level() > Level::INFO || metadata.target() == "tidegate::audit" {
            return true;
        }
        let place = (metadata.callsite(), metadata.name());
        self.0.admit(place, Instant::now()).is_some()
    }
}

/// Says how many lines were left out since the last time, by the place in the code; returns how many there were.
pub fn summarize(now: Instant) -> u64 {
    let mut total = 0;
    for (place, count) in THROTTLE.take_left_out(now) {
        let place = place.map_or("other places", |(_, name)| name);
        tracing::warn!(
            place,
            count,
            "more lines like those before came, and were left out"
        );
        total += count;
    }
    total
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Counts the lines that come through.
    struct Counted(Arc<AtomicUsize>);

    impl<S: Subscriber> Layer<S> for Counted {
        fn on_event(&self, _event: &Event<'_>, _context: Context<'_, S>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_place_that_writes_at_will_is_bounded_and_the_rest_counted() {
        static THROTTLE: LazyLock<Throttle<Place>> = LazyLock::new(|| {
            Throttle::new(Rate {
                interval: Duration::from_secs(3_600),
                ..LINES
            })
        });
        let seen = Arc::new(AtomicUsize::new(0));
        let subscriber = tracing_subscriber::registry()
            .with(Bounded(&THROTTLE))
            .with(Counted(Arc::clone(&seen)));
        tracing::subscriber::with_default(subscriber, || {
            for number in 0..10_000 {
                tracing::warn!(number, "provoked");
            }
            tracing::warn!("another place");
            tracing::info!(target: "tidegate::audit", "bounded by itself");
        });
        assert_eq!(seen.load(Ordering::Relaxed), 202);
        let left_out = THROTTLE.take_left_out(Instant::now());
        assert_eq!(left_out.len(), 1);
        let (place, count) = &left_out[0];
        assert_eq!(*count, 9_800);
        let (_, name) = place.as_ref().expect("it is told by its place");
        assert!(name.contains("trace.rs"), "{name}");
    }

    #[test]
    fn a_wrong_part_of_a_filter_is_named() {
        for filter in [
            "info",
            "warn,tidegate::net=debug",
            "off",
            "tidegate=trace,h2=warn",
            "",
        ] {
            assert_eq!(check_filter(filter), Ok(()), "{filter}");
        }
        for (filter, part) in [
            ("inof", "\"inof\""),
            ("info,tidegate::net=loud", "\"tidegate::net=loud\""),
            ("debug,verbose", "\"verbose\""),
        ] {
            let message = check_filter(filter).expect_err(filter);
            assert!(message.contains(part), "{message}");
        }
    }
}
