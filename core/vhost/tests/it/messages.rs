//! What each message does to a session.

use crate::wire::{Said, World, block_device, reply, start_ring, told};
use vfiomux_spec::vhost_user::{
    CONFIG_FLAG_MIGRATION, ConfigHeader, FrontendRequest as R, Inflight, MAX_MEM_SLOTS, VringState,
    protocol_features as pf,
};
use vfiomux_spec::virtio::features;
use vfiomux_vhost::{Device, EndReason, Error, Outcome, Session, Violation};
use zerocopy::{FromBytes, IntoBytes};

const FEATURES: u64 = features::VERSION_1 | features::RING_EVENT_IDX;

/// The violation with which a session ended.
fn violation(told: &[String]) -> &str {
    let last = told.last().expect("nothing was told");
    last.strip_prefix("ended: the front-end broke the protocol: ").unwrap_or_else(|| panic!("{told:?}"))
}

fn enable(index: u32, on: u32) -> Said {
    Said::state(R::SetVringEnable, index, on)
}

#[test]
fn a_device_that_cannot_be_presented_is_refused() {
    for device in [
        Device { rings_max: 0, ..block_device() },
        Device { rings_max: 257, ..block_device() },
        Device { ring_size_max: 100, ..block_device() },
        Device { protocol_features: pf::XEN_MMAP, ..block_device() },
        Device { features: features::VHOST_LOG_ALL, ..block_device() },
        Device { config: vec![0; 257], ..block_device() },
        Device { config_writable: 32..99, ..block_device() },
    ] {
        assert!(matches!(Session::new(device), Err(Error::Device(_))));
    }
}

#[test]
fn the_features_offered_are_the_devices_and_protocol_features() {
    let mut world = World::new("features", block_device());
    world.say(&[Said::new(R::GetFeatures, &[])]);
    assert_eq!(world.number(), block_device().features | features::VHOST_USER_PROTOCOL_FEATURES);
    world.say(&[Said::new(R::GetProtocolFeatures, &[])]);
    assert_eq!(world.number(), Device::PROTOCOL_FEATURES);
}

#[test]
fn a_device_without_protocol_features_does_not_offer_them() {
    let mut world = World::new("no-protocol", Device { protocol_features: 0, ..block_device() });
    world.say(&[Said::new(R::GetFeatures, &[])]);
    assert_eq!(world.number(), block_device().features);
}

#[test]
fn features_that_were_not_offered_end_the_session() {
    let told = World::new("bad", block_device()).say(&[Said::number(R::SetFeatures, features::RING_PACKED)]);
    assert_eq!(violation(&told), "SET_FEATURES with 0x400000000, which was not offered");
    let told = World::new("bad", block_device()).say(&[Said::number(R::SetProtocolFeatures, pf::LOG_SHMFD)]);
    assert_eq!(violation(&told), "SET_PROTOCOL_FEATURES with 0x2, which was not offered");
}

#[test]
fn the_limits_are_the_devices_and_the_protocols() {
    let mut world = World::negotiated("limits", FEATURES);
    world.say(&[Said::new(R::GetQueueNum, &[])]);
    assert_eq!(world.number(), 4);
    world.say(&[Said::new(R::GetMaxMemSlots, &[])]);
    assert_eq!(world.number(), MAX_MEM_SLOTS as u64);
}

#[test]
fn a_ring_starts_when_it_is_complete_and_enabled() {
    let mut world = World::negotiated("start", FEATURES);
    assert!(world.say(&start_ring(1, 128, 7)).is_empty());
    assert_eq!(
        world.say(&[enable(1, 1)]),
        ["start 1: size 128 base 7 features 0x120000000 desc 0x7f0000010000 avail 0x7f0000014000 \
          used 0x7f0000018000 kick fd call fd err none"]
    );
    assert_eq!(world.session.running_rings().collect::<Vec<_>>(), [1]);
}

