//! `channel.explain`: what is remembered, what was chosen, and what was counted.
//!
//! Counters are looked at once a second, and the last two looks are kept: what is told of "now" is the time since the older of
//! them, a second at least where the channel is that old. What the differences mean is decided in [`crate::explain`].

use std::collections::{BTreeMap, VecDeque};

use vfiomux_block::Addressing;
use vfiomux_channel::{ChannelCounters, HistogramSnapshot};
use vfiomux_rpc::{Explanation, FunctionState, Kept, Method, Observed, Refused, RpcError};

use super::Control;
use super::channel::{Channel, Seat};
use crate::event::time_unix_ns;
use crate::explain::{Circumstances, pace};

/// Names that the last refusal is remembered of.
const REFUSED_MAX: usize = 256;
/// How often counters are looked at.
const LOOK_EVERY_NS: u64 = 1_000_000_000;

/// The last refusal of each name, for the names that were refused last.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    by_name: BTreeMap<String, Refused>,
    /// The oldest first.
    names: VecDeque<String>,
}

impl Refusals {
    fn note(&mut self, name: String, refused: Refused) {
        if self.by_name.insert(name.clone(), refused).is_some() {
            self.names.retain(|known| *known != name);
        }
        self.names.push_back(name);
        if self.names.len() > REFUSED_MAX
            && let Some(oldest) = self.names.pop_front()
        {
            self.by_name.remove(&oldest);
        }
    }
}

/// A channel's counters at one moment.
#[derive(Debug, Clone, Default)]
struct Look {
    at_ns: u64,
    /// Which incarnation they are of: another one begins from 0.
    epoch: u64,
    ops: u64,
    bytes: u64,
    own_limit_ns: u64,
    tenant_limit_ns: u64,
    contended_ns: u64,
    given_cost: u64,
    reserved_due_cost: u64,
    share_due_cost: u64,
    ring_wait: HistogramSnapshot,
    device_time: HistogramSnapshot,
}

impl Look {
    fn at(now_ns: u64, epoch: u64, counters: &ChannelCounters) -> Self {
        let snapshot = counters.snapshot();
        Self {
            at_ns: now_ns,
            epoch,
            ops: snapshot.reads
                + snapshot.writes
                + snapshot.flushes
                + snapshot.discards
                + snapshot.write_zeroes,
            bytes: snapshot.read_bytes + snapshot.write_bytes,
            own_limit_ns: snapshot.limited_ns,
            tenant_limit_ns: snapshot.tenant_limited_ns,
            contended_ns: snapshot.contended_ns,
            given_cost: snapshot.contended_cost,
            reserved_due_cost: snapshot.reserved_due_cost,
            share_due_cost: snapshot.share_due_cost,
            ring_wait: snapshot.ring_wait,
            device_time: snapshot.device_time,
        }
    }
}

/// The last two looks at each channel's counters.
#[derive(Debug, Default)]
pub(crate) struct Looks {
    last_ns: u64,
    by_id: BTreeMap<String, [Look; 2]>,
}

/// The channel that a request is to change, if it is one.
pub(crate) fn channel_changed(method: &Method) -> Option<&str> {
    let name = match method {
        Method::ChannelCreate(wanted) => &wanted.name,
        Method::ChannelAttach(wanted) => &wanted.name,
        Method::ChannelDetach(wanted) => &wanted.name,
        Method::ChannelSuspend(wanted) => &wanted.name,
        Method::ChannelResume(wanted) => &wanted.name,
        Method::ChannelResize(wanted) => &wanted.name,
        Method::ChannelTune(wanted) => &wanted.name,
        Method::ChannelMove(wanted) => &wanted.name,
        Method::ChannelDestroy(wanted) => &wanted.name,
        _ => return None,
    };
    Some(name)
}

