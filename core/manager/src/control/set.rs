//! Changing what a channel is called and what its guest sees of it.
//!
//! Name and labels are ours alone, and change while the guest works. What a guest's driver has read when it found the disk
//! (virtqueues, serial number, whether it can be written) changes only while nobody can be connected: a driver looks once.
//! The device's label is written first, because that can fail; then the journal, which decides; then the channel's place on
//! its sidecore is made anew where the guest would see a difference.

use vfiomux_policy::{Channel as PolicyChannel, Tune};
use vfiomux_rpc::{Caller, Change, ErrorCode, RpcError, Ticket, call};

use super::Control;
use super::operations::QUEUES_MAX;
use super::question::policy_channel;
use crate::label::Label;
use crate::lifecycle::{Life as _, Oper};

/// Most bytes that a guest is told of a serial number (virtio 1.3 5.2.6).
const SERIAL_BYTES_MAX: usize = 20;

impl Control {
    /// `channel.set`.
    pub(crate) fn set_channel(
        &mut self,
        ticket: Ticket,
        caller: Caller,
        change: Change,
        wanted: call::ChannelSet,
    ) {
        let (id, question) = match self.setting_of(caller, &change, &wanted) {
            Ok(setting) => setting,
            Err(error) => return self.rpc.reply(ticket, Err(error)),
        };
        self.ask_about(&id.clone(), caller, question, move |control, allowed| {
            let checked = allowed.and_then(|_| control.setting_of(caller, &change, &wanted));
            match checked {
                Ok((id, _)) if !change.dry_run && control.differs(&id, &wanted) => {
                    control.set_now(ticket, id, wanted);
                }
                other => control.answer_checked(ticket, other.map(|(id, _)| id)),
            }
        });
    }

    /// The channel that is to be changed, and the question that this puts to policies, if nothing else stands in its way.
    fn setting_of(
        &self,
        caller: Caller,
        change: &Change,
        wanted: &call::ChannelSet,
    ) -> Result<(String, Tune), RpcError> {
        let id = self.channel_free(&wanted.name, change.expected_generation)?;
        let channel = self.channel_named(&wanted.name)?;
        let about = format!("channel {}", wanted.name);
        if let Some(new_name) = wanted.new_name.as_ref().filter(|name| **name != wanted.name)
            && self.channel_named(new_name).is_ok()
        {
            return Err(RpcError::new(ErrorCode::Exists, format!("channel {new_name} exists"))
                .about(about)
                .next("choose another name"));
        }
        if let Some(labels) = &wanted.labels {
            labels.check().map_err(|error| RpcError::invalid_argument("labels", error.to_string()))?;
        }
        if let Some(serial) = &wanted.serial
            && (serial.is_empty()
                || serial.len() > SERIAL_BYTES_MAX
                || !serial.bytes().all(|b| b.is_ascii_graphic()))
        {
            return Err(RpcError::invalid_argument(
                "serial",
                format!(
                    "a serial number has 1 to {SERIAL_BYTES_MAX} printable ASCII characters, without spaces"
                ),
            ));
        }
        if let Some(queues) = wanted.queues.filter(|queues| !(1..=QUEUES_MAX).contains(queues)) {
            return Err(RpcError::invalid_argument(
                "queues",
                format!("{queues} virtqueues cannot be; a channel has 1 to {QUEUES_MAX}"),
            ));
        }
        if !channel.setting.oper.steady() {
            return Err(RpcError::new(
                ErrorCode::Conflict,
                format!("channel {} cannot be changed while it is {:?}", wanted.name, channel.setting.oper)
                    .to_lowercase(),
            )
            .about(about)
            .next("see vfiomuxctl channel show for what it waits for"));
        }
        if self.guest_would_see(&id, wanted) && channel.setting.oper != Oper::Provisioned {
            return Err(RpcError::new(
                ErrorCode::Busy,
                format!(
                    "queues, serial and read-only of channel {} change only while it has no endpoint: a guest looks at them once",
                    wanted.name
                ),
            )
            .about(about)
            .next(format!(
                "stop the VM, vfiomuxctl channel detach {name}, set it, and attach it again",
                name = wanted.name
            )));
        }
        let present = policy_channel(channel);
        let question = Tune {
            wanted: PolicyChannel {
                name: wanted.new_name.clone().unwrap_or_else(|| present.name.clone()),
                queues: wanted.queues.unwrap_or(present.queues),
                read_only: wanted.read_only.unwrap_or(present.read_only),
                labels: wanted.labels.clone().map_or_else(|| present.labels.clone(), |labels| labels.0),
                ..present.clone()
            },
            channel: present,
            device: self.policy_device(&channel.device),
            tenant: self.policy_tenant(&channel.setting.tenant, Some(&id)),
            caller_uid: caller.uid,
            dry_run: change.dry_run,
        };
        Ok((id, question))
    }

