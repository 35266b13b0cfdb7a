//! Loads over time, and what the policy makes of them.
//!
//! A [`Machine`] serves what its channels want as far as its sidecores have time: a sidecore whose channels want more than
//! that is busy all the time, and each gets its part.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const WATERLINES: Waterlines = Waterlines { high_permille: 800, low_permille: 400 };

/// Sidecores, and channels that want to be served.
struct Machine {
    sidecores: usize,
    sleeps: Vec<bool>,
    /// Where each channel is, and what it wants: thousandths of a sidecore's time.
    channels: BTreeMap<u32, (usize, u32)>,
    balancer: Balancer<u32>,
    moves: Vec<Move<u32>>,
    intervals: usize,
}

impl Machine {
    fn new(sidecores: usize) -> Self {
        Self {
            sidecores,
            sleeps: vec![true; sidecores],
            channels: BTreeMap::new(),
            balancer: Balancer::new(WATERLINES),
            moves: Vec::new(),
            intervals: 0,
        }
    }

    /// Channels on one sidecore, each of which wants so much.
    fn with(mut self, sidecore: usize, wants: &[u32]) -> Self {
        for &wanted in wants {
            let id = u32::try_from(self.channels.len()).unwrap();
            self.channels.insert(id, (sidecore, wanted));
        }
        self
    }

    fn wanted(&self, sidecore: usize) -> u32 {
        self.channels.values().filter(|(at, _)| *at == sidecore).map(|(_, wanted)| wanted).sum()
    }

    /// What the busiest sidecore is asked for.
    fn peak(&self) -> u32 {
        (0..self.sidecores).map(|index| self.wanted(index)).max().unwrap()
    }

    /// Sidecores that have something to do.
    fn loaded(&self) -> usize {
        (0..self.sidecores).filter(|index| self.wanted(*index) > 0).count()
    }

    /// Lets an interval pass.
    fn pass(&mut self) {
        self.intervals += 1;
        let sidecores: Vec<Sidecore> = (0..self.sidecores)
            .map(|index| Sidecore { busy_permille: self.wanted(index).min(1000), sleeps: self.sleeps[index] })
            .collect();
        let targets: Vec<usize> = (0..self.sidecores).collect();
        let channels: Vec<Channel<u32>> = self
            .channels
            .iter()
            .map(|(id, (at, wanted))| Channel {
                id: *id,
                sidecore: *at,
                // Where there is too little time, everybody gets his part of it.
                work: u64::from(*wanted) * 1_000_000 / u64::from(self.wanted(*at).max(1000)),
                targets: targets.clone(),
            })
            .collect();
        let moves = self.balancer.next(&sidecores, &channels);
        assert!(moves.len() <= MOVES_MAX);
        for made in &moves {
            let (at, _) = self.channels.get_mut(&made.channel).unwrap();
            assert_eq!((*at, made.from == made.to), (made.from, false));
            *at = made.to;
        }
        self.moves.extend(moves);
    }

    fn pass_many(&mut self, intervals: usize) {
        (0..intervals).for_each(|_| self.pass());
    }

    /// Nothing is moved any more.
    #[track_caller]
    fn assert_still(&mut self) {
        let before = self.moves.len();
        self.pass_many(100);
        assert_eq!(self.moves[before..], [], "still moving");
    }

    fn want(&mut self, channel: u32, wanted: u32) {
        self.channels.get_mut(&channel).unwrap().1 = wanted;
    }
}

#[test]
fn a_full_sidecore_gives_half_of_its_load_to_an_idle_one() {
    let mut machine = Machine::new(2).with(0, &[500, 500]);
    machine.pass_many(SPREAD_AFTER as usize);
    assert_eq!(machine.moves.len(), 1);
    assert_eq!((machine.wanted(0), machine.wanted(1)), (500, 500));
    machine.assert_still();
}

#[test]
fn one_busy_interval_moves_nothing() {
    let mut machine = Machine::new(2).with(0, &[300, 300]);
    for _ in 0..20 {
        machine.want(0, 900);
        machine.pass();
        machine.want(0, 300);
        machine.pass();
    }
    assert_eq!(machine.moves, []);
}

