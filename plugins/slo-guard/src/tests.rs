//! The guard in a closed loop with a device whose latency follows from shares and loads.

use vfiomux_plugin::harness::Harness;
use vfiomux_plugin::{Channel, Retune};

use super::*;

const MICROSECOND: u64 = 1000;

/// A channel on the device, and what its guest asks for.
struct Loaded {
    channel: Channel,
    /// Operations a second; more than the device has is a backlog.
    demand_ops: f64,
    throttle_ns: u64,
}

/// A device that divides what it does by the shares of those that want more, as the scheduler does, and makes each request
/// wait as a queue at that rate would. A generator with a fixed seed makes the measurements uneven.
struct World {
    harness: Harness,
    capacity_ops: f64,
    channels: Vec<Loaded>,
    noise: u64,
    second: u64,
    /// Every retune, with the second it was given in.
    retunes: Vec<(u64, Retune)>,
}

impl World {
    fn new(configuration: &str, capacity_ops: f64) -> Self {
        let harness = Harness::start::<SloGuard>(configuration).expect("the configuration is right");
        Self { harness, capacity_ops, channels: Vec::new(), noise: 1, second: 0, retunes: Vec::new() }
    }

    fn add(&mut self, name: &str, demand_ops: f64, objective_us: Option<u64>) -> &mut Loaded {
        let objective = objective_us.map(|us| Objective { permille: 990, latency_ns: us * MICROSECOND });
        let guarantees = Guarantees { objective, ..Guarantees::default() };
        let channel =
            Channel { id: name.to_owned(), name: name.to_owned(), guarantees, ..Channel::default() };
        self.channels.push(Loaded { channel, demand_ops, throttle_ns: 0 });
        self.channels.last_mut().expect("one was just added")
    }

    fn share(&self, name: &str) -> u32 {
        let named = self.channels.iter().find(|loaded| loaded.channel.name == name);
        named.expect("it was added").channel.guarantees.weight()
    }

    /// From 0.9 to 1.1.
    fn jitter(&mut self) -> f64 {
        self.noise =
            self.noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        0.9 + 0.2 * (self.noise >> 40) as f64 / (1_u64 << 24) as f64
    }

    /// The operations a second that each could have: its part by share, and what others leave of theirs.
    fn rates(&self) -> Vec<f64> {
        let mut rates: Vec<f64> = vec![0.0; self.channels.len()];
        let mut left = self.capacity_ops;
        let mut wanting: Vec<usize> = (0..self.channels.len()).collect();
        loop {
            let weight = |&index: &usize| f64::from(self.channels[index].channel.guarantees.weight());
            let weights: f64 = wanting.iter().map(weight).sum();
            let part = |index: &usize| left * weight(index) / weights;
            let (content, still): (Vec<_>, Vec<_>) =
                wanting.iter().partition(|&index| self.channels[*index].demand_ops < part(index));
            wanting.iter().for_each(|index| rates[*index] = part(index));
            if content.is_empty() || still.is_empty() {
                return rates;
            }
            left -= content.iter().map(|&index: &usize| self.channels[index].demand_ops).sum::<f64>();
            wanting = still;
        }
    }

    fn second(&mut self) {
        let rates = self.rates();
        let mut did = Vec::new();
        for (index, rate) in rates.into_iter().enumerate() {
            let jitter = self.jitter();
            let Loaded { channel, demand_ops, throttle_ns } = &self.channels[index];
            // The 99th percentile of an M/M/1 queue: ln(100) over what the rate is above the demand.
            let spare = (rate - demand_ops).max(1.0);
            let p99_ns = (4.605e9 / spare * jitter).min(1e9) as u64;
            did.push(ChannelTelemetry {
                channel: channel.clone(),
                active: true,
                ops: demand_ops.min(rate) as u64,
                latency_p99_ns: p99_ns,
                throttle_ns: *throttle_ns,
                ..ChannelTelemetry::default()
            });
        }
        self.second += 1;
        let request = TickRequest { unix_seconds: self.second, period_ns: 1_000_000_000, channels: did };
        for retune in self.harness.tick(&request) {
            let target = self.channels.iter_mut().find(|loaded| loaded.channel.id == retune.channel_id);
            let channel = &mut target.expect("only who is there is retuned").channel;
            assert_eq!(retune.generation, channel.generation);
            *channel = retune.amendments.applied_to(channel).expect("the daemon would take it");
            channel.generation += 1;
            self.retunes.push((self.second, retune));
        }
    }

    fn run(&mut self, seconds: u64) {
        (0..seconds).for_each(|_| self.second());
    }

    fn p99_is_kept(&self, name: &str) -> bool {
        let index =
            self.channels.iter().position(|loaded| loaded.channel.name == name).expect("it was added");
        let Loaded { channel, demand_ops, .. } = &self.channels[index];
        let objective = channel.guarantees.objective.expect("it has one");
        4.605e9 / (self.rates()[index] - demand_ops).max(1.0) <= objective.latency_ns as f64
    }
}

