//! Policy plugins for people.

use std::fmt::Write as _;

use vfiomux_rpc::{PluginInfo, PluginOrigin, PluginReplacement, PluginStatus};

use crate::table::{Cell, Facts, Paint, Table, Tone};

pub(crate) fn list(plugins: &Vec<PluginInfo>, paint: Paint) -> String {
    let mut table = Table::new(
        &["PLUGIN", "ORDER", "STATUS", "ALLOWED", "DENIED", "AMENDED", "SILENT", "RESTARTS"],
        &[1, 3, 4, 5, 6, 7],
    );
    for plugin in plugins {
        let verdicts = plugin.verdicts;
        table.row([
            Cell::from(&plugin.name),
            Cell::from(plugin.order.to_string()),
            Cell::new(plugin.status.name(), tone(plugin.status)),
            Cell::from(verdicts.allowed.to_string()),
            Cell::from(verdicts.denied.to_string()),
            Cell::from(verdicts.amended.to_string()),
            Cell::from(verdicts.unanswered.to_string()),
            Cell::from(plugin.restarts.to_string()),
        ]);
    }
    let mut text = table.text(paint);
    for plugin in plugins.iter().filter(|plugin| plugin.status != PluginStatus::Running) {
        let why = plugin.last_fault.as_deref().unwrap_or("it has not begun");
        let _ = writeln!(text, "{} is {}: {why}", plugin.name, status(plugin));
    }
    text
}

pub(crate) fn details(plugin: &PluginInfo, paint: Paint) -> String {
    let mut facts = Facts::default();
    facts.add("plugin", &plugin.name);
    facts.add("library", plugin.library.display().to_string());
    facts.add_some("configuration", plugin.config.as_ref().map(|path| path.display().to_string()));
    facts.add("order", plugin.order.to_string());
    facts.add("has for a verdict", format!("{} ms", plugin.deadline_ms));
    let origin = match plugin.origin {
        PluginOrigin::Configuration => "by the configuration file",
        PluginOrigin::Operator => "by an operator, and again at every start",
    };
    facts.add("loaded", origin);
    facts.add("status", status(plugin));
    facts.add_some("process", plugin.pid.map(|pid| pid.to_string()));
    if !plugin.plugin.is_empty() {
        facts.add("is", format!("{} {}, for ABI {}", plugin.plugin, plugin.version, plugin.abi));
        facts.add("is asked", plugin.hooks.join(", "));
        facts.add("is held by", plugin.sandbox.join(", "));
    }
    let verdicts = plugin.verdicts;
    facts.add(
        "answered",
        format!(
            "allowed {}, denied {}, amended {}, not at all {}",
            verdicts.allowed, verdicts.denied, verdicts.amended, verdicts.unanswered
        ),
    );
    facts.add("retunes", verdicts.retunes.to_string());
    facts.add("restarts", plugin.restarts.to_string());
    facts.add_some("last fault", plugin.last_fault.clone());
    facts.text(paint)
}

pub(crate) fn loaded(plugin: &PluginInfo) -> String {
    format!("plugin {}: {} {} is {}", plugin.name, plugin.plugin, plugin.version, status(plugin))
}

pub(crate) fn unloaded(plugin: &PluginInfo) -> String {
    let until = match plugin.origin {
        PluginOrigin::Configuration => ", until the daemon starts again: the configuration file names it",
        PluginOrigin::Operator => "",
    };
    format!("plugin {} is asked no more{until}", plugin.name)
}

pub(crate) fn replaced(replacement: &PluginReplacement) -> String {
    let PluginReplacement { plugin, channels, differences, state } = replacement;
    let mut text = format!(
        "plugin {}: {} {}, asked about {channels} channels, differs on {}; {state}",
        plugin.name,
        plugin.plugin,
        plugin.version,
        differences.len()
    );
    for difference in differences {
        let _ = write!(text, "\n  {}: {} -> {}", difference.channel, difference.before, difference.after);
    }
    text
}

fn status(plugin: &PluginInfo) -> String {
    match (plugin.status, plugin.restart_in_ms) {
        (PluginStatus::Down, Some(ms)) => format!("down, and started again in {ms} ms"),
        (status, _) => status.name().to_owned(),
    }
}

fn tone(status: PluginStatus) -> Tone {
    match status {
        PluginStatus::Running => Tone::Good,
        PluginStatus::Down => Tone::Warning,
        _ => Tone::Bad,
    }
}
