use schemars::{Schema, SchemaGenerator};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{
    AuditList, CallerInfo, ChannelInfo, ChannelPath, DeviceInfo, EventList, Explanation, JobInfo, PluginInfo,
    PluginRecording, PluginReplacement, Role, SidecoreInfo, Status, Subscription, TenantInfo, call,
};

/// A method's parameters, tied to its name and its result: what lets a client be typed.
pub trait Call: Serialize {
    /// Its name on the wire.
    const METHOD: &'static str;
    /// Its result.
    type Output: DeserializeOwned;
}

/// One row of the table of methods, for the schema.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) summary: &'static str,
    pub(crate) role: Role,
    pub(crate) is_change: bool,
    pub(crate) is_long: bool,
    pub(crate) params: fn(&mut SchemaGenerator) -> Schema,
    pub(crate) result: fn(&mut SchemaGenerator) -> Schema,
}

/// Makes everything that follows from the table of methods. A row: what it does, name, parameters, result, the role it needs,
/// and whether it asks, changes, or lasts: changes what can take long, as a job.
macro_rules! methods {
    ($($summary:literal $name:literal: $params:ident => $output:ty, $role:ident $effect:ident;)+) => {
        /// A request, understood.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Method {
            $(#[doc = $summary] $params(call::$params),)+
        }

        impl Method {
            /// Its name on the wire.
            #[must_use]
            pub const fn name(&self) -> &'static str {
                match self { $(Self::$params(_) => $name,)+ }
            }

            /// The role that a caller needs for it.
            #[must_use]
            pub const fn role_required(&self) -> Role {
                match self { $(Self::$params(_) => Role::$role,)+ }
            }

            /// Its parameters, as they are on the wire.
            ///
            /// # Errors
            ///
            /// A path that is not UTF-8, which has no form in JSON.
            pub fn params(&self) -> Result<Value, serde_json::Error> {
                match self { $(Self::$params(params) => serde_json::to_value(params),)+ }
            }

            /// Whether it can take long: it is a job then, and can be asked for in the background.
            #[must_use]
            pub const fn is_long(&self) -> bool {
                match self { $(Self::$params(_) => is_long!($effect),)+ }
            }

            /// Whether it changes something.
            #[must_use]
            pub const fn is_change(&self) -> bool {
                match self { $(Self::$params(_) => effect!($effect),)+ }
            }

            /// Whether the method called `name` changes something, and so takes a [`Change`](crate::Change); none when there is no such method.
            pub(crate) fn changes(name: &str) -> Option<bool> {
                match name { $($name => Some(effect!($effect)),)+ _ => None }
            }

            /// Reads the parameters of the method called `name`; none when there is no such method.
            pub(crate) fn read(name: &str, params: Value) -> Option<Result<Self, serde_json::Error>> {
                match name {
                    $($name => Some(serde_json::from_value(params).map(Self::$params)),)+
                    _ => None,
                }
            }

            /// The table, for the schema.
            pub(crate) const TABLE: &'static [Row] = &[$(Row {
                name: $name,
                summary: $summary,
                role: Role::$role,
                is_change: effect!($effect),
                is_long: is_long!($effect),
                params: |generator| generator.root_schema_for::<call::$params>(),
                result: |generator| generator.subschema_for::<$output>(),
            },)+];
        }

        $(impl Call for call::$params {
            const METHOD: &'static str = $name;
            type Output = $output;
        })+
    };
}

macro_rules! effect {
    (asks) => {
        false
    };
    (changes) => {
        true
    };
    (lasts) => {
        true
    };
}

macro_rules! is_long {
    (lasts) => {
        true
    };
    ($other:ident) => {
        false
    };
}

