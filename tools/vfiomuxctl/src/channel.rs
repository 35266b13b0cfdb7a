//! Channels for people.

use vfiomux_rpc::{ChannelInfo, ChannelPath, Distribution, EndpointMode, Health, Oper, SessionInfo};

use crate::guarantees;
use crate::table::{Cell, Facts, Paint, Table, Tone, printable, word};
use crate::units;

pub(crate) fn list(channels: &Vec<ChannelInfo>, paint: Paint) -> String {
    if channels.is_empty() {
        return "no channels\n".to_owned();
    }
    let mut table =
        Table::new(&["CHANNEL", "TENANT", "DEVICE", "SIZE", "QUEUES", "STATE", "HEALTH", "SESSION"], &[3, 4]);
    for channel in channels {
        table.row([
            Cell::from(&channel.name),
            Cell::from(&channel.tenant),
            Cell::from(&channel.device),
            Cell::from(units::bytes(channel.size_bytes)),
            Cell::from(channel.queues.to_string()),
            oper(channel.oper),
            health(channel.health),
            Cell::optional(channel.session.as_ref().map(|session| {
                session.peer_pid.map_or_else(|| "connected".to_owned(), |pid| format!("pid {pid}"))
            })),
        ]);
        for reason in [&channel.reasons.oper, &channel.reasons.health].into_iter().flatten() {
            table.note(reason);
        }
    }
    table.text(paint)
}

pub(crate) fn details(channel: &ChannelInfo, paint: Paint) -> String {
    let mut facts = Facts::default();
    facts.add("channel", format!("{} ({})", channel.name, channel.id));
    facts.add("tenant", &channel.tenant);
    let access = if channel.read_only { ", read only" } else { "" };
    facts.add(
        "carved",
        format!(
            "{} of {}, namespace {}, {}-byte blocks{access}",
            units::bytes(channel.size_bytes),
            channel.device,
            channel.namespace,
            channel.block_bytes
        ),
    );
    let extents: Vec<String> =
        channel.extents.iter().map(|extent| format!("{}+{}", extent.first_block, extent.blocks)).collect();
    if !extents.is_empty() {
        facts.add("extents", format!("{} (blocks)", extents.join(", ")));
    }
    facts.add("queues", channel.queues.to_string());
    for (place, line) in guarantees::lines(&channel.guarantees).into_iter().enumerate() {
        facts.add(if place == 0 { "guarantees" } else { "" }, line);
    }
    facts.add_some("serial", channel.serial.as_ref());
    for (place, (key, value)) in channel.labels.0.iter().enumerate() {
        facts.add(if place == 0 { "labels" } else { "" }, format!("{key}={value}"));
    }
    facts.add("endpoint", endpoint(channel));
    facts.add("wanted", word(channel.admin));
    facts.add("state", oper(channel.oper));
    facts.add("health", health(channel.health));
    let reasons = &channel.reasons;
    for reason in [&reasons.admin, &reasons.oper, &reasons.health].into_iter().flatten() {
        facts.add("because", reason);
    }
    facts.add("generation", format!("{}, epoch {}", channel.generation, channel.epoch));
    facts.add_some("sidecore", channel.sidecore);
    if let Some(plan) = &channel.plan {
        facts.add("plan", format!("{} submission queue, {}", word(plan.lane), word(plan.data)));
        for note in &plan.notes {
            facts.add("", note);
        }
    }
    match &channel.session {
        Some(session) => session_facts(&mut facts, session),
        None => facts.add("session", "-"),
    }
    let mut text = facts.text(paint);
    text.push('\n');
    text.push_str(&counters(channel, paint));
    text.push('\n');
    text.push_str(&latency(channel, paint));
    let kept = guarantees_kept(channel);
    if !kept.is_empty() {
        let mut facts = Facts::default();
        for (name, said) in kept {
            facts.add(name, said);
        }
        text.push('\n');
        text.push_str(&facts.text(paint));
    }
    text
}

