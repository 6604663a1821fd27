//! Plots of a comparison, as SVG: a server has the same colour in all of them, on white, so that they can be read on any page.

mod bars;
mod canvas;
mod curves;

use std::path::Path;

use anyhow::Result;

use super::cases::{Client, Group};
use super::results::{Key, Results, Value, idle, peak, server_cpu, start, throughput};
use crate::servers::Name;
use bars::{Bar, Panel};

/// Panels of one picture, at most.
const PANELS: usize = 10;

/// A picture: its file and what it shows.
#[derive(Clone, PartialEq, Debug)]
pub struct Picture {
    pub file: String,
    pub title: String,
    pub group: Option<Group>,
    pub client: Client,
}

/// Draws everything there is to draw into a folder.
pub fn draw(results: &Results, folder: &Path) -> Result<Vec<Picture>> {
    let mut pictures = Vec::new();
    for client in results.clients() {
        for group in [Group::Produce, Group::Consume, Group::Plugins] {
            figure(
                results,
                (folder, &mut pictures),
                (group, client),
                (
                    "throughput",
                    "MB/s of record values, more is better",
                    throughput,
                ),
            )?;
            figure(
                results,
                (folder, &mut pictures),
                (group, client),
                (
                    "cpu",
                    "server's CPU seconds per GB, less is better",
                    server_cpu,
                ),
            )?;
        }
        latencies(results, folder, client, &mut pictures)?;
        machine(results, folder, client, &mut pictures)?;
    }
    Ok(pictures)
}

/// One figure of a group's cases: a panel for each case, a bar for each server.
fn figure(
    results: &Results,
    (folder, pictures): (&Path, &mut Vec<Picture>),
    (group, client): (Group, Client),
    (name, unit, value): (&str, &str, Value),
) -> Result<()> {
    let cases = results.cases.iter().filter(|case| case.group == group);
    let panels: Vec<Panel> = cases
        .map(|case| {
            let key = Key {
                case: &case.name,
                client,
            };
            panel(results, key, &case.title, value)
        })
        .filter(|panel| !panel.bars.is_empty())
        .collect();
    for (number, panels) in panels.chunks(PANELS).enumerate() {
        let further = match number {
            0 => String::new(),
            number => format!("-{}", number + 1),
        };
        let kind = format!("{group:?}").to_lowercase();
        let file = format!("{kind}-{name}-{}{further}.svg", client.name());
        let title = format!("{}, {} client", group.title(), client.name());
        bars::draw(&folder.join(&file), &title, unit, panels)?;
        pictures.push(Picture {
            file,
            title: format!("{}: {unit}", group.title()),
            group: Some(group),
            client,
        });
    }
    Ok(())
}

fn panel(results: &Results, key: Key, title: &str, value: Value) -> Panel {
    let of = |server| {
        let spread = match results.spread(key, server, value) {
            Some(spread) => Ok(spread),
            None => Err(absence(results, key, server)?),
        };
        Some(Bar { server, spread })
    };
    let bars: Vec<Bar> = results.servers().into_iter().filter_map(of).collect();
    let empty = bars.iter().all(|bar| bar.spread.is_err());
    Panel {
        title: title.to_owned(),
        bars: if empty { Vec::new() } else { bars },
    }
}

/// Why a server that took part in a case has no figure, as far as a picture has room for it.
fn absence(results: &Results, key: Key, server: Name) -> Option<&'static str> {
    match results.failure(key, server) {
        Some(failure) if failure.starts_with("overloaded") => Some("overloaded"),
        Some(_) => Some("failed, see the table"),
        None => (!results.counts(key) && results.ran(key, server)).then_some("no round counts"),
    }
}

fn latencies(
    results: &Results,
    folder: &Path,
    client: Client,
    pictures: &mut Vec<Picture>,
) -> Result<()> {
    for case in results
        .cases
        .iter()
        .filter(|case| case.group == Group::Latency)
    {
        let key = Key {
            case: &case.name,
            client,
        };
        let curves: Vec<curves::Curve> = results
            .servers()
            .into_iter()
            .filter_map(|server| {
                let points = results.curve(key, server);
                (!points.is_empty()).then_some(curves::Curve { server, points })
            })
            .collect();
        if curves.is_empty() {
            continue;
        }
        let file = format!("{}-{}.svg", case.name, client.name());
        let title = format!("{}, {} client", case.title, client.name());
        let absent = results.servers().into_iter().filter_map(|server| {
            let drawn = curves.iter().any(|curve| curve.server == server);
            let why = absence(results, key, server).filter(|_| !drawn)?;
            Some(format!("{server}: {why}"))
        });
        let absent: Vec<String> = absent.collect();
        curves::draw(&folder.join(&file), &title, &curves, &absent.join("; "))?;
        pictures.push(Picture {
            file,
            title: case.title.clone(),
            group: Some(Group::Latency),
            client,
        });
    }
    Ok(())
}

/// Memory and start, as the first case that writes showed them.
fn machine(
    results: &Results,
    folder: &Path,
    client: Client,
    pictures: &mut Vec<Picture>,
) -> Result<()> {
    let Some(case) = results
        .cases
        .iter()
        .find(|case| case.group == Group::Produce)
    else {
        return Ok(());
    };
    let key = Key {
        case: &case.name,
        client,
    };
    type Row = (&'static str, &'static str, [(&'static str, Value); 2]);
    let rows: [Row; 2] = [
        (
            "memory",
            "MB resident, less is better",
            [
                ("at rest, after the start", idle),
                ("the most that it ever had", peak),
            ],
        ),
        (
            "start",
            "ms from the start of the process to its first answer, less is better",
            [("on an empty folder", start), ("", |_| None)],
        ),
    ];
    for (name, unit, values) in rows {
        let panels: Vec<Panel> = values
            .iter()
            .map(|(title, value)| panel(results, key, title, *value))
            .filter(|panel| !panel.bars.is_empty())
            .collect();
        if panels.is_empty() {
            continue;
        }
        let file = format!("{name}-{}.svg", client.name());
        let title = format!(
            "{}: {}",
            if name == "memory" { "Memory" } else { "Start" },
            case.title
        );
        bars::draw(&folder.join(&file), &title, unit, &panels)?;
        pictures.push(Picture {
            file,
            title,
            group: None,
            client,
        });
    }
    Ok(())
}