#[test]
fn without_protocol_features_a_ring_starts_enabled() {
    let mut world = World::new("legacy", block_device());
    let mut messages = vec![Said::number(R::SetFeatures, FEATURES)];
    messages.extend(start_ring(0, 128, 0));
    let told = world.say(&messages);
    assert!(told[0].starts_with("start 0: size 128 base 0"), "{told:?}");
    assert_eq!(told[1..], ["call 0 fd"]);
}

#[test]
fn a_ring_without_a_kick_is_polled() {
    let mut world = World::negotiated("polled", FEATURES);
    let told = world.say(&[
        Said::state(R::SetVringNum, 0, 8),
        Said::addr(0),
        enable(0, 1),
        Said::polled(R::SetVringKick, 0),
    ]);
    assert!(told[0].ends_with("kick none call none err none"), "{told:?}");
}

#[test]
fn get_vring_base_is_answered_when_the_ring_has_stopped_and_not_before() {
    let mut world = World::negotiated("base", FEATURES);
    world.say(&start_ring(2, 128, 0));
    world.say(&[enable(2, 1)]);
    world.feed(&[Said::state(R::GetVringBase, 2, 0), Said::new(R::GetFeatures, &[])]);
    let stop = world.session.next_action().unwrap();
    assert!(world.session.next_action().is_none() && world.replies().is_empty());
    world.session.complete(stop.token().unwrap(), Outcome::RingStopped { base: 42 }).unwrap();
    let replies = world.replies();
    assert_eq!(replies[0], (R::GetVringBase, VringState { index: 2, num: 42 }.as_bytes().to_vec()));
    assert_eq!(replies[1].0, R::GetFeatures);
}

#[test]
fn a_stopped_ring_needs_another_kick_to_start_and_goes_on_where_it_stopped() {
    let mut world = World::negotiated("again", FEATURES);
    world.say(&start_ring(0, 128, 0));
    world.say(&[enable(0, 1)]);
    assert_eq!(world.say(&[Said::state(R::GetVringBase, 0, 0)]), ["stop 0"]);
    assert!(world.say(&[enable(0, 0), enable(0, 1)]).is_empty());
    let told = world.say(&[Said::notifier(R::SetVringKick, 0)]);
    assert!(told[0].starts_with("start 0: size 128 base 100"), "{told:?}");
}

#[test]
fn a_ring_can_be_started_again_with_other_features() {
    let mut world = World::negotiated("firmware", features::VERSION_1);
    world.say(&start_ring(0, 128, 0));
    world.say(&[enable(0, 1)]);
    world.say(&[enable(0, 0), Said::state(R::GetVringBase, 0, 0)]);
    let bits = FEATURES | features::VHOST_USER_PROTOCOL_FEATURES;
    world.say(&[Said::number(R::SetFeatures, bits)]);
    world.say(&start_ring(0, 256, 0));
    let told = world.say(&[enable(0, 1)]);
    assert!(told[0].starts_with("start 0: size 256 base 0 features 0x120000000"), "{told:?}");
}

#[test]
fn a_disabled_ring_stops_and_starts_again_where_it_was() {
    let mut world = World::negotiated("disable", FEATURES);
    world.say(&start_ring(3, 64, 5));
    world.say(&[enable(3, 1)]);
    assert_eq!(world.say(&[enable(3, 0)]), ["stop 3"]);
    let told = world.say(&[enable(3, 1)]);
    assert!(
        told[0].starts_with("start 3: size 64 base 103") && told[0].contains("kick fd call fd"),
        "{told:?}"
    );
}

#[test]
fn eventfds_of_a_running_ring_can_be_replaced() {
    let mut world = World::negotiated("notifiers", FEATURES);
    world.say(&start_ring(0, 64, 0));
    world.say(&[enable(0, 1)]);
    let told = world.say(&[
        Said::notifier(R::SetVringCall, 0),
        Said::polled(R::SetVringCall, 0),
        Said::notifier(R::SetVringErr, 0),
        Said::notifier(R::SetVringKick, 0),
    ]);
    assert_eq!(told, ["call 0 fd", "call 0 none", "err 0 fd", "kick 0 fd"]);
}

