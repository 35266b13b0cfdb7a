//! After a start: making the view equal to what is.
//!
//! What is found on a device is for [`crate::recovery`] to say; here it is acted upon.

use vfiomux_rpc::{EventKind, FunctionState, ObjectKind};
use vfiomux_sidecore::Order;

use super::Control;
use super::channel::Channel;
use super::job::Leg;
use super::procedure::Operation;
use crate::event::event;
use crate::extent::Extent;
use crate::journal::{Record, Setting};
use crate::label::{Label, LabelledChannel};
use crate::lifecycle::{Admin, Life as _, Oper};
use crate::procedure::CLEAR;
use crate::recovery::{Findings, find, restored};

impl Control {
    /// Takes up the channels that the journal knows, until their devices are here.
    pub(crate) fn restore_settings(&mut self) {
        let settings: Vec<Setting> = self.journal.settings().channels.values().cloned().collect();
        for setting in settings.into_iter().filter(|setting| setting.oper != Oper::Destroyed) {
            let mut channel = Channel::new(setting);
            channel.health = vfiomux_rpc::Health::Failed;
            channel.reasons.health = Some("its device is not here".to_owned());
            self.channels.insert(channel.setting.id.clone(), channel);
        }
    }

    /// Brings back the channels that the labels of a device name.
    pub(crate) fn restore_channels(&mut self, name: &str) {
        let Some(device) = self.devices.get(name) else { return };
        let carved = device.namespaces.iter().filter_map(|(&namespace, seat)| {
            Some((namespace, seat.limits.block_bytes, &seat.carving.as_ref().ok()?.label))
        });
        let (places, labels): (Vec<_>, Vec<&Label>) =
            carved.map(|(namespace, block_bytes, label)| ((namespace, block_bytes), label)).unzip();
        let Findings { present, stale, cleared, unnamed } = find(self.journal.settings(), &labels);
        let unscrubbed: Vec<(u32, Vec<Extent>)> = places
            .iter()
            .zip(&labels)
            .filter(|(_, label)| !label.unscrubbed.is_empty())
            .map(|(&(namespace, _), label)| (namespace, label.unscrubbed.clone()))
            .collect();
        let pools: Vec<String> = labels.iter().map(|label| label.pool.clone()).collect();
        for (pool, id) in cleared {
            self.journal_append(&Record::Cleared { pool, id });
        }
        for (at, entry) in stale {
            self.clear(Operation::new(CLEAR, &entry.id, name, places[at].0, entry.extents), |_| {});
        }
        for id in unnamed {
            self.forget_channel(&id);
        }
        for (namespace, extents) in unscrubbed {
            let owned = name.to_owned();
            self.scrub(name, namespace, extents, Leg::default(), move |control, result| {
                if let Err(why) = result {
                    let mut fault = event(EventKind::Fault, ObjectKind::Device, owned);
                    fault.reason =
                        Some(format!("blocks left over from an earlier run could not be scrubbed: {why}"));
                    control.tell(fault);
                }
            });
        }
        for (at, entry) in present {
            let ((namespace, block_bytes), pool) = (places[at], pools[at].clone());
            match self.channels.get(&entry.id).filter(|channel| !channel.device.is_empty()) {
                None => self.restore_channel(name, namespace, block_bytes, pool, entry),
                // It was quarantined when the device left, and waits for an operator.
                Some(channel) if channel.device == name => {}
                Some(channel) => {
                    let mut fault = event(EventKind::Fault, ObjectKind::Device, name);
                    let (channel, device) = (&channel.setting.name, &channel.device);
                    fault.reason = Some(format!(
                        "its label is a copy of that of device {device}, which has channel {channel}; release one of the two"
                    ));
                    self.tell(fault);
                }
            }
        }
    }

    /// A creation that had not reached the label, or a destruction that had left it, is over.
    fn forget_channel(&mut self, id: &str) {
        if self.channels.get(id).is_some_and(|channel| !channel.device.is_empty()) {
            return;
        }
        self.journal_append(&Record::Forgotten { id: id.to_owned() });
        let Some(channel) = self.channels.remove(id) else { return };
        let mut told = event(EventKind::Daemon, ObjectKind::Channel, channel.setting.name);
        told.to = Some("destroyed".to_owned());
        told.reason = Some(
            "the daemon ended while it was being made or destroyed; its device does not know it".to_owned(),
        );
        self.tell(told);
    }

