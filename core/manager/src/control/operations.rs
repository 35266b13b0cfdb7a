//! What operators ask of channels, each from its first check to its last step.
//!
//! An operation checks everything that it can before it changes anything; then it runs to its end, whoever has asked and
//! whether or not they still listen. One operation at a time on a channel; channels do not wait for each other.

use vfiomux_policy::Attach;
use vfiomux_rpc::{Caller, Change, Endpoint, EndpointMode, ErrorCode, RpcError, Ticket, call};
use vfiomux_sidecore::Order;

use super::Control;
use super::attachment::Door;
use super::channel::internal;
use super::question::policy_channel;
use crate::lifecycle::{Admin, Oper, Step};

/// Most virtqueues that a channel may have.
pub(crate) const QUEUES_MAX: u16 = 64;

impl Control {
    /// `channel.attach`.
    pub(crate) fn attach(
        &mut self,
        ticket: Ticket,
        caller: Caller,
        change: Change,
        wanted: call::ChannelAttach,
    ) {
        let (id, question) = match self.attaching(caller, &change, &wanted) {
            Ok(attaching) => attaching,
            Err(error) => return self.rpc.reply(ticket, Err(error)),
        };
        self.ask_about(&id.clone(), caller, question, move |control, allowed| {
            let attached = allowed.and_then(|_| {
                control.attaching(caller, &change, &wanted)?;
                if !change.dry_run {
                    control.attach_now(&id, wanted.endpoint)?;
                }
                Ok(id)
            });
            control.answer_checked(ticket, attached);
        });
    }

    /// The channel that is to be attached, and the question that this puts to policies, if nothing else stands in its way.
    fn attaching(
        &self,
        caller: Caller,
        change: &Change,
        wanted: &call::ChannelAttach,
    ) -> Result<(String, Attach), RpcError> {
        let id = self.channel_free(&wanted.name, change.expected_generation)?;
        self.check_step(&id, Step::Attach)?;
        let question = Attach {
            channel: policy_channel(self.channel_named(&wanted.name)?),
            endpoint: wanted.endpoint.path.to_string_lossy().into_owned(),
            client: wanted.endpoint.mode == EndpointMode::Client,
            caller_uid: caller.uid,
            dry_run: change.dry_run,
        };
        Ok((id, question))
    }

    fn attach_now(&mut self, id: &str, endpoint: Endpoint) -> Result<(), RpcError> {
        let door = Door::open(&endpoint)?;
        self.change_setting(id, |setting| setting.endpoint = Some(endpoint))?;
        self.attach_door(id, door)
    }

    /// `channel.detach`.
    pub(crate) fn detach(&mut self, ticket: Ticket, change: &Change, name: &str) {
        let checked = self.channel_free(name, change.expected_generation).and_then(|id| {
            self.check_step(&id, Step::Detach)?;
            if !change.dry_run {
                self.change_setting(&id, |setting| setting.endpoint = None)?;
            }
            Ok(id)
        });
        let id = match checked {
            Ok(id) if !change.dry_run => id,
            other => return self.answer_checked(ticket, other),
        };
        self.set_operation(&id, Some("being detached"));
        let owned = id.clone();
        self.end_session(&id, true, "the channel is being detached", move |control| {
            control.step(&owned, Step::Detach, None);
            control.set_operation(&owned, None);
            control.answer_channel(ticket, &owned, Ok(()));
        });
    }

    /// `channel.suspend`.
    pub(crate) fn suspend(&mut self, ticket: Ticket, change: &Change, name: &str) {
        let checked = self.channel_free(name, change.expected_generation).and_then(|id| {
            self.check_step(&id, Step::Suspend)?;
            if !change.dry_run {
                self.change_setting(&id, |setting| setting.admin = Admin::Suspended)?;
            }
            Ok(id)
        });
        let id = match checked {
            Ok(id) if !change.dry_run => id,
            other => return self.answer_checked(ticket, other),
        };
        self.suspend_now(&id, move |control, id| control.answer_channel(ticket, id, Ok(())));
    }

