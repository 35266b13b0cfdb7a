//! `vfiomuxctl`: what an operator types.
//!
//! A verb becomes one call of the control protocol; its result is printed as a table for people, or with `--json` exactly
//! as it came. Nothing is decided here: whoever wants to know whether something is allowed asks the daemon, with `--dry-run`.
//!
//! ```text
//!   arguments ─► call::… ─► vfiomux_rpc::Client ─► vfiomuxd
//!   stdout ◄─ device, channel, status, events (tables) ◄─ result
//!   stderr, exit code ◄─ failure
//! ```
#![forbid(unsafe_code)]

mod apply;
mod arguments;
mod audit;
mod caller;
mod channel;
mod device;
mod events;
mod explanation;
mod failure;
mod generate;
mod guarantees;
mod job;
mod new_plugin;
mod plugin;
mod record;
mod session;
mod sidecore;
mod size;
mod status;
mod table;
mod tenant;
mod units;
mod watch;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use vfiomux_rpc::{Labels, call};

use arguments::{
    Arguments, ChannelVerb, DeviceVerb, JobVerb, NamedChange, PluginVerb, SidecoreVerb, TenantVerb, Verb,
    absolute, endpoint,
};
use failure::Failure;
use session::Session;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(arguments.json),
    }
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    let connect = || Session::connect(&arguments.control, arguments.json, arguments.as_tenant.as_deref());
    match &arguments.verb {
        Verb::Device(verb) => run_device(connect()?, verb),
        Verb::Channel(verb) => run_channel(connect()?, verb),
        Verb::Tenant(verb) => run_tenant(connect()?, verb),
        Verb::Sidecore(verb) => run_sidecore(connect()?, verb),
        Verb::Job(verb) => run_job(connect()?, verb),
        Verb::Plugin(verb) => run_plugin(connect, verb),
        Verb::Apply(wanted) => apply::run(connect, wanted),
        Verb::Status { watch: false } => connect()?.show(&call::StatusShow {}, status::overview),
        Verb::Status { watch: true } => watch::run(connect()?),
        Verb::Events(wanted) => events::run(connect()?, wanted),
        Verb::Audit { since, limit } => {
            connect()?.show(&call::AuditList { since: *since, limit: *limit }, audit::list)
        }
        Verb::Whoami => connect()?.show(&call::CallerShow {}, caller::overview),
        Verb::Completions { shell } => generate::completions(*shell),
        Verb::Man { directory } => generate::manual(directory.as_deref()),
    }
}

fn run_device(mut session: Session, verb: &DeviceVerb) -> Result<(), Failure> {
    let device = |name: &String| name.clone();
    match verb {
        DeviceVerb::List => session.show(&call::DeviceList {}, device::list),
        DeviceVerb::Show { device: name } => {
            session.show(&call::DeviceShow { device: device(name) }, device::details)
        }
        DeviceVerb::Claim { device: name, change } => {
            session.change(&call::DeviceClaim { device: device(name) }, change, device::claimed)
        }
        DeviceVerb::Release { device: name, change } => {
            session.change(&call::DeviceRelease { device: device(name) }, change, device::released)
        }
        DeviceVerb::Format { device: name, erase, change } => {
            let format = call::DeviceFormat { device: device(name), erase: *erase };
            session.change_long(&format, change, device::formatted)
        }
        DeviceVerb::Calibrate { device: name, force, duration_ms, change } => {
            let calibrate =
                call::DeviceCalibrate { device: device(name), force: *force, duration_ms: *duration_ms };
            session.change_long(&calibrate, change, device::calibrated)
        }
    }
}

fn run_tenant(mut session: Session, verb: &TenantVerb) -> Result<(), Failure> {
    match verb {
        TenantVerb::List => session.show(&call::TenantList {}, tenant::list),
        TenantVerb::Show { name } => session.show(&call::TenantShow { name: name.clone() }, tenant::details),
        TenantVerb::Tune { name, limits, change } => {
            let tune = call::TenantTune { name: name.clone(), limits: limits.to_limits() };
            session.change(&tune, change, tenant::tuned)
        }
    }
}

fn run_plugin(connect: impl FnOnce() -> Result<Session, Failure>, verb: &PluginVerb) -> Result<(), Failure> {
    match verb {
        PluginVerb::New(wanted) => {
            let next = new_plugin::write(wanted)?;
            io::stdout().write_all(next.as_bytes()).map_err(Failure::Output)
        }
        PluginVerb::List => connect()?.show(&call::PluginList {}, plugin::list),
        PluginVerb::Show { name } => {
            connect()?.show(&call::PluginShow { name: name.clone() }, plugin::details)
        }
        PluginVerb::Load { name, library, config, order, deadline_ms, change } => {
            let call = call::PluginLoad {
                name: name.clone(),
                library: absolute(library)?,
                config: config.as_deref().map(absolute).transpose()?,
                order: *order,
                deadline_ms: *deadline_ms,
            };
            connect()?.change(&call, change, plugin::loaded)
        }
        PluginVerb::Replace { name, library, config, deadline_ms, change } => {
            let call = call::PluginReplace {
                name: name.clone(),
                library: library.as_deref().map(absolute).transpose()?,
                config: config.as_deref().map(absolute).transpose()?,
                deadline_ms: *deadline_ms,
            };
            connect()?.change(&call, change, plugin::replaced)
        }
        PluginVerb::Record(wanted) => record::run(connect()?, wanted),
        PluginVerb::Unload { name, change } => {
            connect()?.change(&call::PluginUnload { name: name.clone() }, change, plugin::unloaded)
        }
    }
}

