//! What policies are told once a second, and what they want for it.
//!
//! ```text
//!   counters, differences ─► Tick ─► policy thread ─► Proposal ─► question "tune" to all ─► channel.tune, caller the plugin
//! ```
//!
//! A tick is left out while the one before it is still being thought about. What a plugin proposes takes the way of every
//! `channel.tune`: the checks, the other policies, the journal, one generation more. A channel that is busy or has changed
//! since the tick was taken is left as it is: the next tick tells how it stands then (P1).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use vfiomux_channel::{ChannelCounters, ChannelSnapshot};
use vfiomux_policy::{Pressure, PressureKind, Proposal, Sample, Telemetry, Tick, Verdict};
use vfiomux_qos::CostModel;
use vfiomux_rpc::{Change, ErrorCode, EventKind, ObjectKind, call};

use super::Control;
use super::channel::Channel;
use super::question::{guarantees_of, policy_channel};
use super::record::own_caller;
use super::tune::{RESERVED, Wish};
use crate::event::event;
use crate::lifecycle::Oper;

/// How often policies are told.
const PERIOD_NS: u64 = 1_000_000_000;
/// A sidecore that is so busy runs short of time, in thousandths; below the second number it no longer does.
const SIDECORE_SHORT_PERMILLE: (u32, u32) = (950, 850);

/// What was told last.
#[derive(Default)]
pub(crate) struct Told {
    at_ns: u64,
    /// The policies are still being told.
    under_way: bool,
    /// By channel. The counters of another incarnation begin at nothing.
    counters: BTreeMap<String, (Arc<ChannelCounters>, ChannelSnapshot)>,
    samples: Vec<Sample>,
    /// What ran short when it was last looked at: told when it begins to.
    short: BTreeSet<String>,
    /// By plugin and channel, why the last proposal came to nothing: told when that changes.
    refusals: BTreeMap<(String, String), String>,
}

impl Told {
    /// Whether the last that a plugin wanted for a channel came to nothing, which was told.
    pub(crate) fn is_refused(&self, key: &(String, String)) -> bool {
        self.refusals.contains_key(key)
    }
}

impl Control {
    /// Tells policies what channels did, when it is time and somebody listens.
    pub(crate) fn tell_policies(&mut self) {
        let period_ns = self.now_ns.saturating_sub(self.told.at_ns);
        if !self.has_policies() || self.told.under_way || period_ns < PERIOD_NS || !self.ready {
            return;
        }
        self.told.at_ns = self.now_ns;
        self.told.samples = self.samples();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let tick = Tick { unix_seconds: now.as_secs(), period_ns, channels: self.told.samples.clone() };
        self.told.under_way = true;
        self.policies.run(
            move |chain| (chain.tick(&tick), chain.take_events()),
            |control, (proposals, events)| {
                control.told.under_way = false;
                control.plugin_events(events);
                control.retune_each(proposals);
            },
        );
        self.look_what_is_short();
    }

    /// Whether anybody but the built-in policy is asked.
    pub(crate) fn has_policies(&self) -> bool {
        self.has_own_policies || !self.plugins.is_empty()
    }

    /// Every channel in service, with what it did since this was last asked.
    fn samples(&mut self) -> Vec<Sample> {
        let before = std::mem::take(&mut self.told.counters);
        let served = self.channels.values().filter(|channel| channel.seat.is_some());
        let (mut samples, mut counters) = (Vec::new(), BTreeMap::new());
        for channel in served {
            let now = channel.counters.snapshot();
            let then = before.get(&channel.setting.id).filter(|(of, _)| Arc::ptr_eq(of, &channel.counters));
            let nothing = ChannelSnapshot::default();
            let then = then.map_or(&nothing, |(_, then)| then);
            samples
                .push(Sample { channel: policy_channel(channel), telemetry: telemetry(channel, then, &now) });
            counters.insert(channel.setting.id.clone(), (channel.counters.clone(), now));
        }
        self.told.counters = counters;
        samples
    }

    /// Tells policies what runs short, when it begins to: a sidecore's time, or a device that reservations fall short on.
    fn look_what_is_short(&mut self) {
        let mut short = Vec::new();
        for (index, line) in self.lines.iter().enumerate() {
            let was = self.told.short.contains(&format!("sidecore {index}"));
            let (begins, ends) = SIDECORE_SHORT_PERMILLE;
            if line.busy_permille >= if was { ends } else { begins } {
                short.push((PressureKind::Sidecore, index.to_string(), line.busy_permille));
            }
        }
        let fallen = self.told.samples.iter().filter(|sample| sample.telemetry.reservation_shortfall_ops > 0);
        let devices: BTreeSet<String> = fallen.map(|sample| sample.channel.device.clone()).collect();
        short.extend(devices.into_iter().map(|device| (PressureKind::Device, device, 1000)));
        let before = std::mem::take(&mut self.told.short);
        for (kind, subject, level_permille) in short {
            let what = match kind {
                PressureKind::Sidecore => format!("sidecore {subject}"),
                _ => format!("device {subject}"),
            };
            if !before.contains(&what) {
                self.tell_pressure(kind, subject, level_permille);
            }
            self.told.short.insert(what);
        }
    }

