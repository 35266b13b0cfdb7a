//! `apply`, against a daemon that keeps a model of its channels.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use serde_json::json;
use vfiomux_rpc::{Change, ChannelInfo, ErrorCode, Method, RpcError};

use crate::daemon::model::Model;
use crate::daemon::{Daemon, channel};
use crate::{Done, run};

const TWO: &str = r#"
[tenant.acme]
bps = "1G"

[channel.alpha]
tenant = "acme"
device = "sim0"
size = "256M"
iops = "5000/500"

[channel.beta]
tenant = "acme"
device = "sim0"
size = "1G"
queues = 2
endpoint = "/run/beta.sock"
suspended = true
labels = { tier = "gold" }
objective = "500us@99"
"#;

struct Bench {
    daemon: Daemon,
    model: Arc<Mutex<Model>>,
}

impl Bench {
    /// A daemon without channels, beside which `meddle` has its way with each request first.
    fn new(meddle: fn(&Method, &mut Model) -> Result<(), RpcError>) -> Self {
        let model = Arc::new(Mutex::new(Model::new(channel())));
        let kept = Arc::clone(&model);
        let answer = move |method: &Method, change: &Change| {
            let mut model = kept.lock().unwrap();
            meddle(method, &mut model)?;
            model.answer(method, change)
        };
        Self { daemon: Daemon::start(answer, vec![]), model }
    }

    fn apply(&self, text: &str, more: &[&str]) -> Done {
        let file: PathBuf = self.daemon.directory().join("disks.toml");
        std::fs::write(&file, text).unwrap();
        let arguments: Vec<&str> =
            ["apply", file.to_str().unwrap()].into_iter().chain(more.iter().copied()).collect();
        run(&self.daemon.control(), &arguments)
    }

    fn channel(&self, name: &str) -> Option<ChannelInfo> {
        self.model.lock().unwrap().channels.get(name).cloned()
    }

    /// The changes that were asked for so far.
    fn changes(&self) -> usize {
        self.daemon.asked().iter().filter(|(method, _)| method.is_change()).count()
    }
}

fn untouched(_: &Method, _: &mut Model) -> Result<(), RpcError> {
    Ok(())
}

#[test]
fn what_the_file_says_is_brought_about_and_then_there_is_nothing_to_do() {
    let bench = Bench::new(untouched);
    let done = bench.apply(TWO, &[]);
    let expected = "\
done       ~ tune tenant acme: bps none -> 1G
done       + create alpha: 256M on sim0 for acme, 1 queue
done       + create beta: 1G on sim0 for acme, 2 queues, at /run/beta.sock
done       ~ suspend beta: it is to stand still
";
    assert_eq!((done.out.as_str(), done.code), (expected, 0), "{}", done.err);
    let changes = bench.changes();
    let again = bench.apply(TWO, &[]);
    assert_eq!((again.out.as_str(), again.code), ("nothing to do: all is as the file says\n", 0));
    assert_eq!(bench.changes(), changes, "something was asked for again");
}

#[test]
fn a_dry_run_asks_about_every_step_that_stands_by_itself_and_changes_nothing() {
    let bench = Bench::new(untouched);
    let done = bench.apply(TWO, &["--dry-run"]);
    let lines: Vec<&str> = done.out.lines().map(|line| line.split("  ").next().unwrap()).collect();
    assert_eq!(lines[..3], ["allowed"; 3], "{}", done.out);
    assert!(lines[3].starts_with("would ask"), "{}", done.out);
    assert!(done.out.ends_with("dry run, nothing changed\n"), "{}", done.out);
    assert!(bench.daemon.asked().iter().all(|(method, change)| change.dry_run || !method.is_change()));
    assert_eq!(bench.channel("alpha"), None);
}

#[test]
fn what_fails_ends_it_and_is_told_apart_from_what_was_done_and_what_was_not_begun() {
    let bench = Bench::new(untouched);
    bench.model.lock().unwrap().capacity_bytes = 512 << 20;
    let done = bench.apply(TWO, &[]);
    let expected = "\
done       ~ tune tenant acme: bps none -> 1G
done       + create alpha: 256M on sim0 for acme, 1 queue
failed     + create beta: 1G on sim0 for acme, 2 queues, at /run/beta.sock
             refused: NoSpace
not begun  ~ suspend beta: it is to stand still
";
    assert_eq!((done.out.as_str(), done.code), (expected, 8), "{}", done.err);
}

