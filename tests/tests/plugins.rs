#![expect(unsafe_code, reason = "loads a plugin of this workspace into the test, as its author would")]
//! Plugins in their sandboxes beside a whole daemon: what they do wrong costs nobody but who asks them.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use vfiomux_plugin::harness::{Exchange, Harness, Question, Recording};
use vfiomux_plugin::{InitRequest, Verdict};
use vfiomux_tests::daemon::Vfiomuxd;
use vfiomux_tests::lab::workspace_program;

const PATIENCE: Duration = Duration::from_secs(30);

/// A daemon with one disk's worth of memory and the plugin `faulty`, which does what these lines say.
struct Held {
    daemon: Vfiomuxd,
    directory: TempDir,
}

impl Held {
    fn new(orders: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let daemon = Vfiomuxd::start(directory.path(), &["ram:size=64M"]);
        let held = Self { daemon, directory };
        let orders = held.orders("orders", orders);
        let library = library("faulty");
        held.daemon.ctl(&[
            "plugin",
            "load",
            "faulty",
            "--library",
            text(&library),
            "--config",
            text(&orders),
        ]);
        held
    }

    fn orders(&self, name: &str, orders: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::write(&path, orders).unwrap();
        path
    }

    fn create(name: &str) -> [&str; 9] {
        ["channel", "create", name, "--device", "ram0", "--tenant", "acme", "--size", "4M"]
    }

    fn plugin(&self) -> Value {
        self.daemon.ctl_json(&["plugin", "show", "faulty"])
    }

    #[track_caller]
    fn wait_running(&self) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            let plugin = self.plugin();
            if plugin["status"] == "running" {
                return plugin;
            }
            assert!(Instant::now() < end, "not started again: {plugin}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn events(&self) -> String {
        self.daemon.ctl(&["events"])
    }
}

fn library(name: &str) -> PathBuf {
    let beside = workspace_program("vfiomuxd");
    beside.with_file_name(format!("libvfiomux_plugin_{}.so", name.replace('-', "_")))
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Has the plugin do something wrong when a channel is created, and says what is then held against it.
#[track_caller]
fn contained(action: &str, complaint: &str) {
    let held = Held::new(&format!("create {action} after 1\n"));
    held.daemon.ctl(&Held::create("before"));
    let refused = held.daemon.ctl_refused(&Held::create("denied"));
    assert!(refused.contains("faulty does not answer") && refused.contains(complaint), "{refused}");
    // What exists goes on, and may end.
    let before = held.daemon.ctl_json(&["channel", "show", "before"]);
    assert_eq!(before["oper"], "provisioned");
    held.daemon.ctl(&["channel", "destroy", "before"]);
    let plugin = held.wait_running();
    assert!(plugin["restarts"].as_u64() >= Some(1), "{plugin}");
    assert!(plugin["last_fault"].as_str().is_some_and(|fault| fault.contains(complaint)), "{plugin}");
    // The one that was started again counts anew: it allows one.
    held.daemon.ctl(&Held::create("after"));
    assert!(held.events().contains("faulty"), "{}", held.events());
    held.daemon.terminate();
}

/// ISO2: a plugin that hangs costs a creation its deadline, and nobody else anything.
#[test]
fn a_plugin_that_hangs_is_killed_and_started_again() {
    contained("hang", "gave no answer");
}

/// ISO2: the same of one that crashes.
#[test]
fn a_plugin_that_crashes_is_started_again() {
    contained("crash", "SIGABRT");
}

#[test]
fn a_plugin_is_replaced_where_it_stands_and_the_differences_are_said_first() {
    let held = Held::new("create allow\n");
    held.daemon.ctl(&Held::create("disk"));
    let strict = held.orders("strict", "create deny too late for that\n");
    let replace = ["plugin", "replace", "faulty", "--config", text(&strict)];
    let tried = held.daemon.ctl(&[&replace[..], &["--dry-run"]].concat());
    assert!(tried.contains("disk: allow -> deny: too late for that"), "{tried}");
    held.daemon.ctl(&Held::create("still"));
    held.daemon.ctl(&replace);
    let refused = held.daemon.ctl_refused(&Held::create("more"));
    assert!(refused.contains("too late for that"), "{refused}");
    held.daemon.ctl(&["plugin", "unload", "faulty"]);
    held.daemon.ctl(&Held::create("more"));
    held.daemon.terminate();
}

/// W1: what was loaded is loaded again; what can no longer be loaded denies what is new, and what exists goes on.
#[test]
fn a_plugin_that_cannot_begin_at_a_start_denies_what_is_new() {
    let held = Held::new("create allow\n");
    held.daemon.ctl(&Held::create("disk"));
    let Held { daemon, directory } = held;
    daemon.terminate();
    std::fs::remove_file(directory.path().join("orders")).unwrap();
    let daemon = Vfiomuxd::start(directory.path(), &["ram:size=64M"]);
    let plugin = daemon.ctl_json(&["plugin", "show", "faulty"]);
    assert_eq!(plugin["status"], "refused", "{plugin}");
    let refused = daemon.ctl_refused(&Held::create("more"));
    assert!(refused.contains("its configuration"), "{refused}");
    daemon.ctl(&["plugin", "unload", "faulty"]);
    daemon.ctl(&Held::create("more"));
    daemon.terminate();
}

/// A plugin host that runs the real one, and, when there is a file `crash`, kills the daemon as soon as its own plugin has ended.
fn crashing_host(directory: &Path) -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let (host, crash) = (workspace_program("vfiomux-plugin-host"), directory.join("crash"));
    let script = format!(
        "#!/bin/sh\n'{}' \"$1\" \"$2\" $$ \"$4\"\nrm '{}' 2>/dev/null && kill -KILL $PPID\n",
        text(&host),
        text(&crash)
    );
    let path = directory.join("crashing-host");
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// W1, T3: a plugin that has taken another's place has it after a crash, however soon that comes.
#[test]
fn a_crash_as_soon_as_a_plugin_has_been_replaced_does_not_bring_the_old_one_back() {
    let directory = tempfile::tempdir().unwrap();
    let config = format!("plugin_host = {:?}\n", crashing_host(directory.path()));
    let start = || Vfiomuxd::start_with_config(directory.path(), &["ram:size=64M"], &config);
    let orders = |name: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, format!("create deny the {name} one says so\n")).unwrap();
        path
    };
    let (old, new, faulty) = (orders("old"), orders("new"), library("faulty"));
    let daemon = start();
    daemon.ctl(&["plugin", "load", "faulty", "--library", text(&faulty), "--config", text(&old)]);
    std::fs::write(directory.path().join("crash"), "").unwrap();
    let replaced = daemon.try_ctl(&["plugin", "replace", "faulty", "--config", text(&new)]);
    assert!(!replaced.status.success(), "the daemon was killed before it could answer");
    daemon.kill();
    let daemon = start();
    let refused = daemon.ctl_refused(&Held::create("disk"));
    assert!(refused.contains("the new one says so"), "{refused}");
    daemon.terminate();
}

