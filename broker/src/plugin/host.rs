//! What a guest may call: log, metrics, config and, for authorizers, the clock. Nothing here waits or fails; what goes over a
//! bound is dropped and counted.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, LinkerInstance};

use super::bindings::LogLevel;
use super::columns::truncated;
use super::limits::{Deadline, MemoryLimiter};
use super::rate::LineRate;
use crate::env::Clock;

const LINES_PER_SECOND: u32 = 100;
const MAX_LINE_BYTES: usize = 1024;
const MAX_SERIES: usize = 64;
const MAX_LABELS: usize = 4;
const MAX_NAME_BYTES: usize = 64;

/// One plugin revision, as its instances share it.
pub struct GuestContext {
    pub plugin: String,
    pub revision: u32,
    pub config: BTreeMap<String, String>,
    pub clock: Clock,
    pub metrics: Arc<GuestMetrics>,
    lines: Mutex<LineRate>,
}

/// Without the configuration, which may hold secrets.
impl std::fmt::Debug for GuestContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GuestContext")
            .field("plugin", &self.plugin)
            .field("revision", &self.revision)
            .finish_non_exhaustive()
    }
}

/// The label names and values of a series, in the order given.
pub type Labels = Vec<(String, String)>;

/// The metrics that a plugin keeps about its own work; they outlive its revisions.
#[derive(Debug, Default)]
pub struct GuestMetrics(Mutex<Series>);

#[derive(Debug, Default)]
struct Series {
    values: BTreeMap<(String, Labels), GuestValue>,
    /// Updates of series that would have been one too many or were named wrongly.
    dropped: u64,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub enum GuestValue {
    Counter(u64),
    Gauge(f64),
}

/// One series that a plugin exports.
#[derive(Clone, PartialEq, Debug)]
pub struct GuestSeries {
    pub plugin: String,
    pub name: String,
    pub labels: Labels,
    pub value: GuestValue,
}

impl GuestMetrics {
    fn update(
        &self,
        name: String,
        labels: Labels,
        update: impl FnOnce(Option<GuestValue>) -> GuestValue,
    ) {
        let mut series = self.0.lock();
        let room = series.values.len() < MAX_SERIES;
        let key = (name, labels);
        match series.values.get_mut(&key) {
            Some(value) => *value = update(Some(*value)),
            None if room && well_named(&key.0, &key.1) => {
                series.values.insert(key, update(None));
            }
            None => series.dropped += 1,
        }
    }

    fn count(&self, name: String, labels: Labels, by: u64) {
        self.update(name, labels, |value| match value {
            Some(GuestValue::Counter(counter)) => GuestValue::Counter(counter.saturating_add(by)),
            _ => GuestValue::Counter(by),
        });
    }

    fn set(&self, name: String, labels: Labels, to: f64) {
        self.update(name, labels, |_| GuestValue::Gauge(to));
    }

    pub fn series(&self, plugin: &str) -> Vec<GuestSeries> {
        let series = self.0.lock();
        series
            .values
            .iter()
            .map(|((name, labels), value)| GuestSeries {
                plugin: plugin.to_owned(),
                name: name.clone(),
                labels: labels.clone(),
                value: *value,
            })
            .collect()
    }

    /// Updates that went nowhere, because the plugin has too many series or names them wrongly.
    pub fn dropped(&self) -> u64 {
        self.0.lock().dropped
    }
}

/// Prometheus' rule for names, with bounds.
fn well_named(name: &str, labels: &Labels) -> bool {
    let fits = |name: &str| {
        name.len() <= MAX_NAME_BYTES
            && name.starts_with(|first: char| first.is_ascii_alphabetic())
            && name
                .chars()
                .all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
    };
    fits(name)
        && labels.len() <= MAX_LABELS
        && labels
            .iter()
            .all(|(label, value)| fits(label) && value.len() <= MAX_NAME_BYTES)
}

impl GuestContext {
    pub fn new(
        plugin: &str,
        revision: u32,
        config: BTreeMap<String, String>,
        clock: Clock,
        metrics: Arc<GuestMetrics>,
    ) -> Self {
        Self {
            plugin: plugin.to_owned(),
            revision,
            config,
            clock,
            metrics,
            lines: Mutex::new(LineRate::new(LINES_PER_SECOND)),
        }
    }

