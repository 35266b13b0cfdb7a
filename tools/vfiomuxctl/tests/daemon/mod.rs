//! A daemon that only answers: the real server, and a function in place of the manager.

pub(crate) mod model;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use mio::{Events, Poll, Token, Waker};
use tempfile::TempDir;
use vfiomux_rpc::{
    Addressing, Admin, Bounds, Calibration, Change, ChannelInfo, ChannelKind, Cost, Counters, DataMode,
    DeviceInfo, Distribution, Endpoint, EndpointMode, Event, Extent, FunctionClass, FunctionState, Health,
    Kept, Lane, Latency, Method, NamespaceInfo, NvmeInfo, Oper, Outcome, Plan, Pool, Pools, Reasons,
    RegionInfo, Request, ReservationHolder, Reservations, Roles, RpcError, Server, SessionInfo,
    VirtqueueInfo,
};

const WAKE: Token = Token(0);

pub(crate) struct Daemon {
    directory: TempDir,
    asked: Arc<Mutex<Vec<(Method, Change)>>>,
    ending: Arc<AtomicBool>,
    waker: Arc<Waker>,
    thread: Option<JoinHandle<()>>,
}

impl Daemon {
    /// Answers by `manager`. A subscriber is sent `events`, and then the daemon ends.
    pub(crate) fn start(
        mut manager: impl FnMut(&Method, &Change) -> Result<Outcome, RpcError> + Send + 'static,
        events: Vec<Event>,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut poll = Poll::new().unwrap();
        let waker = Arc::new(Waker::new(poll.registry(), WAKE).unwrap());
        let registry = poll.registry().try_clone().unwrap();
        let path = directory.path().join("control.sock");
        let mut server = Server::bind(&path, registry, 1, Roles::default(), Bounds::default()).unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let ending = Arc::new(AtomicBool::new(false));
        let (log, end) = (Arc::clone(&asked), Arc::clone(&ending));
        let thread = thread::spawn(move || {
            let mut readiness = Events::with_capacity(16);
            while !end.load(Ordering::Relaxed) {
                poll.poll(&mut readiness, None).unwrap();
                for event in readiness.iter().filter(|event| event.token() != WAKE) {
                    server.ready(event);
                }
                while let Some(Request { ticket, method, change, .. }) = server.next_request() {
                    let (connection, answer) = (ticket.connection(), manager(&method, &change));
                    let subscribes = matches!(method, Method::EventsSubscribe(_));
                    // Noted first: whoever is answered may look at once.
                    log.lock().unwrap().push((method, change));
                    server.reply(ticket, answer);
                    if subscribes {
                        server.subscribe(connection, &events);
                        end.store(true, Ordering::Relaxed);
                    }
                }
                while server.next_closed().is_some() {}
            }
        });
        Self { directory, asked, ending, waker, thread: Some(thread) }
    }

