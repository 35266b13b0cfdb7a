//! Making a channel: a verdict, blocks, a label entry, a place on a sidecore, an endpoint.

use vfiomux_policy::{Channel as PolicyChannel, Create, Device as PolicyDevice};
use vfiomux_rpc::{Caller, Change, ErrorCode, RpcError, Ticket, call};

use super::Control;
use super::attachment::Door;
use super::channel::{Channel, internal};
use super::procedure::Operation;
use super::question::{guarantees_of, policy_guarantees};
use super::tune::compile;
use crate::admission::Holder;
use crate::journal::Setting;
use crate::lifecycle::{Admin, Oper};
use crate::procedure::CREATE;
use crate::seeded::{self, Bug};

impl Control {
    /// `channel.create`.
    pub(crate) fn create(
        &mut self,
        ticket: Ticket,
        caller: Caller,
        change: Change,
        wanted: call::ChannelCreate,
    ) {
        let (name, tenant) = (wanted.name.clone(), wanted.tenant.clone());
        let holder = Holder { id: super::new_id(), name, tenant };
        // Held from before the policies are asked until the channel has it (L5).
        let asked = self.creation(caller, &change, &wanted).and_then(|question| {
            self.take_reservation(&question.channel.device, &holder, &wanted.guarantees)?;
            Ok(question)
        });
        let question = match asked {
            Ok(question) => question,
            Err(error) => return self.rpc.reply(ticket, Err(error)),
        };
        let device = question.channel.device.clone();
        self.ask_new(&wanted.name.clone(), caller, question, move |control, allowed| {
            let made = allowed.and_then(|allowed| {
                control.creation(caller, &change, &wanted)?;
                let guarantees = guarantees_of(&allowed.channel.guarantees);
                compile(&guarantees)?;
                // What they made of it may be more.
                control.take_reservation(&device, &holder, &guarantees)?;
                control.define(caller, &change, &wanted, &allowed.channel, &holder.id)
            });
            control.give_reservation_back(&device, &holder.id);
            control.create_defined(ticket, made);
        });
    }

    fn create_defined(&mut self, ticket: Ticket, made: Result<Created, RpcError>) {
        match made {
            Err(error) => self.rpc.reply(ticket, Err(error)),
            Ok(Created::DryRun(info)) => self.rpc.reply(ticket, Ok((*info).into())),
            Ok(Created::Begun { operation, door }) => {
                let id = operation.id.clone();
                self.carry_out(*operation, move |control, made| {
                    let made = made.map_err(|why| {
                        RpcError::new(ErrorCode::DeviceFault, why)
                            .about(format!("channel {}", control.name_of(&id)))
                            .next("see vfiomuxctl events, destroy the channel, and create it again")
                    });
                    let made = made.and_then(|()| match door {
                        Some(door) => control.attach_door(&id, *door),
                        None => Ok(()),
                    });
                    control.set_operation(&id, None);
                    control.answer_channel(ticket, &id, made);
                });
            }
        }
    }

    /// The question that a creation puts to policies, if nothing else stands in its way.
    fn creation(
        &self,
        caller: Caller,
        change: &Change,
        wanted: &call::ChannelCreate,
    ) -> Result<Create, RpcError> {
        let about = format!("channel {}", wanted.name);
        if let Ok(channel) = self.channel_named(&wanted.name) {
            return Err(RpcError::new(
                ErrorCode::Exists,
                format!("channel {} exists ({:?})", wanted.name, channel.setting.oper).to_lowercase(),
            )
            .about(about)
            .next("choose another name, or destroy that one first"));
        }
        compile(&wanted.guarantees)?;
        wanted.labels.check().map_err(|error| RpcError::invalid_argument("labels", error.to_string()))?;
        let device = self.device_named(&wanted.device)?;
        device.check_ready()?;
        Ok(Create {
            channel: PolicyChannel {
                id: String::new(),
                name: wanted.name.clone(),
                tenant: wanted.tenant.clone(),
                device: device.name.clone(),
                size_bytes: wanted.size_bytes,
                queues: wanted.queues,
                read_only: wanted.read_only,
                generation: 0,
                guarantees: policy_guarantees(&wanted.guarantees),
                labels: wanted.labels.0.clone(),
            },
            device: PolicyDevice {
                free_bytes: device.free_bytes(wanted.namespace),
                ..self.policy_device(&device.name)
            },
            tenant: self.policy_tenant(&wanted.tenant, None),
            caller_uid: caller.uid,
            dry_run: change.dry_run,
        })
    }

