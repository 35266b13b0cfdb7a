//! Falling asleep, step by step: whatever happens in whatever order, no request waits while everything sleeps (V3).
//!
//! One thread plays all parts. What only happens between threads, a store that is not seen yet, is the model checker's
//! business (`tests/it/wakeup.rs`, and `event` in the guest's crate); here it is what is remembered of having asked.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use proptest::prelude::*;
use rustix::event::{EventfdFlags, eventfd};
use vfiomux_block::{LocalLane, NullQueue};
use vfiomux_channel::driver::BlkDriver;
use vfiomux_channel::{BlockChannel, ChannelSettings, Extent, ExtentMap, RingStart};
use vfiomux_guest::Kick;
use vfiomux_guest::driver::{Arena, Buffer};
use vfiomux_guest::memory::{MapRegion, MemoryMap};
use vfiomux_guest::ring::SplitRing;
use vfiomux_spec::virtio::blk::RequestType;
use vfiomux_spec::virtio::features::{RING_EVENT_IDX, VERSION_1};

use super::*;
use crate::seeded::{self, Bug};
use crate::{Budgets, DeviceSlot, Handle, Order, Report};

const GUESTS: u16 = 3;
const GUEST_ADDR: u64 = 1 << 32;
const GUEST_BYTES: u64 = 1 << 16;
const DEVICE: DeviceSlot = DeviceSlot(0);
const BLOCKS: u64 = 1 << 10;

struct Guest {
    driver: BlkDriver,
    kick: OwnedFd,
    kicks: u32,
    data_addr: u64,
}

struct Rig {
    sidecore: Sidecore<NullQueue>,
    handle: Handle<NullQueue>,
    arena: Arena,
    guests: Vec<Guest>,
    now_ns: u64,
}

fn id(index: u16) -> ChannelId {
    ChannelId { index, incarnation: 1 }
}

impl Rig {
    fn new(features: u64) -> Self {
        let (sidecore, handle) = Sidecore::new(Budgets::default(), 16).unwrap();
        let arena = Arena::new(u64::from(GUESTS) * GUEST_BYTES, GUEST_ADDR).unwrap();
        let mut rig = Self { sidecore, handle, arena, guests: Vec::new(), now_ns: 0 };
        rig.order(Order::AddDevice { device: DEVICE, queue: Box::new(NullQueue::new()) });
        for index in 0..GUESTS {
            rig.add_guest(index, features);
        }
        rig
    }

    fn add_guest(&mut self, index: u16, features: u64) {
        let lane = LocalLane { depth: 8 };
        let crate::Answer::LaneAttached { lane } = self.order(Order::AttachLane { device: DEVICE, lane })
        else {
            panic!()
        };
        let limits = NullQueue::limits(BLOCKS, 512);
        let settings = ChannelSettings {
            id: id(index),
            namespace: 1,
            limits,
            extents: ExtentMap::new(&[Extent { lba: 0, blocks: BLOCKS }], &limits).unwrap(),
            serial: [0; 20],
            read_only: false,
            rings: 1,
            requests: 8,
            segments_max: 6,
            bounce_blocks: 1,
        };
        let channel = Box::new(BlockChannel::new(settings, None).unwrap());
        self.order(Order::AddChannel { channel, device: DEVICE, lane });
        let region = MapRegion {
            guest_addr: self.arena.guest_addr(),
            user_addr: self.arena.user_addr(),
            file: self.arena.region().clone(),
            grant: None,
        };
        let map = Arc::new(MemoryMap::new(vec![region]).unwrap());
        let guest_addr = GUEST_ADDR + u64::from(index) * GUEST_BYTES;
        let driver = BlkDriver::new(&self.arena, guest_addr, 8, features).unwrap();
        let ring = SplitRing::new(&map, &driver.setup(), None).unwrap();
        self.order(Order::SetMemory { channel: id(index), map });
        let kick = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).unwrap();
        let kicked = Some(Kick::new(kick.try_clone().unwrap()).unwrap());
        let start = Box::new(RingStart { ring, call: None, kick: kicked });
        self.order(Order::StartRing { channel: id(index), index: 0, start });
        self.guests.push(Guest { driver, kick, kicks: 0, data_addr: guest_addr + GUEST_BYTES / 2 });
    }

    fn order(&mut self, order: Order<NullQueue>) -> crate::Answer<NullQueue> {
        self.handle.send(order).unwrap();
        self.breath();
        let Some(Report::Answer { answer, .. }) = self.handle.try_recv() else { panic!() };
        answer
    }

    /// Gives the requests that were found.
    fn breath(&mut self) -> u32 {
        self.now_ns += 1000;
        let requests = self.sidecore.breath(self.now_ns).requests;
        for guest in &mut self.guests {
            while guest.driver.poll(&self.arena).unwrap().is_some() {}
        }
        requests
    }

    /// A guest puts a request on its ring, and kicks if that is asked for. Nothing when the ring is full.
    fn publish(&mut self, guest: u16) {
        let Self { guests, arena, .. } = self;
        let guest = &mut guests[usize::from(guest)];
        let data = [Buffer { guest_addr: guest.data_addr, len: 512, writable: true }];
        if guest.driver.submit(arena, RequestType::In, 0, &data).is_some() && guest.driver.publish() {
            guest.kicks += 1;
            rustix::io::write(&guest.kick, &1u64.to_ne_bytes()).unwrap();
        }
    }

    /// Lies down, as the thread does; meanwhile a guest may publish. Panics when it would sleep for ever with work waiting.
    fn lie_down(&mut self, meanwhile: Option<u16>) {
        self.sidecore.mailbox.fall_asleep();
        let lull = self.sidecore.arm();
        if let Some(guest) = meanwhile {
            self.publish(guest);
        }
        let sleeps_on = lull == Lull::Sleep && !self.sidecore.wakes.is_woken();
        if lull == Lull::Sleep && !sleeps_on {
            self.sidecore.note_wakes();
        }
        self.sidecore.mailbox.wake_up();
        let found = self.breath();
        assert!(!sleeps_on || found == 0, "asleep with {found} requests waiting, and nobody wakes it");
    }
}