    pub(crate) fn control(&self) -> PathBuf {
        self.directory.path().join("control.sock")
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// What was asked of it so far.
    pub(crate) fn asked(&self) -> Vec<(Method, Change)> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Relaxed);
        self.waker.wake().unwrap();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

pub(crate) fn claimed_device() -> DeviceInfo {
    DeviceInfo {
        name: "0000:03:00.0".into(),
        address: Some("0000:03:00.0".into()),
        class: FunctionClass::Nvme,
        state: FunctionState::Ready,
        reason: None,
        generation: 3,
        pci_id: Some("1b36:0010".into()),
        model: Some("QEMU NVMe Ctrl".into()),
        serial: Some("abc".into()),
        firmware: Some("7.2".into()),
        driver: Some("vfio-pci".into()),
        iommu_group: Some(12),
        group_members: vec!["0000:03:00.1".into()],
        numa_node: Some(0),
        holders: vec![],
        pools: Some(Pools {
            bytes: Pool { capacity: 4 << 30, used: 1 << 30 },
            queue_pairs: Pool { capacity: 63, used: 2 },
        }),
        nvme: Some(NvmeInfo {
            version: "1.4.0".into(),
            transfer_bytes_max: 512 << 10,
            queue_entries_max: 2048,
            addressing: Addressing::Sgl,
            volatile_cache: true,
            write_zeroes: true,
            deallocate: false,
        }),
        namespaces: vec![NamespaceInfo {
            id: 1,
            block_bytes: 512,
            blocks: 8 << 20,
            capacity_bytes: 4 << 30,
            free_bytes: 3 << 30,
            free_run_bytes: 2 << 30,
            formatted: true,
            reason: None,
        }],
        channels: vec!["disk-a".into()],
        calibration: Some(calibration()),
        reservations: Reservations {
            capacity_ops: 484_375,
            reserved_ops: 60_000,
            overcommit_permille: 1000,
            reason: None,
            holders: vec![ReservationHolder {
                channel: "disk-a".into(),
                tenant: "acme".into(),
                ops: 60_000,
                pending: false,
            }],
        },
    }
}

fn calibration() -> Calibration {
    Calibration {
        time_unix_ns: 1_700_000_000_000_000_000,
        read_ops: 500_000,
        write_ops: 250_000,
        read_bytes: 3 << 30,
        write_bytes: 2 << 30,
        read_latency_ns: 80_000,
        window_commands: 80,
        cost: Cost { read_op: 512, read_kib: 128, write_op: 1024, write_kib: 256 },
        capacity_units: 512_000_000,
    }
}

pub(crate) fn held_device() -> DeviceInfo {
    DeviceInfo {
        name: "0000:04:00.0".into(),
        state: FunctionState::Discovered,
        model: Some("A model whose name is really long".into()),
        driver: Some("nvme".into()),
        iommu_group: Some(13),
        group_members: vec![],
        numa_node: None,
        holders: vec!["nvme0n1p2 mounted on /home".into()],
        pools: None,
        nvme: None,
        namespaces: vec![],
        channels: vec![],
        calibration: None,
        reservations: Reservations::default(),
        ..claimed_device()
    }
}

pub(crate) fn channel() -> ChannelInfo {
    ChannelInfo {
        name: "disk-a".into(),
        id: "0d9a4d5e-6d0b-4c6e-8f6e-0123456789ab".into(),
        kind: ChannelKind::Block,
        tenant: "acme".into(),
        device: "sim0".into(),
        namespace: 1,
        size_bytes: 256 << 20,
        block_bytes: 512,
        queues: 2,
        read_only: false,
        guarantees: vfiomux_rpc::Guarantees::default(),
        labels: vfiomux_rpc::Labels::default(),
        serial: None,
        endpoint: Some(Endpoint { path: "/run/a.sock".into(), mode: EndpointMode::Server }),
        admin: Admin::Enabled,
        oper: Oper::Active,
        health: Health::Degraded,
        reasons: Reasons { health: Some("copies every request".into()), ..Reasons::default() },
        generation: 4,
        epoch: 2,
        session: Some(SessionInfo {
            peer_pid: Some(4711),
            features: vec!["VIRTIO_F_VERSION_1".into()],
            protocol_features: vec![],
            regions: vec![RegionInfo { guest_address: 0, size_bytes: 1 << 30, mapped: true }],
            virtqueues: vec![VirtqueueInfo { index: 0, entries: 256, enabled: true }],
        }),
        sidecore: Some(0),
        plan: Some(Plan { lane: Lane::Own, data: DataMode::ZeroCopy, notes: vec!["by PRP".into()] }),
        extents: vec![Extent { first_block: 2048, blocks: 524_288 }],
        counters: Counters { read_ops: 12, read_bytes: 49152, error_ops: 1, ..Counters::default() },
        latency: Latency {
            device: Distribution {
                count: 12,
                mean_ns: 9000,
                p50_ns: 8000,
                p99_ns: 20_000,
                p999_ns: 1_500_000,
            },
            ring_wait: Distribution::default(),
        },
        kept: Kept::default(),
    }
}
