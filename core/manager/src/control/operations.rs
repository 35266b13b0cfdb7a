//! What operators ask of channels, each from its first check to its last step.
//!
//! An operation checks everything that it can before it changes anything; then it runs to its end, whoever has asked and
//! whether or not they still listen. One operation at a time on a channel; channels do not wait for each other.

use vfiomux_channel::{Extent as Run, ExtentMap};
use vfiomux_policy::{
    AttachRequest, Channel as PolicyChannel, CreateRequest, DestroyRequest, Device as PolicyDevice, Ruling, TuneRequest,
};
use vfiomux_rpc::{Caller, Change, Endpoint, EndpointMode, ErrorCode, EventKind, ObjectKind, RpcError, Ticket, call};
use vfiomux_sidecore::{Answer, Order};

use super::Control;
use super::attachment::Door;
use super::channel::{Channel, internal};
use crate::event::event;
use crate::extent::Extent;
use crate::journal::{Record, Setting};
use crate::label::LabelledChannel;
use crate::lifecycle::{Admin, Oper, Step};

/// Most virtqueues that a channel may have.
const QUEUES_MAX: u16 = 64;

impl Control {
    /// `channel.create`.
    pub(crate) fn create(&mut self, ticket: Ticket, caller: Caller, change: &Change, wanted: &call::ChannelCreate) {
        match self.create_checked(caller, change, wanted) {
            Err(error) => self.rpc.reply(ticket, Err(error)),
            Ok(Created::DryRun(info)) => self.rpc.reply(ticket, Ok((*info).into())),
            Ok(Created::Begun { id, door }) => {
                let owned = id.clone();
                self.realise(&id, move |control, result| {
                    let result = result.and_then(|()| match door {
                        Some(door) => control.attach_door(&owned, door),
                        None => Ok(()),
                    });
                    control.set_operation(&owned, None);
                    control.answer_channel(ticket, &owned, result);
                });
            }
        }
    }

