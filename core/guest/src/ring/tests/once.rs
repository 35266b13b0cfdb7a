//! What the guest can change is read once, and what it lent goes back once.

use std::ops::Range;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestError, TestRng, TestRunner};

use super::*;
use crate::memory::watch::reads_of;
use crate::seeded::{self, Bug};

/// I3: of all bytes that a pop reads, none is read twice.
fn check_i3(bench: &mut Bench) -> Result<(), Range<usize>> {
    let map = bench.arena.map();
    let (popped, mut reads) = reads_of(|| bench.ring.pop(map, &mut bench.chain));
    let head = popped.unwrap().expect("a chain is available");
    assert!(reads.len() >= 4, "index, entry and the two words of a descriptor at the least");
    reads.sort_unstable_by_key(|read| read.start);
    bench.ring.push_used(head, 0);
    bench.ring.publish();
    bench.driver.poll().unwrap();
    match reads.windows(2).find(|pair| pair[0].end > pair[1].start) {
        Some(pair) => Err(pair[1].clone()),
        None => Ok(()),
    }
}

fn chains() -> Bench {
    let mut bench = Bench::new(16, ALL);
    bench.driver.add(&block_read(DATA, 4096)).unwrap();
    bench.driver.add_indirect(&bench.arena, TABLES, &block_read(DATA, 4096)).unwrap();
    bench.driver.add_indirect(&bench.arena, TABLES + 0x1003, &block_read(DATA, 4096)).unwrap();
    let _ = bench.driver.publish();
    bench
}

/// I3.
#[test]
fn no_field_of_the_guests_is_read_twice() {
    let mut bench = chains();
    for _ in 0..3 {
        assert_eq!(check_i3(&mut bench), Ok(()));
    }
}

/// I3, seeded.
#[test]
fn a_second_read_of_a_length_is_caught() {
    let mut bench = chains();
    seeded::with(Bug::SecondRead, || check_i3(&mut bench).expect_err("the check cannot fail"));
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Send,
    Pop,
    /// Returns one of those that are out.
    Return(usize),
    /// Puts one of those back.
    PutBack(usize),
    Publish,
    /// Stops the ring and starts its successor.
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => Just(Step::Send),
        4 => Just(Step::Pop),
        4 => any::<usize>().prop_map(Step::Return),
        1 => any::<usize>().prop_map(Step::PutBack),
        2 => Just(Step::Publish),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 0..200)
}

/// I2: the driver gets every chain back once and none twice, however the ring is worked.
fn check_i2(steps: &[Step]) -> Result<(), TestCaseError> {
    let mut bench = Bench::new(8, ALL);
    let (mut out, mut sent, mut returned) = (Vec::new(), 0, 0);
    for &step in steps {
        match step {
            Step::Send => sent += u32::from(bench.driver.add(&[reads(DATA, 64), writes(DATA, 1)]).is_some()),
            Step::Pop => out.extend(bench.pop().unwrap()),
            Step::Return(_) | Step::PutBack(_) if out.is_empty() => {}
            Step::PutBack(which) => bench.ring.put_back(out.swap_remove(which % out.len())),
            Step::Return(which) => bench.ring.push_used(out.swap_remove(which % out.len()), 0),
            Step::Publish => bench.ring.publish(),
            // Without an in-flight region a ring is stopped when nothing is out.
            Step::Restart if !out.is_empty() || bench.ring.resubmits() > 0 => {}
            Step::Restart => {
                bench.ring.publish();
                let setup = crate::RingSetup { base: bench.ring.next_avail(), ..bench.driver.setup() };
                bench.ring = SplitRing::new(bench.arena.map(), &setup, None).unwrap();
            }
        }
        let _ = bench.driver.publish();
        while let Some(_used) = bench.driver.poll().map_err(|fault| TestCaseError::fail(fault.to_string()))? {
            returned += 1;
        }
    }
    while let Some(head) = bench.pop().unwrap() {
        out.push(head);
    }
    out.drain(..).for_each(|head| bench.ring.push_used(head, 0));
    bench.ring.publish();
    while bench.driver.poll().map_err(|fault| TestCaseError::fail(fault.to_string()))?.is_some() {
        returned += 1;
    }
    prop_assert_eq!((sent, bench.ring.strays()), (returned, 0));
    Ok(())
}

fn run_i2() -> Result<(), TestError<Vec<Step>>> {
    let config = Config { cases: 200, failure_persistence: None, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(Default::default()))
        .run(&steps(), |steps| check_i2(&steps))
}

/// I2.
#[test]
fn every_chain_goes_back_once() {
    run_i2().unwrap();
}

/// I2, seeded.
#[test]
fn a_double_return_is_caught() {
    seeded::with(Bug::DoubleReturn, || run_i2().expect_err("the check cannot fail"));
}

/// I2: a head of an earlier life of the ring is dropped and counted.
#[test]
fn a_head_of_another_ring_is_not_returned() {
    let (mut one, mut two) = (Bench::new(8, 0), Bench::new(8, 0));
    one.driver.add(&[reads(DATA, 64)]).unwrap();
    let _ = one.driver.publish();
    let head = one.popped();
    two.ring.push_used(head, 0);
    two.ring.publish();
    assert_eq!((two.ring.strays(), two.driver.poll()), (1, Ok(None)));
}
