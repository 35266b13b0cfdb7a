//! What each method of the control protocol does.

use vfiomux_hw::PciAddress;
use vfiomux_rpc::{
    Caller, ConnectionId, ErrorCode, FunctionState, Method, Outcome, Request, Role, RpcError, Ticket, call,
};

use super::Control;
use super::channel::internal;
use super::device::{Device, NO_LABEL};
use super::discovery::denied_error;
use super::explain::channel_changed;
use super::job::Leg;
use crate::journal::Record;

/// Events given at once when nothing is said.
const EVENTS_AT_ONCE: u32 = 1000;

impl Control {
    /// Carries out one request. The answer may come later.
    pub(crate) fn serve_request(&mut self, request: Request) {
        let Request { ticket, caller, view, change, method } = request;
        if self.ending.is_some() && method.role_required() > Role::Read {
            let error = RpcError::new(ErrorCode::Busy, "the daemon is ending").next("ask the next one");
            return self.rpc.reply(ticket, Err(error));
        }
        if let Err(error) = self.check_view(&view, &method) {
            return self.rpc.reply(ticket, Err(error));
        }
        // Of a channel that the caller may not know of, nothing is remembered.
        let ticket = match channel_changed(&method) {
            Some(name) if !change.dry_run => ticket.remembered(method.name(), name),
            _ => ticket,
        };
        let answer = match method {
            Method::StatusShow(_) => Ok(self.status(&view).into()),
            Method::DeviceList(_) => {
                self.discover();
                self.device_list(&view).map(Outcome::from)
            }
            Method::DeviceShow(wanted) => self.device_show(&wanted.device).map(Outcome::from),
            Method::DeviceClaim(wanted) => return self.device_claim(ticket, caller, &change, &wanted),
            Method::DeviceRelease(wanted) => return self.device_release(ticket, &change, &wanted),
            Method::DeviceFormat(wanted) => return self.device_format(ticket, &change, &wanted),
            Method::DeviceCalibrate(wanted) => return self.device_calibrate(ticket, &change, &wanted),
            Method::ChannelCreate(wanted) => return self.create(ticket, caller, change, wanted),
            Method::ChannelList(wanted) => {
                let ours = self
                    .channels
                    .values()
                    .filter(|c| view.shows(&c.setting.tenant))
                    .filter(|c| wanted.tenant.as_ref().is_none_or(|t| *t == c.setting.tenant));
                let mut list: Vec<_> = ours.map(|channel| self.channel_info(channel)).collect();
                list.sort_by(|a, b| a.name.cmp(&b.name));
                Ok(list.into())
            }
            Method::ChannelShow(wanted) => {
                self.channel_named(&wanted.name).map(|channel| self.channel_info(channel).into())
            }
            Method::ChannelPath(wanted) => {
                self.channel_named(&wanted.name).map(|channel| self.channel_path(channel).into())
            }
            Method::ChannelExplain(wanted) => self.channel_explain(&wanted.name).map(Outcome::from),
            Method::ChannelAttach(wanted) => return self.attach(ticket, caller, change, wanted),
            Method::ChannelDetach(wanted) => return self.detach(ticket, &change, &wanted.name),
            Method::ChannelSuspend(wanted) => return self.suspend(ticket, &change, &wanted.name),
            Method::ChannelResume(wanted) => return self.resume(ticket, &change, &wanted.name),
            Method::ChannelResize(wanted) => return self.resize(ticket, caller, change, wanted),
            Method::ChannelTune(wanted) => return self.tune(ticket, caller, change, wanted),
            Method::ChannelMove(wanted) => return self.move_channel(ticket, caller, &change, &wanted),
            Method::ChannelSet(wanted) => return self.set_channel(ticket, caller, change, wanted),
            Method::ChannelMigrate(wanted) => Err(self.not_yet(
                &wanted.name,
                "take a channel to another host",
                "on this host, vfiomuxctl channel move; else copy the disk inside the guest, or with the VMM's own block migration",
            )),
            Method::ChannelSnapshot(wanted) => Err(self.not_yet(
                &wanted.name,
                "keep a channel's content as of a moment",
                "vfiomuxctl channel suspend, copy it through its endpoint, and resume it; or snapshot inside the guest",
            )),
            Method::ChannelClone(wanted) => Err(self.not_yet(
                &wanted.name,
                "make a channel with another's content",
                "vfiomuxctl channel create, then copy the content from within a guest that has both",
            )),
            Method::ChannelDestroy(wanted) => return self.destroy(ticket, caller, change, wanted),
            Method::TenantList(_) => Ok(self.tenant_list().into()),
            Method::TenantShow(wanted) => self.tenant_show(&wanted.name).map(Outcome::from),
            Method::TenantTune(wanted) => return self.tenant_tune(ticket, caller.uid, &change, &wanted),
            Method::SidecoreList(_) => Ok(self.sidecore_list().into()),
            Method::SidecoreShow(wanted) => self.sidecore_show(wanted.index).map(Outcome::from),
            Method::SidecoreSet(wanted) => return self.sidecore_set(ticket, caller, &change, &wanted),
            Method::JobList(_) => Ok(self.job_list().into()),
            Method::JobShow(wanted) => self.job_show(wanted.job).map(Outcome::from),
            Method::JobCancel(wanted) => self.job_cancel(wanted.job, change.dry_run).map(Outcome::from),
            Method::AuditList(wanted) => {
                let limit = wanted.limit.unwrap_or(EVENTS_AT_ONCE) as usize;
                Ok(self.audit.list(wanted.since.unwrap_or(0), limit, &view).into())
            }
            Method::CallerShow(_) => self.caller(ticket.connection(), None),
            Method::CallerConfine(wanted) => self.caller(ticket.connection(), Some(&wanted.tenant)),
            Method::PluginList(_) => return self.plugin_list(ticket),
            Method::PluginShow(wanted) => return self.plugin_show(ticket, &wanted.name),
            Method::PluginLoad(wanted) => return self.plugin_load(ticket, caller, &change, wanted),
            Method::PluginReplace(wanted) => return self.plugin_replace(ticket, caller, &change, wanted),
            Method::PluginUnload(wanted) => {
                return self.plugin_unload(ticket, caller, &change, &wanted.name);
            }
            Method::PluginRecord(wanted) => return self.plugin_record(ticket, wanted),
            Method::EventsList(wanted) => {
                let limit = wanted.limit.unwrap_or(EVENTS_AT_ONCE) as usize;
                Ok(self.events.list(wanted.since, limit, &view).into())
            }
            Method::EventsSubscribe(wanted) => return self.subscribe(ticket, wanted.since),
        };
        self.rpc.reply(ticket, answer);
    }