#[test]
fn what_a_running_ring_is_made_of_cannot_be_changed() {
    let moved = {
        let mut said = Said::addr(0);
        said.bytes[12 + 9] ^= 0x10;
        said
    };
    for (change, text) in [
        (Said::state(R::SetVringNum, 0, 32), "SET_VRING_NUM changes ring 0 while it runs"),
        (Said::state(R::SetVringBase, 0, 1), "SET_VRING_BASE changes ring 0 while it runs"),
        (moved, "SET_VRING_ADDR changes ring 0 while it runs"),
        (Said::number(R::SetFeatures, FEATURES), "SET_FEATURES changes features while ring 0 runs"),
    ] {
        let mut world = World::negotiated("running", FEATURES);
        world.say(&start_ring(0, 64, 0));
        world.say(&[enable(0, 1)]);
        // The same again is no change.
        let same = FEATURES | features::VHOST_USER_PROTOCOL_FEATURES;
        assert!(
            world
                .say(&[Said::addr(0), Said::state(R::SetVringNum, 0, 64), Said::number(R::SetFeatures, same)])
                .is_empty()
        );
        assert_eq!(violation(&world.say(&[change])), text);
    }
}

#[test]
fn rings_that_cannot_be_end_the_session() {
    let misaligned = {
        let mut said = Said::addr(0);
        said.bytes[12 + 8] = 8;
        said
    };
    for (message, text) in [
        (Said::state(R::SetVringNum, 4, 64), "SET_VRING_NUM for ring 4 of a device with 4"),
        (
            Said::state(R::SetVringEnable, u32::MAX, 1),
            "SET_VRING_ENABLE for ring 4294967295 of a device with 4",
        ),
        (Said::state(R::SetVringEnable, 0, 2), "SET_VRING_ENABLE with the value 0x2"),
        (
            Said::state(R::SetVringNum, 0, 100),
            "SET_VRING_NUM gives ring 0 100 entries; a power of two up to 1024 is possible",
        ),
        (
            Said::state(R::SetVringNum, 0, 2048),
            "SET_VRING_NUM gives ring 0 2048 entries; a power of two up to 1024 is possible",
        ),
        (
            Said::state(R::SetVringNum, 0, 0),
            "SET_VRING_NUM gives ring 0 0 entries; a power of two up to 1024 is possible",
        ),
        (misaligned, "SET_VRING_ADDR gives ring 0 addresses that are not aligned"),
        (Said::notifier(R::SetVringKick, 200), "SET_VRING_KICK for ring 200 of a device with 4"),
        (Said::number(R::SetVringKick, 1 << 9).fds(1), "SET_VRING_KICK with the value 0x200"),
    ] {
        assert_eq!(violation(&World::negotiated("impossible", FEATURES).say(&[message])), text);
    }
}

#[test]
fn a_memory_table_replaces_all_regions_and_is_acknowledged_afterwards() {
    let mut world = World::negotiated("table", FEATURES);
    world.feed(&[Said::mem_table(&[Said::region(0, 0x1000), Said::region(0x10_0000, 0x2000)]).acked()]);
    let map = world.session.next_action().unwrap();
    assert!(told(&map).contains("guest_addr: 100000") && told(&map).ends_with("replace true"));
    assert!(world.replies().is_empty());
    world.session.complete(map.token().unwrap(), Outcome::Done).unwrap();
    assert_eq!(world.number(), 0);
    // Region by region on top of it.
    assert!(world.say(&[Said::add_region(0x20_0000, 0x1000)])[0].ends_with("replace false"));
    assert!(world.say(&[Said::remove_region(0, 0x1000)])[0].starts_with("unmap"));
}

