//! The conversations that real VMMs have with a disk, from connecting to the guest's second start.

use crate::wire::{Said, World, block_device, start_ring};
use vfiomux_spec::vhost_user::{ConfigHeader, FrontendRequest as R, Inflight, protocol_features as pf};
use vfiomux_spec::virtio::{blk, features};
use vfiomux_vhost::Device;
use zerocopy::IntoBytes;

const FIRMWARE: u64 = features::VERSION_1 | blk::F_FLUSH | features::VHOST_USER_PROTOCOL_FEATURES;
const LINUX: u64 = FIRMWARE | features::RING_EVENT_IDX | features::RING_INDIRECT_DESC | blk::F_MQ;

fn enable(rings: u32, on: u32) -> Vec<Said> {
    (0..rings).map(|index| Said::state(R::SetVringEnable, index, on)).collect()
}

/// The replies so far as the names of their requests.
fn replied(world: &mut World) -> Vec<&'static str> {
    world.replies().iter().map(|(request, _)| request.name()).collect()
}

/// What was told, less the arguments.
fn verbs(told: &[String]) -> Vec<&str> {
    told.iter().map(|line| line.split([':', '[']).next().unwrap_or_default().trim_end()).collect()
}

/// Before QEMU 8 the device status goes to zero first, and the rings are stopped after it.
#[test]
fn qemu_7_starts_the_rings_for_the_firmware_and_again_for_linux() {
    qemu(|status, rings| [status, rings].concat());
}

/// From QEMU 8 on the device status is the last to go.
#[test]
fn qemu_10_starts_the_rings_for_the_firmware_and_again_for_linux() {
    qemu(|status, rings| [rings, status].concat());
}

/// A `vhost-user-blk-pci` with two queues, memory region by region, for the firmware and then for Linux.
fn qemu(stop_in_order: impl Fn(Vec<Said>, Vec<Said>) -> Vec<Said>) {
    let mut world = World::new("qemu", block_device());
    let mut config = ConfigHeader { offset: 0, size: 57, flags: 0 }.as_bytes().to_vec();
    config.resize(12 + 57, 0);
    let mut connect = vec![
        Said::new(R::GetFeatures, &[]),
        Said::new(R::GetProtocolFeatures, &[]),
        Said::number(R::SetProtocolFeatures, Device::PROTOCOL_FEATURES),
        Said::new(R::GetQueueNum, &[]),
        Said::new(R::GetMaxMemSlots, &[]),
        Said::new(R::SetBackendReqFd, &[]).fds(1).acked(),
        Said::new(R::SetOwner, &[]),
        Said::new(R::GetFeatures, &[]),
    ];
    for ring in 0..2 {
        connect.extend([Said::notifier(R::SetVringErr, ring), Said::notifier(R::SetVringCall, ring)]);
    }
    connect.push(Said::new(R::GetConfig, &config));
    assert_eq!(verbs(&world.say(&connect)), ["backend-channel reply_ack true"]);
    let expected = [
        "GET_FEATURES",
        "GET_PROTOCOL_FEATURES",
        "GET_QUEUE_NUM",
        "GET_MAX_MEM_SLOTS",
        "SET_BACKEND_REQ_FD",
        "GET_FEATURES",
        "GET_CONFIG",
    ];
    assert_eq!(replied(&mut world), expected);

    let inflight = Inflight { num_queues: 2, queue_size: 128, ..Default::default() };
    let inflight_told = ["get-inflight 2x128", "set-inflight 2x128 size 0x2000"];
    let told = world.say(&[
        Said::with(R::GetInflightFd, &inflight),
        Said::with(R::SetInflightFd, &Inflight { mmap_size: 0x2000, ..inflight }).fds(1),
    ]);
    assert_eq!(verbs(&told), inflight_told);

    for (features, size, first) in [(FIRMWARE, 128, true), (LINUX, 256, false)] {
        let mut start = vec![
            Said::number(R::SetFeatures, features),
            Said::new(R::GetStatus, &[]),
            Said::number(R::SetStatus, 8),
        ];
        if first {
            start.extend([
                Said::add_region(0, 0xa0000).acked(),
                Said::add_region(0x10_0000, 0x1ff0_0000).acked(),
            ]);
        }
        start.extend((0..2).flat_map(|ring| start_ring(ring, size, 0)));
        start.extend(enable(2, 1).into_iter().map(Said::acked));
        start.extend([Said::new(R::GetStatus, &[]), Said::number(R::SetStatus, 15)]);
        // The guest's interrupts, in place of the notifier that stood in for them.
        start.extend((0..2).map(|ring| Said::notifier(R::SetVringCall, ring)));
        let told = world.say(&start);
        let mut expected = vec!["status 8"];
        if first {
            expected.extend(["map", "map"]);
        }
        expected.extend(["start 0", "start 1", "status 15", "call 0 fd", "call 1 fd"]);
        assert_eq!(verbs(&told), expected);
        let used = features & !features::VHOST_USER_PROTOCOL_FEATURES;
        let start_1 = told.iter().find(|line| line.starts_with("start 1")).unwrap();
        assert!(start_1.contains(&format!("size {size} base 0 features {used:#x}")), "{start_1}");
        assert!(start_1.ends_with("kick fd call fd err fd"));
        world.replies();

        // QEMU stops the same way when a guest resets its device and when the whole machine is paused: where a ring is to
        // go on must not be forgotten by the status.
        let mut rings = enable(2, 0);
        rings.extend((0..2).map(|ring| Said::state(R::GetVringBase, ring, 0)));
        let stop = stop_in_order(vec![Said::number(R::SetStatus, 0)], rings);
        assert_eq!(verbs(&world.say(&stop)), ["stop 0", "stop 1", "status 0"]);
        let bases: Vec<_> =
            world.replies().into_iter().map(|(request, payload)| (request, payload[4])).collect();
        assert_eq!(bases, [(R::GetVringBase, 100), (R::GetVringBase, 101)]);
    }

    // The guest's memory changes, and goes.
    world
        .say(&[Said::remove_region(0, 0xa0000).acked(), Said::remove_region(0x10_0000, 0x1ff0_0000).acked()]);
    assert_eq!(world.replies().iter().map(|(_, payload)| payload[0]).collect::<Vec<_>>(), [0, 0]);
    assert!(!world.session.is_ended());
}

