//! Roles, held against processes of other users: what the kernel says of who is at the other end of the socket, and no more.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;
use vfiomux_tests::daemon::Vfiomuxd;
use vfiomux_tests::lab::workspace_program;

/// Users that nobody is: one that works for `acme`, one that looks at `beta`, one that has no role.
const ACME: u32 = 64_001;
const BETA: u32 = 64_002;
const NOBODY: u32 = 64_003;
/// A group that nobody has.
const ELSEWHERE: u32 = 64_000;

const CONFIG: &str = "[roles.tenants.acme]\noperate = { uids = [64001] }\nendpoints = \"@DIR@/acme\"\n\
    [roles.tenants.beta]\nread = { uids = [64002] }\n";

/// A daemon of this user, whose group the others are in too, and the programs that they run.
struct House {
    daemon: Vfiomuxd,
    directory: TempDir,
}

/// None, said aloud, where this process may not become others.
fn house() -> Option<House> {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: only root can start processes of other users; run the tests as root");
        return None;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let open =
        |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("it is ours");
    open(directory.path());
    fs::create_dir(directory.path().join("acme")).expect("a directory of our own");
    // Where the programs were built may be closed to others.
    for program in ["vfiomuxctl", "vfiomux-load"] {
        let copy = directory.path().join(program);
        fs::copy(workspace_program(program), &copy).expect("room for a copy");
        open(&copy);
    }
    let config = CONFIG.replace("@DIR@", &directory.path().to_string_lossy());
    let daemon = Vfiomuxd::start_with_config(directory.path(), &["sim:nvme,size=256M"], &config);
    Some(House { daemon, directory })
}

impl House {
    fn path(&self, below: &str) -> PathBuf {
        self.directory.path().join(below)
    }

    /// Runs a program as a user of the daemon's group.
    fn run(&self, uid: u32, program: &str, arguments: &[&str]) -> Output {
        self.run_in(uid, rustix::process::getegid().as_raw(), program, arguments)
    }

    fn run_in(&self, uid: u32, gid: u32, program: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new(self.path(program));
        command.current_dir("/").env_clear().args(arguments);
        command.uid(uid).gid(gid).output().expect("a process of another user")
    }