#[test]
fn a_rising_load_is_spread_before_a_sidecore_is_full_and_a_falling_one_is_gathered() {
    let mut machine = Machine::new(2).with(0, &[10; 20]);
    for wanted in (10..=60).chain((0..=60).rev()) {
        (0..20).for_each(|channel| machine.want(channel, wanted));
        machine.pass_many(2);
        assert!(machine.peak() <= 1000, "{wanted}: {}", machine.peak());
    }
    let spread = machine.moves.iter().filter(|made| made.reason == Reason::Spread).count();
    let gathered = machine.moves.len() - spread;
    assert!((1..=20).contains(&spread) && (1..=20).contains(&gathered), "{spread} and {gathered} moves");
    (0..20).for_each(|channel| machine.want(channel, 5));
    machine.pass_many(30);
    assert_eq!(machine.loaded(), 1);
    machine.assert_still();
}

/// Each wakes its sidecore in an interval in which the other sleeps.
#[test]
fn channels_that_work_now_and_then_are_gathered() {
    let mut machine = Machine::new(2).with(0, &[0]).with(1, &[0]);
    for interval in 0..20 {
        machine.want(0, [5, 0, 0][interval % 3]);
        machine.want(1, [0, 5, 0][interval % 3]);
        machine.pass();
    }
    assert_eq!(machine.moves.len(), 1);
    machine.want(0, 5);
    machine.want(1, 5);
    assert_eq!(machine.loaded(), 1);
    machine.assert_still();
}

#[test]
fn one_burst_gathers_nothing() {
    let mut machine = Machine::new(2).with(0, &[5]).with(1, &[5]);
    machine.pass();
    machine.want(0, 0);
    machine.want(1, 0);
    machine.assert_still();
    assert_eq!(machine.moves, []);
}

#[test]
fn one_that_fills_a_sidecore_alone_stays_where_it_is() {
    let mut machine = Machine::new(2).with(0, &[3000]);
    machine.assert_still();
    assert_eq!(machine.moves, []);
}

#[test]
fn the_small_are_moved_away_from_one_that_cannot_be_divided() {
    let mut machine = Machine::new(2).with(0, &[2000, 20, 20, 20]);
    machine.pass_many(60);
    let elephant = machine.channels[&0].0;
    assert!((1..4).all(|mouse| machine.channels[&mouse].0 != elephant), "{:?}", machine.channels);
    assert!(machine.moves.len() <= 4, "{:?}", machine.moves);
    machine.assert_still();
}

#[test]
fn two_hundred_small_ones_come_to_rest_on_two_sidecores() {
    let mut machine = Machine::new(2).with(0, &[9; 200]);
    machine.pass_many(100);
    assert!(machine.peak() <= 1000, "{}", machine.peak());
    assert!(machine.moves.len() <= 110, "{} moves", machine.moves.len());
    machine.assert_still();
}

#[test]
fn two_hundred_quiet_ones_come_to_rest_on_one_of_four() {
    let mut machine = Machine::new(4).with(0, &[1; 50]).with(1, &[1; 50]).with(2, &[1; 50]).with(3, &[1; 50]);
    machine.pass_many(60);
    assert_eq!((machine.loaded(), machine.moves.len()), (1, 150), "each was moved once");
    machine.assert_still();
}

/// No load that goes up and down makes a channel go to and fro faster than its dwell, however it meets the waterlines.
#[test]
fn a_load_that_swings_about_a_waterline_moves_little() {
    for period in [1usize, 2, 3, 5, 7, 11, 20] {
        for (low, high) in [(195, 205), (390, 410), (300, 790), (350, 850), (790, 810), (50, 990)] {
            let mut machine = Machine::new(2).with(0, &[0, 0]).with(1, &[0]);
            for interval in 0..400 {
                let wanted = if interval / period % 2 == 0 { low } else { high };
                (0..3).for_each(|channel| machine.want(channel, wanted / 2));
                machine.pass();
            }
            let most = 400 / DWELL as usize * 3;
            assert!(machine.moves.len() <= most, "period {period}: {} moves", machine.moves.len());
            // Inside the band nothing is ever moved.
            if low * 3 / 2 > 400 && high <= 800 {
                assert_eq!(machine.moves, [], "period {period}");
            }
        }
    }
}

