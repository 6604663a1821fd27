//! What derives from the tables for people: a commented example file and the reference. In the example a line that begins
//! with `#` and no space is a setting at its default; taking the `#` away changes nothing.

use std::fmt::Write as _;

use super::plugins::{PRELOAD, PreloadPlugin};
use super::setting::Setting;
use super::topic::{Standing, TopicConfig, topic_settings};
use super::{Config, SECTIONS, listener, read};

/// Where the file's parts of their own kind are explained.
const LISTENER_DOC: &str = "Where clients connect: one [[listener]] for each address. Without any there is one in plain TCP on 127.0.0.1:9092, named \"plain\".";
const TOPIC_DOC: &str = "What a topic has that does not set it for itself. The names are Kafka's and hold dots: keep the quotes. Sizes and durations may carry units.";
const PRELOAD_DOC: &str =
    "A plugin that is deployed at start when the broker does not have one of that name yet.";

/// A commented configuration file that says what every setting is and has every setting at its default.
pub fn example() -> String {
    let mut text = String::new();
    comment(
        &mut text,
        "Tidegate's configuration. Every setting stands here at its default: take away the # in front of one to change it.",
    );
    comment(
        &mut text,
        "A variable overrides the file: TIDEGATE_LOG_FLUSH_LANES sets flush-lanes in [log], TIDEGATE_LISTENER_PLAIN_BIND sets bind of the listener named plain.",
    );
    comment(
        &mut text,
        "`tidegate config check` reads a file and says what it found.",
    );
    let defaults = Config::default();
    for section in SECTIONS {
        heading(&mut text, section.doc, &format!("[{}]", section.name));
        for setting in section.settings {
            example_setting(&mut text, setting, &defaults);
        }
        match section.name {
            "broker" => example_listener(&mut text),
            "log" => example_topics(&mut text),
            "plugins" => example_preload(&mut text),
            _ => {}
        }
    }
    text
}

fn heading(text: &mut String, doc: &str, header: &str) {
    text.push('\n');
    comment(text, doc);
    text.push_str(header);
    text.push('\n');
}

fn comment(text: &mut String, prose: &str) {
    let mut line = String::new();
    for word in prose.split_whitespace() {
        if line.chars().count() + word.chars().count() > 98 {
            let _ = writeln!(text, "#{line}");
            line.clear();
        }
        line.push(' ');
        line.push_str(word);
    }
    if !line.is_empty() {
        let _ = writeln!(text, "#{line}");
    }
}

fn example_setting<C>(text: &mut String, setting: &Setting<C>, defaults: &C) {
    text.push('\n');
    comment(text, setting.doc);
    comment(text, &format!("Takes {}.", setting.kind.expectation()));
    match (setting.show)(defaults) {
        Some(value) => {
            let _ = writeln!(text, "#{} = {}", setting.key, setting.kind.render(&value));
        }
        None => {
            let _ = writeln!(
                text,
                "# Not set. For example:\n# {} = {}",
                setting.key, setting.example
            );
        }
    }
}

fn example_listener(text: &mut String) {
    heading(text, LISTENER_DOC, "[[listener]]");
    let written = listener::Written::plain();
    for setting in listener::SETTINGS {
        match setting.key {
            // What makes a listener is written out: the table would be empty without.
            "name" | "transport" | "bind" => {
                text.push('\n');
                comment(text, setting.doc);
                if let Some(value) = (setting.show)(&written) {
                    let _ = writeln!(text, "{} = {}", setting.key, setting.kind.render(&value));
                }
            }
            _ => example_setting(text, setting, &written),
        }
    }
}

fn example_topics(text: &mut String) {
    heading(text, TOPIC_DOC, "[topic-defaults]");
    let defaults = TopicConfig::default();
    for setting in topic_settings()
        .iter()
        .filter(|setting| setting.standing() == Standing::Served)
    {
        text.push('\n');
        comment(text, setting.documentation);
        comment(text, &format!("Takes {}.", setting.kind.expectation()));
        let _ = writeln!(text, "#{:?} = {:?}", setting.name, setting.value(&defaults));
    }
}