    fn create_checked(&mut self, caller: Caller, change: &Change, wanted: &call::ChannelCreate) -> Result<Created, RpcError> {
        let about = format!("channel {}", wanted.name);
        if let Ok(channel) = self.channel_named(&wanted.name) {
            return Err(RpcError::new(ErrorCode::Exists, format!("channel {} exists ({:?})", wanted.name, channel.setting.oper).to_lowercase())
                .about(about)
                .next("choose another name, or destroy that one first"));
        }
        let device = self.device_named(&wanted.device)?;
        device.check_ready()?;
        let candidates = device.namespaces.iter().filter(|(id, _)| wanted.namespace.is_none_or(|only| only == **id));
        let fits = |size: u64| {
            candidates.clone().find(|(_, seat)| {
                let block = u64::from(seat.limits.block_bytes);
                seat.carving.as_ref().is_ok_and(|carving| carving.pool.free_blocks().saturating_mul(block) >= size)
            })
        };
        let free_bytes = candidates
            .clone()
            .filter_map(|(_, seat)| Some(seat.carving.as_ref().ok()?.pool.free_blocks() * u64::from(seat.limits.block_bytes)))
            .max()
            .unwrap_or(0);
        let ruling = self.policy.borrow_mut().create(CreateRequest {
            channel: PolicyChannel {
                name: &wanted.name,
                tenant: &wanted.tenant,
                device: &wanted.device,
                size_bytes: wanted.size_bytes,
                queues: wanted.queues,
                read_only: wanted.read_only,
                generation: 0,
            },
            device: PolicyDevice { free_bytes, queues_max: QUEUES_MAX },
            caller_uid: caller.uid,
            dry_run: change.dry_run,
        });
        let allowed = match ruling {
            Ruling::Allow { request, .. } => request.channel,
            Ruling::Deny { policy, reason } => return Err(self.denied(&wanted.name, caller, &policy, &reason)),
        };
        let (size_bytes, queues, read_only) = (allowed.size_bytes, allowed.queues, allowed.read_only);
        let Some((&namespace, seat)) = fits(size_bytes).or_else(|| candidates.clone().find(|(_, seat)| seat.carving.is_ok())) else {
            let why = candidates.clone().find_map(|(id, seat)| Some(format!("namespace {id}: {}", seat.carving.as_ref().err()?)));
            return Err(RpcError::new(
                ErrorCode::DeviceFault,
                format!("nothing can be carved from device {}: {}", device.name, why.unwrap_or_else(|| "it has no such namespace".to_owned())),
            )
            .about(format!("device {}", device.name))
            .next(format!("see vfiomuxctl device show {}, then vfiomuxctl device format {}", device.name, device.name)));
        };
        let block_bytes = seat.limits.block_bytes;
        if let Some(block) = wanted.block_bytes.filter(|&block| block != block_bytes) {
            return Err(RpcError::new(
                ErrorCode::Unsupported,
                format!("namespace {namespace} has blocks of {block_bytes} bytes, and a channel of {block} cannot be carved from it"),
            )
            .about("block_bytes")
            .next("leave the block size out, or choose another namespace"));
        }
        // Bad socket paths are found before anything is made.
        let door = match &wanted.endpoint {
            Some(endpoint) if !change.dry_run => Some(Door::open(endpoint)?),
            _ => None,
        };
        let device_name = device.name.clone();
        let carving = self.devices.get_mut(&device_name).and_then(|d| d.namespaces.get_mut(&namespace)).map(|seat| &mut seat.carving);
        let Some(Ok(carving)) = carving else { return Err(internal(&"the namespace is gone")) };
        let before = change.dry_run.then(|| carving.pool.clone());
        let blocks = size_bytes.div_ceil(u64::from(block_bytes));
        let extents = carving.pool.take(blocks).map_err(|error| {
            RpcError::new(ErrorCode::NoSpace, format!("device {device_name} has no room for {size_bytes} bytes: {error}"))
                .about(format!("device {device_name}"))
                .next(format!("at most {free_bytes} bytes are free in one namespace; ask for less, or destroy a channel"))
        })?;
        let (pool, taken_blocks) = (carving.label.pool.clone(), extents.iter().map(|extent| extent.blocks).sum::<u64>());
        if let Some(before) = before {
            carving.pool = before;
        }
        let setting = Setting {
            id: super::new_id(),
            name: wanted.name.clone(),
            tenant: wanted.tenant.clone(),
            pool,
            size_bytes: taken_blocks * u64::from(block_bytes),
            queues,
            read_only,
            endpoint: wanted.endpoint.clone(),
            admin: Admin::Enabled,
            oper: Oper::Defined,
            generation: 1,
        };
        let mut channel = Channel::new(setting.clone());
        (channel.device, channel.namespace, channel.block_bytes) = (device_name.clone(), namespace, block_bytes);
        channel.extents.clone_from(&extents);
        channel.operation = Some("being created");
        if change.dry_run {
            return Ok(Created::DryRun(Box::new(self.channel_info(&channel))));
        }
        if let Err(error) = self.journal.append(&Record::Setting(setting.clone())) {
            self.give_back(&device_name, namespace, &extents);
            return Err(internal(&error));
        }
        let id = setting.id.clone();
        self.channels.insert(id.clone(), channel);
        let mut told = event(EventKind::Oper, ObjectKind::Channel, setting.name);
        (told.to, told.uid, told.generation) = (Some("defined".to_owned()), Some(caller.uid), Some(1));
        self.tell(told);
        Ok(Created::Begun { id, door })
    }

