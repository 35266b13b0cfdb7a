//! What can be typed.

use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};
use vfiomux_rpc::vmm_arguments::Vmm;
use vfiomux_rpc::{Change, DEFAULT_CONTROL_PATH, Endpoint, EndpointMode, SidecoreMode};

use crate::apply::ApplyArguments;
use crate::failure::{AFTER_HELP, Failure};
use crate::guarantees::{GuaranteeArguments, LimitArguments};
use crate::size;

/// Talks to vfiomuxd, which carves devices into channels and serves them to virtual machines.
#[derive(Debug, Parser)]
#[command(name = "vfiomuxctl", version, after_help = AFTER_HELP, disable_help_subcommand = true)]
pub(crate) struct Arguments {
    /// Control socket of the daemon
    #[arg(long, global = true, value_name = "PATH", env = "VFIOMUX_CONTROL", default_value = DEFAULT_CONTROL_PATH)]
    pub(crate) control: PathBuf,
    /// Print results as the daemon gives them, in JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// See and touch only what this tenant may
    #[arg(long, global = true, value_name = "TENANT")]
    pub(crate) as_tenant: Option<String>,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Devices: what there is, what is ours, what is left
    #[command(subcommand)]
    Device(DeviceVerb),
    /// Channels: virtual disks carved from devices
    #[command(subcommand)]
    Channel(Box<ChannelVerb>),
    /// Tenants: what all channels of one are held to together
    #[command(subcommand)]
    Tenant(TenantVerb),
    /// Sidecores: the threads that move the data
    #[command(subcommand)]
    Sidecore(SidecoreVerb),
    /// Jobs: long operations, under way or ended of late
    #[command(subcommand)]
    Job(JobVerb),
    /// Policy plugins: libraries that decide who may have what
    #[command(subcommand)]
    Plugin(PluginVerb),
    /// Bring about what a file says: create, change and, with --prune, destroy channels
    Apply(ApplyArguments),
    /// The daemon in short
    Status {
        /// Show channels at work, once a second, until interrupted
        #[arg(long)]
        watch: bool,
    },
    /// What has changed, and what is changing
    Events(EventsWanted),
    /// The changes that were asked for: by whom, what policies said, what became of them
    Audit {
        /// Only entries after number N [default: all at hand]
        #[arg(long, value_name = "N")]
        since: Option<u64>,
        /// At most so many, the oldest first
        #[arg(long, value_name = "N")]
        limit: Option<u32>,
    },
    /// Whom the daemon takes you for, and what you may do
    Whoami,
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or write all of them into a directory
    Man {
        /// Where to write them
        #[arg(value_name = "DIR")]
        directory: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum DeviceVerb {
    /// List the devices of this host, with whoever holds them
    List,
    /// Show a device
    Show {
        /// Name or PCI address
        device: String,
    },
    /// Take exclusive ownership of a device that nobody uses
    Claim {
        /// PCI address
        device: String,
        #[command(flatten)]
        change: ChangeArguments,
    },
    /// Give a device without channels back to the driver it came from
    Release {
        /// Name or PCI address
        device: String,
        #[command(flatten)]
        change: ChangeArguments,
    },
    /// Write an empty label on a device, so that it can be carved
    Format {
        /// Name or PCI address
        device: String,
        /// Destroy whatever is found on it
        #[arg(long)]
        erase: bool,
        #[command(flatten)]
        change: LongChange,
    },
    /// Measure what a device does, on blocks that no channel has; what is reserved on it is held against that
    Calibrate {
        /// Name or PCI address
        device: String,
        /// Also while channels are at work on it: they are slowed down, and so is what is measured
        #[arg(long)]
        force: bool,
        /// How long each of the five measurements takes, milliseconds [default: 1000]
        #[arg(long, value_name = "MS")]
        duration_ms: Option<u32>,
        #[command(flatten)]
        change: LongChange,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ChannelVerb {
    /// Carve a channel, and serve it at an endpoint
    Create(CreateArguments),
    /// List the channels
    List {
        /// Only this tenant's
        #[arg(long)]
        tenant: Option<String>,
    },
    /// Show a channel, or how to attach it to a VMM
    Show {
        /// Name of the channel
        name: String,
        #[command(flatten)]
        vmm: VmmArguments,
    },
    /// Show the way of a channel's I/O between VM and device
    Path {
        /// Name of the channel
        name: String,
    },
    /// Say why a channel was refused, why it is served as it is, and what its requests wait for now
    Explain {
        /// Name of the channel
        name: String,
    },
    /// Give a channel an endpoint
    Attach {
        /// Name of the channel
        name: String,
        /// The vhost-user socket
        #[arg(long, value_name = "SOCKET")]
        endpoint: PathBuf,
        /// The VMM listens there, and the daemon connects
        #[arg(long)]
        client: bool,
        #[command(flatten)]
        change: ChangeArguments,
    },
    /// Drain a channel and take its endpoint away
    Detach(NamedChange),
    /// Drain a channel and keep everything
    Suspend(NamedChange),
    /// Let a suspended or quarantined channel go on
    Resume(NamedChange),
    /// Make a channel larger or smaller
    Resize {
        /// Name of the channel
        name: String,
        /// Its new size: bytes, or with K, M, G or T
        #[arg(long, value_parser = size::parse)]
        size: u64,
        #[command(flatten)]
        change: LongChange,
    },
    /// Change what a channel is called and what its guest sees of it; what is left out stays
    Set(SetArguments),
    /// Take a channel to another host; not in this version
    Migrate {
        /// Name of the channel
        name: String,
        /// The host that it is to go to
        #[arg(long, value_name = "HOST")]
        to: String,
        /// Only find out whether it could
        #[arg(long)]
        check: bool,
        #[command(flatten)]
        change: ChangeArguments,
    },
    /// Keep a channel's content as of this moment; not in this version
    Snapshot {
        /// Name of the channel
        name: String,
        /// What the content is to be called
        snapshot: String,
        #[command(flatten)]
        change: ChangeArguments,
    },
    /// Make a channel with another's content; not in this version
    Clone {
        /// Name of the channel
        name: String,
        /// Name of the new one
        new_name: String,
        #[command(flatten)]
        change: ChangeArguments,
    },
    /// Give a channel other guarantees, with its I/O running; what is left out is neither promised nor limited any more
    Tune {
        /// Name of the channel
        name: String,
        #[command(flatten)]
        guarantees: GuaranteeArguments,
        #[command(flatten)]
        change: ChangeArguments,
    },
    /// Have another sidecore serve a channel, or another device hold it, with its I/O running
    Move {
        /// Name of the channel
        name: String,
        #[command(flatten)]
        target: MoveTarget,
        #[command(flatten)]
        change: LongChange,
    },
    /// End a channel, scrub its data and give its resources back
    Destroy {
        /// Name of the channel
        name: String,
        /// Also while a front-end is connected
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        change: LongChange,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum TenantVerb {
    /// List the tenants that have channels or limits
    List,
    /// Show a tenant
    Show {
        /// Name of the tenant
        name: String,
    },
    /// Give a tenant other limits over all its channels, with their I/O running; what is left out is not limited any more
    Tune {
        /// Name of the tenant
        name: String,
        #[command(flatten)]
        limits: LimitArguments,
        #[command(flatten)]
        change: ChangeArguments,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum SidecoreVerb {
    /// List the sidecores
    List,
    /// Show how a sidecore spends its time, how fast it wakes, and what part of that each channel has
    Show {
        /// Its number
        index: u32,
    },
    /// Have a sidecore poll, spin or sleep when there is nothing to do, until the daemon ends
    Set {
        /// Its number
        index: u32,
        /// What it does when there is nothing to do
        #[arg(long, value_enum)]
        mode: ModeArgument,
        #[command(flatten)]
        change: ChangeArguments,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum JobVerb {
    /// List the jobs that are under way, and the last that have ended
    List,
    /// Show a job
    Show {
        /// Its number
        job: u64,
    },
    /// Wait until a job has ended, showing how far it is; fails as the job failed
    Wait {
        /// Its number
        job: u64,
    },
    /// Have a job end early, where it can
    Cancel {
        /// Its number
        job: u64,
        #[command(flatten)]
        change: ChangeArguments,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum PluginVerb {
    /// List the plugins, in the order in which they are asked
    List,
    /// Show a plugin: what holds it, what it answered, what it last did wrong
    Show {
        /// Name of the plugin
        name: String,
    },
    /// Have a plugin asked from now on, and again after every start of the daemon
    Load {
        /// What to call it: small letters, digits and hyphens
        name: String,
        /// The shared library
        #[arg(long, value_name = "PATH")]
        library: PathBuf,
        /// A file that it is given to read whenever it begins
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Plugins of a lower order are asked before it
        #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
        order: i32,
        /// How long it may take to answer, 1 to 60000 [default: 500 for a verdict, 1000 for a report]
        #[arg(long, value_name = "MS")]
        deadline_ms: Option<u64>,
        #[command(flatten)]
        change: ChangeArguments,
    },
    /// Put another plugin into the place of one, after asking it about every channel
    Replace {
        /// Name of the plugin
        name: String,
        /// The new shared library [default: the same path, read anew]
        #[arg(long, value_name = "PATH")]
        library: Option<PathBuf>,
        /// A file that the new one is given to read [default: that of the old one, read anew]
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// How long it may take to answer, 1 to 60000 [default: as long as the old one]
        #[arg(long, value_name = "MS")]
        deadline_ms: Option<u64>,
        #[command(flatten)]
        change: ChangeArguments,
    },
    /// Write a crate to begin a policy from: it builds, tests and loads as it is
    New(NewPlugin),
    /// Write down what a plugin is asked, and what it answers, until interrupted
    Record(RecordWanted),
    /// Have a plugin asked no more
    Unload {
        /// Name of the plugin
        name: String,
        #[command(flatten)]
        change: ChangeArguments,
    },
}

/// What is to be recorded, and for how long. The file is one that the SDK's harness asks again.
#[derive(Debug, Args)]
pub(crate) struct RecordWanted {
    /// Name of the plugin
    pub(crate) name: String,
    /// The recording: a new file that only its owner can read, for it names tenants, channels and sockets
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// End when so many questions have been written
    #[arg(long, value_name = "N")]
    pub(crate) questions: Option<u64>,
}

/// A crate to begin a policy from. No daemon is asked.
#[derive(Debug, Args)]
pub(crate) struct NewPlugin {
    /// Name of the crate: small letters, digits and hyphens
    pub(crate) name: String,
    /// Directory that the crate's directory goes into [default: here]
    #[arg(long, value_name = "DIR")]
    pub(crate) path: Option<PathBuf>,
    /// Where plugins/sdk of a checkout lies [default: that of the checkout that DIR is in]
    #[arg(long, value_name = "DIR", conflicts_with = "sdk_git")]
    pub(crate) sdk_path: Option<PathBuf>,
    /// The repository that cargo gets the SDK from
    #[arg(long, value_name = "URL")]
    pub(crate) sdk_git: Option<String>,
}

/// What a sidecore does when there is nothing to do.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum ModeArgument {
    /// Look again, for ever
    Poll,
    /// Spin while that is likely to cost less than a sleep, else sleep
    Adaptive,
    /// Sleep at once
    Event,
}

impl From<ModeArgument> for SidecoreMode {
    fn from(mode: ModeArgument) -> Self {
        match mode {
            ModeArgument::Poll => Self::Poll,
            ModeArgument::Adaptive => Self::Adaptive,
            ModeArgument::Event => Self::Event,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct CreateArguments {
    /// Name of the channel: small letters, digits and hyphens
    pub(crate) name: String,
    /// Device to carve it from: name or PCI address
    #[arg(long)]
    pub(crate) device: String,
    /// Whose it is
    #[arg(long)]
    pub(crate) tenant: String,
    /// Its size: bytes, or with K, M, G or T
    #[arg(long, value_parser = size::parse)]
    pub(crate) size: u64,
    /// Most virtqueues that a VM may use
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) queues: u16,
    /// The vhost-user socket; without it, the channel waits for channel attach
    #[arg(long, value_name = "SOCKET")]
    pub(crate) endpoint: Option<PathBuf>,
    /// The VMM listens there, and the daemon connects
    #[arg(long, requires = "endpoint")]
    pub(crate) client: bool,
    /// NVMe namespace to carve it from [default: the first that has room]
    #[arg(long, value_name = "ID")]
    pub(crate) namespace: Option<u32>,
    /// Size of a block as the VM sees it [default: the namespace's]
    #[arg(long, value_parser = size::parse_block, value_name = "BYTES")]
    pub(crate) block_size: Option<u32>,
    /// Refuse writes
    #[arg(long)]
    pub(crate) read_only: bool,
    /// Something to write on it, for policies and people, such as tier=gold; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    pub(crate) labels: Vec<(String, String)>,
    #[command(flatten)]
    pub(crate) guarantees: GuaranteeArguments,
    #[command(flatten)]
    pub(crate) change: ChangeArguments,
}

/// What of a channel is changed.
#[derive(Debug, Args)]
pub(crate) struct SetArguments {
    /// Name of the channel
    pub(crate) name: String,
    /// What it is called from now on
    #[arg(long, value_name = "NAME")]
    pub(crate) rename: Option<String>,
    /// A label that it has from now on, beside the others given here and in place of those that it had; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    pub(crate) labels: Vec<(String, String)>,
    /// It has no labels from now on
    #[arg(long, conflicts_with = "labels")]
    pub(crate) no_labels: bool,
    /// The serial number that its guest reads; only while it is detached
    #[arg(long, value_name = "TEXT")]
    pub(crate) serial: Option<String>,
    /// Most virtqueues that a VM may use; only while it is detached
    #[arg(long, value_name = "N")]
    pub(crate) queues: Option<u16>,
    /// Refuse writes, or take them again; only while it is detached
    #[arg(long, value_name = "BOOL")]
    pub(crate) read_only: Option<bool>,
    #[command(flatten)]
    pub(crate) change: ChangeArguments,
}

/// Where a channel is moved to.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct MoveTarget {
    /// The sidecore that is to serve it, by its number
    #[arg(long, value_name = "N")]
    pub(crate) sidecore: Option<u32>,
    /// The device that it is to lie on, with its content: name or PCI address
    #[arg(long, value_name = "DEVICE")]
    pub(crate) device: Option<String>,
}

/// A change of a channel that needs nothing but its name.
#[derive(Debug, Args)]
pub(crate) struct NamedChange {
    /// Name of the channel
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) change: ChangeArguments,
}

/// What every change may say.
#[derive(Debug, Args)]
pub(crate) struct ChangeArguments {
    /// Say what would happen, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Name the request: a repeat gives the first answer
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    /// Refuse unless the object still has this generation
    #[arg(long, value_name = "N")]
    expected_generation: Option<u64>,
}

impl ChangeArguments {
    pub(crate) fn to_change(&self) -> Change {
        Change {
            request_id: self.request_id.clone(),
            expected_generation: self.expected_generation,
            dry_run: self.dry_run,
            background: false,
        }
    }
}

/// What every change that can take long may say.
#[derive(Debug, Args)]
pub(crate) struct LongChange {
    #[command(flatten)]
    pub(crate) change: ChangeArguments,
    /// Print the number of the job as soon as it has begun, and do not wait for its end
    #[arg(long)]
    detach: bool,
}

impl LongChange {
    pub(crate) fn to_change(&self) -> Change {
        Change { background: self.detach, ..self.change.to_change() }
    }
}

#[derive(Debug, Args)]
#[group(multiple = false)]
pub(crate) struct VmmArguments {
    /// Print the arguments for QEMU
    #[arg(long)]
    qemu: bool,
    /// Print the XML for libvirt
    #[arg(long)]
    libvirt: bool,
    /// Print the arguments for Cloud Hypervisor
    #[arg(long)]
    cloud_hypervisor: bool,
    /// Print the JSON for Firecracker
    #[arg(long)]
    firecracker: bool,
}

impl VmmArguments {
    pub(crate) fn chosen(&self) -> Option<Vmm> {
        [
            (self.qemu, Vmm::Qemu),
            (self.libvirt, Vmm::Libvirt),
            (self.cloud_hypervisor, Vmm::CloudHypervisor),
            (self.firecracker, Vmm::Firecracker),
        ]
        .into_iter()
        .find_map(|(chosen, vmm)| chosen.then_some(vmm))
    }
}

#[derive(Debug, Args)]
pub(crate) struct EventsWanted {
    /// Go on with what happens, until interrupted
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// Only events after number N [default: all that are kept; with --follow, those to come]
    #[arg(long, value_name = "N")]
    pub(crate) since: Option<u64>,
    /// At most so many, the oldest first
    #[arg(long, value_name = "N", conflicts_with = "follow")]
    pub(crate) limit: Option<u32>,
}

/// A label as typed.
fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("a label is a key and a value, such as tier=gold")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// A file as typed: the daemon works in another directory, so its path is made absolute here.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(Failure::Endpoint)
}

/// An endpoint as typed: the daemon works in another directory, so its path is made absolute here.
pub(crate) fn endpoint(path: &Path, client: bool) -> Result<Endpoint, Failure> {
    let mode = if client { EndpointMode::Client } else { EndpointMode::Server };
    Ok(Endpoint { path: absolute(path)?, mode })
}
