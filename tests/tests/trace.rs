//! What the monitor, which every daemon of these tests is held against, says of a real record in which a line is not as it was.

use vfiomux_manager::monitor::{Monitor, Violation};
use vfiomux_rpc::{Event, EventKind, ObjectKind};
use vfiomux_tests::daemon::Vfiomuxd;
use vfiomux_tests::trace;

/// What a daemon records of a channel that is made, attached, suspended, resumed and destroyed beside another.
fn recorded() -> Vec<Event> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let daemon = Vfiomuxd::start(directory.path(), &["sim:nvme,size=64M"]);
    for name in ["disk", "neighbour"] {
        daemon.create_channel(name, "sim0", "acme", 8, 1);
    }
    for verb in ["suspend", "resume", "detach", "destroy"] {
        daemon.ctl(&["channel", verb, "disk"]);
    }
    let events = trace::recorded(&daemon.control()).expect("it runs");
    daemon.terminate();
    events
}

/// Whether a line tells of a step of `disk`.
fn is_step(event: &Event) -> bool {
    (event.object.kind, event.object.name.as_str(), event.kind)
        == (ObjectKind::Channel, "disk", EventKind::Oper)
}

/// A record in which nothing is missing, by its numbers.
fn numbered(mut events: Vec<Event>) -> Vec<Event> {
    for (seq, event) in (1..).zip(&mut events) {
        event.seq = seq;
    }
    events
}

/// L1: what a daemon has recorded follows, and does not with any one step left out, or any told the wrong way round.
#[test]
fn one_line_that_is_not_as_it_was_is_found_in_a_whole_record() {
    let events = recorded();
    assert_eq!(Monitor::check(&events), Ok(()));
    let steps: Vec<usize> = (0..events.len()).filter(|&at| is_step(&events[at])).collect();
    assert!(steps.len() >= 9, "{events:#?}");
    let caught = |at: usize, what: &str, altered: Vec<Event>| match Monitor::check(&numbered(altered)) {
        Err(Violation::Channel { name, .. }) => assert_eq!(name, "disk"),
        other => panic!("{what}: {other:?}\n{:#?}", events[at]),
    };
    // Nothing comes before the first, which whoever comes late does without, and nothing after the last.
    for &at in &steps[1..steps.len() - 1] {
        let mut without = events.clone();
        without.remove(at);
        assert!(matches!(Monitor::check(&without), Err(Violation::Numbers { .. })));
        caught(at, "a step that is left out", without);
    }
    for &at in &steps {
        let mut turned = events.clone();
        let Event { from, to, .. } = &mut turned[at];
        std::mem::swap(from, to);
        caught(at, "a step back", turned);
    }
}
