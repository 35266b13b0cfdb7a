//! A storm: operators race each other over one control socket, and the daemon is killed under them and started again.
//!
//! ```text
//!   seed ─► draft: for each client a list of operations, and after how many answers the daemon is killed
//!             clients ══ control socket ══ vfiomuxd ── kill ─► started again on what it left
//!                └─► ledger: what was answered ─► what there must be afterwards; books: what is never otherwise
//! ```
//!
//! Each client has channels of its own, of which it knows what must be there, and some that all fight over. What a client was
//! answered is there after the crash; what it was waiting for is there whole, or not at all; a request that is repeated is
//! answered as before; generations go up, identities do not come back; and what the devices have given away is what the channels
//! have, down to nothing when all of them are destroyed. Only what was asked follows from the seed, and not who came first: so
//! nothing is expected that would depend on that.
//!
//! `VFIOMUX_STORM_SEED=n` has that storm alone; `VFIOMUX_STORM_ROUNDS=n` so many crashes in each instead of the usual number.

mod books;
mod client;
mod draft;
mod ledger;

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::{Pid, Signal};
use serde_json::{Value, json};
use vfiomux_tests::daemon::Vfiomuxd;
use vfiomux_tests::lab::workspace_library;

use self::books::Books;
use self::client::{Client, Wire};
use self::draft::Draft;

/// Crashes in a storm.
const ROUNDS: u64 = 3;
/// The storm that is always tried.
const FIXED_SEED: u64 = 20_240_229;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} must be a number, and is {text}")))
}

/// Where a storm takes place.
pub(crate) struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn control(&self) -> PathBuf {
        self.path().join("control.sock")
    }

    fn socket(&self, channel: &str) -> PathBuf {
        self.path().join(format!("{channel}.sock"))
    }

    /// What the plugin `faulty` is told.
    fn orders(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    fn start(&self) -> Vfiomuxd {
        let devices: Vec<String> = (0..draft::DEVICES)
            .map(|device| format!("sim:nvme,size=96M,file={}/image{device}", self.path().display()))
            .collect();
        Vfiomuxd::start(self.path(), &devices.iter().map(String::as_str).collect::<Vec<_>>())
    }
}

/// Kills the daemon as soon as so many requests have been answered.
pub(crate) struct Executioner {
    answered: AtomicUsize,
    after: usize,
    daemon: Pid,
}

impl Executioner {
    /// A request was answered.
    pub(crate) fn count(&self) {
        if self.answered.fetch_add(1, Ordering::Relaxed) + 1 == self.after {
            rustix::process::kill_process(self.daemon, Signal::KILL).expect("the daemon runs");
        }
    }
}

fn storm(seed: u64) {
    let rounds = number("VFIOMUX_STORM_ROUNDS").unwrap_or(ROUNDS);
    println!("storm {seed}, {rounds} rounds");
    let place = Place { directory: tempfile::tempdir().expect("a temporary directory") };
    for (name, orders) in draft::ORDERS {
        std::fs::write(place.orders(name), orders).expect("the directory is ours");
    }
    let mut daemon = place.start();
    let mut books = Books::open(&place);
    let mut clients: Vec<Client> = (0..draft::CLIENTS).map(Client::new).collect();
    load(&place, &mut clients);
    let mut draft = Draft::new(seed);
    for round in 0..rounds {
        let lists: Vec<_> = clients.iter().map(|client| draft.list(round, client.number)).collect();
        let asked = lists.iter().map(Vec::len).sum();
        let executioner =
            Executioner { answered: AtomicUsize::new(0), after: draft.answers(asked), daemon: daemon.pid() };
        std::thread::scope(|scope| {
            for (client, list) in clients.iter_mut().zip(lists) {
                let (place, executioner) = (&place, &executioner);
                scope.spawn(move || client.work_off(place, &list, executioner));
            }
        });
        let was_killed = executioner.answered.load(Ordering::Relaxed) >= executioner.after;
        assert!(was_killed, "the daemon ended by itself:\n{}", daemon.log());
        daemon.kill();
        daemon = place.start();
        let mut wire = Wire::connect(&place.control()).expect("the daemon listens");
        books.settle(&mut wire);
        books.check(&mut wire);
        clients.iter_mut().for_each(|client| client.check(&mut wire));
    }
    clear(&place, &mut books);
    daemon.terminate();
    let answered: u64 = clients.iter().map(|client| client.answered).sum();
    let refused: u64 = clients.iter().map(|client| client.refused).sum();
    println!("{answered} answered, {refused} of them by a refusal");
}

/// The plugin that policies come from, told to allow everything.
fn load(place: &Place, clients: &mut [Client]) {
    let mut wire = Wire::connect(&place.control()).expect("the daemon listens");
    let (library, config) = (workspace_library("vfiomux_plugin_faulty"), place.orders(draft::ORDERS[0].0));
    let plugin = json!({ "name": "faulty", "library": library, "config": config });
    wire.must("plugin.load", plugin);
    clients.iter_mut().for_each(|client| client.ledger.plugin_is(&config));
}

/// Ends everything, and looks that nothing is left.
fn clear(place: &Place, books: &mut Books) {
    let mut wire = Wire::connect(&place.control()).expect("the daemon listens");
    wire.must("plugin.unload", json!({ "name": "faulty" }));
    for channel in wire.must("channel.list", json!({})).as_array().expect("a list") {
        wire.must("channel.destroy", json!({ "name": channel["name"], "force": true }));
    }
    books.settle(&mut wire);
    books.check(&mut wire);
    books.check_empty(&mut wire);
    assert_eq!(wire.must("plugin.list", json!({})), Value::Array(Vec::new()));
}

/// T3, W1, ISO1, C3: what a storm leaves is what was answered, and nothing is lost on the way.
#[test]
fn a_storm_that_is_the_same_every_time() {
    storm(number("VFIOMUX_STORM_SEED").unwrap_or(FIXED_SEED));
}

/// T3, W1, ISO1, C3, in a storm of its own each time.
#[test]
fn a_storm_that_nobody_has_seen() {
    if number("VFIOMUX_STORM_SEED").is_none() {
        // The only chance in the whole, and it is printed before the storm begins.
        storm(RandomState::new().hash_one(0));
    }
}
