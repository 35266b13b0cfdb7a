//! Kicks and calls: asked for when needed, and only then.

use vfiomux_spec::virtio::features::RING_EVENT_IDX;

use rustix::event::{EventfdFlags, eventfd};

use super::*;
use crate::{Call, Kick};

/// Sends one small chain, returns whether the driver kicks for it.
fn send(bench: &mut Bench) -> bool {
    bench.driver.add(&[reads(DATA, 16)]).unwrap();
    bench.driver.publish()
}

fn complete(bench: &mut Bench) {
    let head = bench.popped();
    bench.ring.push_used(head, 0);
    bench.ring.publish();
    bench.driver.poll().unwrap().unwrap();
}

#[test]
fn an_awake_device_is_not_kicked_and_an_armed_one_is() {
    for features in [0, RING_EVENT_IDX] {
        let mut bench = Bench::new(8, features);
        bench.ring.disarm();
        assert!(!send(&mut bench));
        complete(&mut bench);
        assert!(!bench.ring.arm());
        assert!(send(&mut bench));
        assert!(bench.ring.arm(), "there is work, and the look after arming must find it");
        complete(&mut bench);
        assert!(!bench.ring.arm());
        bench.ring.disarm();
        assert!(!send(&mut bench));
    }
}

#[test]
fn a_stopped_ring_kicks_whoever_comes_next() {
    let mut bench = Bench::new(8, 0);
    bench.ring.disarm();
    bench.ring.stop();
    bench.driver.add(&[reads(DATA, 16)]).unwrap();
    assert!(bench.driver.publish());
}

#[test]
fn a_driver_that_sleeps_is_called_once_a_publication() {
    for features in [0, RING_EVENT_IDX] {
        let mut bench = Bench::new(8, features);
        assert!(!bench.driver.arm());
        send(&mut bench);
        send(&mut bench);
        assert!(!bench.ring.should_call());
        complete(&mut bench);
        assert!(bench.ring.should_call());
        assert!(!bench.ring.should_call());
        complete(&mut bench);
        // With event indices the driver asked for the first completion only.
        assert_eq!(bench.ring.should_call(), features == 0);
    }
}

#[test]
fn a_driver_that_polls_is_not_called() {
    for features in [0, RING_EVENT_IDX] {
        let mut bench = Bench::new(8, features);
        bench.driver.disarm();
        send(&mut bench);
        complete(&mut bench);
        assert!(!bench.ring.should_call());
    }
}

#[test]
fn a_batch_that_passes_the_event_index_calls_once() {
    let mut bench = Bench::new(8, RING_EVENT_IDX);
    (0..4).for_each(|_| {
        send(&mut bench);
    });
    let used_event = RING_ADDR + desc_offset(8) + 4 + 2 * 8;
    for (event, called) in [(2u16, true), (3, true), (0xffff, false), (4, false)] {
        let mut bench = Bench::new(8, RING_EVENT_IDX);
        bench.arena.write(used_event, &event.to_le_bytes()).unwrap();
        (0..4).for_each(|_| {
            send(&mut bench);
        });
        (0..4).for_each(|_| complete(&mut bench));
        assert_eq!(bench.ring.should_call(), called, "used_event {event}");
    }
}

#[test]
fn a_successor_calls_for_what_its_predecessor_may_not_have() {
    let mut bench = Bench::new(8, RING_EVENT_IDX);
    send(&mut bench);
    complete(&mut bench);
    let setup = crate::RingSetup { base: bench.ring.next_avail(), ..bench.driver.setup() };
    let mut ring = SplitRing::new(bench.arena.map(), &setup, None).unwrap();
    assert!(ring.should_call());
    assert!(!ring.should_call());
}

/// Waits for an eventfd, and takes back what it says. A wake-up that was lost never comes.
fn wait(event: &Kick) {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let long = Timespec { tv_sec: 20, tv_nsec: 0 };
    let ready = poll(&mut [PollFd::new(event, PollFlags::IN)], Some(&long)).unwrap();
    assert_eq!(ready, 1, "asleep, and nobody woke it");
    assert!(event.drain());
}

/// V3 on this machine's processor: a guest and a device that both sleep whenever they can.
#[test]
fn a_guest_and_a_device_that_sleep_wake_each_other() {
    const REQUESTS: u32 = 20_000;
    let event = || eventfd(0, EventfdFlags::CLOEXEC).unwrap();
    for features in [0, RING_EVENT_IDX] {
        let (kick, call) = (event(), event());
        let (kick_guest, call_guest) = (kick.try_clone().unwrap(), call.try_clone().unwrap());
        let (kick, call) = (Kick::new(kick).unwrap(), Call::new(call).unwrap());
        let (kick_guest, call_guest) = (Call::new(kick_guest).unwrap(), Kick::new(call_guest).unwrap());
        let Bench { arena, mut driver, mut ring, mut chain } = Bench::new(8, features);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut served = 0;
                while served < REQUESTS {
                    while let Some(head) = ring.pop(arena.map(), &mut chain).unwrap() {
                        ring.push_used(head, 0);
                        served += 1;
                    }
                    ring.publish();
                    if ring.should_call() {
                        assert!(call.signal());
                    }
                    if served < REQUESTS && !ring.arm() {
                        wait(&kick);
                        ring.disarm();
                    }
                }
            });
            let (mut sent, mut back) = (0, 0);
            while back < REQUESTS {
                while sent < REQUESTS
                    && sent - back < 1 + sent % 5
                    && driver.add(&[reads(DATA, 16)]).is_some()
                {
                    sent += 1;
                }
                if driver.publish() {
                    assert!(kick_guest.signal());
                }
                while driver.poll().unwrap().is_some() {
                    back += 1;
                }
                if back < sent && !driver.arm() {
                    wait(&call_guest);
                    driver.disarm();
                }
            }
        });
    }
}

#[test]
fn a_watch_tells_each_move_of_the_index_once() {
    let mut bench = Bench::new(16, ALL);
    let mut watch = bench.ring.watch();
    assert!(!watch.moved());
    send(&mut bench);
    assert!(watch.moved() && !watch.moved());
    // Whether the ring has taken what it told of makes no difference.
    let head = bench.popped();
    assert!(!watch.moved() && !bench.ring.watch().moved());
    bench.ring.push_used(head, 0);
    send(&mut bench);
    assert!(watch.moved() && bench.ring.watch().moved());
}