/// D3: memory goes back to the front-end only after unmap has completed.
#[test]
fn a_region_is_acknowledged_as_removed_only_when_it_is_unmapped() {
    let mut world = World::negotiated("remove", FEATURES);
    world.say(&[Said::add_region(0, 0x1000)]);
    world.feed(&[Said::remove_region(0, 0x1000).acked()]);
    let unmap = world.session.next_action().unwrap();
    assert!(world.replies().is_empty());
    world.session.complete(unmap.token().unwrap(), Outcome::Done).unwrap();
    assert_eq!(world.number(), 0);
}

#[test]
fn removing_a_region_may_come_with_a_descriptor_which_is_closed() {
    let mut world = World::negotiated("remove-fd", FEATURES);
    world.say(&[Said::add_region(0, 0x1000), Said::remove_region(0, 0x1000).fds(1).acked()]);
    assert_eq!(world.number(), 0);
    assert_eq!(world.descriptors.open(), 0);
}

#[test]
fn removing_a_region_that_does_not_exist_is_refused() {
    let mut world = World::negotiated("unknown-region", FEATURES);
    world.say(&[Said::remove_region(0, 0x1000).acked()]);
    assert_eq!(world.number(), 1);
    let told = world.say(&[Said::remove_region(0, 0x1000)]);
    assert_eq!(told, ["ended: REM_MEM_REG could not be carried out: there is no region at 0x0"]);
}

#[test]
fn regions_that_cannot_be_end_the_session() {
    let offset_beyond_files = {
        let mut region = Said::region(0, 0x1000);
        region.mmap_offset = i64::MAX as u64;
        Said::mem_table(&[region])
    };
    for messages in [
        vec![Said::add_region(0, 0)],
        vec![Said::add_region(u64::MAX - 0xfff, 0x1000)],
        vec![Said::add_region(0, 0x1000), Said::add_region(0xfff, 0x1000)],
        vec![Said::mem_table(&[Said::region(0, 0x2000), Said::region(0x1000, 0x2000)])],
        vec![offset_beyond_files],
    ] {
        let told = World::negotiated("bad-region", FEATURES).say(&messages);
        assert!(violation(&told).contains("region"), "{told:?}");
    }
}

#[test]
fn there_is_room_for_509_regions() {
    let mut world = World::negotiated("slots", FEATURES);
    for slot in 0..MAX_MEM_SLOTS as u64 {
        world.say(&[Said::add_region(slot * 0x1000, 0x1000)]);
    }
    assert!(!world.session.is_ended());
    let told = world.say(&[Said::add_region(1 << 40, 0x1000)]);
    assert_eq!(violation(&told), "ADD_MEM_REG beyond 509 regions");
}

fn config(request: R, offset: u32, size: u32, flags: u32, bytes: &[u8]) -> Said {
    Said::new(request, &[ConfigHeader { offset, size, flags }.as_bytes(), bytes].concat())
}

#[test]
fn configuration_space_is_read_in_the_size_asked_for_with_zeroes_beyond_its_end() {
    for (offset, size) in [(0, 60), (0, 69), (57, 12), (200, 56), (0, 256), (32, 1)] {
        let mut world = World::negotiated("config", FEATURES);
        world.say(&[config(R::GetConfig, offset, size, 0, &vec![0; size as usize])]);
        let (_, payload) = world.replies().remove(0);
        let (header, bytes) = ConfigHeader::read_from_prefix(&payload).unwrap();
        assert_eq!((header.offset, header.size), (offset, size));
        let expected: Vec<u8> =
            (offset..offset + size).map(|at| if at < 60 { at as u8 } else { 0 }).collect();
        assert_eq!(bytes, expected);
    }
}

#[test]
fn a_read_of_configuration_space_need_not_bring_room_for_the_answer() {
    let mut world = World::negotiated("config-short", FEATURES);
    world.say(&[config(R::GetConfig, 0, 8, 0, &[])]);
    assert_eq!(world.replies()[0].1[12..], [0, 1, 2, 3, 4, 5, 6, 7]);
}