    /// Tells policies that something runs short.
    pub(crate) fn tell_pressure(&mut self, kind: PressureKind, subject: String, level_permille: u32) {
        if !self.has_policies() {
            return;
        }
        let on_line = |sample: &&Sample| {
            let seat = self.channels.get(&sample.channel.id).and_then(|channel| channel.seat.as_ref());
            seat.is_some_and(|seat| seat.line.to_string() == subject)
        };
        let drawing = self.told.samples.iter().filter(|sample| match kind {
            PressureKind::Sidecore => on_line(sample),
            PressureKind::Device => sample.channel.device == subject,
            PressureKind::Memory => true,
        });
        let channels = drawing.cloned().collect();
        let pressure = Pressure { kind, level_permille, subject, channels };
        self.policies.run(
            move |chain| (chain.pressure(&pressure), chain.take_events()),
            |control, (proposals, events)| {
                control.plugin_events(events);
                control.retune_each(proposals);
            },
        );
    }

    /// Does what policies propose, as far as everybody allows it.
    pub(crate) fn retune_each(&mut self, proposals: Vec<Proposal>) {
        for proposal in proposals {
            self.retune(proposal);
        }
    }

    fn retune(&mut self, proposal: Proposal) {
        let Proposal { policy, retune } = proposal;
        let Some(channel) = self.channels.get(&retune.channel_id) else {
            return tracing::debug!(
                policy,
                channel = retune.channel_id,
                "a proposal for a channel that is gone"
            );
        };
        let key = (policy.clone(), retune.channel_id.clone());
        let name = channel.setting.name.clone();
        let guarantees = match retune.applied(&policy_channel(channel)) {
            Ok(wanted) => guarantees_of(&wanted.guarantees),
            Err(error) => {
                self.note_refusal(key, &name, error.to_string());
                return;
            }
        };
        if channel.setting.guarantees == guarantees {
            return;
        }
        let said = Verdict::Amend(retune.amendments).to_string();
        let change = Change { expected_generation: Some(retune.generation), ..Change::default() };
        let wanted = call::ChannelTune { name: name.clone(), guarantees };
        let by = format!("{policy}, unasked: {said}");
        let wish = Wish { key, by, change: change.clone(), wanted: wanted.clone() };
        self.tune_for(own_caller(), Some(wish.clone()), change, wanted, move |control, tuned| {
            match tuned.done {
                Ok(_) => {
                    control.told.refusals.remove(&wish.key);
                }
                // It is looked at again with the next tick.
                Err(error) if matches!(error.code, ErrorCode::Conflict | ErrorCode::Busy) => {
                    tracing::debug!(
                        policy = wish.key.0,
                        channel = name,
                        why = error.message,
                        "a proposal came to nothing"
                    );
                }
                Err(error) => {
                    let is_new =
                        control.note_refusal(wish.key.clone(), &name, format!("{said}: {}", error.message));
                    if is_new
                        && !tuned.on_record
                        && let Some(serial) = control.record_wish(&wish, &tuned.answers)
                    {
                        control.record_answer(serial, Err(error));
                    }
                }
            }
        });
    }

    /// A plugin that wants the same in vain every second is told of once. Gives whether that is now.
    fn note_refusal(&mut self, key: (String, String), channel: &str, why: String) -> bool {
        if self.told.refusals.get(&key) == Some(&why) {
            return false;
        }
        let mut told = event(EventKind::Denied, ObjectKind::Channel, channel);
        told.reason = Some(format!("{} wanted, unasked: {why}", key.0));
        self.told.refusals.insert(key, why);
        self.tell(told);
        true
    }

    /// Tells of a change that a plugin had made.
    pub(crate) fn tell_amended(&mut self, id: &str, by: String) {
        let Some(channel) = self.channels.get(id) else { return };
        let mut told = event(EventKind::Amended, ObjectKind::Channel, channel.setting.name.clone());
        (told.reason, told.generation) = (Some(by), Some(channel.setting.generation));
        self.tell(told);
    }
}

/// What a channel did between two looks.
///
/// Waiting in the ring and the time at the device are counted apart, so that a percentile of both together is told as the sum
/// of the two percentiles: never less than it was.
fn telemetry(channel: &Channel, then: &ChannelSnapshot, now: &ChannelSnapshot) -> Telemetry {
    let counted = |of: fn(&ChannelSnapshot) -> u64| of(now).saturating_sub(of(then));
    let (wait, device) = (now.ring_wait.since(&then.ring_wait), now.device_time.since(&then.device_time));
    let within = |permille: u32| {
        let of =
            |histogram: &vfiomux_channel::HistogramSnapshot| histogram.quantile_ns(permille).unwrap_or(0);
        of(&wait).saturating_add(of(&device))
    };
    let owed = counted(|of| of.reserved_due_cost).saturating_sub(counted(|of| of.contended_cost));
    Telemetry {
        active: channel.setting.oper == Oper::Active,
        read_ops: counted(|of| of.reads),
        write_ops: counted(|of| of.writes + of.flushes + of.discards + of.write_zeroes + of.others),
        read_bytes: counted(|of| of.read_bytes),
        write_bytes: counted(|of| of.write_bytes),
        latency_p50_ns: within(500),
        latency_p99_ns: within(990),
        latency_p999_ns: within(999),
        throttle_ns: counted(|of| of.limited_ns),
        reservation_shortfall_ops: owed / u64::from(CostModel::default().cost(RESERVED)).max(1),
        queue_wait_ns: wait.mean_ns().saturating_mul(wait.count()),
    }
}