#[test]
fn what_is_unwanted_is_named_and_left_alone_unless_it_is_to_be_pruned() {
    let bench = Bench::new(untouched);
    bench.apply(TWO, &[]);
    let fewer = TWO.split("[channel.beta]").next().unwrap();
    let left = bench.apply(fewer, &[]);
    assert!(left.out.starts_with("left alone beta: the file does not name it\n"), "{}", left.out);
    assert!(bench.channel("beta").is_some());
    let pruned = bench.apply(fewer, &["--prune"]);
    assert!(pruned.out.starts_with("done       - destroy beta: "), "{}", pruned.out);
    assert_eq!(bench.channel("beta"), None);
}

#[test]
fn somebody_else_at_work_is_noticed() {
    // Somebody tunes alpha between the list and our first change.
    let bench = Bench::new(|method, model| {
        if let (Method::ChannelTune(_), Some(alpha)) = (method, model.channels.get_mut("alpha")) {
            alpha.generation += 1;
        }
        Ok(())
    });
    bench.apply(TWO, &[]);
    let done = bench.apply(&TWO.replace("5000/500", "8000"), &[]);
    assert!(done.out.starts_with("failed     ~ tune alpha: iops 5000/500 -> 8000\n"), "{}", done.out);
    assert_eq!(done.code, 7, "{}", done.err);
}

#[test]
fn each_step_expects_the_generation_that_the_one_before_left() {
    let bench = Bench::new(untouched);
    bench.apply(TWO, &[]);
    let other = TWO.replace("queues = 2", "queues = 4").replace("tier = \"gold\"", "tier = \"tin\"");
    let done = bench.apply(&other, &[]);
    let expected = "\
done       ~ resume beta: so that it can be changed
done       ~ detach beta: from /run/beta.sock, for what a guest looks at once
done       ~ set beta: queues 2 -> 4, labels tier=gold -> tier=tin
done       ~ attach beta: at /run/beta.sock
done       ~ suspend beta: it is to stand still
";
    assert_eq!((done.out.as_str(), done.code), (expected, 0), "{}", done.err);
    let asked = bench.daemon.asked();
    let expected: Vec<_> = asked
        .iter()
        .rev()
        .filter(|(method, _)| method.is_change())
        .map(|(_, c)| c.expected_generation)
        .take(5)
        .collect();
    let begun = expected[4].unwrap();
    assert_eq!(expected, [4, 3, 2, 1, 0].map(|more| Some(begun + more)));
}

#[test]
fn what_cannot_be_changed_is_told_before_anything_is_asked_for() {
    let bench = Bench::new(untouched);
    bench.apply(TWO, &[]);
    let changes = bench.changes();
    let wrong = TWO.replace("\"256M\"", "\"128M\"").replace("5000/500", "9").replace(
        "[channel.beta]\ntenant = \"acme\"",
        "[channel.beta]\ntenant = \"other\"\nblock_size = 4096",
    );
    let done = bench.apply(&wrong, &["--prune"]);
    for said in ["alpha: 256M -> 128M loses", "beta: tenant is acme", "beta: block_size is 512"] {
        assert!(done.err.contains(said), "{said} is missing in {}", done.err);
    }
    assert_eq!((done.code, bench.changes()), (1, changes));
}

#[test]
fn what_a_policy_makes_otherwise_is_told() {
    let bench = Bench::new(|method, model| {
        if let (Method::ChannelList(_), Some(alpha)) = (method, model.channels.get_mut("alpha")) {
            alpha.guarantees.share = Some(50);
        }
        Ok(())
    });
    let done = bench.apply(TWO, &[]);
    assert!(done.out.contains("\nremains    ~ tune alpha: share 50 -> none\n"), "{}", done.out);
    assert_eq!(done.code, 0);
}

#[test]
fn a_script_reads_plan_and_results() {
    let bench = Bench::new(|method, _| match method {
        Method::ChannelCreate(_) => Err(RpcError::new(ErrorCode::Denied, "not today")),
        _ => Ok(()),
    });
    let done = bench.apply(TWO, &["--json"]);
    let read = done.json();
    let outcomes: Vec<_> = read["steps"].as_array().unwrap().iter().map(|step| &step["outcome"]).collect();
    assert_eq!(outcomes, ["done", "failed", "not_begun", "not_begun"]);
    assert_eq!(read["steps"][1]["method"], "channel.create");
    assert_eq!(read["steps"][1]["params"]["guarantees"], json!({"ops": {"per_second": 5000, "burst": 500}}));
    assert_eq!(read["steps"][1]["error"]["message"], "not today");
    assert_eq!(done.code, 5);
}

#[test]
fn a_file_that_says_what_there_is_not_is_refused_without_a_daemon() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("disks.toml");
    std::fs::write(&file, TWO.replace("queues", "queus")).unwrap();
    let done = run(&directory.path().join("nobody"), &["apply", file.to_str().unwrap()]);
    assert_eq!(done.code, 2);
    assert!(done.err.contains("unknown field `queus`"), "{}", done.err);
}
