use serde::Serialize;

use crate::{
    AuditList, CallerInfo, ChannelInfo, ChannelPath, DeviceInfo, EventList, Explanation, JobInfo, PluginInfo,
    PluginRecording, PluginReplacement, SidecoreInfo, Status, Subscription, TenantInfo,
};

/// The result of any method, as the server writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Outcome {
    /// Of `status`.
    Status(Status),
    /// Of `device.list`.
    Devices(Vec<DeviceInfo>),
    /// Of all other methods on devices.
    Device(Box<DeviceInfo>),
    /// Of `channel.list`.
    Channels(Vec<ChannelInfo>),
    /// Of all other methods on channels but `channel.path`.
    Channel(Box<ChannelInfo>),
    /// Of `channel.path`.
    Path(ChannelPath),
    /// Of `channel.explain`.
    Explanation(Box<Explanation>),
    /// Of `tenant.list`.
    Tenants(Vec<TenantInfo>),
    /// Of all other methods on tenants.
    Tenant(Box<TenantInfo>),
    /// Of `sidecore.list`.
    Sidecores(Vec<SidecoreInfo>),
    /// Of all other methods on sidecores.
    Sidecore(Box<SidecoreInfo>),
    /// Of `job.list`.
    Jobs(Vec<JobInfo>),
    /// Of all other methods on jobs, and of every method that is asked for in the background.
    Job(Box<JobInfo>),
    /// Of `plugin.list`.
    Plugins(Vec<PluginInfo>),
    /// Of `plugin.record`.
    PluginRecording(PluginRecording),
    /// Of all other methods on plugins but `plugin.replace`.
    Plugin(Box<PluginInfo>),
    /// Of `plugin.replace`.
    PluginReplacement(Box<PluginReplacement>),
    /// Of `events.list`.
    Events(EventList),
    /// Of `events.subscribe`.
    Subscription(Subscription),
    /// Of `audit.list`.
    Audit(AuditList),
    /// Of the methods on the caller itself.
    Caller(CallerInfo),
}

macro_rules! outcome_from {
    ($($type:ty => $variant:ident,)+) => {$(
        impl From<$type> for Outcome {
            fn from(value: $type) -> Self {
                Self::$variant(value.into())
            }
        }
    )+};
}

outcome_from! {
    Status => Status,
    Vec<DeviceInfo> => Devices,
    DeviceInfo => Device,
    Vec<ChannelInfo> => Channels,
    ChannelInfo => Channel,
    ChannelPath => Path,
    Explanation => Explanation,
    Vec<TenantInfo> => Tenants,
    TenantInfo => Tenant,
    Vec<SidecoreInfo> => Sidecores,
    SidecoreInfo => Sidecore,
    Vec<JobInfo> => Jobs,
    JobInfo => Job,
    Vec<PluginInfo> => Plugins,
    PluginInfo => Plugin,
    PluginReplacement => PluginReplacement,
    PluginRecording => PluginRecording,
    EventList => Events,
    Subscription => Subscription,
    CallerInfo => Caller,
    AuditList => Audit,
}