    /// One line in the broker's log, unless the plugin has had its share of this second.
    pub fn log(&self, level: LogLevel, message: &str, fields: &[(String, String)]) {
        let Some(suppressed) = self.lines.lock().admit(self.clock.now_ms()) else {
            return;
        };
        let mut line = String::new();
        let pieces = std::iter::once(message.to_owned()).chain(
            fields
                .iter()
                .map(|(name, value)| format!(" {name}={value}")),
        );
        for piece in pieces {
            line.push_str(&piece.replace(|letter: char| letter.is_control(), " "));
            if line.len() > MAX_LINE_BYTES {
                break;
            }
        }
        let line = truncated(line, MAX_LINE_BYTES);
        let (plugin, revision) = (self.plugin.as_str(), self.revision);
        macro_rules! event {
            ($macro:ident) => {
                tracing::$macro!(target: "tidegate::plugin::guest", plugin, revision, suppressed, "{line}")
            };
        }
        match level {
            LogLevel::Trace => event!(trace),
            LogLevel::Debug => event!(debug),
            LogLevel::Info => event!(info),
            LogLevel::Warn => event!(warn),
            LogLevel::Error => event!(error),
        }
    }
}

/// What an instance's store carries.
#[derive(Debug)]
pub struct GuestState {
    pub context: Arc<GuestContext>,
    pub memory: MemoryLimiter,
    pub deadline: Deadline,
    /// Standard output or error that has no line end yet.
    pub line: String,
}

impl GuestState {
    /// What a guest printed becomes lines of its log, however it is cut into pieces.
    pub fn print(&mut self, level: LogLevel, bytes: &[u8]) {
        for piece in String::from_utf8_lossy(bytes).split_inclusive('\n') {
            self.line.push_str(piece);
            if piece.ends_with('\n') || self.line.len() > MAX_LINE_BYTES {
                let line = std::mem::take(&mut self.line);
                if !line.trim().is_empty() {
                    self.context.log(level, line.trim_end(), &[]);
                }
            }
        }
    }
}

/// Offers one of our own interfaces under the name (with its version) that the component imports.
pub fn link(
    linker: &mut Linker<GuestState>,
    import: &str,
    interface: &str,
) -> wasmtime::Result<()> {
    let mut instance = linker.instance(import)?;
    match interface {
        "log" => log(&mut instance),
        "metrics" => metrics(&mut instance),
        "config" => config(&mut instance),
        "clock" => clock(&mut instance),
        // Types alone: nothing to call.
        _ => Ok(()),
    }
}

type Context<'a> = StoreContextMut<'a, GuestState>;
type Fields = Vec<(String, String)>;

fn log(instance: &mut LinkerInstance<'_, GuestState>) -> wasmtime::Result<()> {
    instance.func_wrap(
        "write",
        |context: Context<'_>, (level, message, fields): (LogLevel, String, Fields)| {
            context.data().context.log(level, &message, &fields);
            Ok(())
        },
    )
}

fn metrics(instance: &mut LinkerInstance<'_, GuestState>) -> wasmtime::Result<()> {
    instance.func_wrap(
        "counter-add",
        |context: Context<'_>, (name, labels, by): (String, Labels, u64)| {
            context.data().context.metrics.count(name, labels, by);
            Ok(())
        },
    )?;
    instance.func_wrap(
        "gauge-set",
        |context: Context<'_>, (name, labels, to): (String, Labels, f64)| {
            context.data().context.metrics.set(name, labels, to);
            Ok(())
        },
    )
}

fn config(instance: &mut LinkerInstance<'_, GuestState>) -> wasmtime::Result<()> {
    instance.func_wrap("get", |context: Context<'_>, (key,): (String,)| {
        Ok((context.data().context.config.get(&key).cloned(),))
    })?;
    instance.func_wrap("get-all", |context: Context<'_>, (): ()| {
        let config = &context.data().context.config;
        let all: Fields = config
            .iter()
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        Ok((all,))
    })
}

fn clock(instance: &mut LinkerInstance<'_, GuestState>) -> wasmtime::Result<()> {
    instance.func_wrap("now-ms", |context: Context<'_>, (): ()| {
        Ok((context.data().context.clock.now_ms(),))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugins_series_are_bounded_and_well_named() {
        let metrics = GuestMetrics::default();
        for number in 0..100 {
            metrics.count(format!("c{number}"), Vec::new(), 1);
        }
        metrics.count("c0".into(), Vec::new(), 2);
        let series = metrics.series("p");
        assert_eq!(series.len(), MAX_SERIES);
        assert_eq!(series[0].value, GuestValue::Counter(3));
        assert_eq!(metrics.dropped(), 36);
        let fresh = GuestMetrics::default();
        let wrong: [(&str, Labels); 4] = [
            ("", Vec::new()),
            ("1a", Vec::new()),
            ("a-b", Vec::new()),
            ("a", vec![("l".into(), "v".repeat(65))]),
        ];
        for (name, labels) in wrong {
            fresh.set(name.into(), labels, 1.0);
        }
        assert_eq!((fresh.series("p").len(), fresh.dropped()), (0, 4));
    }
}