    /// Runs `vfiomuxctl`, however it ends: whether it ended well, and all that it said.
    fn ctl(&self, uid: u32, arguments: &[&str]) -> (bool, String) {
        let control = self.daemon.control();
        let whole = [&["--control", text(&control)], arguments].concat();
        let Output { status, stdout, stderr } = self.run(uid, "vfiomuxctl", &whole);
        let said = [stdout, stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
        (status.success(), said)
    }

    #[track_caller]
    fn allowed(&self, uid: u32, arguments: &[&str]) -> String {
        let (well, said) = self.ctl(uid, arguments);
        assert!(well, "{arguments:?}: {said}");
        said
    }

    #[track_caller]
    fn refused(&self, uid: u32, arguments: &[&str], words: &str) -> String {
        let (well, said) = self.ctl(uid, arguments);
        assert!(!well && said.contains(words), "{arguments:?} was to be refused with {words:?}: {said}");
        said
    }

    #[track_caller]
    fn json(&self, uid: u32, arguments: &[&str]) -> Value {
        let said = self.allowed(uid, &[arguments, &["--json"]].concat());
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {said}"))
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("the test's own directory has a plain name")
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(|entry| entry["name"].as_str()).collect()
}

/// Everything that can be looked at without naming anything.
const LOOKS: [&[&str]; 11] = [
    &["status"],
    &["whoami"],
    &["device", "list"],
    &["device", "show", "sim0"],
    &["channel", "list"],
    &["tenant", "list"],
    &["events"],
    &["audit"],
    &["job", "list"],
    &["sidecore", "list"],
    &["sidecore", "show", "0"],
];

/// C5: a process of a tenant's user sees its own objects, works with them, and finds nowhere a trace of anybody else's.
#[test]
fn a_tenant_s_user_sees_and_does_what_is_its_own() {
    let Some(house) = house() else { return };
    let create = |tenant: &'static str, name: &'static str| {
        ["channel", "create", name, "--device", "sim0", "--tenant", tenant, "--size", "16M"]
    };
    house.daemon.ctl(&create("beta", "beta.books"));
    house.daemon.ctl_refused(&create("beta", "beta.books"));
    let whoami = house.json(ACME, &["whoami"]);
    assert_eq!((&whoami["uid"], &whoami["role"]), (&Value::from(ACME), &Value::from("none")));

    // Its own: made, served, used by a VMM of the same user, changed, ended.
    let endpoint = house.path("acme/disk.sock");
    house.allowed(ACME, &[&create("acme", "acme.disk")[..], &["--endpoint", text(&endpoint)]].concat());
    house.allowed(ACME, &["channel", "tune", "acme.disk", "--share", "300"]);
    let load = ["--pattern", "randrw", "--verify", "--size", "1M", "--requests", "500"];
    let done = house.run(ACME, "vfiomux-load", &[&[text(&endpoint)], &load[..]].concat());
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(names(&house.json(ACME, &["channel", "list"])), ["acme.disk"]);
    assert_eq!(names(&house.json(ACME, &["tenant", "list"])), ["acme"]);
    let audit = house.json(ACME, &["audit"]);
    let entries = audit["entries"].as_array().expect("a list");
    assert!(entries.iter().all(|entry| entry["uid"] == ACME && entry["tenant"] == "acme"), "{audit:#}");
    assert_eq!(entries.len(), 2, "{audit:#}");

    // Another's: not to be seen, and refused in the words of what does not exist.
    for look in LOOKS {
        let json = [look, &["--json"]].concat();
        for said in [house.allowed(ACME, look), house.allowed(ACME, &json)] {
            assert!(!said.contains("beta") && !said.contains("books"), "{look:?}: {said}");
        }
    }
    for verb in [&["show"][..], &["path"], &["explain"], &["suspend"], &["detach"], &["destroy"]] {
        let of = |name| [&["channel"], verb, &[name]].concat();
        let theirs = house.refused(ACME, &of("beta.books"), "does not exist");
        let nobodys = house.refused(ACME, &of("beta.bills"), "does not exist");
        assert_eq!(theirs.replace("books", "bills"), nobodys);
    }
    house.refused(ACME, &["channel", "tune", "beta.books", "--share", "1"], "does not exist");
    house.refused(ACME, &["tenant", "show", "beta"], "does not exist");
    house.refused(ACME, &create("beta", "beta.more"), "role");
    house.refused(ACME, &create("acme", "beta.more"), "acme.");

    // The host's.
    for verb in [
        &["device", "release", "sim0"][..],
        &["device", "format", "sim0", "--erase"],
        &["device", "calibrate", "sim0"],
        &["plugin", "list"],
        &["tenant", "tune", "acme", "--iops", "1000"],
    ] {
        house.refused(ACME, verb, "role");
    }
    // Endpoints lie in the tenant's directory, since it is the daemon that makes them.
    house.allowed(ACME, &["channel", "detach", "acme.disk"]);
    let outside = house.path("outside.sock");
    house.refused(
        ACME,
        &["channel", "attach", "acme.disk", "--endpoint", text(&outside)],
        "endpoints of tenant acme lie in",
    );
    assert!(!outside.exists());
    house.allowed(ACME, &["channel", "destroy", "acme.disk"]);
    assert_eq!(house.daemon.ctl_json(&["channel", "show", "beta.books"])["oper"], "provisioned");
    house.daemon.terminate();
}

/// C5: who may look at a tenant changes nothing of it; who has no role learns nothing; and who is not in the daemon's group is kept
/// out by the kernel.
#[test]
fn a_user_that_may_look_and_one_that_may_not_change_nothing() {
    let Some(house) = house() else { return };
    for (name, tenant) in [("beta.books", "beta"), ("acme.disk", "acme")] {
        house
            .daemon
            .ctl(&["channel", "create", name, "--device", "sim0", "--tenant", tenant, "--size", "16M"]);
    }
    assert_eq!(names(&house.json(BETA, &["channel", "list"])), ["beta.books"]);
    house.allowed(BETA, &["channel", "show", "beta.books"]);
    house.refused(BETA, &["channel", "show", "acme.disk"], "does not exist");
    for verb in [&["destroy"][..], &["destroy", "--force"], &["suspend"]] {
        let command = [&["channel"], verb, &["beta.books"]].concat();
        house.refused(BETA, &command, "has the role read; channel.");
    }
    // Refusals are on record with who was refused.
    let audit = house.daemon.ctl_json(&["audit"]);
    let entries = audit["entries"].as_array().expect("a list");
    let refused = entries.iter().filter(|entry| entry["uid"] == BETA && !entry["answer"]["error"].is_null());
    assert_eq!(refused.count(), 3, "{audit:#}");

    for look in LOOKS {
        house.refused(NOBODY, look, "user 64003 has no role on the host");
    }
    for name in ["beta.books", "beta.bills"] {
        house.refused(NOBODY, &["channel", "show", name], "has no role on the host");
        house.refused(NOBODY, &["channel", "destroy", name], "has no role on the host");
    }
    let control = house.daemon.control();
    let outside = house.run_in(BETA, ELSEWHERE, "vfiomuxctl", &["--control", text(&control), "status"]);
    assert!(!outside.status.success());
    let complaint = String::from_utf8_lossy(&outside.stderr).into_owned();
    assert!(complaint.contains("ermission denied"), "{complaint}");
    for name in ["beta.books", "acme.disk"] {
        assert_eq!(house.daemon.ctl_json(&["channel", "show", name])["generation"], 1);
    }
    house.daemon.terminate();
}