/// `virtio-devices/src/vhost_user` of cloud-hypervisor: the whole memory table, every message acknowledged.
#[test]
fn cloud_hypervisor_has_every_message_acknowledged() {
    let mut world = World::new("cloud-hypervisor", block_device());
    let wanted = pf::CONFIG | pf::MQ | pf::CONFIGURE_MEM_SLOTS | pf::REPLY_ACK | pf::INFLIGHT_SHMFD;
    world.say(&[
        Said::new(R::SetOwner, &[]),
        Said::new(R::GetFeatures, &[]),
        Said::number(R::SetFeatures, LINUX),
        Said::new(R::GetProtocolFeatures, &[]),
        Said::number(R::SetProtocolFeatures, wanted),
    ]);
    world.replies();
    assert_eq!(world.session.protocol_features(), wanted);

    let mut config = ConfigHeader { offset: 0, size: 60, flags: 1 }.as_bytes().to_vec();
    config.resize(12 + 60, 0);
    let inflight = Inflight { num_queues: 2, queue_size: 128, ..Default::default() };
    let mut activate = vec![
        Said::new(R::GetQueueNum, &[]),
        Said::new(R::GetConfig, &config),
        Said::number(R::SetFeatures, LINUX),
        Said::mem_table(&[Said::region(0, 0xc000_0000), Said::region(1 << 32, 1 << 30)]),
        Said::with(R::GetInflightFd, &inflight),
        Said::with(R::SetInflightFd, &Inflight { mmap_size: 0x2000, ..inflight }).fds(1),
    ];
    for ring in 0..2 {
        let index = u64::from(ring);
        activate.extend([
            Said::state(R::SetVringNum, ring, 128),
            Said::addr(ring),
            Said::state(R::SetVringBase, ring, 0),
            Said::notifier(R::SetVringCall, index),
            Said::notifier(R::SetVringKick, index),
        ]);
    }
    activate.extend(enable(2, 1));
    let activate: Vec<Said> = activate.into_iter().map(Said::acked).collect();
    let told = world.say(&activate);
    assert_eq!(
        verbs(&told),
        ["map", "get-inflight 2x128", "set-inflight 2x128 size 0x2000", "start 0", "start 1"]
    );
    let names: Vec<_> =
        activate.iter().map(|said| R::from_raw(u32::from(said.bytes[0])).unwrap().name()).collect();
    assert_eq!(replied(&mut world), names);

    // The guest resets its device.
    let reset: Vec<Said> = (0..2)
        .flat_map(|ring| [Said::state(R::SetVringEnable, ring, 0), Said::state(R::GetVringBase, ring, 0)])
        .map(Said::acked)
        .collect();
    assert_eq!(world.say(&reset), ["stop 0", "stop 1"]);
    assert_eq!(
        replied(&mut world),
        ["SET_VRING_ENABLE", "GET_VRING_BASE", "SET_VRING_ENABLE", "GET_VRING_BASE"]
    );

    // More memory is plugged in while nothing runs, then everything starts anew.
    assert_eq!(verbs(&world.say(&[Said::add_region(2 << 32, 1 << 30).acked()])), ["map"]);
    let mut restart = vec![Said::number(R::SetFeatures, LINUX)];
    restart.extend((0..2).flat_map(|ring| start_ring(ring, 128, 0)));
    restart.extend(enable(2, 1));
    assert_eq!(verbs(&world.say(&restart)), ["start 0", "start 1"]);
}
