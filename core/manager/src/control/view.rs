//! What is told of devices and channels, and of the daemon itself.

use vfiomux_block::Addressing;
use vfiomux_channel::HistogramSnapshot;
use vfiomux_hw::inventory::FunctionInfo;
use vfiomux_rpc::{
    ChannelInfo, ChannelKind, ChannelPath, Counters, DataMode, DeviceInfo, Distribution, FunctionClass,
    FunctionState, HopKind, Lane, Latency, NamespaceInfo, NvmeInfo, Plan, Pool, Pools, RegionInfo,
    Reservations, RpcError, SessionInfo, SidecoreInfo, Status, View, VirtqueueInfo,
};
use vfiomux_spec::virtio::{blk, features as transport};

use super::Control;
use super::channel::{Channel, Seat, internal};
use super::device::Device;
use super::service::canonical;

impl Control {
    /// The daemon in short; for a caller that is confined to tenants, what of it is theirs.
    pub(crate) fn status(&self, view: &View) -> Status {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let shown = || self.channels.values().filter(|channel| view.shows(&channel.setting.tenant));
        let live = |channel: &&Channel| channel.attachment.as_ref().is_some_and(|a| a.live.is_some());
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_ms: self.now_ns / 1_000_000,
            sidecores: if view.shows_host() { in_short(self.sidecore_list()) } else { Vec::new() },
            devices: count(self.devices.len()),
            channels: count(shown().count()),
            sessions: count(shown().filter(live).count()),
            events: self.events.counts(),
        }
    }

    /// Every function of the host that can be carved, and every one that is ours (S1); to a caller that is confined to tenants, ours.
    pub(crate) fn device_list(&self, view: &View) -> Result<Vec<DeviceInfo>, RpcError> {
        if !view.shows_host() {
            return Ok(self.devices.values().map(|device| self.device_info(device)).collect());
        }
        let found = self.sysfs.functions().map_err(|error| internal(&error))?;
        let foreign = found
            .iter()
            .filter(|function| !self.devices.contains_key(&function.address.to_string()))
            .filter(|function| class_of(function) != FunctionClass::Other);
        let mut list: Vec<DeviceInfo> =
            self.devices.values().map(|device| self.device_info(device)).collect();
        list.extend(foreign.map(|function| self.foreign_info(function)));
        // What no bus has and a policy denied is on neither list, and yet there.
        let nowhere = self.barred.iter().filter(|(name, _)| list.iter().all(|info| info.name != **name));
        let nowhere: Vec<DeviceInfo> = nowhere.map(|(name, why)| denied_info(name, why)).collect();
        list.extend(nowhere);
        Ok(list)
    }

    pub(crate) fn device_show(&self, name: &str) -> Result<DeviceInfo, RpcError> {
        match self.device_named(name) {
            Ok(device) => Ok(self.device_info(device)),
            Err(error) => match name.parse().map(|address| self.sysfs.function(address)) {
                Ok(Ok(function)) => Ok(self.foreign_info(&function)),
                _ => {
                    let name = canonical(name);
                    self.denial(&name).map(|why| denied_info(&name, why)).ok_or(error)
                }
            },
        }
    }

    /// A function of the host that is not ours, and why it may not be where a policy says so.
    fn foreign_info(&self, function: &FunctionInfo) -> DeviceInfo {
        let info = discovered(function);
        let denied = self.barred.get(&info.name).cloned();
        DeviceInfo { reason: denied.or(info.reason), ..info }
    }

    pub(crate) fn device_info(&self, device: &Device) -> DeviceInfo {
        let host =
            device.address.as_ref().and_then(|a| a.parse().ok()).and_then(|a| self.sysfs.function(a).ok());
        let mut info = host.as_ref().map_or_else(|| simulated(&device.name), discovered);
        (info.state, info.reason, info.generation) = (device.state, device.reason.clone(), device.generation);
        info.class = device.class;
        info.holders.clear();
        let about = &device.info;
        let text = |text: &String| (!text.is_empty()).then(|| text.clone());
        (info.model, info.serial, info.firmware) =
            (text(&about.model), text(&about.serial), text(&about.firmware));
        let mut names: Vec<String> = self
            .channels
            .values()
            .filter(|c| c.device == device.name)
            .map(|c| c.setting.name.clone())
            .collect();
        names.sort();
        info.channels = names;
        info.calibration = self.calibration_of(device).copied();
        info.reservations = self.reservations(device);
        if device.namespaces.is_empty() && device.skipped.is_empty() {
            return info;
        }
        let mut bytes = Pool::default();
        for (&id, seat) in &device.namespaces {
            let block = u64::from(seat.limits.block_bytes);
            let (capacity, free, longest) = seat.carving.as_ref().map_or((0, 0, 0), |carving| {
                let pool = &carving.pool;
                (pool.total_blocks() * block, pool.free_blocks() * block, pool.longest_free_blocks() * block)
            });
            bytes.capacity += capacity;
            bytes.used += capacity - free;
            info.namespaces.push(NamespaceInfo {
                id,
                block_bytes: seat.limits.block_bytes,
                blocks: seat.limits.blocks,
                capacity_bytes: capacity,
                free_bytes: free,
                free_run_bytes: longest,
                formatted: seat.carving.is_ok(),
                reason: seat.carving.as_ref().err().cloned(),
            });
        }
        for (&id, reason) in &device.skipped {
            info.namespaces.push(NamespaceInfo {
                id,
                block_bytes: 0,
                blocks: 0,
                capacity_bytes: 0,
                free_bytes: 0,
                free_run_bytes: 0,
                formatted: false,
                reason: Some(reason.clone()),
            });
        }
        let granted = u64::from(about.lanes_max);
        let used = granted.saturating_sub(u64::from(device.lanes_free));
        info.pools = Some(Pools { bytes, queue_pairs: Pool { capacity: granted, used } });
        let first = device.namespaces.values().next().filter(|_| device.class == FunctionClass::Nvme);
        info.nvme = first.map(|seat| NvmeInfo {
            version: about.version.clone(),
            transfer_bytes_max: u64::from(seat.limits.transfer_bytes_max),
            queue_entries_max: about.depth_max,
            addressing: match seat.limits.addressing {
                Addressing::Sgl { .. } | Addressing::Any => vfiomux_rpc::Addressing::Sgl,
                Addressing::Prp { .. } => vfiomux_rpc::Addressing::Prp,
            },
            volatile_cache: seat.limits.volatile_cache,
            write_zeroes: seat.limits.write_zeroes_blocks_max > 0,
            deallocate: seat.limits.deallocate_blocks_max > 0,
        });
        info
    }

    pub(crate) fn channel_info(&self, channel: &Channel) -> ChannelInfo {
        let setting = &channel.setting;
        let snapshot = channel.counters.snapshot();
        ChannelInfo {
            name: setting.name.clone(),
            id: setting.id.clone(),
            kind: ChannelKind::Block,
            tenant: setting.tenant.clone(),
            device: channel.device.clone(),
            namespace: channel.namespace,
            size_bytes: setting.size_bytes,
            block_bytes: channel.block_bytes,
            queues: setting.queues,
            read_only: setting.read_only,
            guarantees: setting.guarantees,
            labels: setting.labels.clone(),
            serial: setting.serial.clone(),
            endpoint: setting.endpoint.clone(),
            admin: setting.admin,
            oper: setting.oper,
            health: channel.health,
            reasons: channel.reasons.clone(),
            generation: setting.generation,
            epoch: channel.epoch,
            session: channel.attachment.as_ref().and_then(|a| a.live.as_ref()).map(session_info),
            sidecore: channel.seat.as_ref().and_then(|seat| u32::try_from(seat.line).ok()),
            plan: channel.seat.as_ref().map(plan),
            extents: channel
                .extents
                .iter()
                .map(|extent| vfiomux_rpc::Extent { first_block: extent.start, blocks: extent.blocks })
                .collect(),
            counters: Counters {
                read_ops: snapshot.reads,
                read_bytes: snapshot.read_bytes,
                write_ops: snapshot.writes,
                write_bytes: snapshot.write_bytes,
                flush_ops: snapshot.flushes,
                flushes_merged: snapshot.flushes_merged,
                discard_ops: snapshot.discards,
                write_zeroes_ops: snapshot.write_zeroes,
                error_ops: snapshot.errors,
                bounced_ops: snapshot.bounced,
                bounced_bytes: snapshot.bounced_bytes,
                limited: snapshot.limited,
                limited_ns: snapshot.limited_ns,
                tenant_limited: snapshot.tenant_limited,
                tenant_limited_ns: snapshot.tenant_limited_ns,
                contended_ns: snapshot.contended_ns,
                kicks: snapshot.kicks,
                calls: snapshot.calls,
                stale_completions: snapshot.strays,
            },
            latency: Latency {
                ring_wait: distribution(&snapshot.ring_wait),
                device: distribution(&snapshot.device_time),
            },
            kept: self.kept(channel),
        }
    }

    /// The way of a channel's I/O: VM, endpoint, virtqueues, channel, queue pair, function, namespace (S12).
    pub(crate) fn channel_path(&self, channel: &Channel) -> ChannelPath {
        let mut path = ChannelPath::new(&channel.setting.name);
        let live = channel.attachment.as_ref().and_then(|attachment| attachment.live.as_ref());
        let vmm = live.and_then(|live| live.connection.peer_pid()).map(|pid| {
            let command =
                std::fs::read_to_string(format!("/proc/{pid}/comm")).ok().map(|name| name.trim().to_owned());
            path.push(&[], HopKind::Vmm, format!("process {pid}"), command)
        });
        let vmm: Vec<u32> = vmm.into_iter().collect();
        let endpoint =
            channel.setting.endpoint.as_ref().map(|endpoint| {
                path.push(&vmm, HopKind::Endpoint, endpoint.path.display().to_string(), None)
            });
        let endpoint: Vec<u32> = endpoint.into_iter().collect();
        let mut rings: Vec<u32> = live
            .iter()
            .flat_map(|live| &live.rings)
            .map(|(index, size)| {
                path.push(&endpoint, HopKind::Virtqueue, index.to_string(), Some(format!("{size} entries")))
            })
            .collect();
        if rings.is_empty() {
            rings = endpoint;
        }
        let hop = path.push(
            &rings,
            HopKind::Channel,
            &channel.setting.name,
            Some(format!("tenant {}", channel.setting.tenant)),
        );
        let mut before = vec![hop];
        if let Some(seat) = &channel.seat {
            let lane = if seat.own_lane { "its own" } else { "shared" };
            let detail = format!("submission queue {lane}, completion queue of sidecore {}", seat.line);
            before = vec![path.push(&before, HopKind::QueuePair, seat.lane.0.to_string(), Some(detail))];
        }
        let function = path.push(&before, HopKind::Function, &channel.device, None);
        let blocks: u64 = channel.extents.iter().map(|extent| extent.blocks).sum();
        let detail =
            format!("{} extents, {blocks} blocks of {} bytes", channel.extents.len(), channel.block_bytes);
        path.push(&[function], HopKind::Namespace, channel.namespace.to_string(), Some(detail));
        path
    }
}

