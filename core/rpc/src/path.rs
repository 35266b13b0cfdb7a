use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The way of a channel's I/O, as a graph that can be followed both ways.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChannelPath {
    /// Name of the channel.
    pub channel: String,
    /// Its hops, from the VM to the device. A hop's place in this list is how the others name it.
    pub hops: Vec<PathHop>,
}

/// One hop of a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PathHop {
    /// What it is.
    pub kind: HopKind,
    /// What it is called there.
    pub name: String,
    /// What else is worth knowing about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The next hops towards the VM.
    pub to_vm: Vec<u32>,
    /// The next hops towards the device.
    pub to_device: Vec<u32>,
}

/// What a hop is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum HopKind {
    /// The process of the VM.
    Vmm,
    /// The vhost-user socket.
    Endpoint,
    /// The channel.
    Channel,
    /// The guest's ring.
    Virtqueue,
    /// The hardware's submission and completion queue.
    QueuePair,
    /// The PCI function.
    Function,
    /// The NVMe namespace.
    Namespace,
}

impl ChannelPath {
    /// A path with no hops yet.
    #[must_use]
    pub fn new(channel: impl Into<String>) -> Self {
        Self { channel: channel.into(), hops: Vec::new() }
    }

    /// Adds a hop behind the hops `from`, linked both ways, and returns its place.
    pub fn push(
        &mut self,
        from: &[u32],
        kind: HopKind,
        name: impl Into<String>,
        detail: Option<String>,
    ) -> u32 {
        let place = u32::try_from(self.hops.len()).unwrap_or(u32::MAX);
        let mut to_vm = Vec::with_capacity(from.len());
        for &previous in from {
            if let Some(hop) = usize::try_from(previous).ok().and_then(|index| self.hops.get_mut(index)) {
                hop.to_device.push(place);
                to_vm.push(previous);
            }
        }
        self.hops.push(PathHop { kind, name: name.into(), detail, to_vm, to_device: Vec::new() });
        place
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_can_be_followed_both_ways() {
        let mut path = ChannelPath::new("disk-a");
        let channel = path.push(&[], HopKind::Channel, "disk-a", None);
        let rings = [0, 1].map(|n| path.push(&[channel], HopKind::Virtqueue, n.to_string(), None));
        let pair = path.push(&rings, HopKind::QueuePair, "3", None);
        let end = path.push(&[pair, 99], HopKind::Function, "0000:03:00.0", None);
        assert_eq!(path.hops[channel as usize].to_device, rings);
        assert_eq!(path.hops[pair as usize].to_vm, rings);
        assert_eq!(path.hops[end as usize].to_vm, [pair], "a hop that does not exist is not linked");
    }
}