#[test]
fn a_read_beyond_256_bytes_of_configuration_space_ends_the_session() {
    for (offset, size) in [(0, 257), (250, 8), (0, 0), (u32::MAX, 2)] {
        let told =
            World::negotiated("config-far", FEATURES).say(&[config(R::GetConfig, offset, size, 0, &[])]);
        assert!(violation(&told).starts_with("GET_CONFIG"), "{told:?}");
    }
}

#[test]
fn a_replaced_configuration_space_is_what_is_read_next() {
    let mut world = World::negotiated("config-new", FEATURES);
    world.session.replace_config(&[9; 300]);
    world.say(&[config(R::GetConfig, 0, 256, 0, &[])]);
    assert_eq!(world.replies()[0].1[12..], [9; 256]);
}

#[test]
fn the_driver_may_write_what_is_writable() {
    let mut world = World::negotiated("wce", FEATURES);
    assert_eq!(world.say(&[config(R::SetConfig, 32, 1, 0, &[1])]), ["write-config 32 [1]"]);
    world.say(&[config(R::GetConfig, 32, 1, 0, &[])]);
    assert_eq!(world.replies()[0].1[12..], [1]);
}

#[test]
fn the_driver_may_not_write_what_is_read_only() {
    let mut world = World::negotiated("read-only", FEATURES);
    world.say(&[config(R::SetConfig, 31, 2, 0, &[31, 1]).acked()]);
    assert_eq!(world.number(), 1);
    assert!(world.told.is_empty());
}

#[test]
fn a_migration_may_restore_configuration_space_if_it_is_the_same() {
    let mut world = World::negotiated("migration", FEATURES);
    let mut bytes: Vec<u8> = (0..60).collect();
    bytes[32] = 0;
    let told = world.say(&[config(R::SetConfig, 0, 60, CONFIG_FLAG_MIGRATION, &bytes).acked()]);
    assert_eq!((told, world.number()), (vec![String::from("write-config 32 [0]")], 0));
    bytes[0] = 77;
    world.say(&[config(R::SetConfig, 0, 60, CONFIG_FLAG_MIGRATION, &bytes).acked()]);
    assert_eq!(world.number(), 1);
}

#[test]
fn an_inflight_region_is_handed_over_in_the_size_of_structure_that_was_asked_with() {
    for size in [20, 24] {
        let mut world = World::negotiated("inflight", FEATURES);
        let inflight = Inflight { num_queues: 4, queue_size: 128, ..Default::default() };
        assert_eq!(
            world.say(&[Said::new(R::GetInflightFd, &inflight.as_bytes()[..size])]),
            ["get-inflight 4x128"]
        );
        let frame = world.session.next_output().unwrap();
        assert_eq!(frame.fds.len(), 1);
        let (_, payload) = reply(&frame);
        let expected = Inflight { mmap_size: 0x2000, mmap_offset: 0x1000, ..inflight };
        assert_eq!(payload, &expected.as_bytes()[..size]);
        assert_eq!(
            world.say(&[Said::new(R::SetInflightFd, &expected.as_bytes()[..size]).fds(1)]),
            ["set-inflight 4x128 size 0x2000"]
        );
    }
}

#[test]
fn a_front_end_goes_on_without_an_inflight_region_that_could_not_be_made() {
    let mut world = World::negotiated("no-inflight", FEATURES);
    let inflight = Inflight { num_queues: 1, queue_size: 128, ..Default::default() };
    world.feed(&[Said::with(R::GetInflightFd, &inflight)]);
    let token = world.session.next_action().unwrap().token().unwrap();
    world.session.complete(token, Outcome::Failed(String::from("no memory"))).unwrap();
    let frame = world.session.next_output().unwrap();
    assert!(frame.fds.is_empty());
    assert_eq!(reply(&frame).1, inflight.as_bytes());
    assert!(!world.session.is_ended());
}

