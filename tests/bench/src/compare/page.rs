//! The report: goals first, then a table and plots for each group of cases.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};

use super::cases::{Case, Client, Group};
use super::goals::{self, Goal, Verdict};
use super::pairs::{Paired, STEAL, TOLERANCE, median};
use super::plots::{self, Picture};
use super::results::{
    Key, Results, Spread, Value, client_cpu, idle, p50, p99, p999, peak, server_cpu, start,
    throughput,
};
use crate::servers::Name;

pub fn write(results: &Results, output: &Path) -> Result<()> {
    let pictures = plots::draw(results, output)?;
    let file = output.join("report.md");
    std::fs::write(&file, page(results, &pictures)).with_context(|| file.display().to_string())?;
    println!("{}", file.display());
    Ok(())
}

fn page(results: &Results, pictures: &[Picture]) -> String {
    let mut text = String::from("# Comparison\n\n");
    text.push_str(&machine(results));
    text.push_str(&method(results));
    text.push_str(&goals(results));
    for group in [
        Group::Produce,
        Group::Consume,
        Group::Latency,
        Group::Plugins,
        Group::Restart,
    ] {
        for client in results.clients() {
            text.push_str(&section(results, group, client, pictures));
        }
    }
    text.push_str(&footprint(results, pictures));
    text.push_str(&yardsticks(results));
    text
}

fn machine(results: &Results) -> String {
    let machine = &results.machine;
    let mut text = format!(
        "| machine | |\n|---|---|\n| processor | {} × {} |\n| memory | {:.1} GB |\n| kernel | Linux {} |\n| disk | {} |\n",
        machine.cores,
        machine.processor,
        machine.memory_bytes as f64 / 1e9,
        machine.kernel,
        machine.disk
    );
    for (server, version) in &results.versions {
        let _ = writeln!(text, "| {server} | {version} |");
    }
    for (server, why) in &results.missing {
        let _ = writeln!(text, "| {server} | not measured: {} |", cell(why));
    }
    let _ = writeln!(text, "\n```\n{}\n```\n", results.command);
    text
}

fn method(results: &Results) -> String {
    let usual = results.usual();
    let unusual = usual.iter().filter(|usual| !**usual).count();
    let left_out = match results.every_round {
        true => "of which this report, as it was asked to, leaves none out",
        false => "which are left out",
    };
    format!(
        "Each case is run in {} with every server in turn, the order reversed each time, each run a fresh process on a fresh data folder, \
         with at least two seconds of warm-up that do not count; client and server share the machine. \
         Only figures of the same round are compared: the tables show the median [least–most] of the rounds and the median of the ratios \
         Tidegate to the other (× 2 means twice the figure). \
         The machine was itself in a round of a case when a yardstick of its network and cores, and of its disk where the case waits for it, was \
         within {:.0} % of its median, and at most {:.0} % of the time was taken by other machines: it was not in {unusual} of {}, \
         {left_out}. “Synced” and “page cache” are what an \
         acknowledgement stands for, and are never compared with each other.\n\n",
        match results.rounds {
            1 => "one round".to_owned(),
            rounds => format!("{rounds} rounds"),
        },
        TOLERANCE * 100.0,
        STEAL * 100.0,
        usual.len()
    )
}

/// Pairs that a goal is meant to be judged by.
const PAIRS: usize = 5;

fn goals(results: &Results) -> String {
    let verdicts: Vec<(Goal, Client, Verdict)> = goals::all()
        .into_iter()
        .flat_map(|goal| {
            let clients = goal.clients(results).into_iter();
            clients.map(move |client| (goal, client, goal.judge(results, client)))
        })
        .collect();
    let count = |wanted: bool| {
        let passing = verdicts.iter().filter(|(.., verdict)| {
            matches!(verdict, Verdict::Measured { passes, .. } if *passes == wanted)
        });
        passing.count()
    };
    let mut text = format!(
        "## Goals\n\n{} passed, {} missed, {} not measured. A goal passes when the median of its ratios does and four of five pairs agree; \
         a figure of fewer than {PAIRS} pairs is a hint and no more.\n\n\
         | # | goal | client | figure | target | median ratio | pairs that agree | |\n|---|---|---|---|---|---|---|---|\n",
        count(true),
        count(false),
        verdicts.len() - count(true) - count(false)
    );
    for (goal, client, verdict) in &verdicts {
        let (measured, pairs, verdict) = match verdict {
            Verdict::Measured {
                median,
                agreeing,
                pairs,
                passes,
            } => (
                goal.shown(*median),
                format!("{agreeing} of {pairs}"),
                judged(*passes, *pairs),
            ),
            Verdict::NotMeasured(why) => (
                "–".into(),
                "–".into(),
                format!("not measured: {}", cell(why)),
            ),
        };
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {measured} | {pairs} | {verdict} |",
            goal.number,
            goal.title,
            client.name(),
            goal.figure,
            goal.target()
        );
    }
    text.push('\n');
    text
}

