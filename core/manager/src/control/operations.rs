//! What operators ask of channels, each from its first check to its last step.
//!
//! An operation checks everything that it can before it changes anything; then it runs to its end, whoever has asked and
//! whether or not they still listen. One operation at a time on a channel; channels do not wait for each other.

use vfiomux_policy::{
    Attach, Channel as PolicyChannel, Denial, Device as PolicyDevice, Guarantees as PolicyGuarantees,
    Objective, RateLimit, Tenant,
};
use vfiomux_rpc::{
    Caller, Change, Endpoint, EndpointMode, ErrorCode, EventKind, ObjectKind, RpcError, Ticket,
};
use vfiomux_sidecore::Order;

use super::Control;
use super::attachment::Door;
use super::channel::{Channel, internal};
use crate::event::event;
use crate::lifecycle::{Admin, Oper, Step};

/// Most virtqueues that a channel may have.
pub(crate) const QUEUES_MAX: u16 = 64;

impl Control {
    /// `channel.attach`.
    pub(crate) fn attach(
        &mut self,
        caller: Caller,
        change: &Change,
        name: &str,
        endpoint: &Endpoint,
    ) -> Result<String, RpcError> {
        let id = self.channel_free(name, change.expected_generation)?;
        self.check_step(&id, Step::Attach)?;
        let Some(channel) = self.channels.get(&id) else { return Err(internal(&"the channel is gone")) };
        let ruling = self.policy.borrow_mut().ask(Attach {
            channel: policy_channel(channel),
            endpoint: endpoint.path.to_string_lossy().into_owned(),
            client: endpoint.mode == EndpointMode::Client,
            caller_uid: caller.uid,
            dry_run: change.dry_run,
        });
        if let Err(denial) = ruling.outcome {
            return Err(self.denied(name, caller, &denial));
        }
        if !change.dry_run {
            let door = Door::open(endpoint)?;
            let endpoint = endpoint.clone();
            self.change_setting(&id, |setting| setting.endpoint = Some(endpoint))?;
            self.attach_door(&id, door)?;
        }
        Ok(id)
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
                control.step(&owned, step, None);
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

    /// A tenant as policies see it, with what it has, one channel left out.
    pub(crate) fn policy_tenant(&self, tenant: &str, but_for: Option<&str>) -> Tenant {
        let mut seen = Tenant { name: tenant.to_owned(), ..Tenant::default() };
        for Channel { setting, .. } in self.channels.values() {
            if setting.tenant == tenant && but_for != Some(setting.id.as_str()) {
                seen.channels += 1;
                seen.size_bytes = seen.size_bytes.saturating_add(setting.size_bytes);
                let reserved = setting.guarantees.reservation_ops.unwrap_or(0);
                seen.reservation_ops = seen.reservation_ops.saturating_add(reserved);
            }
        }
        seen
    }

    /// A device as policies see it, with what it has left.
    pub(crate) fn policy_device(&self, name: &str) -> PolicyDevice {
        let on_it = self.channels.values().filter(|channel| channel.device == name);
        let namespaces = self.devices.get(name).into_iter().flat_map(|device| device.namespaces.values());
        let capacity_bytes = namespaces
            .filter_map(|seat| {
                let blocks = seat.carving.as_ref().ok()?.pool.total_blocks();
                Some(blocks.saturating_mul(u64::from(seat.limits.block_bytes)))
            })
            .sum();
        PolicyDevice {
            name: name.to_owned(),
            capacity_bytes,
            free_bytes: self.free_bytes(name),
            queues_max: QUEUES_MAX,
            calibrated_ops: None,
            free_reservation_ops: 0,
            channels: u32::try_from(on_it.count()).unwrap_or(u32::MAX),
        }
    }

    /// A refusal by policy, recorded.
    pub(crate) fn denied(&mut self, name: &str, caller: Caller, denial: &Denial) -> RpcError {
        let Denial { policy, reason } = denial;
        let mut told = event(EventKind::Denied, ObjectKind::Channel, name);
        (told.reason, told.uid) = (Some(format!("{policy}: {reason}")), Some(caller.uid));
        self.tell(told);
        RpcError::denied(format!("channel {name}"), reason)
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

/// A channel as policies see it.
pub(crate) fn policy_channel(channel: &Channel) -> PolicyChannel {
    PolicyChannel {
        id: channel.setting.id.clone(),
        name: channel.setting.name.clone(),
        tenant: channel.setting.tenant.clone(),
        device: channel.device.clone(),
        size_bytes: channel.setting.size_bytes,
        queues: channel.setting.queues,
        read_only: channel.setting.read_only,
        generation: channel.setting.generation,
        guarantees: policy_guarantees(&channel.setting.guarantees),
        labels: channel.setting.labels.0.clone(),
    }
}

/// Guarantees as policies see them.
pub(crate) fn policy_guarantees(guarantees: &vfiomux_rpc::Guarantees) -> PolicyGuarantees {
    let limit = |limit: Option<vfiomux_rpc::RateLimit>| {
        limit.map(|vfiomux_rpc::RateLimit { per_second, burst }| RateLimit { per_second, burst })
    };
    PolicyGuarantees {
        ops: limit(guarantees.ops),
        bytes: limit(guarantees.bytes),
        read_ops: limit(guarantees.read_ops),
        read_bytes: limit(guarantees.read_bytes),
        write_ops: limit(guarantees.write_ops),
        write_bytes: limit(guarantees.write_bytes),
        reservation_ops: guarantees.reservation_ops,
        share: guarantees.share,
        objective: guarantees
            .objective
            .map(|vfiomux_rpc::Objective { permille, latency_ns }| Objective { permille, latency_ns }),
    }
}