/// What a daemon asks a plugin is written down by `plugin record`, and the plugin answers the same when the harness asks it again.
#[test]
fn what_a_daemon_asks_is_recorded_and_answered_again() {
    let orders = "create deny the second after 1\ntune amend share 77\n";
    let held = Held::new(orders);
    let path = held.directory.path().join("asked.jsonl");
    let mut recorder = std::process::Command::new(workspace_program("vfiomuxctl"))
        .arg("--control")
        .arg(held.daemon.control())
        .args(["plugin", "record", "faulty", text(&path), "--questions", "5"])
        .spawn()
        .unwrap();
    // Its first word comes when the daemon has begun to note.
    let end = Instant::now() + PATIENCE;
    while !path.exists() {
        assert!(Instant::now() < end && recorder.try_wait().unwrap().is_none(), "nothing is recorded");
        std::thread::sleep(Duration::from_millis(5));
    }
    held.daemon.ctl(&Held::create("first"));
    held.daemon.ctl_refused(&Held::create("second"));
    held.daemon.ctl(&["channel", "tune", "first", "--share", "50"]);
    // Ticks bring the number up.
    assert!(recorder.wait().unwrap().success());
    held.daemon.terminate();

    let recording = Recording::read(std::fs::read(&path).unwrap().as_slice()).unwrap();
    assert_eq!(recording.questions().count(), 5);
    let request = InitRequest { name: "faulty".to_owned(), configuration: orders.to_owned() };
    // SAFETY: the library is of this workspace.
    let mut harness = unsafe { Harness::load(&library("faulty"), &request) }.unwrap();
    let answered = harness.replay(&recording);
    let verdicts = |is: fn(&Question) -> bool| -> Vec<Verdict> {
        let of = |exchange: &Exchange| exchange.answer.verdict.clone();
        answered.iter().filter(|exchange| is(&exchange.question)).filter_map(of).collect()
    };
    let created = verdicts(|question| matches!(question, Question::Create(_)));
    assert_eq!(created, [Verdict::Allow, Verdict::deny("the second")]);
    // Asked once about what was wanted, and once more about what it made of that.
    let tuned = verdicts(|question| matches!(question, Question::Tune(_)));
    assert!(matches!(tuned[..], [Verdict::Amend(_), Verdict::Amend(_)]), "{tuned:?}");
}