    /// Makes a defined channel real: its label entry, then its place on a sidecore.
    fn realise(&mut self, id: &str, next: impl FnOnce(&mut Control, Result<(), RpcError>) + Send + 'static) {
        let Some(channel) = self.channels.get(id) else { return };
        let entry = LabelledChannel {
            id: id.to_owned(),
            name: channel.setting.name.clone(),
            tenant: channel.setting.tenant.clone(),
            size_bytes: channel.setting.size_bytes,
            queues: channel.setting.queues,
            read_only: channel.setting.read_only,
            extents: channel.extents.clone(),
        };
        let (device, namespace, owned) = (channel.device.clone(), channel.namespace, id.to_owned());
        self.relabel(&device, namespace, |label| label.channels.push(entry), move |control, written| {
            let go_on = move |control: &mut Control, seated: Result<(), String>, owned: String| match seated {
                Ok(()) => {
                    control.step(&owned, Step::Realised, None);
                    next(control, Ok(()));
                }
                Err(why) => {
                    control.step(&owned, Step::RealiseFailed, Some(why.clone()));
                    let error = RpcError::new(ErrorCode::DeviceFault, why)
                        .about(format!("channel {}", control.name_of(&owned)))
                        .next("see vfiomuxctl events, destroy the channel, and create it again");
                    next(control, Err(error));
                }
            };
            match written {
                Ok(()) => {
                    let id = owned.clone();
                    control.seat(&id, move |control, seated| go_on(control, seated, owned));
                }
                Err(why) => {
                    // The label in memory must not name what the label on the device does not.
                    control.forget_label_entry(&owned);
                    go_on(control, Err(format!("its label could not be written: {why}")), owned);
                }
            }
        });
    }

    fn forget_label_entry(&mut self, id: &str) {
        let Some(channel) = self.channels.get_mut(id) else { return };
        let (device, namespace) = (channel.device.clone(), channel.namespace);
        let extents = std::mem::take(&mut channel.extents);
        let seat = self.devices.get_mut(&device).and_then(|device| device.namespaces.get_mut(&namespace));
        if let Some(Ok(carving)) = seat.map(|seat| &mut seat.carving) {
            carving.label.channels.retain(|entry| entry.id != id);
        }
        self.give_back(&device, namespace, &extents);
    }

    /// Returns blocks to the pool that hold no tenant's data.
    pub(crate) fn give_back(&mut self, device: &str, namespace: u32, extents: &[Extent]) {
        let seat = self.devices.get_mut(device).and_then(|device| device.namespaces.get_mut(&namespace));
        if let Some(Ok(carving)) = seat.map(|seat| &mut seat.carving)
            && let Err(error) = carving.pool.give_back(extents)
        {
            let mut fault = event(EventKind::Fault, ObjectKind::Device, device);
            fault.reason = Some(error.to_string());
            self.tell(fault);
        }
    }

