//! What holds of all channels and devices together, whoever won.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Place;
use crate::client::Wire;

/// The longest that what a crash interrupted may take to be brought to its end.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the devices had to give when nothing had been given.
pub(crate) struct Books {
    /// Name, capacity in bytes, and queue pairs in use, of each device.
    devices: Vec<(String, u64, u64)>,
    /// Number of the last event.
    last_event: u64,
}

impl Books {
    pub(crate) fn open(place: &Place) -> Self {
        let mut wire = Wire::connect(&place.control()).expect("the daemon listens");
        let devices = wire.must("device.list", json!({}));
        let entry = |device: &Value| {
            let pools = &device["pools"];
            let name = device["name"].as_str().expect("every device has one").to_owned();
            (name, number(&pools["bytes"]["capacity"]), number(&pools["queue_pairs"]["used"]))
        };
        let ours = list(&devices).iter().filter(|device| !device["pools"].is_null());
        Self { devices: ours.map(entry).collect(), last_event: 0 }
    }

    /// Waits until nothing is on its way any more.
    pub(crate) fn settle(&self, wire: &mut Wire) {
        let end = Instant::now() + PATIENCE;
        loop {
            let (channels, jobs) = (wire.must("channel.list", json!({})), wire.must("job.list", json!({})));
            let stands = |channel: &Value| {
                let oper = channel["oper"].as_str().expect("every channel is something");
                matches!(oper, "provisioned" | "listening" | "suspended" | "failed" | "quarantined")
            };
            let running = |job: &Value| matches!(job["state"].as_str(), Some("running" | "cancelling"));
            let ended = list(&channels).iter().all(stands) && !list(&jobs).iter().any(running);
            // What nobody has any more is given back when it has been scrubbed, which is no job of anybody's.
            let mut scrubbed = |name: &str| {
                let account = Account::of(wire, name, &channels);
                account.used <= account.given
            };
            if ended && self.devices.iter().all(|(name, ..)| scrubbed(name)) {
                return;
            }
            assert!(Instant::now() < end, "not settled: {channels:#}\n{jobs:#}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Free and used are all there is; extents are one channel's each; what is used is what channels have; events go on.
    pub(crate) fn check(&mut self, wire: &mut Wire) {
        let channels = wire.must("channel.list", json!({}));
        for (name, capacity, _) in &self.devices {
            let account = Account::of(wire, name, &channels);
            let Account { free, used, given, .. } = account;
            assert_eq!(
                (account.capacity, used + free),
                (*capacity, *capacity),
                "{name}: {used} used, {free} free"
            );
            for pair in account.extents.windows(2) {
                assert!(pair[0].0 + pair[0].1 <= pair[1].0, "{name}: {pair:?} overlap");
            }
            assert_eq!(used, given, "{name} has given away what no channel has: {channels:#}");
        }
        let quarantined =
            |channel: &&Value| matches!(channel["oper"].as_str(), Some("quarantined" | "failed"));
        let hurt = list(&channels).iter().find(quarantined);
        assert!(hurt.is_none(), "nobody did anything wrong: {hurt:#?}");
        let events = wire.must("events.list", json!({}));
        let last = number(&events["last_seq"]);
        assert!(last > self.last_event, "event {last} after event {}", self.last_event);
        self.last_event = last;
    }

    /// Nothing is given away.
    pub(crate) fn check_empty(&self, wire: &mut Wire) {
        for (name, capacity, queue_pairs) in &self.devices {
            let device = wire.must("device.show", json!({ "device": name }));
            let pools = &device["pools"];
            let used = (number(&pools["bytes"]["used"]), number(&pools["queue_pairs"]["used"]));
            assert_eq!(used, (0, *queue_pairs), "{name}: {device:#}");
            let run = number(&device["namespaces"][0]["free_run_bytes"]);
            assert_eq!(run, *capacity, "{name}: what is free lies in one piece");
        }
    }
}

/// What a device says of its bytes, and what its channels say that they have of them.
struct Account {
    capacity: u64,
    used: u64,
    free: u64,
    given: u64,
    /// First block and number of blocks of each extent, in order.
    extents: Vec<(u64, u64)>,
}

impl Account {
    fn of(wire: &mut Wire, name: &str, channels: &Value) -> Self {
        let device = wire.must("device.show", json!({ "device": name }));
        let bytes = &device["pools"]["bytes"];
        let mut extents: Vec<(u64, u64)> = list(channels)
            .iter()
            .filter(|channel| channel["device"] == name)
            .flat_map(|channel| list(&channel["extents"]))
            .map(|extent| (number(&extent["first_block"]), number(&extent["blocks"])))
            .collect();
        extents.sort_unstable();
        let block_bytes = number(&device["namespaces"][0]["block_bytes"]);
        Self {
            capacity: number(&bytes["capacity"]),
            used: number(&bytes["used"]),
            free: list(&device["namespaces"]).iter().map(|of| number(&of["free_bytes"])).sum(),
            given: extents.iter().map(|(_, blocks)| blocks * block_bytes).sum(),
            extents,
        }
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

#[track_caller]
fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no number"))
}