#[test]
fn inflight_regions_that_cannot_be_end_the_session() {
    for inflight in [
        Inflight { num_queues: 5, queue_size: 128, mmap_size: 1, ..Default::default() },
        Inflight { num_queues: 0, queue_size: 128, mmap_size: 1, ..Default::default() },
        Inflight { num_queues: 1, queue_size: 0, mmap_size: 1, ..Default::default() },
        Inflight { num_queues: 1, queue_size: 128, mmap_size: 0, ..Default::default() },
        Inflight {
            num_queues: 1,
            queue_size: 128,
            mmap_size: u64::MAX,
            mmap_offset: 1,
            ..Default::default()
        },
    ] {
        let mut world = World::negotiated("bad-inflight", FEATURES);
        let told = world.say(&[Said::with(R::SetInflightFd, &inflight).fds(1)]);
        assert!(violation(&told).starts_with("SET_INFLIGHT_FD with the value"));
    }
}

#[test]
fn a_reset_stops_all_rings_side_by_side_before_the_device_is_reset() {
    let mut world = World::negotiated("reset", FEATURES);
    for index in 0..2 {
        world.say(&start_ring(index, 64, 0));
        world.say(&[enable(index, 1)]);
    }
    world.feed(&[Said::new(R::ResetDevice, &[]).acked()]);
    let stops = [world.session.next_action().unwrap(), world.session.next_action().unwrap()];
    assert!(world.session.next_action().is_none());
    for stop in &stops {
        assert!(world.replies().is_empty());
        world.session.complete(stop.token().unwrap(), Outcome::RingStopped { base: 9 }).unwrap();
    }
    assert_eq!(world.carry_out(), ["reset"]);
    assert_eq!(world.number(), 0);
    // Nothing is left of the rings but where to signal.
    world.say(&start_ring(0, 64, 0));
    assert!(world.say(&[enable(0, 1)])[0].contains("base 0"));
}

#[test]
fn the_device_status_is_kept_and_zero_stops_the_rings() {
    let mut world = World::negotiated("status", FEATURES);
    assert_eq!(world.say(&[Said::number(R::SetStatus, 15)]), ["status 15"]);
    world.say(&[Said::new(R::GetStatus, &[])]);
    assert_eq!(world.number(), 15);
    world.say(&start_ring(0, 64, 0));
    world.say(&[enable(0, 1)]);
    assert_eq!(world.say(&[Said::number(R::SetStatus, 0)]), ["stop 0", "status 0"]);
    assert_eq!(violation(&world.say(&[Said::number(R::SetStatus, 256)])), "SET_STATUS with the value 0x100");
}

#[test]
fn the_deprecated_reset_owner_stops_all_rings() {
    let mut world = World::negotiated("reset-owner", FEATURES);
    world.say(&start_ring(0, 64, 0));
    world.say(&[enable(0, 1)]);
    assert_eq!(world.say(&[Said::new(R::ResetOwner, &[])]), ["stop 0"]);
}

#[test]
fn the_back_end_channel_is_handed_on_with_whether_it_is_acknowledged() {
    let mut world = World::negotiated("backend-req", FEATURES);
    let message = Said::new(R::SetBackendReqFd, &[]).fds(1).acked();
    assert_eq!(world.say(&[message]), ["backend-channel reply_ack true"]);
    assert_eq!(world.number(), 0);
}

#[test]
fn a_network_card_takes_mtu_and_rarp_and_a_disk_does_not() {
    let net = Device {
        protocol_features: Device::PROTOCOL_FEATURES | Device::NET_PROTOCOL_FEATURES,
        ..block_device()
    };
    let messages = [
        Said::number(R::NetSetMtu, 9000).acked(),
        Said::number(R::SendRarp, u64::from_ne_bytes([2, 0, 0, 0, 0, 1, 0, 0])).acked(),
    ];
    let mut world = World::new("net", net);
    assert_eq!(world.say(&messages), ["mtu 9000", "rarp [2, 0, 0, 0, 0, 1]"]);
    let mut world = World::new("disk", block_device());
    assert!(world.say(&messages).is_empty());
    assert_eq!(world.replies().iter().map(|(_, payload)| payload[0]).collect::<Vec<_>>(), [1, 1]);
}

