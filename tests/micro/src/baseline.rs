//! The committed counts, and what is said of new ones.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

/// A count may grow by so many hundredths of what it was, and is to be lowered in the baseline when it has fallen by more.
const TOLERANCE_PERCENT: u64 = 5;

const HEAD: &str = "# Instructions of one operation of each case (`micro list` says what each is), and the tools they were counted with.\n\
                    # Written by `tests/micro/run --write`.\n\n";

/// Instructions of each case, and the tools that have a part in them.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    /// Each tool's own words on its version.
    pub tools: BTreeMap<String, String>,
    pub counts: BTreeMap<String, u64>,
}

/// What is said of one count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Judgement {
    Same,
    /// By more than is tolerated.
    Grown,
    /// As `Grown`.
    Fallen,
    /// The baseline does not know the case.
    Missing,
}

/// What is said of all counts. Its text is the table.
#[derive(Debug)]
pub struct Judged {
    rows: Vec<Row>,
    /// Name, version in the baseline, version now.
    other_tools: Vec<(String, String, String)>,
}

#[derive(Debug)]
struct Row {
    name: String,
    before: Option<u64>,
    now: u64,
    judgement: Judgement,
}

impl Baseline {
    /// # Errors
    /// When the file cannot be read, or is no baseline.
    pub fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("{} (`tests/micro/run --write` makes it)", path.display()))?;
        toml::from_str(&text).with_context(|| path.display().to_string())
    }

    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let text = format!("{HEAD}{}", toml::to_string(self)?);
        std::fs::write(path, text).with_context(|| path.display().to_string())
    }

    /// Holds new counts against these.
    pub fn judge(&self, counted: &Self) -> Judged {
        let rows = counted.counts.iter().map(|(name, now)| {
            let before = self.counts.get(name).copied();
            Row {
                name: name.clone(),
                before,
                now: *now,
                judgement: before.map_or(Judgement::Missing, |before| judge(before, *now)),
            }
        });
        let other_tools = counted.tools.iter().filter_map(|(tool, now)| {
            let before = self.tools.get(tool).map_or("unknown", String::as_str);
            (before != now).then(|| (tool.clone(), before.to_owned(), now.clone()))
        });
        Judged {
            rows: rows.collect(),
            other_tools: other_tools.collect(),
        }
    }
}

fn judge(before: u64, now: u64) -> Judgement {
    // In whole numbers, so that the bound itself is on one side.
    let (before, now) = (u128::from(before) * 100, u128::from(now) * 100);
    let allowed = before * u128::from(TOLERANCE_PERCENT) / 100;
    if now > before + allowed {
        Judgement::Grown
    } else if now + allowed < before {
        Judgement::Fallen
    } else {
        Judgement::Same
    }
}

/// As a share of what it was.
fn change(before: u64, now: u64) -> f64 {
    now as f64 / before as f64 - 1.0
}

impl Judged {
    pub fn any(&self, judgement: Judgement) -> bool {
        self.rows.iter().any(|row| row.judgement == judgement)
    }

    /// Counts of other tools prove nothing about the broker: another compiler makes other code of it.
    pub fn tools_differ(&self) -> bool {
        !self.other_tools.is_empty()
    }
}

impl fmt::Display for Judged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<20} {:>12} {:>12} {:>8}",
            "case", "baseline", "now", "change"
        )?;
        for row in &self.rows {
            let Some(before) = row.before else {
                writeln!(f, "{:<20} {:>12} {:>12}", row.name, "-", row.now)?;
                continue;
            };
            let remark = match row.judgement {
                Judgement::Grown => "  more than 5 % grown",
                Judgement::Fallen => "  fallen: lower the baseline (tests/micro/run --write)",
                Judgement::Same | Judgement::Missing => "",
            };
            let change = 100.0 * change(before, row.now);
            writeln!(
                f,
                "{:<20} {before:>12} {:>12} {change:>+7.1}%{remark}",
                row.name, row.now
            )?;
        }
        for (tool, before, now) in &self.other_tools {
            writeln!(
                f,
                "SKIPPED instruction counts: the baseline was written with {before}, and {tool} is {now} here; \
                 `tests/micro/run --write` counts anew"
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(counts: &[(&str, u64)], rustc: &str) -> Baseline {
        Baseline {
            tools: BTreeMap::from([("rustc".to_owned(), rustc.to_owned())]),
            counts: counts
                .iter()
                .map(|(name, count)| ((*name).to_owned(), *count))
                .collect(),
        }
    }

    #[test]
    fn more_than_five_percent_is_grown_or_fallen() {
        let committed = of(&[("a", 1000), ("b", 1000), ("c", 1000), ("d", 1000)], "1");
        let judged = committed.judge(&of(
            &[("a", 1050), ("b", 1051), ("c", 949), ("d", 950), ("e", 1)],
            "1",
        ));
        let judgements: Vec<_> = judged.rows.iter().map(|row| row.judgement).collect();
        use Judgement::{Fallen, Grown, Missing, Same};
        assert_eq!(judgements, [Same, Grown, Fallen, Same, Missing]);
        assert!(!judged.tools_differ());
        assert!(judged.to_string().contains("more than 5 % grown"));
    }

    #[test]
    fn other_tools_are_told() {
        let judged = of(&[("a", 1000)], "1").judge(&of(&[("a", 2000)], "2"));
        assert!(judged.tools_differ());
        assert!(judged.to_string().contains("SKIPPED instruction counts"));
    }

    #[test]
    fn the_committed_baseline_counts_cases_that_there_are() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("baseline.toml");
        let committed = Baseline::load(&path).unwrap();
        assert!(!committed.counts.is_empty());
        for name in committed.counts.keys() {
            assert!(micro::find(name).is_some(), "there is no case {name}");
        }
    }
}