    /// Whom a connection is taken for, once it is confined to a tenant when one is given.
    fn caller(&mut self, connection: ConnectionId, tenant: Option<&str>) -> Result<Outcome, RpcError> {
        let info = match tenant {
            Some(tenant) => self.rpc.confine(connection, tenant),
            None => self.rpc.caller_info(connection),
        };
        info.map(Outcome::from).ok_or_else(|| internal(&"the connection is gone"))
    }

    fn subscribe(&mut self, ticket: Ticket, since: Option<u64>) {
        let connection = ticket.connection();
        let (subscription, backlog) = self.events.subscribe(since);
        self.rpc.reply(ticket, Ok(subscription.into()));
        self.rpc.subscribe(connection, backlog);
    }

    /// A device that we own, by its name or PCI address, short or long.
    pub(crate) fn device_named(&self, name: &str) -> Result<&Device, RpcError> {
        let name = canonical(name);
        self.devices.get(&name).ok_or_else(|| {
            if let Some(why) = self.denial(&name) {
                return denied_error(&name, why);
            }
            let parsed = name.parse::<PciAddress>();
            let bound = parsed.as_ref().ok().and_then(|address| self.sysfs.driver(*address).ok().flatten());
            match (parsed, bound) {
                (Ok(address), Some(driver)) => {
                    RpcError::new(ErrorCode::NotFound, format!("device {address} is bound to {driver}"))
                        .about(format!("device {address}"))
                        .next(format!("run vfiomuxctl device claim {address}"))
                }
                (Ok(address), None) => {
                    RpcError::new(ErrorCode::NotFound, format!("device {address} is not claimed"))
                        .about(format!("device {address}"))
                        .next(format!("see vfiomuxctl device list, then vfiomuxctl device claim {address}"))
                }
                _ => {
                    RpcError::not_found(format!("device {name}"), "see the names with vfiomuxctl device list")
                }
            }
        })
    }

    fn device_claim(
        &mut self,
        ticket: Ticket,
        caller: Caller,
        change: &vfiomux_rpc::Change,
        wanted: &call::DeviceClaim,
    ) {
        let address = match self.check_claim(wanted) {
            Ok(address) => address,
            Err(error) => return self.rpc.reply(ticket, Err(error)),
        };
        let (dry_run, wanted) = (change.dry_run, wanted.clone());
        self.ask_claim(address, caller, dry_run, move |control, allowed| {
            match allowed.and_then(|()| control.check_claim(&wanted)) {
                Ok(address) if !dry_run => control.claim_now(ticket, address),
                Ok(address) => {
                    let info = control.device_show(&address.to_string());
                    control.rpc.reply(ticket, info.map(Outcome::from));
                }
                Err(error) => control.rpc.reply(ticket, Err(error)),
            }
        });
    }