#[test]
fn what_is_not_offered_is_refused_and_the_session_goes_on() {
    let mut world = World::negotiated("refused", FEATURES);
    for (request, fds) in
        [(R::SetLogBase, 1), (R::SetLogFd, 1), (R::IotlbMsg, 0), (R::PostcopyListen, 0), (R::VringKick, 0)]
    {
        world.say(&[Said::new(request, &[0; 16]).fds(fds).acked()]);
        assert_eq!(world.number(), 1, "{request:?}");
        world.say(&[Said::new(request, &[0; 16]).fds(fds)]);
        assert!(world.replies().is_empty() && !world.session.is_ended());
    }
    assert_eq!(world.descriptors.open(), 0);
}

#[test]
fn what_is_not_offered_but_waits_for_its_own_answer_ends_the_session() {
    let told = World::negotiated("not-offered", FEATURES).say(&[Said::new(R::PostcopyAdvise, &[])]);
    assert_eq!(violation(&told), "POSTCOPY_ADVISE, which was not offered");
}

#[test]
fn malformed_messages_end_the_session_and_say_why() {
    for (message, text) in [
        (
            Said::raw(1, 2, &[]),
            "a header of version 2 instead of 1; check that a vhost-user front-end is connected",
        ),
        (Said::raw(1, 5, &[]), "a reply to GET_FEATURES, which was never asked"),
        (Said::raw(99, 1, &[]), "unknown request 99"),
        (Said::raw(1, 1, &[0; 4085]), "GET_FEATURES with 4085 bytes of payload, more than 4084"),
        (Said::new(R::SetFeatures, &[0; 7]), "SET_FEATURES with 7 bytes of payload"),
        (Said::new(R::GetFeatures, &[0; 8]), "GET_FEATURES with 8 bytes of payload"),
        (Said::number(R::SetFeatures, 0).fds(1), "SET_FEATURES with 1 descriptors instead of 0"),
        (Said::number(R::SetVringKick, 0), "SET_VRING_KICK with 0 descriptors instead of 1"),
        (Said::polled(R::SetVringKick, 0).fds(1), "SET_VRING_KICK with 1 descriptors instead of 0"),
        (Said::add_region(0, 1).fds(2), "ADD_MEM_REG with 2 descriptors instead of 1"),
        (Said::mem_table(&[Said::region(0, 1)]).fds(0), "SET_MEM_TABLE with 0 descriptors instead of 1"),
        (Said::mem_table(&[Said::region(0, 1); 9]).fds(8), "SET_MEM_TABLE with 296 bytes of payload"),
        (Said::new(R::SetMemTable, &[9; 8]), "SET_MEM_TABLE with 8 bytes of payload"),
        (Said::new(R::SetMemTable, &[1; 3]), "SET_MEM_TABLE with 3 bytes of payload"),
        (Said::new(R::GetFeatures, &[]).fds(9), "more than 8 descriptors with one message"),
        (Said::new(R::GetInflightFd, &[0; 21]), "GET_INFLIGHT_FD with 21 bytes of payload"),
        (config(R::SetConfig, 32, 2, 0, &[0]), "SET_CONFIG with 1 bytes of payload"),
    ] {
        let mut world = World::negotiated("malformed", FEATURES);
        assert_eq!(violation(&world.say(&[message])), text);
        assert_eq!(world.descriptors.open(), 0, "{text}");
    }
}

