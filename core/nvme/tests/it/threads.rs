//! The device on a thread of its own, as hardware is: ordering and wake-ups for real.

use std::time::Duration;

use crate::support::{pattern, read, spec, write};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use vfiomux_block::{BlockQueue, Status, Tag};
use vfiomux_nvme::{Controller, Lane, Options, Queue, SystemClock};
use vfiomux_sim::DeviceSpec;

fn start() -> Controller {
    let function = vfiomux_sim::open(spec(), "sim0").unwrap();
    let options = Options { vectors: 2, ..Options::default() };
    Controller::start(Box::new(function), options, Box::new(SystemClock::new())).unwrap()
}

#[test]
fn what_is_handed_to_other_threads_may_be() {
    fn may_be_sent<T: Send>() {}
    may_be_sent::<Controller>();
    may_be_sent::<Queue>();
    may_be_sent::<Lane>();
}

/// V3: a sleeper that armed before it slept is woken by each completion.
#[test]
fn a_sleeper_is_woken_for_every_completion() {
    let mut controller = start();
    let mut queue = controller.create_queue(64, Some(1)).unwrap();
    let lane = queue.attach(controller.create_lane(queue.id(), 64).unwrap());
    let buffer = controller.domain().allocate(4096).unwrap();
    let mut poll = Poll::new().unwrap();
    let descriptor = queue.wake_fd().unwrap();
    poll.registry().register(&mut SourceFd(&descriptor), Token(0), Interest::READABLE).unwrap();
    let mut events = Events::with_capacity(4);
    let (mut slept, rounds) = (0, 3000u64);
    for round in 0..rounds {
        let mut left = 1 + round % 5;
        for number in 0..left {
            queue.submit(lane, Tag(number), &read(number, 1), &[buffer.segment(0, 512)]).unwrap();
        }
        queue.ring();
        while left > 0 {
            left -= queue.poll(64, &mut |completion| assert_eq!(completion.status, Status::Success)) as u64;
            if left > 0 && !queue.arm() {
                poll.poll(&mut events, Some(Duration::from_secs(20))).unwrap();
                assert!(!events.is_empty(), "round {round}: {left} in flight, and nobody was woken");
                queue.disarm();
                slept += 1;
            }
        }
    }
    assert!(slept > 0, "never slept in {rounds} rounds");
}

/// Data, lists and completions are written before what announces them, in both directions.
#[test]
fn a_device_beside_us_sees_whole_commands_and_we_see_whole_data() {
    const DEPTH: u16 = 16;
    const BYTES: u32 = 5 * 4096;
    let mut controller = start();
    let mut queue = controller.create_queue(DEPTH, None).unwrap();
    let lane = queue.attach(controller.create_lane(queue.id(), DEPTH).unwrap());
    let mut buffer = controller.domain().allocate(usize::from(DEPTH) * 8 * 4096).unwrap();
    let place = |slot: u64| usize::try_from(slot).unwrap() * 8 * 4096 + 512;
    let mut back = vec![0; BYTES as usize];
    for round in 0..60u64 {
        for writing in [true, false] {
            for slot in 0..u64::from(DEPTH) {
                let (before, command) = if writing {
                    (pattern(round << 8 | slot, BYTES as usize), write(slot * 64, BYTES / 512))
                } else {
                    (vec![0xee; BYTES as usize], read(slot * 64, BYTES / 512))
                };
                buffer.write(place(slot), &before);
                queue.submit(lane, Tag(slot), &command, &[buffer.segment(place(slot), BYTES)]).unwrap();
                queue.ring();
            }
            while queue.in_flight(lane) > 0 {
                queue.poll(64, &mut |completion| {
                    assert_eq!(completion.status, Status::Success);
                    if !writing {
                        buffer.read(place(completion.tag.0), &mut back);
                        assert!(back == pattern(round << 8 | completion.tag.0, BYTES as usize));
                    }
                });
            }
        }
    }
}

#[test]
fn a_controller_starts_over_on_a_file() {
    let directory = std::env::temp_dir().join(format!("vfiomux-nvme-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let spec = DeviceSpec { file: Some(directory.join("disk")), ..spec() };
    for expected in [0u8, 1, 2] {
        let function = vfiomux_sim::open(spec.clone(), "sim0").unwrap();
        let clock = SystemClock::new();
        let mut controller =
            Controller::start(Box::new(function), Options::default(), Box::new(clock)).unwrap();
        let limits = controller.namespaces()[0].limits;
        let mut queue = controller.create_queue(4, None).unwrap();
        let lane = queue.attach(controller.create_lane(queue.id(), 4).unwrap());
        let mut buffer = controller.domain().allocate(512).unwrap();
        let timeout = Duration::from_secs(10);
        let mut io = vfiomux_nvme::sync::BlockIo::new(&mut queue, lane, 1, limits, &clock, timeout);
        io.read(9, 1, &buffer, 0).unwrap();
        let mut block = [0xff; 512];
        buffer.read(0, &mut block);
        assert_eq!(block, [expected; 512]);
        buffer.write(0, &[expected + 1; 512]);
        io.write(9, 1, &buffer, 0).unwrap();
        io.flush().unwrap();
        controller.shutdown().unwrap();
    }
    std::fs::remove_dir_all(&directory).unwrap();
}