    pub(crate) fn suspend_now(&mut self, id: &str, next: impl FnOnce(&mut Control, &str) + 'static) {
        self.set_operation(id, Some("being suspended"));
        self.step(id, Step::Suspend, None);
        let owned = id.to_owned();
        self.drained_order(
            id,
            move |seat| Order::Suspend { channel: seat.id },
            move |control, _| {
                if control.channels.get(&owned).is_some_and(|c| c.setting.oper == Oper::Quiescing) {
                    control.step(&owned, Step::Drained, None);
                }
                control.set_operation(&owned, None);
                next(control, &owned);
            },
        );
    }

    /// `channel.resume`: of a suspended channel, or of a quarantined one, which begins a new incarnation.
    pub(crate) fn resume(&mut self, ticket: Ticket, change: &Change, name: &str) {
        let checked = self.channel_free(name, change.expected_generation).and_then(|id| {
            self.check_step(&id, Step::ResumeDetached)?;
            let channel = self.channel_named(name)?;
            if channel.setting.oper == Oper::Quarantined {
                if channel.device.is_empty() {
                    return Err(RpcError::new(
                        ErrorCode::DeviceFault,
                        format!("the device of channel {name} is not here"),
                    )
                    .about(format!("channel {name}"))
                    .next("bring the device back first; see vfiomuxctl device list"));
                }
                self.device_named(&channel.device)?.check_ready()?;
                if channel.seat.is_some() || !channel.unseating.is_empty() {
                    return Err(RpcError::new(
                        ErrorCode::Busy,
                        format!("channel {name} still has commands at its device"),
                    )
                    .about(format!("channel {name}"))
                    .next("try again in a moment; see vfiomuxctl events"));
                }
            }
            if !change.dry_run {
                self.change_setting(&id, |setting| setting.admin = Admin::Enabled)?;
            }
            Ok(id)
        });
        let id = match checked {
            Ok(id) if !change.dry_run => id,
            other => return self.answer_checked(ticket, other),
        };
        self.set_operation(&id, Some("being resumed"));
        if self.channels.get(&id).is_some_and(|channel| channel.setting.oper == Oper::Quarantined) {
            let owned = id.clone();
            return self.seat(&id, move |control, seated| {
                let result = seated
                    .map_err(|why| {
                        RpcError::new(ErrorCode::DeviceFault, why)
                            .about(format!("channel {}", control.name_of(&owned)))
                    })
                    .and_then(|()| {
                        control.step(&owned, Step::ResumeDetached, None);
                        control.reattach(&owned)
                    });
                control.set_operation(&owned, None);
                control.answer_channel(ticket, &owned, result);
            });
        }
        let owned = id.clone();
        self.seat_order(
            &id,
            move |seat| Order::Resume { channel: seat.id },
            move |control, _| {
                let Some(channel) = control.channels.get(&owned) else { return };
                let step = match &channel.attachment {
                    None => Step::ResumeDetached,
                    Some(attachment)
                        if attachment.live.as_ref().is_some_and(|live| !live.rings.is_empty()) =>
                    {
                        Step::Resume
                    }
                    Some(_) => Step::ResumeListening,
                };
                // What put it into quarantine meanwhile has the last word: it has lost its place.
                if channel.setting.oper == Oper::Suspended {
                    control.step(&owned, step, None);
                }
                control.set_operation(&owned, None);
                control.answer_channel(ticket, &owned, Ok(()));
            },
        );
    }

    /// Opens the endpoint that a channel's setting names, if it names one.
    pub(crate) fn reattach(&mut self, id: &str) -> Result<(), RpcError> {
        let endpoint = self.channels.get(id).and_then(|channel| channel.setting.endpoint.clone());
        match endpoint {
            Some(endpoint) => Door::open(&endpoint).and_then(|door| self.attach_door(id, door)),
            None => Ok(()),
        }
    }

    pub(crate) fn answer_channel(&mut self, ticket: Ticket, id: &str, result: Result<(), RpcError>) {
        let answer = result.and_then(|()| match self.channels.get(id) {
            Some(channel) => Ok(self.channel_info(channel).into()),
            None => Err(internal(&"the channel is gone")),
        });
        self.rpc.reply(ticket, answer);
    }

    pub(crate) fn answer_checked(&mut self, ticket: Ticket, checked: Result<String, RpcError>) {
        match checked {
            Ok(id) => self.answer_channel(ticket, &id, Ok(())),
            Err(error) => self.rpc.reply(ticket, Err(error)),
        }
    }
}