#[test]
fn a_ring_that_cannot_start_is_reported_to_a_front_end_that_asked() {
    let mut world = World::negotiated("start-fails", FEATURES);
    world.say(&start_ring(0, 64, 0));
    world.feed(&[enable(0, 1).acked()]);
    let token = world.session.next_action().unwrap().token().unwrap();
    world.session.complete(token, Outcome::Failed(String::from("used ring is not in memory"))).unwrap();
    assert_eq!(world.number(), 1);
    assert_eq!(world.session.running_rings().count(), 0);
    // Another kick is another try.
    assert!(world.say(&[Said::notifier(R::SetVringKick, 0)])[0].starts_with("start 0"));
}

#[test]
fn a_ring_that_cannot_start_ends_a_session_whose_front_end_would_not_know() {
    let mut world = World::negotiated("start-fails", FEATURES);
    world.say(&start_ring(0, 64, 0));
    world.feed(&[enable(0, 1)]);
    let token = world.session.next_action().unwrap().token().unwrap();
    world.session.complete(token, Outcome::Failed(String::from("used ring is not in memory"))).unwrap();
    assert_eq!(
        world.carry_out(),
        ["ended: SET_VRING_ENABLE could not be carried out: used ring is not in memory"]
    );
}

#[test]
fn an_action_is_answered_once_and_with_what_fits() {
    let mut world = World::negotiated("answers", FEATURES);
    world.feed(&[Said::add_region(0, 0x1000)]);
    let token = world.session.next_action().unwrap().token().unwrap();
    let wrong = world.session.complete(token, Outcome::RingStopped { base: 0 });
    assert_eq!(wrong.unwrap_err().to_string(), "map-memory cannot be answered with ring-stopped");
    world.session.complete(token, Outcome::Done).unwrap();
    assert!(matches!(world.session.complete(token, Outcome::Done), Err(Error::UnknownToken)));
}

#[test]
fn after_the_end_nothing_is_asked_and_answers_are_dropped() {
    let mut world = World::negotiated("after", FEATURES);
    world.feed(&[Said::add_region(0, 0x1000), Said::new(R::GetFeatures, &[])]);
    let token = world.session.next_action().unwrap().token().unwrap();
    world.session.close(EndReason::Disconnected);
    world.session.close(EndReason::Violation(Violation::TooManyFds));
    world.session.complete(token, Outcome::Done).unwrap();
    world.feed(&[Said::add_region(0x10_0000, 0x1000)]);
    assert_eq!(world.carry_out(), ["ended: the front-end has disconnected"]);
    assert_eq!((world.session.wanted(), world.replies().len(), world.descriptors.open()), (0, 0, 0));
}

#[test]
fn a_session_stops_reading_when_too_much_waits() {
    let mut world = World::negotiated("backlog", FEATURES);
    world.feed(&[Said::add_region(0, 0x1000)]);
    for _ in 0..16 {
        assert_eq!(world.session.wanted(), 12);
        world.feed(&[Said::new(R::GetFeatures, &[])]);
    }
    assert_eq!(world.session.wanted(), 0);
    world.carry_out();
    // Sixteen replies wait now, until they are sent.
    assert_eq!(world.session.wanted(), 0);
    assert_eq!(world.replies().len(), 16);
    assert_eq!(world.session.wanted(), 12);
}

#[test]
fn the_trace_tells_what_happened_and_forgets_the_oldest() {
    let mut world = World::negotiated("trace", FEATURES);
    world.say(&[Said::add_region(0, 0x1000).acked()]);
    let lines: Vec<String> = world.session.trace().map(ToString::to_string).collect();
    assert_eq!(
        lines[2..],
        [
            "    2 <- ADD_MEM_REG 0x1000 bytes at 0x0",
            "    3 do map-memory",
            "    4 ok map-memory",
            "    5 -> ADD_MEM_REG ok",
        ]
    );
    for _ in 0..100 {
        world.say(&[Said::new(R::SetOwner, &[])]);
    }
    assert_eq!(world.session.trace().len(), 64);
    assert_eq!(world.session.trace().next().unwrap().sequence, 42);
}