/// Sidecores without their channels and histograms.
fn in_short(sidecores: Vec<SidecoreInfo>) -> Vec<SidecoreInfo> {
    sidecores
        .into_iter()
        .map(|info| SidecoreInfo { serves: Vec::new(), breath_time: Vec::new(), ..info })
        .collect()
}

fn plan(seat: &Seat) -> Plan {
    let mut notes = Vec::new();
    if !seat.own_lane {
        notes.push(
            "the controller grants too few submission queues: a stuck command can be ended only by resetting it".to_owned(),
        );
    }
    if let Addressing::Prp { page_bytes } = seat.settings.limits.addressing {
        notes.push(format!("memory is named in pages of {page_bytes} bytes: other segments are cut, or bounced block by block"));
    }
    Plan { lane: if seat.own_lane { Lane::Own } else { Lane::Shared }, data: DataMode::ZeroCopy, notes }
}

fn session_info(live: &super::attachment::Live) -> SessionInfo {
    let mapped = |region: &super::attachment::KeptRegion| RegionInfo {
        guest_address: region.id.guest_addr,
        size_bytes: region.id.size_bytes,
        mapped: true,
    };
    SessionInfo {
        peer_pid: live.connection.peer_pid(),
        features: names(live.session.features(), FEATURE_NAMES),
        protocol_features: names(live.session.protocol_features(), PROTOCOL_FEATURE_NAMES),
        regions: live.regions.iter().map(mapped).collect(),
        virtqueues: live
            .rings
            .iter()
            .map(|(&index, &entries)| VirtqueueInfo { index, entries, enabled: true })
            .collect(),
    }
}