    /// Whether a guest sees a difference.
    fn guest_would_see(&self, id: &str, wanted: &call::ChannelSet) -> bool {
        let Some(setting) = self.channels.get(id).map(|channel| &channel.setting) else { return false };
        wanted.queues.is_some_and(|queues| queues != setting.queues)
            || wanted.read_only.is_some_and(|read_only| read_only != setting.read_only)
            || wanted.serial.is_some() && wanted.serial != setting.serial
    }

    fn differs(&self, id: &str, wanted: &call::ChannelSet) -> bool {
        let Some(setting) = self.channels.get(id).map(|channel| &channel.setting) else { return false };
        self.guest_would_see(id, wanted)
            || wanted.new_name.as_ref().is_some_and(|name| *name != setting.name)
            || wanted.labels.as_ref().is_some_and(|labels| *labels != setting.labels)
    }

    fn set_now(&mut self, ticket: Ticket, id: String, wanted: call::ChannelSet) {
        let Some(channel) = self.channels.get(&id) else { return };
        let (device, namespace) = (channel.device.clone(), channel.namespace);
        let renewed = self.guest_would_see(&id, &wanted);
        self.set_operation(&id, Some("being changed"));
        let (entry, on_label) = (id.clone(), wanted.clone());
        let change = move |label: &mut Label| {
            let Some(channel) = label.channels.iter_mut().find(|channel| channel.id == entry) else { return };
            if let Some(name) = on_label.new_name {
                channel.name = name;
            }
            channel.queues = on_label.queues.unwrap_or(channel.queues);
            channel.read_only = on_label.read_only.unwrap_or(channel.read_only);
        };
        self.relabel(&device, namespace, change, move |control, written| {
            let settled = written
                .map_err(|why| {
                    RpcError::new(ErrorCode::DeviceFault, format!("its label could not be written: {why}"))
                        .about(format!("channel {}", wanted.name))
                        .next("nothing has changed; see vfiomuxctl events")
                })
                .and_then(|()| {
                    control.change_setting(&id, |setting| {
                        let call::ChannelSet { new_name, serial, labels, queues, read_only, .. } = wanted;
                        setting.name = new_name.unwrap_or_else(|| setting.name.clone());
                        setting.serial = serial.or_else(|| setting.serial.clone());
                        setting.labels = labels.unwrap_or_else(|| setting.labels.clone());
                        setting.queues = queues.unwrap_or(setting.queues);
                        setting.read_only = read_only.unwrap_or(setting.read_only);
                    })
                });
            if settled.is_err() || !renewed {
                control.set_operation(&id, None);
                return control.answer_channel(ticket, &id, settled);
            }
            control.renew(ticket, id);
        });
    }

    /// Makes the place of a channel without a front-end anew.
    fn renew(&mut self, ticket: Ticket, id: String) {
        self.unseat(&id.clone(), "it is being changed", move |control| {
            control.seat(&id.clone(), move |control, seated| {
                control.set_operation(&id, None);
                if let Err(why) = &seated {
                    control.quarantine(&id, &format!("it could not be served again: {why}"));
                }
                let result = seated.map_err(|why| {
                    RpcError::new(ErrorCode::DeviceFault, why)
                        .about(format!("channel {}", control.name_of(&id)))
                        .next("resume it with vfiomuxctl channel resume")
                });
                control.answer_channel(ticket, &id, result);
            });
        });
    }

    /// `channel.migrate`, `channel.snapshot`, `channel.clone`: what they would need is not in this version.
    pub(crate) fn not_yet(&self, name: &str, what: &str, instead: &str) -> RpcError {
        match self.channel_named(name) {
            Err(error) => error,
            Ok(_) => RpcError::new(ErrorCode::Unsupported, format!("this version of vfiomuxd cannot {what}"))
                .about(format!("channel {name}"))
                .next(instead),
        }
    }
}