fn run_sidecore(mut session: Session, verb: &SidecoreVerb) -> Result<(), Failure> {
    match *verb {
        SidecoreVerb::List => session.show(&call::SidecoreList {}, sidecore::list),
        SidecoreVerb::Show { index } => session.show(&call::SidecoreShow { index }, sidecore::details),
        SidecoreVerb::Set { index, mode, ref change } => {
            session.change(&call::SidecoreSet { index, mode: mode.into() }, change, sidecore::set)
        }
    }
}

fn run_job(mut session: Session, verb: &JobVerb) -> Result<(), Failure> {
    match *verb {
        JobVerb::List => session.show(&call::JobList {}, job::list),
        JobVerb::Show { job } => session.show(&call::JobShow { job }, job::details),
        JobVerb::Wait { job } => job::wait(session, job),
        JobVerb::Cancel { job, ref change } => {
            session.change(&call::JobCancel { job }, change, job::cancelled)
        }
    }
}

fn run_channel(mut session: Session, verb: &ChannelVerb) -> Result<(), Failure> {
    let name = |named: &NamedChange| named.name.clone();
    match verb {
        ChannelVerb::Create(create) => {
            let path = create.endpoint.as_deref();
            let call = call::ChannelCreate {
                name: create.name.clone(),
                device: create.device.clone(),
                tenant: create.tenant.clone(),
                size_bytes: create.size,
                queues: create.queues,
                endpoint: path.map(|path| endpoint(path, create.client)).transpose()?,
                namespace: create.namespace,
                block_bytes: create.block_size,
                read_only: create.read_only,
                guarantees: create.guarantees.to_guarantees(),
                labels: Labels(create.labels.iter().cloned().collect()),
            };
            session.change(&call, &create.change, channel::created)
        }
        ChannelVerb::List { tenant } => {
            session.show(&call::ChannelList { tenant: tenant.clone() }, channel::list)
        }
        ChannelVerb::Show { name, vmm } => {
            let call = call::ChannelShow { name: name.clone() };
            match vmm.chosen() {
                Some(vmm) => session.attachment(&call, vmm),
                None => session.show(&call, channel::details),
            }
        }
        ChannelVerb::Path { name } => session.show(&call::ChannelPath { name: name.clone() }, channel::path),
        ChannelVerb::Explain { name } => {
            session.show(&call::ChannelExplain { name: name.clone() }, explanation::details)
        }
        ChannelVerb::Attach { name, endpoint: path, client, change } => {
            let endpoint = endpoint(path, *client)?;
            session.change(&call::ChannelAttach { name: name.clone(), endpoint }, change, channel::attached)
        }
        ChannelVerb::Detach(named) => {
            session.change(&call::ChannelDetach { name: name(named) }, &named.change, channel::detached)
        }
        ChannelVerb::Suspend(named) => {
            session.change(&call::ChannelSuspend { name: name(named) }, &named.change, channel::suspended)
        }
        ChannelVerb::Resume(named) => {
            session.change(&call::ChannelResume { name: name(named) }, &named.change, channel::resumed)
        }
        ChannelVerb::Resize { name, size, change } => {
            let call = call::ChannelResize { name: name.clone(), size_bytes: *size };
            session.change_long(&call, change, channel::resized)
        }
        ChannelVerb::Set(set) => {
            let given = !set.labels.is_empty() || set.no_labels;
            let call = call::ChannelSet {
                name: set.name.clone(),
                new_name: set.rename.clone(),
                labels: given.then(|| Labels(set.labels.iter().cloned().collect())),
                serial: set.serial.clone(),
                queues: set.queues,
                read_only: set.read_only,
            };
            session.change(&call, &set.change, channel::set)
        }
        ChannelVerb::Migrate { name, to, check, change } => {
            let call = call::ChannelMigrate { name: name.clone(), to: to.clone(), check: *check };
            session.change(&call, change, channel::set)
        }
        ChannelVerb::Snapshot { name, snapshot, change } => {
            let call = call::ChannelSnapshot { name: name.clone(), snapshot: snapshot.clone() };
            session.change(&call, change, channel::set)
        }
        ChannelVerb::Clone { name, new_name, change } => {
            let call = call::ChannelClone { name: name.clone(), new_name: new_name.clone() };
            session.change(&call, change, channel::set)
        }
        ChannelVerb::Tune { name, guarantees, change } => {
            let call = call::ChannelTune { name: name.clone(), guarantees: guarantees.to_guarantees() };
            session.change(&call, change, channel::tuned)
        }
        ChannelVerb::Move { name, target, change } => {
            let call = call::ChannelMove {
                name: name.clone(),
                sidecore: target.sidecore,
                device: target.device.clone(),
            };
            session.change_long(&call, change, channel::moved)
        }
        ChannelVerb::Destroy { name, force, change } => {
            let call = call::ChannelDestroy { name: name.clone(), force: *force };
            session.change_long(&call, change, channel::destroyed)
        }
    }
}