fn judged(passes: bool, pairs: usize) -> String {
    let verdict = if passes { "pass" } else { "**miss**" };
    match pairs {
        PAIRS.. => verdict.to_owned(),
        _ => format!("{verdict} (few pairs)"),
    }
}

/// A heading and how its figure is read.
type Column = (&'static str, Value);

const THROUGHPUT: [Column; 4] = [
    ("MB/s", throughput),
    ("server CPU s/GB", server_cpu),
    ("client CPU s/GB", client_cpu),
    ("peak MB", peak),
];
const RESTART: [Column; 3] = [("start ms", start), ("idle MB", idle), ("peak MB", peak)];
const LATENCY: [Column; 3] = [("p50 µs", p50), ("p99 µs", p99), ("p99.9 µs", p999)];

fn section(results: &Results, group: Group, client: Client, pictures: &[Picture]) -> String {
    let measured = |case: &&Case| {
        let mut blocks = results.blocks.iter();
        case.group == group && blocks.any(|block| block.case == case.name && block.client == client)
    };
    let cases: Vec<&Case> = results.cases.iter().filter(measured).collect();
    if cases.is_empty() {
        return String::new();
    }
    let columns: &[Column] = match group {
        Group::Latency => &LATENCY,
        Group::Restart => &RESTART,
        _ => &THROUGHPUT,
    };
    let mut text = format!("## {}, {} client\n\n", group.title(), client.name());
    if group == Group::Latency {
        text.push_str("5,000 records a second, each a batch of its own, from the time each was due until the consumer had it.\n\n");
    }
    show(&mut text, pictures, Some(group), client);
    let headings: Vec<&str> = columns.iter().map(|(heading, _)| *heading).collect();
    let _ = writeln!(
        text,
        "| case | server | {} | Tidegate to it: {} |",
        headings.join(" | "),
        headings[0]
    );
    let _ = writeln!(text, "|---|---|{}---|", "---|".repeat(columns.len()));
    for case in cases {
        rows(&mut text, results, case, client, columns);
    }
    text.push('\n');
    text
}

fn rows(text: &mut String, results: &Results, case: &Case, client: Client, columns: &[Column]) {
    let key = Key {
        case: &case.name,
        client,
    };
    let mut title = format!("{}<br>`{}`", case.title, case.name);
    for server in results.servers() {
        let spread = results.spread(key, server, columns[0].1);
        let cells: Vec<String> = match (spread, results.failure(key, server)) {
            (Some(_), _) => columns
                .iter()
                .map(|(_, value)| shown(results.spread(key, server, *value)))
                .chain([ratio(results, key, server, columns[0].1)])
                .collect(),
            (None, Some(failure)) => {
                let mut cells = vec![cell(failure)];
                cells.resize(columns.len() + 1, "–".into());
                cells
            }
            (None, None) if results.ran(key, server) => {
                let mut cells = vec!["left out: the machine was not itself".to_owned()];
                cells.resize(columns.len() + 1, "–".into());
                cells
            }
            (None, None) => continue,
        };
        let _ = writeln!(text, "| {title} | {server} | {} |", cells.join(" | "));
        title.clear();
    }
}

/// The median of the ratios ours to theirs, and how many pairs agree about who has more.
fn ratio(results: &Results, key: Key, server: Name, value: Value) -> String {
    if server == Name::Tidegate {
        return String::new();
    }
    let ours = results.series(key, Name::Tidegate, value);
    let paired = Paired::ratios(&ours, &results.series(key, server, value));
    let Some(median) = paired.median() else {
        return "–".into();
    };
    let agree = paired
        .ratios
        .iter()
        .filter(|ratio| (**ratio >= 1.0) == (median >= 1.0));
    format!(
        "× {median:.2} ({} of {})",
        agree.count(),
        paired.ratios.len()
    )
}

/// Memory and start, as the first case that writes showed them.
fn footprint(results: &Results, pictures: &[Picture]) -> String {
    let Some(case) = results
        .cases
        .iter()
        .find(|case| case.group == Group::Produce)
    else {
        return String::new();
    };
    let mut text = format!("## Memory and start\n\nIn the case `{}`.\n\n", case.name);
    for client in results.clients() {
        let key = Key {
            case: &case.name,
            client,
        };
        let mut rows = String::new();
        for server in results.servers() {
            let figures =
                [idle as Value, peak, start].map(|value| results.spread(key, server, value));
            if figures.iter().all(Option::is_none) {
                continue;
            }
            let cells = figures.map(shown);
            let _ = writeln!(rows, "| {server} | {} |", cells.join(" | "));
        }
        // A client may have been asked for other cases alone.
        if rows.is_empty() {
            continue;
        }
        show(&mut text, pictures, None, client);
        text.push_str("| server | at rest MB | peak MB | start ms |\n|---|---|---|---|\n");
        text.push_str(&rows);
        text.push('\n');
    }
    text
}

fn yardsticks(results: &Results) -> String {
    let mut text =
        String::from("## The machine meanwhile\n\n| | median [least–most] |\n|---|---|\n");
    type Row = (&'static str, fn(&super::yardstick::Yardstick) -> f64);
    let rows: [Row; 5] = [
        ("TCP over the loopback, MB/s", |yardstick| {
            yardstick.tcp_megabytes
        }),
        ("CRC-32C on one core, MB/s", |yardstick| {
            yardstick.crc_megabytes
        }),
        ("fdatasync of 4 KiB, a second", |yardstick| yardstick.syncs),
        ("load average", |yardstick| yardstick.load),
        ("time taken by other machines, %", |yardstick| {
            yardstick.steal * 100.0
        }),
    ];
    for (name, value) in rows {
        let values = || results.blocks.iter().map(|block| value(&block.yardstick));
        let spread = median(values()).map(|median| Spread {
            median,
            least: values().fold(f64::MAX, f64::min),
            most: values().fold(f64::MIN, f64::max),
        });
        let _ = writeln!(text, "| {name} | {} |", shown(spread));
    }
    text
}

fn show(text: &mut String, pictures: &[Picture], group: Option<Group>, client: Client) {
    let ours = pictures
        .iter()
        .filter(|picture| picture.group == group && picture.client == client);
    for picture in ours {
        let _ = writeln!(text, "![{}]({})\n", picture.title, picture.file);
    }
}

fn shown(spread: Option<Spread>) -> String {
    let Some(Spread {
        median,
        least,
        most,
    }) = spread
    else {
        return "–".into();
    };
    let digits = match median.abs() {
        median if median >= 100.0 => 0,
        median if median >= 10.0 => 1,
        _ => 2,
    };
    match least < most {
        true => format!("{median:.digits$} [{least:.digits$}–{most:.digits$}]"),
        false => format!("{median:.digits$}"),
    }
}

/// Fit for a table.
fn cell(text: &str) -> String {
    let first = text.lines().next().unwrap_or_default();
    first.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_shows_its_range_when_there_is_one() {
        let spread = |median, least, most| {
            Some(Spread {
                median,
                least,
                most,
            })
        };
        assert_eq!(shown(spread(1720.4, 1500.0, 1800.0)), "1720 [1500–1800]");
        assert_eq!(shown(spread(0.42, 0.42, 0.42)), "0.42");
        assert_eq!(shown(None), "–");
    }

    #[test]
    fn a_failure_stays_in_its_cell() {
        assert_eq!(cell("a | b\nc"), "a \\| b");
    }
}
