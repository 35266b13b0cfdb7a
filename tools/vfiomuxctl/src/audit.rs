//! The audit, for people.

use vfiomux_rpc::{AuditEntry, AuditList};

use crate::table::{Paint, printable};
use crate::units;

pub(crate) fn list(audit: &AuditList, _: Paint) -> String {
    audit.entries.iter().map(lines).collect()
}

/// One line for what was asked and what became of it, and one for each policy that did more than allow it.
fn lines(entry: &AuditEntry) -> String {
    let who = match &entry.plugin {
        Some(plugin) => format!("plugin {plugin}"),
        None => format!("user {} ({})", entry.uid, entry.role.name()),
    };
    let when = units::moment(entry.asked_unix_ns);
    let mut line = format!("{:>6}  {when}  {who}: {}", entry.serial, entry.method);
    if let Some(object) = &entry.object {
        line.push_str(&format!(" {object}"));
    }
    if entry.dry_run {
        line.push_str(", dry run");
    }
    match &entry.answer {
        None => line.push_str(": not answered"),
        Some(answer) => match &answer.error {
            Some(error) => line.push_str(&format!(": refused: {error}")),
            None => line.push_str(": done"),
        },
    }
    let after = entry.answer.as_ref().and_then(|answer| answer.generation_after);
    if let (Some(before), Some(after)) = (entry.generation_before, after) {
        line.push_str(&format!(", generation {before} -> {after}"));
    }
    let mut text = format!("{}\n", printable(&line));
    for ruling in &entry.rulings {
        if let Some(reason) = &ruling.reason {
            text.push_str(&printable(&format!("        {} {}: {reason}", ruling.policy, ruling.verdict)));
            text.push('\n');
        }
    }
    text
}