    /// Takes the blocks of a channel that policies allow in this form.
    fn define(
        &mut self,
        caller: Caller,
        change: &Change,
        wanted: &call::ChannelCreate,
        allowed: &PolicyChannel,
        id: &str,
    ) -> Result<Created, RpcError> {
        let device = self.device_named(&wanted.device)?;
        let free_bytes = device.free_bytes(wanted.namespace);
        let candidates =
            device.namespaces.iter().filter(|(id, _)| wanted.namespace.is_none_or(|only| only == **id));
        let fits = |size: u64| {
            candidates.clone().find(|(_, seat)| {
                let block = u64::from(seat.limits.block_bytes);
                seat.carving
                    .as_ref()
                    .is_ok_and(|carving| carving.pool.free_blocks().saturating_mul(block) >= size)
            })
        };
        let (size_bytes, queues, read_only) = (allowed.size_bytes, allowed.queues, allowed.read_only);
        let Some((&namespace, seat)) =
            fits(size_bytes).or_else(|| candidates.clone().find(|(_, seat)| seat.carving.is_ok()))
        else {
            let why = candidates
                .clone()
                .find_map(|(id, seat)| Some(format!("namespace {id}: {}", seat.carving.as_ref().err()?)));
            return Err(RpcError::new(
                ErrorCode::DeviceFault,
                format!(
                    "nothing can be carved from device {}: {}",
                    device.name,
                    why.unwrap_or_else(|| "it has no such namespace".to_owned())
                ),
            )
            .about(format!("device {}", device.name))
            .next(format!(
                "see vfiomuxctl device show {}, then vfiomuxctl device format {}",
                device.name, device.name
            )));
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
            Some(endpoint) if !change.dry_run => Some(Box::new(Door::open(endpoint)?)),
            _ => None,
        };
        let device_name = device.name.clone();
        let carving = self
            .devices
            .get_mut(&device_name)
            .and_then(|d| d.namespaces.get_mut(&namespace))
            .map(|seat| &mut seat.carving);
        let Some(Ok(carving)) = carving else { return Err(internal(&"the namespace is gone")) };
        let keeps_nothing = change.dry_run || seeded::is(Bug::CheckThenAct);
        let before = keeps_nothing.then(|| carving.pool.clone());
        let blocks = size_bytes.div_ceil(u64::from(block_bytes));
        let extents = carving.pool.take(blocks).map_err(|error| {
            RpcError::new(
                ErrorCode::NoSpace,
                format!("device {device_name} has no room for {size_bytes} bytes: {error}"),
            )
            .about(format!("device {device_name}"))
            .next(format!(
                "at most {free_bytes} bytes are free in one namespace; ask for less, or destroy a channel"
            ))
        })?;
        let (pool, taken_blocks) =
            (carving.label.pool.clone(), extents.iter().map(|extent| extent.blocks).sum::<u64>());
        if let Some(before) = before {
            carving.pool = before;
        }
        let setting = Setting {
            id: id.to_owned(),
            name: wanted.name.clone(),
            tenant: wanted.tenant.clone(),
            pool,
            size_bytes: taken_blocks * u64::from(block_bytes),
            queues,
            read_only,
            guarantees: guarantees_of(&allowed.guarantees),
            labels: wanted.labels.clone(),
            serial: None,
            endpoint: wanted.endpoint.clone(),
            admin: Admin::Enabled,
            oper: Oper::Defined,
            generation: 1,
        };
        let mut channel = Channel::new(setting.clone());
        (channel.device, channel.namespace, channel.block_bytes) =
            (device_name.clone(), namespace, block_bytes);
        channel.extents.clone_from(&extents);
        channel.operation = Some("being created");
        if change.dry_run {
            return Ok(Created::DryRun(Box::new(self.channel_info(&channel))));
        }
        let mut operation = Operation::on(CREATE, &channel);
        operation.wanted.uid = Some(caller.uid);
        self.channels.insert(setting.id, channel);
        Ok(Created::Begun { operation: Box::new(operation), door })
    }
}

/// How a creation went so far.
enum Created {
    DryRun(Box<vfiomux_rpc::ChannelInfo>),
    Begun { operation: Box<Operation>, door: Option<Box<Door>> },
}