methods! {
    "Shows the daemon in short." "status": StatusShow => Status, Read asks;
    "Lists the functions of this host that can be carved, and the simulated ones." "device.list": DeviceList => Vec<DeviceInfo>, Read asks;
    "Shows a device." "device.show": DeviceShow => DeviceInfo, Read asks;
    "Takes exclusive ownership of a device that nobody uses." "device.claim": DeviceClaim => DeviceInfo, Admin changes;
    "Gives a device without channels back to the driver that it came from." "device.release": DeviceRelease => DeviceInfo, Admin changes;
    "Writes an empty label on a device, so that it can be carved." "device.format": DeviceFormat => DeviceInfo, Admin lasts;
    "Measures what a device does, by reads, and by writes to blocks that no channel has." "device.calibrate": DeviceCalibrate => DeviceInfo, Admin lasts;
    "Creates a channel, and attaches it when an endpoint is given." "channel.create": ChannelCreate => ChannelInfo, Operate changes;
    "Lists the channels." "channel.list": ChannelList => Vec<ChannelInfo>, Read asks;
    "Shows a channel." "channel.show": ChannelShow => ChannelInfo, Read asks;
    "Shows the way of a channel's I/O between VM and device." "channel.path": ChannelPath => ChannelPath, Read asks;
    "Says why a channel was refused, why it is served as it is, and what its requests wait for now." "channel.explain": ChannelExplain => Explanation, Read asks;
    "Gives a channel an endpoint." "channel.attach": ChannelAttach => ChannelInfo, Operate changes;
    "Drains a channel and takes its endpoint away." "channel.detach": ChannelDetach => ChannelInfo, Operate changes;
    "Drains a channel and keeps everything." "channel.suspend": ChannelSuspend => ChannelInfo, Operate changes;
    "Lets a suspended or quarantined channel go on." "channel.resume": ChannelResume => ChannelInfo, Operate changes;
    "Makes a channel larger or smaller." "channel.resize": ChannelResize => ChannelInfo, Operate lasts;
    "Changes what a channel is called and what its guest sees of it." "channel.set": ChannelSet => ChannelInfo, Operate changes;
    "Takes a channel to another host. Not in this version: refused as unsupported." "channel.migrate": ChannelMigrate => ChannelInfo, Operate changes;
    "Keeps a channel's content as of a moment. Not in this version: refused as unsupported." "channel.snapshot": ChannelSnapshot => ChannelInfo, Operate changes;
    "Makes a channel with another's content. Not in this version: refused as unsupported." "channel.clone": ChannelClone => ChannelInfo, Operate changes;
    "Gives a channel other guarantees, in force at once, with its I/O running." "channel.tune": ChannelTune => ChannelInfo, Operate changes;
    "Has another sidecore serve a channel, or another device hold it, with its I/O running." "channel.move": ChannelMove => ChannelInfo, Operate lasts;
    "Ends a channel, scrubs its data and gives its resources back." "channel.destroy": ChannelDestroy => ChannelInfo, Operate lasts;
    "Lists the tenants that have channels or limits." "tenant.list": TenantList => Vec<TenantInfo>, Read asks;
    "Shows a tenant." "tenant.show": TenantShow => TenantInfo, Read asks;
    "Gives a tenant other limits over all its channels, in force at once, with their I/O running." "tenant.tune": TenantTune => TenantInfo, Operate changes;
    "Lists the sidecores." "sidecore.list": SidecoreList => Vec<SidecoreInfo>, Read asks;
    "Shows a sidecore." "sidecore.show": SidecoreShow => SidecoreInfo, Read asks;
    "Has a sidecore poll, spin or sleep when there is nothing to do, until the daemon ends." "sidecore.set": SidecoreSet => SidecoreInfo, Admin changes;
    "Lists the jobs that are under way, and the last that have ended." "job.list": JobList => Vec<JobInfo>, Read asks;
    "Shows a job." "job.show": JobShow => JobInfo, Read asks;
    "Has a job end early, where it can." "job.cancel": JobCancel => JobInfo, Operate changes;
    "Shows whom the daemon takes the caller for, and what it may do." "caller.show": CallerShow => CallerInfo, Read asks;
    "Confines this connection to one tenant: to see what it sees, or to act for it with no more than that takes." "caller.confine": CallerConfine => CallerInfo, Read asks;
    "Lists the policy plugins, in the order in which they are asked." "plugin.list": PluginList => Vec<PluginInfo>, Read asks;
    "Shows a policy plugin." "plugin.show": PluginShow => PluginInfo, Read asks;
    "Has a plugin asked from now on, and again after every start." "plugin.load": PluginLoad => PluginInfo, Admin changes;
    "Puts another plugin into the place of one, after asking it about every channel." "plugin.replace": PluginReplace => PluginReplacement, Admin changes;
    "Has a plugin asked no more." "plugin.unload": PluginUnload => PluginInfo, Admin changes;
    "Gives what a plugin was asked and answered since the last call, as lines of a recording, and has what comes noted for a while." "plugin.record": PluginRecord => PluginRecording, Admin asks;
    "Lists the changes that were asked for, by whom, what policies said and what became of them: all to an administrator of the host, to a tenant those of its own objects." "audit.list": AuditList => AuditList, Read asks;
    "Lists recorded events." "events.list": EventsList => EventList, Read asks;
    "Has events sent on this connection as notifications `event` and `gap`." "events.subscribe": EventsSubscribe => Subscription, Read asks;
}
