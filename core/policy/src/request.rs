use crate::Amendment;

/// A channel's setting, as asked for or as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Channel<'a> {
    /// Its name.
    pub name: &'a str,
    /// Whose it is.
    pub tenant: &'a str,
    /// The function it is carved from.
    pub device: &'a str,
    /// Its size.
    pub size_bytes: u64,
    /// Most virtqueues that a front-end may start.
    pub queues: u16,
    /// Writes are refused.
    pub read_only: bool,
    /// The setting's generation; 0 for a channel that does not exist yet.
    pub generation: u64,
}

/// What a device can give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device {
    /// Bytes left in its pool.
    pub free_bytes: u64,
    /// Most virtqueues that a channel on it can have.
    pub queues_max: u16,
}

/// A channel is to come to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CreateRequest<'a> {
    /// The channel, as asked for.
    pub channel: Channel<'a>,
    /// What its device can give.
    pub device: Device,
    /// Who asks.
    pub caller_uid: u32,
    /// Nothing will come of it.
    pub dry_run: bool,
}

/// A channel's setting is to change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TuneRequest<'a> {
    /// The channel, as it is.
    pub channel: Channel<'a>,
    /// The channel, as asked for. Name, tenant, device and generation are the same.
    pub wanted: Channel<'a>,
    /// What its device can give beyond what the channel has.
    pub device: Device,
    /// Who asks.
    pub caller_uid: u32,
    /// Nothing will come of it.
    pub dry_run: bool,
}

/// A channel is to have an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttachRequest<'a> {
    /// The channel.
    pub channel: Channel<'a>,
    /// Path of the unix socket.
    pub endpoint: &'a str,
    /// The VMM listens there, and the daemon connects.
    pub client: bool,
    /// Who asks.
    pub caller_uid: u32,
    /// Nothing will come of it.
    pub dry_run: bool,
}

/// A channel is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DestroyRequest<'a> {
    /// The channel.
    pub channel: Channel<'a>,
    /// Also while a front-end is connected.
    pub force: bool,
    /// Who asks.
    pub caller_uid: u32,
    /// Nothing will come of it.
    pub dry_run: bool,
}

/// What a verdict may amend, as the number that crosses a C ABI. Any number may come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Setting(pub u32);

impl Setting {
    /// [`Channel::size_bytes`].
    pub const SIZE_BYTES: Self = Self(1);
    /// [`Channel::queues`].
    pub const QUEUES: Self = Self(2);
    /// [`Channel::read_only`]: 0 or 1.
    pub const READ_ONLY: Self = Self(3);
}

/// An amendment that makes no sense. The phrase goes on from the name of the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AmendError {
    /// The question has no such setting.
    #[error("amended setting {}, which this request does not have", .0.0)]
    NoSuchSetting(Setting),
    /// The setting cannot have the value.
    #[error("amended setting {} to {}, which it cannot have", .0.setting.0, .0.value)]
    Value(Amendment),
}

/// A question that a verdict can amend.
pub trait Request: Copy + PartialEq {
    /// Changes one setting.
    ///
    /// # Errors
    /// [`AmendError`]; the request is as it was.
    fn amend(&mut self, amendment: Amendment) -> Result<(), AmendError>;
}

impl Channel<'_> {
    fn amend(&mut self, amendment: Amendment) -> Result<(), AmendError> {
        let wrong = AmendError::Value(amendment);
        match amendment.setting {
            Setting::SIZE_BYTES => self.size_bytes = amendment.value,
            Setting::QUEUES => self.queues = u16::try_from(amendment.value).map_err(|_| wrong)?,
            Setting::READ_ONLY if amendment.value <= 1 => self.read_only = amendment.value == 1,
            Setting::READ_ONLY => return Err(wrong),
            other => return Err(AmendError::NoSuchSetting(other)),
        }
        Ok(())
    }
}

impl Request for CreateRequest<'_> {
    fn amend(&mut self, amendment: Amendment) -> Result<(), AmendError> {
        self.channel.amend(amendment)
    }
}

impl Request for TuneRequest<'_> {
    fn amend(&mut self, amendment: Amendment) -> Result<(), AmendError> {
        self.wanted.amend(amendment)
    }
}

impl Request for AttachRequest<'_> {
    fn amend(&mut self, amendment: Amendment) -> Result<(), AmendError> {
        Err(AmendError::NoSuchSetting(amendment.setting))
    }
}

impl Request for DestroyRequest<'_> {
    fn amend(&mut self, amendment: Amendment) -> Result<(), AmendError> {
        Err(AmendError::NoSuchSetting(amendment.setting))
    }
}
