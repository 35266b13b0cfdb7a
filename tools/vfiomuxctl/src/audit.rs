//! The audit, for people.

use serde_json::Value;
use vfiomux_rpc::{AuditEntry, AuditList};

use crate::table::{Paint, printable};
use crate::units;

pub(crate) fn list(audit: &AuditList, _: Paint) -> String {
    audit.entries.iter().map(lines).collect()
}

/// One line for what was asked and what became of it, one for its parameters, and one for each policy that did more than allow it.
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
    if let Some(asked) = entry.params.as_ref().and_then(parameters) {
        text.push_str(&printable(&format!("        {asked}")));
        text.push('\n');
    }
    for ruling in &entry.rulings {
        if let Some(reason) = &ruling.reason {
            text.push_str(&printable(&format!("        {} {}: {reason}", ruling.policy, ruling.verdict)));
            text.push('\n');
        }
    }
    text
}

/// The parameters that were given, but for the name, which is in the line above; none when that is all.
fn parameters(params: &Value) -> Option<String> {
    let said = params.as_object()?.iter().filter(|(key, value)| *key != "name" && !value.is_null());
    let said: Vec<String> = said
        .map(|(key, value)| match value {
            Value::String(text) => format!("{key}={text}"),
            other => format!("{key}={other}"),
        })
        .collect();
    (!said.is_empty()).then(|| said.join(" "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn of_the_parameters_those_are_shown_that_were_given() {
        let params = json!({
            "name": "disk", "tenant": "acme", "size_bytes": 4096, "endpoint": null, "guarantees": { "share": 700 },
        });
        assert_eq!(parameters(&params).unwrap(), r#"guarantees={"share":700} size_bytes=4096 tenant=acme"#);
        // To take writes again, and to have no labels, is what was asked for.
        let cleared = json!({ "name": "disk", "read_only": false, "labels": {} });
        assert_eq!(parameters(&cleared).unwrap(), "labels={} read_only=false");
        assert_eq!(parameters(&json!({ "name": "disk" })), None);
    }
}
