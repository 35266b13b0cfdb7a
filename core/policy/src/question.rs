use std::fmt::Debug;

use serde::{Deserialize, Serialize};

use crate::{AmendError, Amendment, Channel, Device, Function, Policy, Tenant, Verdict};

/// Which question it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hook {
    /// [`Discover`].
    Discover,
    /// [`Claim`].
    Claim,
    /// [`Create`].
    Create,
    /// [`Attach`].
    Attach,
    /// [`Session`].
    Session,
    /// [`Tune`].
    Tune,
    /// [`Migrate`].
    Migrate,
    /// [`Destroy`].
    Destroy,
    /// [`Tick`](crate::Tick).
    Tick,
    /// [`Pressure`](crate::Pressure).
    Pressure,
    /// [`Fault`](crate::Fault).
    Fault,
}

impl Hook {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Discover => "discover",
            Self::Claim => "claim",
            Self::Create => "create",
            Self::Attach => "attach",
            Self::Session => "session",
            Self::Tune => "tune",
            Self::Migrate => "migrate",
            Self::Destroy => "destroy",
            Self::Tick => "tick",
            Self::Pressure => "pressure",
            Self::Fault => "fault",
        }
    }

    /// What holds where a policy does not answer.
    ///
    /// Whoever asks for something new is denied: what nobody checked does not come to be. What exists goes on: guarantees stay
    /// as they are, a front-end of a channel that was allowed its endpoint may connect to it (a VMM that reboots or reconnects
    /// while a plugin is being restarted loses nothing that it had), and functions are seen. Teardown is never held up, because
    /// an operator must be able to end what a policy no longer speaks for.
    #[must_use]
    pub const fn fallback(self) -> Fallback {
        match self {
            Self::Claim | Self::Create | Self::Attach | Self::Tune | Self::Migrate => Fallback::Deny,
            Self::Discover | Self::Session | Self::Destroy => Fallback::Allow,
            Self::Tick | Self::Pressure | Self::Fault => Fallback::Keep,
        }
    }
}

/// What holds where a policy does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fallback {
    /// It is denied.
    Deny,
    /// It is allowed as it was asked.
    Allow,
    /// Everything stays as it is.
    Keep,
}

/// A question that is answered by a [`Verdict`]. It owns what it names, so that it can be asked on another thread.
pub trait Question: Clone + PartialEq + Debug + Send + 'static {
    /// Which it is.
    const HOOK: Hook;

    /// Asks one policy.
    fn put(&self, policy: &mut dyn Policy) -> Verdict;

    /// The generation that the verdict will hold for (P1): the channel's; 0 where there is none.
    fn generation(&self) -> u64;

    /// Changes one setting of what was asked for.
    ///
    /// # Errors
    /// [`AmendError`]; the question is as it was.
    fn amend(&mut self, amendment: Amendment) -> Result<(), AmendError> {
        Err(AmendError::NoSuchSetting(amendment.setting))
    }
}

/// A function was found. Denied, it is listed and never claimed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Discover {
    /// The function.
    pub function: Function,
}

/// A function is to be taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The function.
    pub function: Function,
    /// Also without an IOMMU that protects the host from it.
    pub unprotected: bool,
    /// Who asks.
    pub caller_uid: u32,
    /// Nothing will come of it.
    pub dry_run: bool,
}

/// A channel is to come to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Create {
    /// The channel, as asked for.
    pub channel: Channel,
    /// What its device can give.
    pub device: Device,
    /// What its tenant has.
    pub tenant: Tenant,
    /// Who asks.
    pub caller_uid: u32,
    /// Nothing will come of it.
    pub dry_run: bool,
}

/// A channel's setting is to change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tune {
    /// The channel, as it is.
    pub channel: Channel,
    /// The channel, as asked for. Name, tenant, device and generation are the same.
    pub wanted: Channel,
    /// What its device can give beyond what the channel has.
    pub device: Device,
    /// What its tenant has beyond the channel.
    pub tenant: Tenant,
    /// Who asks.
    pub caller_uid: u32,
    /// Nothing will come of it.
    pub dry_run: bool,
}

