//! What a plugin does wrong, and what the guests notice of it: nothing.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use vfiomux_tests::check::{Initial, Load, Options};
use vfiomux_tests::daemon::Vfiomuxd;
use vfiomux_tests::lab::workspace_library;

const PATIENCE: Duration = Duration::from_secs(60);

/// A daemon with a channel at work, which was promised something.
struct House {
    daemon: Vfiomuxd,
    directory: TempDir,
    load: Load,
    /// The channel's guarantees, and its generation.
    promised: (Value, Value),
}

impl House {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let daemon = Vfiomuxd::start(directory.path(), &["sim:nvme,size=256M"]);
        daemon.ctl(&["device", "calibrate", "sim0", "--duration-ms", "300"]);
        daemon.create_channel("work", "sim0", "acme", 64, 2);
        daemon.ctl(&["channel", "tune", "work", "--reserve", "50", "--share", "300"]);
        let load = Load::begin(Options {
            rings: 2,
            operations: 400,
            max_bytes: 64 << 10,
            span_bytes: 1 << 20,
            initial: Initial::Zero,
            remember: Some(directory.path().join("work.held")),
            ..Options::new(daemon.endpoint("work"))
        });
        let channel = daemon.ctl_json(&["channel", "show", "work"]);
        let promised = (channel["guarantees"].clone(), channel["generation"].clone());
        assert_eq!((&promised.0["reservation_ops"], &promised.0["share"]), (&json!(50), &json!(300)));
        Self { daemon, directory, load, promised }
    }

    fn orders(&self, name: &str, orders: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::write(&path, orders).expect("a file of our own");
        path
    }

    /// Loads the plugin `faulty` with these orders.
    #[track_caller]
    fn load_faulty(&self, orders: &str) {
        let (library, orders) = (workspace_library("vfiomux_plugin_faulty"), self.orders("orders", orders));
        let load = ["plugin", "load", "faulty", "--library", text(&library), "--config", text(&orders)];
        self.daemon.ctl(&load);
    }

    fn plugin(&self) -> Value {
        self.daemon.ctl_json(&["plugin", "show", "faulty"])
    }

    /// Waits until the plugin is as wanted.
    #[track_caller]
    fn wait_plugin(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            let plugin = self.plugin();
            if wanted(&plugin) {
                return plugin;
            }
            assert!(Instant::now() < end, "it never is: {plugin:#}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The guest is still served, from the beginning of a session to its end, and is promised what it was.
    #[track_caller]
    fn assert_undisturbed(&mut self) {
        self.load.wait_for_sessions(1, PATIENCE);
        let channel = self.daemon.ctl_json(&["channel", "show", "work"]);
        assert_eq!((&channel["guarantees"], &channel["generation"]), (&self.promised.0, &self.promised.1));
        assert_eq!((&channel["health"], &channel["epoch"]), (&json!("ok"), &json!(1)));
        let device = self.daemon.ctl_json(&["device", "show", "sim0"]);
        assert_eq!(device["reservations"]["reserved_ops"], 50);
    }

    /// No request has failed, every byte was right, and nothing else was counted than what the guest did.
    #[track_caller]
    fn end(self) {
        let done = self.load.end();
        assert!(done.reads > 0 && done.writes > 0 && done.failed == 0, "{done:?}");
        let counters = &self.daemon.ctl_json(&["channel", "show", "work"])["counters"];
        let count = |name: &str| counters[name].as_u64().expect("a count");
        // What was refused are the requests beyond the disk's end that every session tries.
        let answered = ["read_ops", "write_ops", "flush_ops", "discard_ops", "write_zeroes_ops"].map(count);
        let seen = done.reads + done.writes + done.flushes + done.discards + done.write_zeroes;
        assert_eq!(answered.iter().sum::<u64>() - count("error_ops"), seen, "{counters:#}");
        assert_eq!(count("stale_completions"), 0);
        self.daemon.terminate();
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("the test's own directory has a plain name")
}

fn create(name: &str) -> [&str; 9] {
    ["channel", "create", name, "--device", "sim0", "--tenant", "acme", "--size", "4M"]
}

fn replace(orders: &Path) -> [&str; 5] {
    ["plugin", "replace", "faulty", "--config", text(orders)]
}

/// ISO2: whatever a plugin does when it is asked, the guest beside it loses nothing; creation is denied with what is wrong, what is
/// there may end, and that the plugin was started again can be read.
#[test]
fn a_guest_works_on_while_a_plugin_fails_each_way() {
    let mut house = House::new();
    for (action, complaint) in [
        ("hang", "gave no answer to create"),
        ("crash", "SIGABRT"),
        ("lie", "answered 77, which is no verdict"),
        ("flood", "more than an answer holds"),
    ] {
        house.load_faulty(&format!("create {action} after 1\n"));
        house.daemon.ctl(&create("spare"));
        let seen = house.daemon.ctl_json(&["events"])["last_seq"].to_string();
        let refused = house.daemon.ctl_refused(&create("denied"));
        assert!(refused.contains("faulty does not answer") && refused.contains(complaint), "{refused}");
        house.daemon.ctl(&["channel", "destroy", "spare"]);
        house.assert_undisturbed();
        let plugin = house.wait_plugin(|plugin| plugin["status"] == "running");
        assert!(plugin["restarts"].as_u64() >= Some(1), "{plugin}");
        assert!(plugin["last_fault"].as_str().is_some_and(|fault| fault.contains(complaint)), "{plugin}");
        assert!(house.daemon.ctl(&["plugin", "list"]).contains("running"));
        let events = house.daemon.ctl(&["events", "--since", &seen]);
        assert!(events.contains("faulty") && events.contains(complaint), "{events}");
        house.daemon.ctl(&["plugin", "unload", "faulty"]);
    }
    house.end();
}

/// ISO2: how long a plugin may take is the operator's to say, also for one that takes its place.
#[test]
fn an_operator_says_how_long_a_plugin_may_take() {
    let house = House::new();
    let (library, orders) =
        (workspace_library("vfiomux_plugin_faulty"), house.orders("orders", "create hang\n"));
    let load = ["plugin", "load", "faulty", "--library", text(&library), "--config", text(&orders)];
    let refused = house.daemon.ctl_refused(&[&load[..], &["--deadline-ms", "0"]].concat());
    assert!(refused.contains("a plugin's deadline is 1 to 60000 ms"), "{refused}");

    house.daemon.ctl(&[&load[..], &["--deadline-ms", "1500"]].concat());
    let refused = house.daemon.ctl_refused(&create("denied"));
    assert!(refused.contains("gave no answer to create within 1500 ms"), "{refused}");

    house.wait_plugin(|plugin| plugin["status"] == "running");
    // One that is to take the place is asked about the channel that there is.
    let refused = house.daemon.ctl_refused(&[&replace(&orders)[..], &["--deadline-ms", "1600"]].concat());
    assert!(
        refused.contains("the new faulty does not answer: gave no answer to create within 1600 ms"),
        "{refused}"
    );
    house.orders("orders", "");
    house.daemon.ctl(&[&replace(&orders)[..], &["--deadline-ms", "30000"]].concat());
    house.daemon.ctl(&replace(&orders));
    assert_eq!(house.plugin()["deadline_ms"], 30_000);
    house.daemon.ctl(&["plugin", "unload", "faulty"]);
    house.end();
}

/// ISO2: a plugin that goes down every second, unasked, is down most of the time. Then nothing new is allowed, and nothing that
/// there is changes.
#[test]
fn a_guest_works_on_while_a_plugin_is_down() {
    let mut house = House::new();
    house.daemon.ctl(&create("spare"));
    house.load_faulty("tick crash\n");
    let down =
        house.wait_plugin(|plugin| plugin["status"] == "down" && plugin["restarts"].as_u64() >= Some(2));
    assert!(down["restart_in_ms"].is_u64() && down["last_fault"].as_str().is_some(), "{down}");
    house.assert_undisturbed();
    // Its pauses double: this one is long enough to ask in.
    house.wait_plugin(|plugin| plugin["status"] == "down" && plugin["restart_in_ms"].as_u64() > Some(4000));
    let refused = house.daemon.ctl_refused(&create("denied"));
    assert!(refused.contains("faulty does not answer"), "{refused}");
    house.daemon.ctl(&["channel", "destroy", "spare"]);
    house.assert_undisturbed();
    let events = house.daemon.ctl(&["events"]);
    assert!(events.contains("SIGABRT"), "{events}");
    house.daemon.ctl(&["plugin", "unload", "faulty"]);
    house.daemon.ctl(&create("allowed"));
    house.end();
}

/// ISO2, Q3: what a plugin wants every second and is not to have, for generations that are past and beyond what there is, and logs
/// beyond all measure, changes nothing.
#[test]
fn a_guest_works_on_while_a_plugin_babbles() {
    let mut house = House::new();
    for orders in ["tick flood\n", "tick stale share 700\n", "tick retune share 99999\n"] {
        house.load_faulty(orders);
        let heard = house.wait_plugin(|plugin| {
            let count = |of: &Value| of.as_u64().unwrap_or_default();
            count(&plugin["verdicts"]["retunes"]) + count(&plugin["log_dropped"]) > 0
                || count(&plugin["restarts"]) > 0
        });
        house.assert_undisturbed();
        assert_ne!(heard["status"], "refused", "{heard}");
        house.daemon.ctl(&["plugin", "unload", "faulty"]);
    }
    house.end();
}

/// ISO2, Q3: a plugin is replaced under the guest, by one that hangs when it is asked about what there is, and by a good one.
#[test]
fn a_guest_works_on_while_a_plugin_is_replaced() {
    let mut house = House::new();
    house.load_faulty("create allow\n");
    let pid = house.plugin()["pid"].clone();
    let bad = house.orders("bad", "create hang\n");
    let tried = house.daemon.try_ctl(&[&replace(&bad)[..], &["--dry-run"]].concat());
    let said = [tried.stdout, tried.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
    assert!(said.contains("gave no answer"), "{said}");
    house.assert_undisturbed();
    assert_eq!(house.plugin()["pid"], pid, "the one that was there is still asked");
    house.daemon.ctl(&create("still"));
    let strict = house.orders("strict", "create deny enough of that\n");
    house.daemon.ctl(&replace(&strict));
    assert_ne!(house.plugin()["pid"], pid);
    assert!(house.daemon.ctl_refused(&create("more")).contains("enough of that"));
    house.daemon.ctl(&["channel", "destroy", "still"]);
    house.assert_undisturbed();
    house.end();
}
