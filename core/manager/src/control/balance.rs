//! Looks at the loads of sidecores and channels once an interval, and moves channels where the policy says so.

use std::collections::BTreeMap;

use vfiomux_channel::ChannelCounters;
use vfiomux_rpc::{FunctionClass, SidecoreMode};

use super::Control;
use super::channel::Channel;
use super::shift::Cause;
use crate::balance::{Balancer, Channel as Served, Move, Reason, Sidecore, loads_permille};
use crate::config::Balance as Settings;

/// The policy, and the counters as they stood at the last look.
pub(crate) struct Balance {
    balancer: Balancer<String>,
    looked_ns: u64,
    /// By sidecore.
    busy_ns: Vec<u64>,
    /// By channel and incarnation.
    work: BTreeMap<String, u64>,
}

impl Balance {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            balancer: Balancer::new(settings.waterlines()),
            looked_ns: 0,
            busy_ns: Vec::new(),
            work: BTreeMap::new(),
        }
    }

    /// Somebody has moved a channel: it stays there for a while.
    pub(crate) fn note_move(&mut self, id: &str) {
        self.balancer.note_move(id.to_owned());
    }
}

impl Control {
    /// Looks whether it is time to look, and then at all loads.
    pub(crate) fn balance(&mut self) {
        let settings = &self.config.sidecores.balance;
        let span_ns = self.now_ns.saturating_sub(self.balance.looked_ns);
        if span_ns < u64::from(settings.interval_ms) * 1_000_000 {
            return;
        }
        let enabled = settings.enabled && self.ready && self.ending.is_none();
        self.balance.looked_ns = self.now_ns;
        let sidecores = self.sidecore_loads(span_ns);
        let channels = self.channel_loads();
        let loads = loads_permille(&sidecores, &channels);
        for (served, load_permille) in channels.iter().zip(loads) {
            if let Some(channel) = self.channels.get_mut(&served.id) {
                channel.load_permille = load_permille;
            }
        }
        if !enabled || sidecores.len() < 2 {
            return;
        }
        for made in self.balance.balancer.next(&sidecores, &channels) {
            let cause = Cause { reason: reason(&made, &sidecores), uid: None };
            let name = self.name_of(&made.channel);
            self.shift(&made.channel, made.to, cause, move |_, result| {
                if let Err(why) = result {
                    tracing::info!(channel = name, why, "a channel stays on its sidecore");
                }
            });
        }
    }

    fn sidecore_loads(&mut self, span_ns: u64) -> Vec<Sidecore> {
        self.balance.busy_ns.resize(self.lines.len(), 0);
        let lines = self.lines.iter().zip(&mut self.balance.busy_ns);
        lines
            .map(|(line, before_ns)| {
                let busy_ns = line.handle.counters().busy_ns.get();
                let part = busy_ns.saturating_sub(std::mem::replace(before_ns, busy_ns)).saturating_mul(1000)
                    / span_ns;
                Sidecore {
                    busy_permille: u32::try_from(part.min(1000)).unwrap_or(1000),
                    sleeps: line.mode != SidecoreMode::Poll,
                }
            })
            .collect()
    }

    fn channel_loads(&mut self) -> Vec<Served<String>> {
        let mut before = std::mem::take(&mut self.balance.work);
        let mut loads = Vec::new();
        for (id, channel) in &self.channels {
            let Some(seat) = &channel.seat else { continue };
            let copies =
                self.devices.get(&channel.device).is_some_and(|device| device.class == FunctionClass::Ram);
            let total = work(&channel.counters, copies);
            // The counters are those of one incarnation: a new one begins with zero.
            let done = total.saturating_sub(before.remove(id).filter(|before| *before <= total).unwrap_or(0));
            self.balance.work.insert(id.clone(), total);
            loads.push(Served {
                id: id.clone(),
                sidecore: seat.line,
                work: done,
                targets: self.targets(id, channel, seat.line),
            });
        }
        loads
    }

    /// The sidecores that a channel could be moved to now.
    fn targets(&self, id: &str, channel: &Channel, line: usize) -> Vec<usize> {
        if channel.operation.is_some() || channel.shift.is_some() || self.unhindered(id).is_err() {
            return Vec::new();
        }
        let queues = self.devices.get(&channel.device).map(|device| &device.queues);
        queues.into_iter().flat_map(BTreeMap::keys).copied().filter(|to| *to != line).collect()
    }
}

/// What a channel has cost its sidecore so far, in requests of the smallest size. Only its relation to other channels'
/// counts: where the sidecore copies the data itself, 4 KiB cost as much as a request; else a device does, and what is left is
/// naming the pages.
fn work(counters: &ChannelCounters, copies: bool) -> u64 {
    let requests = [
        &counters.reads,
        &counters.writes,
        &counters.flushes,
        &counters.discards,
        &counters.write_zeroes,
        &counters.others,
    ];
    let bytes = counters.read_bytes.get().wrapping_add(counters.write_bytes.get());
    let per_request_bytes = if copies { 4 << 10 } else { 64 << 10 };
    requests.iter().map(|counter| counter.get()).fold(bytes / per_request_bytes, u64::saturating_add)
}

fn reason(made: &Move<String>, sidecores: &[Sidecore]) -> String {
    let busy = |index: usize| sidecores.get(index).map_or(0, |sidecore| sidecore.busy_permille) / 10;
    let (from, to, load) = (made.from, made.to, made.load_permille / 10);
    match made.reason {
        Reason::Spread => format!("sidecore {from} is {}% busy, {load}% with this channel", busy(from)),
        Reason::Gather => format!(
            "sidecores {from} and {to} are {}% and {}% busy: sidecore {from} can sleep",
            busy(from),
            busy(to)
        ),
    }
}
