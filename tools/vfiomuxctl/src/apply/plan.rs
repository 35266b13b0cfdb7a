//! What lies between what is and what is wanted.
//!
//! The order of a plan, which it keeps from the first step to the last:
//!
//! 1. Destroys, when pruning: what they give back, others may need.
//! 2. Limits of tenants: who gets more channels is held to them from the first request on.
//! 3. Changes, a channel at a time; first the channels that only give room back, then the others, each by name.
//! 4. Creates, by name: the only steps that can be undone without a loss come last.

use std::collections::BTreeMap;

use vfiomux_rpc::{ChannelInfo, Oper, TenantInfo, call};

use super::channel::{changes, creation};
use super::desired::Desired;
use super::step::{Act, Step};
use super::words;
use crate::table::word;

/// How far a plan may go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) prune: bool,
    pub(super) shrink: bool,
}

/// Steps in their order; none when all is as it is to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
    /// Channels that the file does not name.
    pub(super) left_alone: Vec<String>,
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Obstacle {
    /// A setting for life.
    #[error(
        "channel {channel}: {what} is {has} for as long as it lives, not {wanted}; create another channel"
    )]
    Fixed {
        /// Which one.
        channel: String,
        /// The key.
        what: &'static str,
        /// What the channel has.
        has: String,
        /// What the file says.
        wanted: String,
    },
    /// Data would be lost.
    #[error("channel {channel}: {from} -> {to} loses what lies beyond; if that is meant, say --shrink")]
    Shrink {
        /// Which one.
        channel: String,
        /// Its size.
        from: String,
        /// What the file says.
        to: String,
    },
    /// A guest has looked already.
    #[error("channel {channel}: queues and read_only change only while no VM is connected; stop the VM")]
    Guest {
        /// Which one.
        channel: String,
    },
    /// A VM uses what is to be destroyed.
    #[error(
        "channel {channel}: it is to be destroyed, and a VM is connected; stop the VM, or name it in the file"
    )]
    InUse {
        /// Which one.
        channel: String,
    },
    /// It takes no change as it is.
    #[error("channel {channel}: it is {}; vfiomuxctl channel show {channel} says why", word(oper))]
    State {
        /// Which one.
        channel: String,
        /// What it does.
        oper: Oper,
    },
}

/// The steps from what is to what is wanted, or everything that stands in the way.
pub(super) fn plan(
    desired: &Desired,
    actual: &[ChannelInfo],
    tenants: &[TenantInfo],
    options: Options,
) -> Result<Plan, Vec<Obstacle>> {
    let mut obstacles = Vec::new();
    let present: BTreeMap<&str, &ChannelInfo> =
        actual.iter().map(|channel| (channel.name.as_str(), channel)).collect();
    let mut plan = Plan::default();

    for (&name, channel) in &present {
        if desired.channels.contains_key(name) || is_ending(channel) {
            continue;
        }
        if !options.prune {
            plan.left_alone.push(name.to_owned());
        } else if channel.session.is_some() {
            obstacles.push(Obstacle::InUse { channel: name.to_owned() });
        } else {
            plan.steps.push(destruction(channel));
        }
    }

    for (name, limits) in &desired.tenants {
        let present = tenants.iter().find(|tenant| tenant.name == *name).cloned().unwrap_or_default();
        if present.limits != limits.0 {
            plan.steps.push(Step {
                why: words::limits(&present.limits, &limits.0),
                act: Act::TuneTenant(call::TenantTune { name: name.clone(), limits: limits.0 }),
                planned_generation: Some(present.generation),
                gives_room: false,
            });
        }
    }

    let mut changed: Vec<Vec<Step>> = Vec::new();
    let mut created: Vec<Step> = Vec::new();
    for (name, wanted) in &desired.channels {
        match present.get(name.as_str()) {
            None => created.extend(creation(name, wanted)),
            Some(channel) if is_ending(channel) => {
                obstacles.push(Obstacle::State { channel: name.clone(), oper: channel.oper });
            }
            Some(channel) => match changes(wanted, channel, options) {
                Ok(steps) => changed.push(steps),
                Err(found) => obstacles.extend(found),
            },
        }
    }
    // A stable sort: by name within each of the two.
    changed.sort_by_key(|steps| steps.iter().any(Step::needs_room) || !steps.iter().any(|s| s.gives_room));
    plan.steps.extend(changed.into_iter().flatten());
    plan.steps.extend(created);
    if obstacles.is_empty() { Ok(plan) } else { Err(obstacles) }
}

fn destruction(channel: &ChannelInfo) -> Step {
    let size = words::size(channel.size_bytes);
    Step {
        act: Act::Destroy(call::ChannelDestroy { name: channel.name.clone(), force: false }),
        why: format!("the file does not name it; its {size} on {} are scrubbed", channel.device),
        planned_generation: Some(channel.generation),
        gives_room: true,
    }
}

/// Whether it goes by itself.
const fn is_ending(channel: &ChannelInfo) -> bool {
    matches!(channel.oper, Oper::Draining | Oper::Scrubbing | Oper::Destroyed)
}