impl Control {
    /// Remembers what was refused since it was last asked.
    pub(crate) fn note_refusals(&mut self) {
        while let Some((method, name, error)) = self.rpc.next_refused() {
            let refused = Refused {
                time_unix_ns: time_unix_ns(),
                method: method.to_owned(),
                reason: error.message,
                next: error.data.next,
            };
            self.refusals.note(name, refused);
        }
    }

    /// Looks at the counters of all channels, when it is time to.
    pub(crate) fn look_at_counters(&mut self) {
        if self.now_ns.saturating_sub(self.looks.last_ns) < LOOK_EVERY_NS {
            return;
        }
        self.looks.last_ns = self.now_ns;
        let mut before = std::mem::take(&mut self.looks.by_id);
        for (id, channel) in self.channels.iter().filter(|(_, channel)| channel.seat.is_some()) {
            let look = Look::at(self.now_ns, channel.epoch, &channel.counters);
            let kept = before.remove(id).filter(|[_, last]| last.epoch == look.epoch);
            let last = kept.map_or_else(|| look.clone(), |[_, last]| last);
            self.looks.by_id.insert(id.clone(), [last, look]);
        }
    }

    /// `channel.explain`.
    pub(crate) fn channel_explain(&self, name: &str) -> Result<Explanation, RpcError> {
        let refused = self.refusals.by_name.get(name).cloned();
        match self.channel_named(name) {
            Err(error) if refused.is_none() => Err(error),
            Err(_) => Ok(Explanation { channel: name.to_owned(), refused, plan: Vec::new(), pace: None }),
            Ok(channel) => Ok(Explanation {
                channel: name.to_owned(),
                refused,
                plan: channel.seat.as_ref().map_or_else(Vec::new, |seat| self.plan_in_words(channel, seat)),
                pace: Some(pace(&self.circumstances(channel), self.observed(channel))),
            }),
        }
    }

    fn circumstances(&self, channel: &Channel) -> Circumstances {
        let setting = &channel.setting;
        let device = self.devices.get(&channel.device);
        Circumstances {
            channel: setting.name.clone(),
            tenant: setting.tenant.clone(),
            device: channel.device.clone(),
            sidecore: channel.seat.as_ref().and_then(|seat| u32::try_from(seat.line).ok()),
            oper: setting.oper,
            unloaded_ns: device
                .and_then(|device| self.calibration_of(device))
                .map(|calibration| calibration.read_latency_ns),
        }
    }

    /// What was counted since the older of the two looks; since its begin, of a channel that has not been looked at.
    fn observed(&self, channel: &Channel) -> Observed {
        let now = Look::at(self.now_ns, channel.epoch, &channel.counters);
        let then = self.since(channel);
        let since = |now: u64, then: u64| now.saturating_sub(then);
        let others = self.channels.values().filter(|other| {
            other.device == channel.device && other.seat.is_some() && other.setting.id != channel.setting.id
        });
        let others_ops = others
            .map(|other| {
                since(Look::at(self.now_ns, other.epoch, &other.counters).ops, self.since(other).ops)
            })
            .fold(0u64, u64::saturating_add);
        let line = channel.seat.as_ref().and_then(|seat| self.lines.get(seat.line));
        Observed {
            interval_ns: since(now.at_ns, then.at_ns),
            ops: since(now.ops, then.ops),
            bytes: since(now.bytes, then.bytes),
            own_limit_ns: since(now.own_limit_ns, then.own_limit_ns),
            tenant_limit_ns: since(now.tenant_limit_ns, then.tenant_limit_ns),
            turn_wait_ns: since(now.contended_ns, then.contended_ns),
            ring_wait_mean_ns: now.ring_wait.since(&then.ring_wait).mean_ns(),
            device_mean_ns: now.device_time.since(&then.device_time).mean_ns(),
            others_ops,
            sidecore_busy_permille: line.map_or(0, |line| line.busy_permille),
        }
    }

