//! A plugin that answers whatever it likes, through the chain that the daemon asks.

use vfiomux_policy::{
    Amendment, Channel, Create, Destroy, Device, Guarantees, Policy, Setting, Tenant, Tune, Verdict,
};

/// What the plugin says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Lie {
    /// Yes.
    Allow,
    /// Yes, and it has to have more than there is when somebody else has something.
    Amend,
    /// Nothing that makes sense.
    Garbage,
    /// Nothing: it hangs, or has crashed.
    Silence,
}

impl Lie {
    pub(crate) const ALL: [Self; 4] = [Self::Allow, Self::Amend, Self::Garbage, Self::Silence];

    fn verdict(self) -> Verdict {
        match self {
            Self::Allow => Verdict::Allow,
            Self::Amend => Verdict::Amend(vec![Amendment { setting: Setting::RESERVATION_OPS, value: 900 }]),
            Self::Garbage => Verdict::Amend(vec![Amendment { setting: Setting(u32::MAX), value: u64::MAX }]),
            Self::Silence => Verdict::Unanswered { why: "it does not answer".to_owned() },
        }
    }
}

impl Policy for Lie {
    fn name(&self) -> &str {
        "liar"
    }

    fn create(&mut self, _: &Create) -> Verdict {
        self.verdict()
    }

    fn tune(&mut self, _: &Tune) -> Verdict {
        self.verdict()
    }

    fn destroy(&mut self, _: &Destroy) -> Verdict {
        self.verdict()
    }
}

fn channel(name: &str, ops: u64, generation: u64) -> Channel {
    let guarantees = Guarantees { reservation_ops: Some(ops), ..Guarantees::default() };
    Channel {
        name: name.to_owned(),
        tenant: "t".to_owned(),
        size_bytes: 1,
        queues: 1,
        generation,
        guarantees,
        ..Channel::default()
    }
}

fn device() -> Device {
    Device { queues_max: 1, ..Device::default() }
}

pub(crate) fn create(name: &str, ops: u64) -> Create {
    let channel = channel(name, ops, 0);
    Create { channel, device: device(), tenant: Tenant::default(), caller_uid: 0, dry_run: false }
}

pub(crate) fn tune(name: &str, ops: u64, generation: u64) -> Tune {
    let (channel, wanted) = (channel(name, 0, generation), channel(name, ops, generation));
    Tune { channel, wanted, device: device(), tenant: Tenant::default(), caller_uid: 0, dry_run: false }
}

pub(crate) fn destroy(name: &str, generation: u64) -> Destroy {
    Destroy { channel: channel(name, 0, generation), force: false, caller_uid: 0, dry_run: false }
}