/// What limits took, and how what was promised was kept; nothing of a channel that neither was ever asked of.
fn guarantees_kept(channel: &ChannelInfo) -> Vec<(&'static str, String)> {
    let counters = &channel.counters;
    let mut said = Vec::new();
    let mut limited = |name, times: u64, waited_ns: u64| {
        if times > 0 || waited_ns > 0 {
            said.push((name, format!("{times} times, {} in all", units::nanoseconds(waited_ns))));
        }
    };
    limited("own limits", counters.limited, counters.limited_ns);
    limited("tenant's limits", counters.tenant_limited, counters.tenant_limited_ns);
    let kept = &channel.kept;
    if kept.contended_ns > 0 {
        let interval = units::nanoseconds(kept.interval_ns);
        said.push(("competed", format!("{} of the last {interval}", units::nanoseconds(kept.contended_ns))));
        let tenths = |permille: u64| format!("{}.{}%", permille / 10, permille % 10);
        if kept.reserved_due_cost > 0 {
            said.push(("reservation", format!("{} short of it", tenths(kept.shortfall_permille()))));
        }
        let error = kept.share_error_permille();
        let side = if error < 0 { "below" } else { "above" };
        said.push(("share", format!("{} {side} it", tenths(error.unsigned_abs()))));
    }
    said
}

fn session_facts(facts: &mut Facts, session: &SessionInfo) {
    let peer = session.peer_pid.map_or_else(|| "connected".to_owned(), |pid| format!("process {pid}"));
    let memory: u64 = session.regions.iter().map(|region| region.size_bytes).fold(0, u64::saturating_add);
    let regions = session.regions.len();
    let enabled = session.virtqueues.iter().filter(|virtqueue| virtqueue.enabled).count();
    facts.add(
        "session",
        format!("{peer}, {} of memory in {regions} regions, {enabled} rings", units::bytes(memory)),
    );
    if !session.features.is_empty() {
        facts.add("features", session.features.join(" "));
    }
}

fn counters(channel: &ChannelInfo, paint: Paint) -> String {
    let counters = &channel.counters;
    let mut table = Table::new(&["I/O", "REQUESTS", "BYTES"], &[1, 2]);
    let mut row = |name: &str, requests: u64, bytes: Option<u64>| {
        table.row([
            Cell::from(name),
            Cell::from(requests.to_string()),
            Cell::optional(bytes.map(units::bytes)),
        ]);
    };
    row("read", counters.read_ops, Some(counters.read_bytes));
    row("write", counters.write_ops, Some(counters.write_bytes));
    row("flush", counters.flush_ops, None);
    let rare = [
        ("flush, merged", counters.flushes_merged, None),
        ("discard", counters.discard_ops, None),
        ("write zeroes", counters.write_zeroes_ops, None),
        ("copied", counters.bounced_ops, Some(counters.bounced_bytes)),
        ("failed", counters.error_ops, None),
        ("stale, dropped", counters.stale_completions, None),
    ];
    for (name, requests, bytes) in rare.into_iter().filter(|(_, requests, _)| *requests > 0) {
        row(name, requests, bytes);
    }
    row("kicks", counters.kicks, None);
    row("calls", counters.calls, None);
    table.text(paint)
}

fn latency(channel: &ChannelInfo, paint: Paint) -> String {
    let mut table = Table::new(&["TIME", "MEAN", "P50", "P99", "P99.9"], &[1, 2, 3, 4]);
    let mut row = |name: &str, times: &Distribution| {
        let value = |value: u64| Cell::optional((times.count > 0).then(|| units::nanoseconds(value)));
        table.row([
            Cell::from(name),
            value(times.mean_ns),
            value(times.p50_ns),
            value(times.p99_ns),
            value(times.p999_ns),
        ]);
    };
    row("waiting in ring", &channel.latency.ring_wait);
    row("in device", &channel.latency.device);
    table.text(paint)
}

