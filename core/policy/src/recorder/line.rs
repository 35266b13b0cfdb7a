//! A line of a recording: a question in the words of the SDK, or an answer as a comment.
//!
//! The words are those that an author reads in `plugins/sdk`, which are those of the ABI; they differ from ours in little, and all
//! of it is here.

use serde_json::{Value, json};
use vfiomux_plugin_abi as abi;

use crate::wire::Call;
use crate::{Channel, Device, Retune, Sample, Verdict};

/// A question as a line; empty for what is no question.
pub(crate) fn asked(call: &Call) -> String {
    question(call).map_or_else(String::new, |question| question.to_string())
}

/// An answer as a line that says nothing to a harness.
pub(crate) fn answered(verdict: &Verdict) -> String {
    format!("# {verdict}")
}

/// What was wanted unasked, as such a line, or why it is not known: who says nothing is not who wants nothing.
pub(crate) fn retuned(retunes: &Result<Vec<Retune>, String>) -> String {
    let retunes = match retunes {
        Ok(retunes) => retunes,
        Err(why) => return format!("# no answer: {why}"),
    };
    let mut line = format!("# {} retunes", retunes.len());
    for Retune { channel_id, generation, amendments } in retunes {
        line.push_str(&format!("; {channel_id} at {generation}: {}", Verdict::Amend(amendments.clone())));
    }
    line
}

fn question(call: &Call) -> Option<Value> {
    Some(match call {
        Call::Discover(of) => json!({ "discover": {
            "device": of.function.name, "driver": of.function.driver, "vendor_id": of.function.vendor_id,
            "device_id": of.function.device_id, "class_code": of.function.class_code,
        }}),
        Call::Claim(of) => json!({ "claim": {
            "device": of.function.name, "unprotected": of.unprotected, "caller_uid": of.caller_uid,
            "dry_run": of.dry_run,
        }}),
        Call::Create(of) => json!({ "create": {
            "channel": channel(&of.channel), "device": device(&of.device), "tenant": of.tenant,
            "caller_uid": of.caller_uid, "dry_run": of.dry_run,
        }}),
        Call::Attach(of) => json!({ "attach": {
            "channel": channel(&of.channel), "endpoint": of.endpoint, "client": of.client,
            "caller_uid": of.caller_uid, "dry_run": of.dry_run,
        }}),
        Call::Session(of) => json!({ "session": {
            "channel": channel(&of.channel), "features_offered": of.features_offered,
            "features_taken": of.features_taken, "memory_bytes": of.memory_bytes,
            "memory_regions": of.memory_regions, "peer_pid": of.peer_pid, "peer_uid": of.peer_uid,
        }}),
        Call::Tune(of) => json!({ "tune": {
            "channel": channel(&of.channel), "wanted": channel(&of.wanted), "device": device(&of.device),
            "tenant": of.tenant, "caller_uid": of.caller_uid, "dry_run": of.dry_run,
        }}),
        Call::Migrate(of) => json!({ "migrate": {
            "channel": channel(&of.channel), "target": of.target.as_ref().map(device),
            "target_host": of.target_host, "tenant": of.tenant, "caller_uid": of.caller_uid,
            "dry_run": of.dry_run,
        }}),
        Call::Destroy(of) => json!({ "destroy": {
            "channel": channel(&of.channel), "force": of.force, "caller_uid": of.caller_uid,
            "dry_run": of.dry_run,
        }}),
        Call::Tick(of) => json!({ "tick": {
            "unix_seconds": of.unix_seconds, "period_ns": of.period_ns, "channels": samples(&of.channels),
        }}),
        Call::Pressure(of) => json!({ "pressure": {
            "kind": abi::PressureKind::from(of.kind).0, "subject": of.subject,
            "level_permille": of.level_permille, "channels": samples(&of.channels),
        }}),
        Call::Fault(of) => json!({ "fault": {
            "kind": abi::FaultKind::from(of.kind).0, "device": of.device, "description": of.description,
            "channel": of.channel.as_ref().map(channel),
        }}),
        Call::Init { .. } | Call::Save | Call::Restore => return None,
    })
}

fn channel(of: &Channel) -> Value {
    let mut channel = json!(of);
    // What is not promised is left out, and not null.
    if let Some(guarantees) = channel.get_mut("guarantees").and_then(Value::as_object_mut) {
        guarantees.retain(|_, value| !value.is_null());
    }
    channel
}

fn device(of: &Device) -> Value {
    json!({
        "name": of.name, "queues_max": of.queues_max, "capacity_bytes": of.capacity_bytes,
        "free_bytes": of.free_bytes, "calibrated_ops": of.calibrated_ops.unwrap_or(0),
        "reservation_ops_left": of.free_reservation_ops, "channels": of.channels,
    })
}

fn samples(of: &[Sample]) -> Vec<Value> {
    of.iter().map(sample).collect()
}

fn sample(of: &Sample) -> Value {
    let did = &of.telemetry;
    let mut sample = json!(did);
    sample["channel"] = channel(&of.channel);
    sample["ops"] = did.read_ops.saturating_add(did.write_ops).into();
    sample["bytes"] = did.read_bytes.saturating_add(did.write_bytes).into();
    sample
}