    /// `channel.attach`.
    pub(crate) fn attach(&mut self, caller: Caller, change: &Change, name: &str, endpoint: &Endpoint) -> Result<String, RpcError> {
        let id = self.channel_free(name, change.expected_generation)?;
        self.check_step(&id, Step::Attach)?;
        let Some(channel) = self.channels.get(&id) else { return Err(internal(&"the channel is gone")) };
        let path = endpoint.path.to_string_lossy();
        let ruling = self.policy.borrow_mut().attach(AttachRequest {
            channel: policy_channel(channel),
            endpoint: &path,
            client: endpoint.mode == EndpointMode::Client,
            caller_uid: caller.uid,
            dry_run: change.dry_run,
        });
        if let Ruling::Deny { policy, reason } = ruling {
            return Err(self.denied(name, caller, &policy, &reason));
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
        self.arm_drain(id);
        let owned = id.to_owned();
        self.seat_order(
            id,
            |seat| Order::Suspend { channel: seat.id },
            move |control, _| {
                control.disarm_drain(&owned);
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
                self.device_named(&channel.device)?.check_ready()?;
                if channel.seat.is_some() {
                    return Err(RpcError::new(ErrorCode::Busy, format!("channel {name} still has commands at its device"))
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
                    .map_err(|why| RpcError::new(ErrorCode::DeviceFault, why).about(format!("channel {}", control.name_of(&owned))))
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
            |seat| Order::Resume { channel: seat.id },
            move |control, _| {
                let Some(channel) = control.channels.get(&owned) else { return };
                let step = match &channel.attachment {
                    None => Step::ResumeDetached,
                    Some(attachment) if attachment.live.as_ref().is_some_and(|live| !live.rings.is_empty()) => Step::Resume,
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

    /// `channel.resize`.
    pub(crate) fn resize(&mut self, ticket: Ticket, caller: Caller, change: &Change, wanted: &call::ChannelResize) {
        match self.resize_checked(caller, change, wanted) {
            Ok(Some(plan)) => self.resize_now(ticket, plan),
            other => {
                let id = other.and_then(|_| self.channel_named(&wanted.name).map(|channel| channel.setting.id.clone()));
                self.answer_checked(ticket, id);
            }
        }
    }

    /// What a resize comes to; nothing when the size is right already, or this is a dry run.
    fn resize_checked(&mut self, caller: Caller, change: &Change, wanted: &call::ChannelResize) -> Result<Option<Resize>, RpcError> {
        let id = self.channel_free(&wanted.name, change.expected_generation)?;
        let channel = self.channel_named(&wanted.name)?;
        if !matches!(channel.setting.oper, Oper::Provisioned | Oper::Listening | Oper::Active | Oper::Suspended) {
            let refused = crate::lifecycle::NotAllowed { from: channel.setting.oper, step: Step::Resume };
            return Err(RpcError::new(ErrorCode::Conflict, format!("channel {} cannot be resized now: {refused}", wanted.name))
                .about(format!("channel {}", wanted.name)));
        }
        let (device, namespace, block_bytes) = (channel.device.clone(), channel.namespace, u64::from(channel.block_bytes));
        let present = policy_channel(channel);
        let ruling = self.policy.borrow_mut().tune(TuneRequest {
            channel: present,
            wanted: PolicyChannel { size_bytes: wanted.size_bytes, ..present },
            device: PolicyDevice { free_bytes: self.free_bytes(&device), queues_max: QUEUES_MAX },
            caller_uid: caller.uid,
            dry_run: change.dry_run,
        });
        let size_bytes = match ruling {
            Ruling::Allow { request, .. } => request.wanted.size_bytes,
            Ruling::Deny { policy, reason } => return Err(self.denied(&wanted.name, caller, &policy, &reason)),
        };
        let Some(channel) = self.channels.get(&id) else { return Err(internal(&"the channel is gone")) };
        let old = channel.extents.clone();
        let old_blocks: u64 = old.iter().map(|extent| extent.blocks).sum();
        let seat = self.devices.get_mut(&device).and_then(|device| device.namespaces.get_mut(&namespace));
        let Some((limits, Ok(carving))) = seat.map(|seat| (seat.limits, &mut seat.carving)) else {
            return Err(internal(&"the namespace has no label"));
        };
        let blocks = carving.pool.rounded(size_bytes.div_ceil(block_bytes)).unwrap_or(u64::MAX);
        if blocks == old_blocks {
            return Ok(None);
        }
        let before = carving.pool.clone();
        let (mut extents, mut freed) = (old, Vec::new());
        if blocks > old_blocks {
            let more = carving.pool.take(blocks - old_blocks).map_err(|error| {
                RpcError::new(ErrorCode::NoSpace, format!("device {device} cannot give {} more: {error}", wanted.name))
                    .about(format!("device {device}"))
                    .next("ask for less, or destroy a channel")
            })?;
            extents.extend(more);
        } else {
            freed = cut(&mut extents, blocks);
        }
        let runs: Vec<Run> = extents.iter().map(|extent| Run { lba: extent.start, blocks: extent.blocks }).collect();
        let map = ExtentMap::new(&runs, &limits).map_err(|error| internal(&error));
        if change.dry_run || map.is_err() {
            carving.pool = before;
            return map.map(|_| None);
        }
        Ok(Some(Resize { id, device, namespace, map: map?, extents, freed, size_bytes: blocks * block_bytes }))
    }

    /// Grown blocks are on the label before a guest can write them; shrunk ones leave it only after no command names them.
    fn resize_now(&mut self, ticket: Ticket, plan: Resize) {
        self.set_operation(&plan.id, Some("being resized"));
        if plan.freed.is_empty() {
            let (device, namespace) = (plan.device.clone(), plan.namespace);
            let (id, extents, size_bytes) = (plan.id.clone(), plan.extents.clone(), plan.size_bytes);
            self.relabel(&device, namespace, move |label| set_extents(label, &id, extents, size_bytes), move |control, written| {
                match written {
                    Ok(()) => control.resize_order(ticket, plan),
                    Err(why) => control.resize_failed(ticket, &plan, &why),
                }
            });
        } else {
            self.arm_drain(&plan.id);
            self.resize_order(ticket, plan);
        }
    }

    fn resize_order(&mut self, ticket: Ticket, plan: Resize) {
        let id = plan.id.clone();
        let map = plan.map.clone();
        self.seat_order(
            &id,
            |seat| Order::Resize { channel: seat.id, extents: map },
            move |control, answer| {
                control.disarm_drain(&plan.id);
                match answer {
                    Some(Answer::Resized { .. }) => control.resized(ticket, plan),
                    Some(Answer::Refused { why, .. }) => control.resize_failed(ticket, &plan, &why.to_string()),
                    _ => control.resize_failed(ticket, &plan, "the channel is not served"),
                }
            },
        );
    }

    fn resized(&mut self, ticket: Ticket, plan: Resize) {
        if let Some(channel) = self.channels.get_mut(&plan.id) {
            channel.extents.clone_from(&plan.extents);
            if let Some(seat) = &mut channel.seat {
                seat.settings.extents = plan.map.clone();
            }
        }
        let size_bytes = plan.size_bytes;
        let settled = self.change_setting(&plan.id, |setting| setting.size_bytes = size_bytes);
        self.config_changed(&plan.id);
        if plan.freed.is_empty() {
            self.set_operation(&plan.id, None);
            return self.answer_channel(ticket, &plan.id, settled);
        }
        let (id, extents, freed) = (plan.id.clone(), plan.extents.clone(), plan.freed.clone());
        let change = move |label: &mut crate::label::Label| {
            set_extents(label, &id, extents, size_bytes);
            label.unscrubbed.extend(freed);
        };
        self.relabel(&plan.device.clone(), plan.namespace, change, move |control, written| {
            if let Err(why) = written {
                return control.resize_failed(ticket, &plan, &why);
            }
            control.scrub(&plan.device.clone(), plan.namespace, plan.freed.clone(), move |control, scrubbed| {
                control.set_operation(&plan.id, None);
                let result = scrubbed.map_err(|why| RpcError::new(ErrorCode::DeviceFault, why).about(format!("device {}", plan.device)));
                control.answer_channel(ticket, &plan.id, result.and(settled));
            });
        });
    }

    fn resize_failed(&mut self, ticket: Ticket, plan: &Resize, why: &str) {
        // What was taken for growth stays taken until the next start reads the label again: it may be on the label.
        let mut fault = event(EventKind::Fault, ObjectKind::Channel, self.name_of(&plan.id));
        fault.reason = Some(format!("resize: {why}"));
        self.tell(fault);
        self.set_operation(&plan.id, None);
        let error = RpcError::new(ErrorCode::DeviceFault, format!("the resize failed: {why}"))
            .about(format!("channel {}", self.name_of(&plan.id)))
            .next("see vfiomuxctl events and vfiomuxctl device show");
        self.rpc.reply(ticket, Err(error));
    }

    /// `channel.destroy`.
    pub(crate) fn destroy(&mut self, ticket: Ticket, caller: Caller, change: &Change, wanted: &call::ChannelDestroy) {
        let checked = self.destroy_checked(caller, change, wanted);
        let id = match checked {
            Ok(id) if !change.dry_run => id,
            other => return self.answer_checked(ticket, other),
        };
        // The last that is seen of it, for the answer.
        let Some(channel) = self.channels.get(&id) else { return };
        let (info, here) = (self.channel_info(channel), self.is_device_here(channel));
        self.destroy_now(&id, move |control, result| {
            // That a device that is not here could not be scrubbed was known and insisted on.
            let result = if here { result } else { Ok(()) };
            let gone = vfiomux_rpc::ChannelInfo { oper: Oper::Destroyed, ..info };
            control.rpc.reply(ticket, result.map(|()| gone.into()));
        });
    }

    fn is_device_here(&self, channel: &Channel) -> bool {
        self.devices.get(&channel.device).is_some_and(|device| device.check_ready().is_ok())
    }

    fn destroy_checked(&mut self, caller: Caller, change: &Change, wanted: &call::ChannelDestroy) -> Result<String, RpcError> {
        let id = self.channel_free(&wanted.name, change.expected_generation)?;
        self.check_step(&id, Step::Destroy)?;
        let channel = self.channel_named(&wanted.name)?;
        let about = format!("channel {}", wanted.name);
        let served = channel.attachment.as_ref().is_some_and(|attachment| attachment.live.is_some());
        if served && !wanted.force {
            return Err(RpcError::new(ErrorCode::Busy, format!("a front-end is connected to channel {}", wanted.name))
                .about(about)
                .next("stop the VM or detach the channel first, or insist with --force"));
        }
        if !self.is_device_here(channel) && !wanted.force {
            return Err(RpcError::new(
                ErrorCode::DeviceFault,
                format!("the device of channel {} is not here, so its data cannot be scrubbed", wanted.name),
            )
            .about(about)
            .next("bring the device back first, or insist with --force: the data is then scrubbed when the device comes back"));
        }
        let ruling = self.policy.borrow_mut().destroy(DestroyRequest {
            channel: policy_channel(channel),
            force: wanted.force,
            caller_uid: caller.uid,
            dry_run: change.dry_run,
        });
        match ruling {
            Ruling::Deny { policy, reason } => Err(self.denied(&wanted.name, caller, &policy, &reason)),
            Ruling::Allow { .. } => Ok(id),
        }
    }

    /// Drains, frees and scrubs. From the first step on there is no way back, and a restart goes on where this stops.
    pub(crate) fn destroy_now(&mut self, id: &str, next: impl FnOnce(&mut Control, Result<(), RpcError>) + Send + 'static) {
        self.set_operation(id, Some("being destroyed"));
        self.step(id, Step::Destroy, None);
        let owned = id.to_owned();
        self.unseat(id, "the channel is being destroyed", move |control| {
            control.step(&owned, Step::Drained, None);
            control.scrub_channel(&owned, next);
        });
    }

    /// The blocks leave the channel on the label first; they are free only once they were scrubbed (C3).
    pub(crate) fn scrub_channel(&mut self, id: &str, next: impl FnOnce(&mut Control, Result<(), RpcError>) + Send + 'static) {
        let Some(channel) = self.channels.get(id) else { return };
        let (device, namespace, extents) = (channel.device.clone(), channel.namespace, channel.extents.clone());
        let (owned, entry, dirty) = (id.to_owned(), id.to_owned(), extents.clone());
        let change = move |label: &mut crate::label::Label| {
            label.channels.retain(|channel| channel.id != entry);
            label.unscrubbed.extend(dirty);
        };
        let finish = move |control: &mut Control, result: Result<(), String>| {
            let result = result.map_err(|why| {
                RpcError::new(ErrorCode::DeviceFault, format!("its blocks could not be scrubbed and are kept back: {why}"))
                    .about(format!("channel {}", control.name_of(&owned)))
                    .next("they are scrubbed when the device is next taken up; see vfiomuxctl events")
            });
            let (step, why) = match &result {
                Ok(()) => (Step::Scrubbed, None),
                Err(error) => (Step::Overdue, Some(error.message.clone())),
            };
            control.step(&owned, step, why);
            control.channels.remove(&owned);
            if result.is_ok() {
                // No label names it any more. One that could not be scrubbed is remembered until its device comes back.
                control.journal.forget(&owned);
            }
            next(control, result);
        };
        if extents.is_empty() {
            return finish(self, Ok(()));
        }
        self.relabel(&device.clone(), namespace, change, move |control, written| match written {
            Ok(()) => control.scrub(&device, namespace, extents, finish),
            Err(why) => finish(control, Err(why)),
        });
    }

    /// Scrubs blocks that the label lists as unscrubbed, takes them off that list, and makes them free.
    pub(crate) fn scrub(
        &mut self,
        device_name: &str,
        namespace: u32,
        extents: Vec<Extent>,
        next: impl FnOnce(&mut Control, Result<(), String>) + Send + 'static,
    ) {
        let Some(device) = self.devices.get(device_name) else { return next(self, Err("its device is gone".to_owned())) };
        let Some(limits) = device.namespaces.get(&namespace).map(|seat| seat.limits) else {
            return next(self, Err("its namespace is gone".to_owned()));
        };
        let (owned, clean) = (device_name.to_owned(), extents.clone());
        device.worker.run(
            move |warden| warden.scrub(namespace, &limits, &extents),
            move |control, scrubbed| {
                if let Err(why) = scrubbed {
                    return next(control, Err(why));
                }
                let done = clean.clone();
                control.relabel(
                    &owned.clone(),
                    namespace,
                    move |label| label.unscrubbed.retain(|extent| !done.contains(extent)),
                    move |control, written| {
                        if written.is_ok() {
                            control.give_back(&owned, namespace, &clean);
                        }
                        next(control, written);
                    },
                );
            },
        );
    }

    /// Takes a channel out of service at once: somebody did what must not be.
    pub(crate) fn quarantine(&mut self, id: &str, why: &str) {
        let Some(channel) = self.channels.get(id) else { return };
        if channel.setting.oper == Oper::Quarantined || self.check_step(id, Step::Fault).is_err() {
            return;
        }
        self.step(id, Step::Fault, Some(why.to_owned()));
        self.unseat(id, why, |_| {});
    }

    /// A refusal by policy, recorded.
    fn denied(&mut self, name: &str, caller: Caller, policy: &str, reason: &str) -> RpcError {
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

    fn answer_checked(&mut self, ticket: Ticket, checked: Result<String, RpcError>) {
        match checked {
            Ok(id) => self.answer_channel(ticket, &id, Ok(())),
            Err(error) => self.rpc.reply(ticket, Err(error)),
        }
    }
}

/// How a creation went so far.
enum Created {
    DryRun(Box<vfiomux_rpc::ChannelInfo>),
    Begun { id: String, door: Option<Door> },
}

/// A resize that was found possible.
struct Resize {
    id: String,
    device: String,
    namespace: u32,
    map: ExtentMap,
    extents: Vec<Extent>,
    /// What the channel no longer has.
    freed: Vec<Extent>,
    size_bytes: u64,
}

fn policy_channel(channel: &Channel) -> PolicyChannel<'_> {
    PolicyChannel {
        name: &channel.setting.name,
        tenant: &channel.setting.tenant,
        device: &channel.device,
        size_bytes: channel.setting.size_bytes,
        queues: channel.setting.queues,
        read_only: channel.setting.read_only,
        generation: channel.setting.generation,
    }
}

fn set_extents(label: &mut crate::label::Label, id: &str, extents: Vec<Extent>, size_bytes: u64) {
    if let Some(entry) = label.channels.iter_mut().find(|entry| entry.id == id) {
        entry.extents = extents;
        entry.size_bytes = size_bytes;
    }
}

/// Keeps the first `blocks` blocks of `extents`, and gives what is cut off.
fn cut(extents: &mut Vec<Extent>, blocks: u64) -> Vec<Extent> {
    let (mut kept, mut freed, mut left) = (Vec::new(), Vec::new(), blocks);
    for extent in extents.drain(..) {
        let keep = extent.blocks.min(left);
        left -= keep;
        if keep > 0 {
            kept.push(Extent { start: extent.start, blocks: keep });
        }
        if keep < extent.blocks {
            freed.push(Extent { start: extent.start + keep, blocks: extent.blocks - keep });
        }
    }
    *extents = kept;
    freed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_off_and_what_is_kept_are_all_there_was() {
        let all = vec![Extent { start: 10, blocks: 5 }, Extent { start: 100, blocks: 5 }];
        let mut kept = all.clone();
        assert_eq!(cut(&mut kept, 7), [Extent { start: 102, blocks: 3 }]);
        assert_eq!(kept, [Extent { start: 10, blocks: 5 }, Extent { start: 100, blocks: 2 }]);
        let mut kept = all.clone();
        assert_eq!(cut(&mut kept, 5), [Extent { start: 100, blocks: 5 }]);
        let mut kept = all;
        assert_eq!(cut(&mut kept, 10), []);
        assert_eq!(kept.len(), 2);
    }
}