    /// The function that is to be claimed, if nothing stands in the way.
    fn check_claim(&self, wanted: &call::DeviceClaim) -> Result<PciAddress, RpcError> {
        let parsed = wanted.device.parse::<PciAddress>().map_err(|error| {
            RpcError::invalid_argument("device", error.to_string()).next("see vfiomuxctl device list")
        });
        parsed.and_then(|address| {
            let name = address.to_string();
            match self.devices.get(&name) {
                Some(device) if !matches!(device.state, FunctionState::Lost | FunctionState::Failed) => {
                    Err(RpcError::new(ErrorCode::Exists, format!("device {name} is ours already"))
                        .about(format!("device {name}")))
                }
                Some(device) if device.operation.is_some() => {
                    Err(RpcError::new(ErrorCode::Busy, format!("device {name} is still leaving"))
                        .about(format!("device {name}"))
                        .next("try again in a moment"))
                }
                _ => self.claimable(address).map(|()| address),
            }
        })
    }

    fn claim_now(&mut self, ticket: Ticket, address: PciAddress) {
        let name = address.to_string();
        // One that was lost, or has failed, is taken as it is found.
        self.set_function_state(&name, FunctionState::Discovered, Some("it is claimed again".to_owned()));
        self.devices.remove(&name);
        let open = (self.pci_opener)(address);
        let owned = name.clone();
        self.when_settled(&name, move |control, result| {
            // It may have left before it was ready.
            let claimed = result.and_then(|()| control.device_named(&owned)?.check_ready());
            let answer = claimed.and_then(|()| control.device_show(&owned)).map(Outcome::from);
            control.rpc.reply(ticket, answer);
        });
        if let Err(error) = self.open_device(&name, Some(name.clone()), open, false) {
            self.device_settled(&name, Err(error));
        }
    }

    /// Whether nothing stands in the way of a claim; the device's thread finds out again when it does it.
    fn claimable(&self, address: PciAddress) -> Result<(), RpcError> {
        let function = self.sysfs.function(address).map_err(|error| {
            RpcError::new(ErrorCode::NotFound, error.to_string())
                .about(format!("device {address}"))
                .next("see vfiomuxctl device list")
        })?;
        if function.holders.is_empty() {
            return Ok(());
        }
        let holders: Vec<String> = function.holders.iter().map(ToString::to_string).collect();
        Err(RpcError::new(ErrorCode::Busy, format!("device {address} is in use: {}", holders.join("; ")))
            .about(format!("device {address}"))
            .next("unmount or stop what uses it, then claim it again"))
    }

    /// Has `next` run when what goes on with a device has come to its end.
    pub(crate) fn when_settled(
        &mut self,
        name: &str,
        next: impl FnOnce(&mut Control, Result<(), RpcError>) + 'static,
    ) {
        self.awaiting_device.entry(name.to_owned()).or_default().push(Box::new(next));
    }

    fn device_release(&mut self, ticket: Ticket, change: &vfiomux_rpc::Change, wanted: &call::DeviceRelease) {
        let checked = self.device_idle(&wanted.device, change.expected_generation).and_then(|name| {
            let channels = self
                .channels
                .values()
                .filter(|channel| channel.device == name && channel.seat.is_some())
                .count();
            if channels > 0 {
                return Err(RpcError::new(
                    ErrorCode::Busy,
                    format!("device {name} serves {channels} channels"),
                )
                .about(format!("device {name}"))
                .next(
                    "destroy them first, or detach and suspend them elsewhere; see vfiomuxctl channel list",
                ));
            }
            Ok(name)
        });
        let name = match checked {
            Ok(name) if !change.dry_run => name,
            Ok(name) => {
                let info = self.device_show(&name);
                return self.rpc.reply(ticket, info.map(Outcome::from));
            }
            Err(error) => return self.rpc.reply(ticket, Err(error)),
        };
        self.set_device_operation(&name, Some("being released"));
        self.set_function_state(&name, FunctionState::Releasing, None);
        let owned = name.clone();
        self.close_device(&name, move |control| control.release_function(ticket, &owned));
    }

    fn release_function(&mut self, ticket: Ticket, name: &str) {
        let Some(device) = self.devices.get(name) else { return };
        let address = device.address.clone().and_then(|address| address.parse::<PciAddress>().ok());
        let driver = self.journal.settings().claims.get(name).cloned().flatten();
        let (sysfs, owned) = (self.sysfs.clone(), name.to_owned());
        device.worker.run(
            move |_| match address {
                Some(address) => vfiomux_hw::bind::release(&sysfs, address, driver.as_deref())
                    .map_err(|error| error.to_string()),
                None => Ok(()),
            },
            move |control, released| {
                control.set_device_operation(&owned, None);
                match released {
                    Ok(()) => {
                        control.set_function_state(&owned, FunctionState::Discovered, None);
                        control.journal_append(&Record::Released { address: owned.clone() });
                        let info = control.devices.remove(&owned).map(|device| control.device_info(&device));
                        let shown = control.device_show(&owned).ok().or(info);
                        let answer = shown.ok_or_else(|| internal(&"the device is gone")).map(Outcome::from);
                        control.rpc.reply(ticket, answer);
                    }
                    Err(why) => {
                        control.set_function_state(&owned, FunctionState::Failed, Some(why.clone()));
                        control.rpc.reply(
                            ticket,
                            Err(RpcError::new(ErrorCode::DeviceFault, why).about(format!("device {owned}"))),
                        );
                    }
                }
            },
        );
    }