    fn restore_channel(
        &mut self,
        device: &str,
        namespace: u32,
        block_bytes: u32,
        pool: String,
        entry: LabelledChannel,
    ) {
        let id = entry.id.clone();
        let destroyed = || self.journal.settings().channels.get(&id).cloned();
        let known = self.channels.remove(&id).map(|channel| channel.setting).or_else(destroyed);
        let setting = restored(known, &pool, &entry);
        let (ending, serves) = (setting.oper == Oper::Scrubbing, setting.oper == Oper::Provisioned);
        let deadline_ns = setting.oper.deadline().map(|left| self.after(left));
        self.journal_append(&Record::Setting(Box::new(setting.clone())));
        let mut channel = Channel::new(setting);
        (channel.device, channel.namespace, channel.block_bytes) =
            (device.to_owned(), namespace, block_bytes);
        (channel.extents, channel.deadline_ns) = (entry.extents, deadline_ns);
        let mut told = event(EventKind::Daemon, ObjectKind::Channel, channel.setting.name.clone());
        told.to = Some("rebuilt".to_owned());
        told.generation = Some(channel.setting.generation);
        self.channels.insert(id.clone(), channel);
        self.tell(told);
        if ending {
            return self.end_channel(&id, Leg::default(), |_, _| {});
        }
        if serves {
            self.bring_back(&id);
        } else if let Some(channel) = self.channels.get_mut(&id) {
            channel.health = vfiomux_rpc::Health::Failed;
            channel.reasons.oper = Some("it was so before the daemon started".to_owned());
        }
    }

    /// Brings the channels of a device back that were taken from their sidecores for a reset.
    pub(crate) fn bring_all_back(&mut self, device: &str) {
        let stands = |oper| matches!(oper, Oper::Provisioned | Oper::Listening | Oper::Suspended);
        let waiting: Vec<String> = self
            .channels
            .values()
            .filter(|channel| channel.device == device && stands(channel.setting.oper))
            .filter(|channel| channel.seat.is_none() && channel.unseating.is_empty())
            .map(|channel| channel.setting.id.clone())
            .collect();
        for id in waiting {
            self.bring_back(&id);
        }
    }

    /// Gives a channel a place again, and its endpoint; one that is to be suspended serves nothing in between.
    fn bring_back(&mut self, id: &str) {
        self.set_operation(id, Some("being brought back"));
        let owned = id.to_owned();
        self.restoring += 1;
        self.seat(id, move |control, seated| {
            control.restoring -= 1;
            control.set_operation(&owned, None);
            let suspended = control.channels.get(&owned).is_some_and(|c| c.setting.oper == Oper::Suspended);
            if suspended {
                control.seat_order(&owned, move |seat| Order::Suspend { channel: seat.id }, |_, _| {});
            }
            let attached = control.channels.get(&owned).is_some_and(|c| c.attachment.is_some());
            let result = seated.and_then(|()| match attached {
                true => Ok(()),
                false => control.reattach(&owned).map_err(|error| error.to_string()),
            });
            match result {
                Ok(()) => {
                    let wanted = control.channels.get(&owned).map(|channel| channel.setting.admin);
                    if wanted == Some(Admin::Suspended) && !suspended {
                        control.suspend_now(&owned, |_, _| {});
                    }
                }
                Err(why) => control.quarantine(&owned, &format!("it could not be brought back: {why}")),
            }
            control.check_ready();
        });
    }

    /// Says once that the daemon serves: every device named at start has settled, every channel is back.
    pub(crate) fn check_ready(&mut self) {
        let settled = self
            .devices
            .values()
            .all(|device| !matches!(device.state, FunctionState::Discovered | FunctionState::Claiming));
        if settled && self.opening == 0 && self.restoring == 0 && !self.ready {
            self.ready = true;
            self.tell_of_absent_devices();
            if let Some(announce) = self.announce.take() {
                announce(
                    self.devices.values().map(|d| (d.name.clone(), d.state, d.reason.clone())).collect(),
                );
            }
        }
    }

    /// Says of every channel whose device did not come back that it is not served (S9).
    fn tell_of_absent_devices(&mut self) {
        let absent = self.channels.values().filter(|channel| channel.device.is_empty());
        let names: Vec<_> = absent.map(|c| (c.setting.name.clone(), c.reasons.health.clone())).collect();
        for (name, reason) in names {
            let mut told = event(EventKind::Health, ObjectKind::Channel, name);
            (told.to, told.reason) = (Some("failed".to_owned()), reason);
            self.tell(told);
        }
    }
}