/// Names of the bits that are set; a number for one without a name.
fn names(bits: u64, known: &[(u64, &str)]) -> Vec<String> {
    (0..64u32)
        .map(|bit| (bit, 1u64 << bit))
        .filter(|(_, mask)| bits & mask != 0)
        .map(|(bit, mask)| {
            known
                .iter()
                .find(|(name, _)| *name == mask)
                .map_or_else(|| format!("bit {bit}"), |(_, name)| (*name).to_owned())
        })
        .collect()
}

const FEATURE_NAMES: &[(u64, &str)] = &[
    (blk::F_SEG_MAX, "seg-max"),
    (blk::F_RO, "read-only"),
    (blk::F_BLK_SIZE, "block-size"),
    (blk::F_FLUSH, "flush"),
    (blk::F_TOPOLOGY, "topology"),
    (blk::F_MQ, "multi-queue"),
    (blk::F_DISCARD, "discard"),
    (blk::F_WRITE_ZEROES, "write-zeroes"),
    (transport::RING_INDIRECT_DESC, "indirect-descriptors"),
    (transport::RING_EVENT_IDX, "event-index"),
    (transport::VERSION_1, "version-1"),
];

const PROTOCOL_FEATURE_NAMES: &[(u64, &str)] = {
    use vfiomux_spec::vhost_user::protocol_features as pf;
    &[
        (pf::MQ, "mq"),
        (pf::REPLY_ACK, "reply-ack"),
        (pf::BACKEND_REQ, "backend-req"),
        (pf::CONFIG, "config"),
        (pf::INFLIGHT_SHMFD, "inflight-shmfd"),
        (pf::RESET_DEVICE, "reset-device"),
        (pf::CONFIGURE_MEM_SLOTS, "configure-mem-slots"),
        (pf::STATUS, "status"),
    ]
};