#[test]
fn a_load_between_the_waterlines_is_left_alone() {
    let mut machine = Machine::new(2).with(0, &[400, 390]).with(1, &[100]);
    machine.assert_still();
    assert_eq!(machine.moves, []);
}

#[test]
fn a_channel_that_does_nothing_is_not_moved() {
    let mut machine = Machine::new(2).with(0, &[100, 0, 0]).with(1, &[50, 0, 0, 0]);
    machine.pass_many(50);
    assert_eq!(machine.moves.iter().map(|made| made.channel).collect::<Vec<_>>(), [3]);
}

#[test]
fn nothing_is_gained_by_leaving_a_sidecore_that_never_sleeps() {
    let mut machine = Machine::new(2).with(0, &[100]).with(1, &[50]);
    machine.sleeps = vec![false, false];
    machine.pass_many(50);
    assert_eq!(machine.moves, []);
    machine.sleeps = vec![true, false];
    machine.pass_many(50);
    assert_eq!(machine.moves.iter().map(|made| (made.from, made.to)).collect::<Vec<_>>(), [(0, 1)]);
}

#[test]
fn a_channel_goes_only_where_it_can_be_served() {
    let mut balancer = Balancer::new(WATERLINES);
    let sidecores =
        [Sidecore { busy_permille: 1000, sleeps: true }, Sidecore { busy_permille: 0, sleeps: true }];
    let channel =
        |id: u32, targets: &[usize]| Channel { id, sidecore: 0, work: 1, targets: targets.to_vec() };
    let channels = [channel(1, &[]), channel(2, &[0]), channel(3, &[0, 7])];
    for _ in 0..50 {
        assert_eq!(balancer.next(&sidecores, &channels), []);
    }
}

#[test]
fn what_an_operator_has_moved_stays_for_a_while() {
    let mut machine = Machine::new(2).with(0, &[100]).with(1, &[50]);
    machine.pass_many(4);
    machine.balancer.note_move(1);
    machine.pass_many(DWELL as usize - 1);
    assert_eq!(machine.moves, []);
    machine.pass_many(2);
    assert_eq!(machine.moves.len(), 1);
}

proptest! {
    /// Whatever steady load there is, it comes to rest; nothing that was not too much becomes so, and what fits one sidecore
    /// is on one.
    #[test]
    fn every_steady_load_comes_to_rest(
        sidecores in 1usize..5,
        wants in proptest::collection::vec((0usize..5, 0u32..700), 0..40),
    ) {
        let mut machine = Machine::new(sidecores);
        for (at, wanted) in wants {
            machine = machine.with(at % sidecores, &[wanted]);
        }
        let (peak, total): (u32, u32) = (machine.peak(), (0..sidecores).map(|index| machine.wanted(index)).sum());
        machine.pass_many(300);
        prop_assert!(machine.moves.len() <= machine.channels.len() * 4, "{} moves", machine.moves.len());
        prop_assert!(machine.peak() <= peak.max(1000));
        if total <= WATERLINES.low_permille && total > 0 {
            prop_assert_eq!(machine.loaded(), 1);
        }
        let before = machine.moves.len();
        machine.pass_many(100);
        prop_assert_eq!(machine.moves.len(), before, "still moving");
    }

    /// The same loads lead to the same moves, and no channel is moved twice within its dwell.
    #[test]
    fn any_load_is_met_in_one_way_and_without_haste(
        loads in proptest::collection::vec(proptest::collection::vec(0u32..1500, 6), 1..80),
    ) {
        let run = || {
            let mut machine = Machine::new(3).with(0, &[0; 3]).with(1, &[0; 2]).with(2, &[0]);
            let mut at = Vec::new();
            for wants in &loads {
                for (channel, wanted) in (0u32..).zip(wants) {
                    machine.want(channel, *wanted);
                }
                machine.pass();
                at.resize(machine.moves.len(), machine.intervals);
            }
            (machine.moves, at)
        };
        let (moves, at) = run();
        prop_assert_eq!(&run().0, &moves);
        for channel in 0u32..6 {
            let times: Vec<usize> =
                moves.iter().zip(&at).filter(|(made, _)| made.channel == channel).map(|(_, at)| *at).collect();
            prop_assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= DWELL as usize), "{:?}", times);
        }
    }
}