    fn device_format(&mut self, ticket: Ticket, change: &vfiomux_rpc::Change, wanted: &call::DeviceFormat) {
        let checked = self.device_idle(&wanted.device, change.expected_generation).and_then(|name| {
            let device = self.device_named(&name)?;
            device.check_ready()?;
            let about = format!("device {name}");
            let channels = self.channels.values().filter(|channel| channel.device == name).count();
            if channels > 0 {
                return Err(RpcError::new(ErrorCode::Busy, format!("device {name} has {channels} channels"))
                    .about(about)
                    .next("destroy them first; see vfiomuxctl channel list"));
            }
            for (namespace, seat) in device.namespaces.iter().filter(|_| !wanted.erase) {
                let holds = match &seat.carving {
                    Ok(_) => Some("a vfiomux label".to_owned()),
                    Err(why) if why == NO_LABEL => None,
                    Err(why) => Some(why.clone()),
                };
                if let Some(what) = holds {
                    return Err(RpcError::new(
                        ErrorCode::Busy,
                        format!("namespace {namespace} of device {name} is not blank: {what}"),
                    )
                    .about(about)
                    .next(format!(
                        "if nobody needs what is on it, vfiomuxctl device format {name} --erase"
                    )));
                }
            }
            Ok((name.clone(), device.namespaces.keys().copied().collect::<Vec<_>>()))
        });
        match checked {
            Ok((name, namespaces)) if !change.dry_run => {
                self.set_device_operation(&name, Some("being formatted"));
                self.format_each(ticket, name, namespaces);
            }
            Ok((name, _)) => {
                let info = self.device_show(&name);
                self.rpc.reply(ticket, info.map(Outcome::from));
            }
            Err(error) => self.rpc.reply(ticket, Err(error)),
        }
    }

    fn format_each(&mut self, ticket: Ticket, name: String, mut left: Vec<u32>) {
        let Some(namespace) = left.pop() else {
            self.set_device_operation(&name, None);
            let info = self.device_show(&name);
            return self.rpc.reply(ticket, info.map(Outcome::from));
        };
        // Namespaces are rarely more than one; each counts from the beginning.
        let leg = Leg::whole(ticket.job());
        self.format_namespace(&name.clone(), namespace, false, leg, move |control, result| match result {
            Ok(()) => control.format_each(ticket, name, left),
            Err(why) => {
                control.set_device_operation(&name, None);
                let error = RpcError::new(
                    ErrorCode::DeviceFault,
                    format!("namespace {namespace} of device {name}: {why}"),
                );
                control.rpc.reply(ticket, Err(error.about(format!("device {name}"))));
            }
        });
    }

    /// The device, when no operation is under way on it and its generation fits.
    pub(crate) fn device_idle(
        &self,
        name: &str,
        expected_generation: Option<u64>,
    ) -> Result<String, RpcError> {
        let device = self.device_named(name)?;
        let about = format!("device {}", device.name);
        if let Some(operation) = device.operation {
            return Err(RpcError::new(ErrorCode::Busy, format!("{about} is {operation}"))
                .about(about)
                .next("try again when it is done"));
        }
        if device.incoming > 0 {
            return Err(RpcError::new(ErrorCode::Busy, format!("a channel is on its way to {about}"))
                .about(about)
                .next("see vfiomuxctl job list, and try again when it has come"));
        }
        if expected_generation.is_some_and(|expected| expected != device.generation) {
            return Err(RpcError::new(
                ErrorCode::Conflict,
                format!("{about} has generation {}", device.generation),
            )
            .about(about)
            .next("look at it again with vfiomuxctl device show, then ask anew"));
        }
        Ok(device.name.clone())
    }

    pub(crate) fn set_device_operation(&mut self, name: &str, operation: Option<&'static str>) {
        if let Some(device) = self.devices.get_mut(name) {
            device.operation = operation;
        }
    }
}

/// A PCI address in its long form; any other name as it is.
pub(crate) fn canonical(name: &str) -> String {
    name.parse::<PciAddress>().map_or_else(|_| name.to_owned(), |address| address.to_string())
}