#[derive(Debug, Clone)]
enum Step {
    Publish(u16),
    Breath,
    LieDown(Option<u16>),
    /// The thread stays awake.
    Disarm,
    Suspend(u16),
    Resume(u16),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let guest = 0..GUESTS;
    // The last guest says little, so that its ring is quiet for long.
    let talker = prop_oneof![12 => 0..GUESTS - 1, 1 => Just(GUESTS - 1)];
    let step = prop_oneof![
        4 => talker.prop_map(Step::Publish),
        4 => Just(Step::Breath),
        6 => prop::option::weighted(0.2, guest.clone()).prop_map(Step::LieDown),
        3 => Just(Step::Disarm),
        1 => guest.clone().prop_map(Step::Suspend),
        2 => guest.prop_map(Step::Resume),
    ];
    prop::collection::vec(step, 1..120)
}

fn walk(features: u64, steps: &[Step]) {
    let mut rig = Rig::new(features);
    for step in steps {
        match *step {
            Step::Publish(guest) => rig.publish(guest),
            Step::Breath => {
                rig.breath();
            }
            Step::LieDown(meanwhile) => rig.lie_down(meanwhile),
            Step::Disarm => rig.sidecore.disarm(),
            Step::Suspend(guest) => {
                rig.handle.send(Order::Suspend { channel: id(guest) }).unwrap();
                rig.breath();
            }
            Step::Resume(guest) => {
                rig.handle.send(Order::Resume { channel: id(guest) }).unwrap();
                rig.breath();
            }
        }
        while rig.handle.try_recv().is_some() {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// V3.
    #[test]
    fn no_order_of_steps_leaves_a_request_with_everybody_asleep(steps in steps(), event_idx in any::<bool>()) {
        walk(if event_idx { VERSION_1 | RING_EVENT_IDX } else { VERSION_1 }, &steps);
    }
}

/// V3, seeded.
#[test]
fn a_channel_that_is_not_asked_again_is_noticed() {
    let asleep = Step::LieDown(None);
    let steps = [asleep.clone(), Step::Publish(0), Step::Breath, asleep, Step::LieDown(Some(0))];
    walk(VERSION_1 | RING_EVENT_IDX, &steps);
    let slept = std::panic::catch_unwind(|| {
        seeded::with(Bug::AskedForEver, || walk(VERSION_1 | RING_EVENT_IDX, &steps));
    });
    assert!(slept.is_err(), "the check cannot fail");
}

#[test]
fn a_quiet_ring_is_left_alone_and_its_guest_kicks_once() {
    let mut rig = Rig::new(VERSION_1 | RING_EVENT_IDX);
    for _ in 0..4 {
        rig.lie_down(None);
        rig.sidecore.disarm();
    }
    assert!(rig.sidecore.seats.iter().all(|seat| seat.asked == Asked::KicksAlways));
    // Awake, and still it is kicked: once.
    for _ in 0..10 {
        rig.publish(2);
        rig.breath();
    }
    assert_eq!(rig.guests[2].kicks, 1);
    // Now that it is at work again, it is asked before a sleep, and not while we are awake.
    rig.lie_down(None);
    rig.lie_down(None);
    rig.sidecore.disarm();
    assert_eq!(rig.sidecore.seats[2].asked, Asked::Nothing);
    assert_eq!(rig.sidecore.seats[1].asked, Asked::KicksAlways);
}

#[test]
fn a_ring_without_event_indices_is_never_left_asking() {
    let mut rig = Rig::new(VERSION_1);
    for _ in 0..8 {
        rig.lie_down(None);
        rig.sidecore.disarm();
    }
    for _ in 0..10 {
        rig.publish(0);
        rig.breath();
    }
    assert_eq!(rig.guests[0].kicks, 0);
}
