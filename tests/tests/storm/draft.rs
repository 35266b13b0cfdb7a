//! What is asked, and when the daemon is killed: all of it from the seed.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};
use vfiomux_tests::world::Random;

/// Clients. The first has the plugin beside its channels.
pub(crate) const CLIENTS: u64 = 4;
/// Devices, `sim0`, `sim1`, ….
pub(crate) const DEVICES: u64 = 2;
/// Channels that a client has to itself.
const OWN: u64 = 2;
/// Channels that all fight over.
const SHARED: u64 = 2;
/// Operations of a client in one round.
const OPERATIONS: u64 = 24;

/// What the plugin can be told: a name, and the orders themselves.
pub(crate) const ORDERS: [(&str, &str); 4] = [
    ("allow", "create allow\n"),
    ("deny", "create deny the storm\ntune deny the storm\n"),
    ("amend", "create amend share 300\n"),
    ("crash", "create crash after 1\n"),
];

/// Something that a client asks for.
#[derive(Debug, Clone)]
pub(crate) struct Operation {
    pub(crate) request_id: String,
    pub(crate) act: Act,
    pub(crate) repeat: Repeat,
}

/// What it asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Act {
    Create {
        name: String,
        device: String,
        mib: u64,
        share: u64,
    },
    Attach {
        name: String,
    },
    Detach {
        name: String,
    },
    Suspend {
        name: String,
    },
    Resume {
        name: String,
    },
    Tune {
        name: String,
        share: u64,
    },
    Resize {
        name: String,
        mib: u64,
    },
    Label {
        name: String,
        label: u64,
    },
    Move {
        name: String,
        device: String,
    },
    Destroy {
        name: String,
    },
    /// `vfiomuxctl apply`, with a file that names this channel alone.
    Apply {
        name: String,
        mib: u64,
        share: u64,
    },
    Replace {
        orders: &'static str,
    },
}

/// Whether it is asked again under the same request id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    Never,
    /// When it has been answered.
    After,
    /// Over another connection, before it has been answered.
    Meanwhile,
}

impl Act {
    /// The channel that it is about; none of what is about the plugin.
    pub(crate) fn channel(&self) -> Option<&str> {
        match self {
            Self::Create { name, .. }
            | Self::Attach { name }
            | Self::Detach { name }
            | Self::Suspend { name }
            | Self::Resume { name }
            | Self::Tune { name, .. }
            | Self::Resize { name, .. }
            | Self::Label { name, .. }
            | Self::Move { name, .. }
            | Self::Destroy { name }
            | Self::Apply { name, .. } => Some(name),
            Self::Replace { .. } => None,
        }
    }

    /// As a request; none of what is no single one.
    pub(crate) fn request(&self, place: &crate::Place) -> Option<(&'static str, Value)> {
        let endpoint = |name: &str| json!({ "path": place.socket(name) });
        Some(match self {
            Self::Create { name, device, mib, share } => (
                "channel.create",
                json!({
                    "name": name, "device": device, "tenant": "acme", "size_bytes": mib << 20, "queues": 1,
                    "guarantees": { "share": share }, "endpoint": endpoint(name),
                }),
            ),
            Self::Attach { name } => ("channel.attach", json!({ "name": name, "endpoint": endpoint(name) })),
            Self::Detach { name } => ("channel.detach", json!({ "name": name })),
            Self::Suspend { name } => ("channel.suspend", json!({ "name": name })),
            Self::Resume { name } => ("channel.resume", json!({ "name": name })),
            Self::Tune { name, share } => {
                ("channel.tune", json!({ "name": name, "guarantees": { "share": share } }))
            }
            Self::Resize { name, mib } => {
                ("channel.resize", json!({ "name": name, "size_bytes": mib << 20 }))
            }
            Self::Label { name, label } => {
                ("channel.set", json!({ "name": name, "labels": { "number": label.to_string() } }))
            }
            Self::Move { name, device } => ("channel.move", json!({ "name": name, "device": device })),
            Self::Destroy { name } => ("channel.destroy", json!({ "name": name })),
            Self::Replace { orders } => {
                ("plugin.replace", json!({ "name": "faulty", "config": place.orders(orders) }))
            }
            Self::Apply { .. } => return None,
        })
    }

    /// Whether a channel is as an [`Act::Apply`] wants it. A policy may have had it otherwise.
    pub(crate) fn is_met_by(&self, shown: &Result<Value, Value>) -> bool {
        let (Self::Apply { share, .. }, Ok(info)) = (self, shown) else { return false };
        info["guarantees"]["share"] == *share
    }

    /// The file of an [`Act::Apply`].
    pub(crate) fn desired(&self, socket: &Path) -> Option<String> {
        let Self::Apply { name, mib, share } = self else { return None };
        let socket = socket.display();
        Some(format!(
            "[channel.{name}]\ntenant = \"acme\"\ndevice = \"sim0\"\nsize = \"{mib}M\"\nendpoint = \"{socket}\"\n\
             share = {share}\n"
        ))
    }
}

/// The source of everything that is asked.
pub(crate) struct Draft {
    seed: u64,
    random: Random,
    /// Channels that there are if everything so far came to something, which it need not.
    hoped: BTreeSet<String>,
}

impl Draft {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, random: Random::new(seed), hoped: BTreeSet::new() }
    }

    /// After how many answers the daemon is killed, when so many requests are made: at the latest when a quarter is left.
    pub(crate) fn answers(&mut self, asked: usize) -> usize {
        let most = (asked * 3 / 4).max(1) as u64;
        usize::try_from(self.random.within(1, most)).unwrap_or(1)
    }

    /// What a client asks for in a round.
    pub(crate) fn list(&mut self, round: u64, client: u64) -> Vec<Operation> {
        let mut random = self.random.fork();
        let mut operation = |at| Operation {
            request_id: format!("{}-{round}-{client}-{at}", self.seed),
            act: act(&mut random, &mut self.hoped, client),
            repeat: random.pick(&[Repeat::Never, Repeat::Never, Repeat::After, Repeat::Meanwhile]),
        };
        (0..OPERATIONS).map(&mut operation).collect()
    }
}

fn act(random: &mut Random, hoped: &mut BTreeSet<String>, client: u64) -> Act {
    if client == 0 && random.chance(20) {
        return Act::Replace { orders: random.pick(&["allow", "allow", "amend", "deny", "crash"]) };
    }
    let share = random.within(1, 1000);
    if random.chance(8) {
        return Act::Apply { name: format!("c{client}-applied"), mib: random.within(1, 3) * 2, share };
    }
    let name = if random.chance(25) {
        format!("shared-{}", random.below(SHARED))
    } else {
        format!("c{client}-{}", random.below(OWN))
    };
    let device = format!("sim{}", random.below(DEVICES));
    if hoped.insert(name.clone()) || random.chance(4) {
        return Act::Create { name, device, mib: random.within(1, 6), share };
    }
    match random.below(100) {
        0..12 => {
            hoped.remove(&name);
            Act::Destroy { name }
        }
        12..32 => Act::Tune { name, share },
        32..44 => Act::Resize { name, mib: random.within(1, 8) },
        44..52 => Act::Attach { name },
        52..62 => Act::Detach { name },
        62..70 => Act::Suspend { name },
        70..82 => Act::Resume { name },
        82..90 => Act::Label { name, label: random.below(100) },
        _ => Act::Move { name, device },
    }
}