pub(crate) fn path(path: &ChannelPath, paint: Paint) -> String {
    let places = |places: &[u32]| {
        let texts: Vec<String> = places.iter().map(u32::to_string).collect();
        if texts.is_empty() { "-".to_owned() } else { texts.join(",") }
    };
    let mut table = Table::new(&["HOP", "TO VM", "TO DEVICE", "WHAT", "NAME", "DETAIL"], &[0]);
    for (place, hop) in path.hops.iter().enumerate() {
        table.row([
            Cell::from(place.to_string()),
            Cell::from(places(&hop.to_vm)),
            Cell::from(places(&hop.to_device)),
            Cell::from(word(hop.kind)),
            Cell::from(&hop.name),
            Cell::from(hop.detail.as_deref().unwrap_or_default()),
        ]);
    }
    table.text(paint)
}

pub(crate) fn created(channel: &ChannelInfo) -> String {
    let name = printable(&channel.name);
    let (size, device, tenant) =
        (units::bytes(channel.size_bytes), printable(&channel.device), printable(&channel.tenant));
    let next = match channel.endpoint {
        Some(_) => format!("vfiomuxctl channel show {name} --qemu"),
        None => format!("vfiomuxctl channel attach {name} --endpoint SOCKET"),
    };
    format!(
        "channel {name} created: {size} of {device} for {tenant}, endpoint {}\n  next: {next}",
        endpoint(channel)
    )
}

pub(crate) fn attached(channel: &ChannelInfo) -> String {
    format!("channel {} attached: endpoint {}", printable(&channel.name), endpoint(channel))
}

pub(crate) fn detached(channel: &ChannelInfo) -> String {
    format!("channel {} detached, now {}", printable(&channel.name), word(channel.oper))
}

pub(crate) fn suspended(channel: &ChannelInfo) -> String {
    format!("channel {} suspended, now {}", printable(&channel.name), word(channel.oper))
}

pub(crate) fn resumed(channel: &ChannelInfo) -> String {
    format!("channel {} resumed, now {}", printable(&channel.name), word(channel.oper))
}

pub(crate) fn resized(channel: &ChannelInfo) -> String {
    format!("channel {} resized to {}", printable(&channel.name), units::bytes(channel.size_bytes))
}

pub(crate) fn set(channel: &ChannelInfo) -> String {
    let access = if channel.read_only { ", read only" } else { "" };
    format!(
        "channel {}: {} queues{access}, generation {}",
        printable(&channel.name),
        channel.queues,
        channel.generation
    )
}

pub(crate) fn tuned(channel: &ChannelInfo) -> String {
    let lines = guarantees::lines(&channel.guarantees);
    let what =
        if lines.is_empty() { "nothing promised, nothing limited".to_owned() } else { lines.join("; ") };
    format!("channel {} tuned: {what}", printable(&channel.name))
}

pub(crate) fn moved(channel: &ChannelInfo) -> String {
    let sidecore =
        channel.sidecore.map_or_else(|| "no sidecore".to_owned(), |index| format!("sidecore {index}"));
    format!(
        "channel {} lies on {} and is served by {sidecore}",
        printable(&channel.name),
        printable(&channel.device)
    )
}

pub(crate) fn destroyed(channel: &ChannelInfo) -> String {
    format!("channel {} destroyed, its data scrubbed", printable(&channel.name))
}

fn endpoint(channel: &ChannelInfo) -> String {
    channel.endpoint.as_ref().map_or_else(
        || "-".to_owned(),
        |endpoint| {
            let side = match endpoint.mode {
                EndpointMode::Server => "",
                EndpointMode::Client => " (the VMM listens)",
            };
            format!("{}{side}", printable(&endpoint.path.to_string_lossy()))
        },
    )
}

pub(crate) fn oper(oper: Oper) -> Cell {
    let tone = match oper {
        Oper::Active => Tone::Good,
        Oper::Quarantined | Oper::Failed => Tone::Bad,
        Oper::Suspended | Oper::Quiescing => Tone::Warning,
        Oper::Defined
        | Oper::Provisioned
        | Oper::Listening
        | Oper::Draining
        | Oper::Scrubbing
        | Oper::Destroyed => Tone::Plain,
    };
    Cell::new(word(oper), tone)
}

fn health(health: Health) -> Cell {
    let tone = match health {
        Health::Ok => Tone::Good,
        Health::Degraded => Tone::Warning,
        Health::Failed => Tone::Bad,
    };
    Cell::new(word(health), tone)
}