/// A channel is to have an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attach {
    /// The channel.
    pub channel: Channel,
    /// Path of the unix socket.
    pub endpoint: String,
    /// The VMM listens there, and the daemon connects.
    pub client: bool,
    /// Who asks.
    pub caller_uid: u32,
    /// Nothing will come of it.
    pub dry_run: bool,
}

/// A front-end has connected, and says what it wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// The channel.
    pub channel: Channel,
    /// The virtio and vhost-user features that it was offered.
    pub features_offered: u64,
    /// Those that it took.
    pub features_taken: u64,
    /// Regions of its memory table.
    pub memory_regions: u32,
    /// Bytes of its memory table.
    pub memory_bytes: u64,
    /// Its process; 0 when it is not known.
    pub peer_pid: u32,
    /// Its user.
    pub peer_uid: u32,
}

/// A channel is to go to another device, on this host or another. What is amended is for its life over there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Migrate {
    /// The channel, as it is to be over there.
    pub channel: Channel,
    /// The device it goes to; none when that is on another host.
    pub target: Option<Device>,
    /// The other host; empty for this one.
    pub target_host: String,
    /// What its tenant has beyond the channel.
    pub tenant: Tenant,
    /// Who asks.
    pub caller_uid: u32,
    /// Nothing will come of it.
    pub dry_run: bool,
}

/// A channel is to end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Destroy {
    /// The channel.
    pub channel: Channel,
    /// Also while a front-end is connected.
    pub force: bool,
    /// Who asks.
    pub caller_uid: u32,
    /// Nothing will come of it.
    pub dry_run: bool,
}

impl Question for Discover {
    const HOOK: Hook = Hook::Discover;

    fn put(&self, policy: &mut dyn Policy) -> Verdict {
        policy.discover(self)
    }

    fn generation(&self) -> u64 {
        0
    }
}

impl Question for Claim {
    const HOOK: Hook = Hook::Claim;

    fn put(&self, policy: &mut dyn Policy) -> Verdict {
        policy.claim(self)
    }

    fn generation(&self) -> u64 {
        0
    }
}

impl Question for Create {
    const HOOK: Hook = Hook::Create;

    fn put(&self, policy: &mut dyn Policy) -> Verdict {
        policy.create(self)
    }

    fn generation(&self) -> u64 {
        self.channel.generation
    }

    fn amend(&mut self, amendment: Amendment) -> Result<(), AmendError> {
        self.channel.amend(amendment)
    }
}

impl Question for Tune {
    const HOOK: Hook = Hook::Tune;

    fn put(&self, policy: &mut dyn Policy) -> Verdict {
        policy.tune(self)
    }

    fn generation(&self) -> u64 {
        self.channel.generation
    }

    fn amend(&mut self, amendment: Amendment) -> Result<(), AmendError> {
        self.wanted.amend(amendment)
    }
}

impl Question for Attach {
    const HOOK: Hook = Hook::Attach;

    fn put(&self, policy: &mut dyn Policy) -> Verdict {
        policy.attach(self)
    }

    fn generation(&self) -> u64 {
        self.channel.generation
    }
}

impl Question for Session {
    const HOOK: Hook = Hook::Session;

    fn put(&self, policy: &mut dyn Policy) -> Verdict {
        policy.session(self)
    }

    fn generation(&self) -> u64 {
        self.channel.generation
    }
}

impl Question for Migrate {
    const HOOK: Hook = Hook::Migrate;

    fn put(&self, policy: &mut dyn Policy) -> Verdict {
        policy.migrate(self)
    }

    fn generation(&self) -> u64 {
        self.channel.generation
    }

    fn amend(&mut self, amendment: Amendment) -> Result<(), AmendError> {
        self.channel.amend(amendment)
    }
}

impl Question for Destroy {
    const HOOK: Hook = Hook::Destroy;

    fn put(&self, policy: &mut dyn Policy) -> Verdict {
        policy.destroy(self)
    }

    fn generation(&self) -> u64 {
        self.channel.generation
    }
}