fn example_preload(text: &mut String) {
    text.push('\n');
    comment(text, PRELOAD_DOC);
    let _ = writeln!(text, "# [plugins.preload.route]");
    for setting in PRELOAD {
        let shown = match (setting.show)(&PreloadPlugin::default()) {
            Some(value) => setting.kind.render(&value),
            None => setting.example.to_owned(),
        };
        let _ = writeln!(text, "# {} = {shown}", setting.key);
    }
}

/// Every setting, as a page of Markdown.
pub fn reference() -> String {
    let mut text = String::from(
        "# Configuration\n\n\
         One TOML file; `TIDEGATE_…` variables override it. Generated by `tidegate config reference` from the tables that the broker reads by.\n\n\
         - Sizes are bytes, or a text with `KiB`, `MiB`, `GiB` or `TiB`; durations are texts with `ms`, `s`, `m`, `h` or `d`.\n\
         - Relative paths start at the broker's working directory.\n\
         - A list in a variable is separated by commas, a table is written `key=value,key=value`.\n\
         - Every setting is read at start: a change needs a restart, unless its line says otherwise.\n",
    );
    let defaults = Config::default();
    for section in SECTIONS {
        let variable = |key: &str| read::variable(section.name, key);
        heading_reference(&mut text, &format!("[{}]", section.name), section.doc);
        settings_reference(&mut text, section.settings, &defaults, &variable);
        if section.name == "broker" {
            let variable = |key: &str| named_variable("listener", key);
            heading_reference(&mut text, "[[listener]]", LISTENER_DOC);
            let defaults = listener::Written::default();
            settings_reference(&mut text, listener::SETTINGS, &defaults, &variable);
        }
        if section.name == "plugins" {
            let variable = |key: &str| named_variable("plugins-preload", key);
            heading_reference(&mut text, "[plugins.preload.NAME]", PRELOAD_DOC);
            settings_reference(&mut text, PRELOAD, &PreloadPlugin::default(), &variable);
        }
    }
    topic_reference(&mut text);
    text
}

/// The variable of a setting whose table has a name.
fn named_variable(table: &str, key: &str) -> String {
    read::variable(&format!("{table}-name"), key).replace("_NAME_", "_<NAME>_")
}

fn heading_reference(text: &mut String, header: &str, doc: &str) {
    let _ = writeln!(
        text,
        "\n## `{header}`\n\n{doc}\n\n| setting | default | takes | what for |\n|---|---|---|---|"
    );
}

fn settings_reference<C>(
    text: &mut String,
    settings: &[Setting<C>],
    defaults: &C,
    variable: &dyn Fn(&str) -> String,
) {
    for setting in settings {
        let default = match (setting.show)(defaults) {
            Some(value) => format!("`{}`", setting.kind.render(&value)),
            None => "not set".to_owned(),
        };
        let _ = writeln!(
            text,
            "| `{}`<br>`{}` | {default} | {} | {} |",
            setting.key,
            variable(setting.key),
            setting.kind.expectation(),
            setting.doc
        );
    }
}

fn topic_reference(text: &mut String) {
    let _ = writeln!(
        text,
        "\n## `[topic-defaults]`, and a topic's own settings\n\n{TOPIC_DOC} A topic's own settings are given when it is created or \
         altered, by any Kafka tool. The variable of a default is `TIDEGATE_TOPIC_DEFAULTS_` and the name in capitals, with `_` \
         for dots and hyphens.\n\n| setting | default | takes | what for |\n|---|---|---|---|"
    );
    let defaults = TopicConfig::default();
    for setting in topic_settings() {
        let value = setting.value(&defaults);
        let default = if value.is_empty() {
            "empty".to_owned()
        } else {
            format!("`{value}`")
        };
        let _ = writeln!(
            text,
            "| `{}` | {default} | {} | {} |",
            setting.name,
            setting.kind.expectation(),
            setting.documentation
        );
    }
}