/// A victim that wants little and quickly, beside four that want everything.
fn crowded(configuration: &str) -> World {
    let mut world = World::new(configuration, 100_000.0);
    world.add("victim", 15_000.0, Some(200));
    for bully in ["b1", "b2", "b3", "b4"] {
        world.add(bully, 1e9, None);
    }
    world
}

#[test]
fn an_objective_that_is_missed_is_met_within_half_a_minute() {
    let mut world = crowded("");
    assert!(!world.p99_is_kept("victim"));
    world.run(30);
    assert!(world.p99_is_kept("victim"), "share {}", world.share("victim"));
    assert!(world.retunes.iter().all(|(_, retune)| retune.channel_id == "victim"));
}

#[test]
fn once_met_it_does_not_swing() {
    let mut world = crowded("");
    world.run(60);
    let before = world.retunes.len();
    world.run(600);
    let swings = world.retunes.len() - before;
    assert!(swings <= 2, "{swings} retunes in ten quiet minutes: {:?}", world.retunes);
    assert!(world.p99_is_kept("victim"));
}

#[test]
fn when_the_others_have_gone_the_share_comes_back() {
    let mut world = crowded("");
    world.run(60);
    assert!(world.share("victim") > 100);
    world.channels.truncate(1);
    world.run(300);
    assert_eq!(world.share("victim"), 100);
}

#[test]
fn an_objective_that_no_share_can_meet_ends_at_the_largest_and_is_said_once() {
    let mut world = World::new("share_max = 500", 1000.0);
    world.add("hopeless", 5000.0, Some(100));
    world.add("bully", 1e9, None);
    world.run(300);
    assert_eq!(world.share("hopeless"), 500);
    let retunes = world.retunes.len();
    world.run(300);
    assert_eq!(world.retunes.len(), retunes, "nothing is tried for ever");
    let warnings = world.harness.log().iter().filter(|line| line.line.contains("share_max")).count();
    assert_eq!(warnings, 1);
}

#[test]
fn what_its_own_limit_holds_back_is_left_alone() {
    let mut world = crowded("");
    world.channels[0].throttle_ns = 900_000_000;
    world.run(60);
    assert!(world.retunes.is_empty());
    assert!(world.harness.log()[0].line.contains("its own limit holds it back"));
}

#[test]
fn a_single_bad_second_is_nothing() {
    let mut world = crowded("raise_after = 3");
    world.channels.truncate(1);
    for _ in 0..50 {
        world.capacity_ops = 15_100.0;
        world.second();
        world.second();
        world.capacity_ops = 60_000.0;
        world.second();
    }
    assert!(world.retunes.is_empty());
}

#[test]
fn a_share_that_somebody_else_set_is_the_one_to_come_back_to() {
    let mut world = crowded("");
    world.run(60);
    world.channels[0].channel.guarantees.share = Some(300);
    world.channels.truncate(1);
    world.run(300);
    assert_eq!(world.share("victim"), 300);
}

#[test]
fn a_retune_that_takes_a_while_is_not_taken_for_somebody_elses() {
    let settings = Settings::default();
    let mut watch = Watch::new(100);
    let asked = (0..3).map(|_| watch.decide(Finding::Missed, &settings)).last();
    assert_eq!(asked, Some(watch::Decision::Share(150)));
    for present in [100, 150, 150] {
        watch.notice(present);
    }
    let lowered = (0..30).map(|_| watch.decide(Finding::Comfortable, &settings)).last();
    assert_eq!(lowered, Some(watch::Decision::Share(100)));
}

#[test]
fn a_successor_goes_on_from_what_was_known() {
    let mut world = crowded("");
    world.run(60);
    let raised = world.share("victim");
    let state = world.harness.save().expect("it watches a channel");
    world.harness = Harness::start::<SloGuard>("").expect("the configuration is right");
    assert_eq!(world.harness.restore(&state), Ok(()));
    world.run(30);
    assert_eq!(world.share("victim"), raised);
    world.channels.truncate(1);
    world.run(300);
    assert_eq!(world.share("victim"), 100, "the successor knows where it came from");
    assert!(world.harness.restore(b"[watched").is_err());
}

#[test]
fn few_requests_say_nothing() {
    let mut world = World::new("", 100.0);
    world.add("sleepy", 10.0, Some(1));
    world.run(100);
    assert!(world.retunes.is_empty());
}

#[test]
fn a_configuration_that_would_swing_is_refused() {
    for wrong in [
        "comfort_permille = 1000",
        "step_permille = 1000",
        "raise_after = 0",
        "share_max = 20000",
        "speed = 1",
    ] {
        assert!(Harness::start::<SloGuard>(wrong).is_err(), "{wrong}");
    }
}
