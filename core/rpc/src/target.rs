use crate::Method;

/// What a request is about: what is looked up before it is carried out, and what its audit record names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'a> {
    /// Nothing by name.
    Nothing,
    /// The channel of this name; of `channel.create`, the one to be.
    Channel(&'a str),
    /// A device, by name or PCI address.
    Device(&'a str),
    /// A sidecore.
    Sidecore(u32),
    /// A job.
    Job(u64),
    /// A tenant.
    Tenant(&'a str),
    /// A policy plugin.
    Plugin(&'a str),
}

impl Target<'_> {
    /// As it stands in messages and audit records.
    #[must_use]
    pub fn describe(self) -> Option<String> {
        match self {
            Self::Nothing => None,
            Self::Channel(name) => Some(format!("channel {name}")),
            Self::Device(name) => Some(format!("device {name}")),
            Self::Sidecore(index) => Some(format!("sidecore {index}")),
            Self::Job(id) => Some(format!("job {id}")),
            Self::Tenant(name) => Some(format!("tenant {name}")),
            Self::Plugin(name) => Some(format!("plugin {name}")),
        }
    }
}

impl Method {
    /// What it is about.
    #[must_use]
    pub fn target(&self) -> Target<'_> {
        match self {
            Self::DeviceShow(call) => Target::Device(&call.device),
            Self::DeviceClaim(call) => Target::Device(&call.device),
            Self::DeviceRelease(call) => Target::Device(&call.device),
            Self::DeviceFormat(call) => Target::Device(&call.device),
            Self::DeviceCalibrate(call) => Target::Device(&call.device),
            Self::ChannelCreate(call) => Target::Channel(&call.name),
            Self::ChannelShow(call) => Target::Channel(&call.name),
            Self::ChannelPath(call) => Target::Channel(&call.name),
            Self::ChannelExplain(call) => Target::Channel(&call.name),
            Self::ChannelAttach(call) => Target::Channel(&call.name),
            Self::ChannelDetach(call) => Target::Channel(&call.name),
            Self::ChannelSuspend(call) => Target::Channel(&call.name),
            Self::ChannelResume(call) => Target::Channel(&call.name),
            Self::ChannelResize(call) => Target::Channel(&call.name),
            Self::ChannelTune(call) => Target::Channel(&call.name),
            Self::ChannelMove(call) => Target::Channel(&call.name),
            Self::ChannelSet(call) => Target::Channel(&call.name),
            Self::ChannelMigrate(call) => Target::Channel(&call.name),
            Self::ChannelSnapshot(call) => Target::Channel(&call.name),
            Self::ChannelClone(call) => Target::Channel(&call.name),
            Self::ChannelDestroy(call) => Target::Channel(&call.name),
            Self::TenantShow(call) => Target::Tenant(&call.name),
            Self::TenantTune(call) => Target::Tenant(&call.name),
            Self::SidecoreShow(call) => Target::Sidecore(call.index),
            Self::SidecoreSet(call) => Target::Sidecore(call.index),
            Self::JobShow(call) => Target::Job(call.job),
            Self::JobCancel(call) => Target::Job(call.job),
            Self::CallerConfine(call) => Target::Tenant(&call.tenant),
            Self::PluginShow(call) => Target::Plugin(&call.name),
            Self::PluginLoad(call) => Target::Plugin(&call.name),
            Self::PluginReplace(call) => Target::Plugin(&call.name),
            Self::PluginUnload(call) => Target::Plugin(&call.name),
            Self::PluginRecord(call) => Target::Plugin(&call.name),
            Self::StatusShow(_)
            | Self::DeviceList(_)
            | Self::ChannelList(_)
            | Self::TenantList(_)
            | Self::SidecoreList(_)
            | Self::JobList(_)
            | Self::PluginList(_)
            | Self::AuditList(_)
            | Self::EventsList(_)
            | Self::EventsSubscribe(_)
            | Self::CallerShow(_) => Target::Nothing,
        }
    }

    /// Whether a caller that is confined to tenants may make it at all. What is not named here is the host's: who adds a method
    /// for tenants decides first how it is kept from naming another's objects (C5), and has the test of this crate's users walk it.
    #[must_use]
    pub const fn is_open_to_tenants(&self) -> bool {
        matches!(
            self,
            Self::StatusShow(_)
                | Self::DeviceList(_)
                | Self::DeviceShow(_)
                | Self::ChannelCreate(_)
                | Self::ChannelList(_)
                | Self::ChannelShow(_)
                | Self::ChannelPath(_)
                | Self::ChannelExplain(_)
                | Self::ChannelAttach(_)
                | Self::ChannelDetach(_)
                | Self::ChannelSuspend(_)
                | Self::ChannelResume(_)
                | Self::ChannelResize(_)
                | Self::ChannelTune(_)
                | Self::ChannelSet(_)
                | Self::ChannelMigrate(_)
                | Self::ChannelSnapshot(_)
                | Self::ChannelClone(_)
                | Self::ChannelDestroy(_)
                | Self::TenantList(_)
                | Self::TenantShow(_)
                | Self::SidecoreList(_)
                | Self::SidecoreShow(_)
                | Self::AuditList(_)
                | Self::JobList(_)
                | Self::JobShow(_)
                | Self::JobCancel(_)
                | Self::EventsList(_)
                | Self::EventsSubscribe(_)
                | Self::CallerShow(_)
                | Self::CallerConfine(_)
        )
    }
}