pub(crate) fn distribution(histogram: &HistogramSnapshot) -> Distribution {
    let quantile = |per_mille| histogram.quantile_ns(per_mille).unwrap_or(0);
    Distribution {
        count: histogram.count(),
        mean_ns: histogram.mean_ns(),
        p50_ns: quantile(500),
        p99_ns: quantile(990),
        p999_ns: quantile(999),
    }
}

pub(crate) fn class_of(function: &FunctionInfo) -> FunctionClass {
    match vfiomux_hw::Class::from(function.class) {
        vfiomux_hw::Class::Nvme => FunctionClass::Nvme,
        vfiomux_hw::Class::Network => FunctionClass::Network,
        _ => FunctionClass::Other,
    }
}

/// A function of the host that is not ours.
fn discovered(function: &FunctionInfo) -> DeviceInfo {
    let group = function.group.as_ref();
    DeviceInfo {
        name: function.address.to_string(),
        address: Some(function.address.to_string()),
        class: class_of(function),
        state: FunctionState::Discovered,
        reason: group
            .is_none()
            .then(|| "no IOMMU confines it: enable the IOMMU in the firmware and the kernel".to_owned()),
        pci_id: Some(format!("{:04x}:{:04x}", function.vendor, function.device)),
        driver: function.driver.clone(),
        iommu_group: group.map(|group| group.id),
        group_members: group
            .map_or_else(Vec::new, |g| g.members.iter().map(|m| m.address.to_string()).collect()),
        numa_node: function.numa_node,
        holders: function.holders.iter().map(ToString::to_string).collect(),
        ..simulated("")
    }
}

/// A device that no bus has, and that a policy denied when it was found.
fn denied_info(name: &str, why: &str) -> DeviceInfo {
    DeviceInfo { reason: Some(why.to_owned()), ..simulated(name) }
}

/// What is known of a device that no bus has.
fn simulated(name: &str) -> DeviceInfo {
    DeviceInfo {
        name: name.to_owned(),
        address: None,
        class: FunctionClass::Nvme,
        state: FunctionState::Discovered,
        reason: None,
        generation: 0,
        pci_id: None,
        model: None,
        serial: None,
        firmware: None,
        driver: None,
        iommu_group: None,
        group_members: Vec::new(),
        numa_node: None,
        holders: Vec::new(),
        pools: None,
        nvme: None,
        namespaces: Vec::new(),
        channels: Vec::new(),
        calibration: None,
        reservations: Reservations::default(),
    }
}