    /// How a channel's guarantees were kept between the two looks.
    pub(crate) fn kept(&self, channel: &Channel) -> Kept {
        let looks = self.looks.by_id.get(&channel.setting.id);
        let Some([then, now]) = looks.filter(|[_, last]| last.epoch == channel.epoch) else {
            return Kept::default();
        };
        Kept {
            interval_ns: now.at_ns.saturating_sub(then.at_ns),
            contended_ns: now.contended_ns.saturating_sub(then.contended_ns),
            given_cost: now.given_cost.saturating_sub(then.given_cost),
            reserved_due_cost: now.reserved_due_cost.saturating_sub(then.reserved_due_cost),
            share_due_cost: now.share_due_cost.saturating_sub(then.share_due_cost),
        }
    }

    fn since(&self, channel: &Channel) -> Look {
        let looks = self.looks.by_id.get(&channel.setting.id);
        let known = looks.filter(|[older, _]| older.epoch == channel.epoch);
        known.map_or_else(Look::default, |[older, _]| older.clone())
    }

    /// Why a channel is served as it is: what was chosen on this hardware, and what for.
    fn plan_in_words(&self, channel: &Channel, seat: &Seat) -> Vec<String> {
        let mut said = vec![if seat.own_lane {
            "its commands have a submission queue of their own, which can be ended without the neighbours noticing"
                .to_owned()
        } else {
            "its commands share a submission queue, since the controller grants no more: one that is stuck can be ended only by resetting it".to_owned()
        }];
        said.push(match seat.settings.limits.addressing {
            Addressing::Any => "the device is played by the daemon, and takes the guest's memory as it comes".to_owned(),
            Addressing::Sgl { .. } => "the guest's memory is named in scatter-gather lists, which take any piece of it: nothing is copied".to_owned(),
            Addressing::Prp { page_bytes } => format!(
                "the guest's memory is named in pages of {page_bytes} bytes, since the controller takes no scatter-gather lists: pieces that are no whole pages are copied"
            ),
        });
        let limits = &seat.settings.limits;
        said.push(format!(
            "requests are cut at {} KiB, the most that a command may carry",
            limits.transfer_bytes_max >> 10
        ));
        said.push(format!(
            "sidecore {} serves it{}",
            seat.line,
            if self.lines.len() > 1 {
                ", which had most room when it came or was moved"
            } else {
                ", the only one"
            }
        ));
        let device = self.devices.get(&channel.device);
        if let Some(device) = device.filter(|device| device.state == FunctionState::Degraded) {
            let why = device.reason.as_deref().unwrap_or("it does not say why");
            said.push(format!(
                "device {} is degraded ({why}): take it elsewhere with vfiomuxctl channel move",
                device.name
            ));
        }
        let guarantees = &channel.setting.guarantees;
        let tenant = self.groups.contains_key(&channel.setting.tenant);
        said.push(match (guarantees.is_none(), tenant) {
            (true, false) => "it was promised nothing and is held to nothing: it has an equal share of what the device does".to_owned(),
            (false, false) => "its own guarantees are looked at before each request".to_owned(),
            (true, true) => "its tenant's limits are looked at before each request".to_owned(),
            (false, true) => "its own guarantees and its tenant's limits are looked at before each request".to_owned(),
        });
        said
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(reason: &str) -> Refused {
        let (method, next) = ("channel.create".to_owned(), String::new());
        Refused { time_unix_ns: 0, method, reason: reason.to_owned(), next }
    }

    #[test]
    fn the_last_refusal_of_a_name_is_remembered_and_the_oldest_names_are_forgotten() {
        let mut refusals = Refusals::default();
        refusals.note("a".to_owned(), refused("first"));
        for number in 1..REFUSED_MAX {
            refusals.note(format!("n{number}"), refused("no"));
        }
        refusals.note("a".to_owned(), refused("second"));
        refusals.note("b".to_owned(), refused("no"));
        assert_eq!(refusals.by_name.len(), REFUSED_MAX);
        assert_eq!(refusals.by_name.get("a").map(|refused| refused.reason.as_str()), Some("second"));
        assert!(!refusals.by_name.contains_key("n1"));
    }
}
