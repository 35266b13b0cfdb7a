use vfiomux_plugin::harness::{Question, Recording};

use super::*;
use crate::tests::channel;
use crate::wire::Call;
use crate::{
    Amendment, Attach, Channel, Claim, Create, Destroy, Device, Discover, Fault, FaultKind, Function,
    Guarantees, Migrate, Objective, PluginHost, PluginSpec, Policy, Pressure, PressureKind, RateLimit,
    Retune, Sample, Session, Setting, Telemetry, Tenant, Tick, Tune, Verdict,
};

/// A channel with something in each field.
fn full() -> Channel {
    let limit = |per_second| Some(RateLimit { per_second, burst: Some(2) });
    let guarantees = Guarantees {
        ops: limit(1),
        bytes: limit(3),
        read_ops: limit(4),
        read_bytes: limit(5),
        write_ops: limit(6),
        write_bytes: Some(RateLimit { per_second: 7, burst: None }),
        reservation_ops: Some(8),
        share: Some(9),
        objective: Some(Objective { permille: 999, latency_ns: 10 }),
    };
    let labels = [("tier".to_owned(), "gold".to_owned())].into();
    Channel { read_only: true, generation: 11, guarantees, labels, ..channel() }
}

fn device() -> Device {
    Device {
        name: "sim0".to_owned(),
        capacity_bytes: 21,
        free_bytes: 22,
        queues_max: 23,
        calibrated_ops: Some(24),
        free_reservation_ops: 25,
        channels: 26,
    }
}

fn samples() -> Vec<Sample> {
    let telemetry = Telemetry {
        active: true,
        read_ops: 31,
        write_ops: 32,
        read_bytes: 33,
        write_bytes: 34,
        latency_p50_ns: 35,
        latency_p99_ns: 36,
        latency_p999_ns: 37,
        throttle_ns: 38,
        reservation_shortfall_ops: 39,
        queue_wait_ns: 40,
    };
    vec![Sample { channel: full(), telemetry }, Sample::default()]
}

/// One of each question, and one of each without what may be missing.
fn calls() -> Vec<Call> {
    let function = Function {
        name: "0000:03:00.0".to_owned(),
        vendor_id: 0x144d,
        device_id: 0xa808,
        class_code: 0x01_0802,
        driver: "nvme".to_owned(),
    };
    let tenant = Tenant { name: "acme".to_owned(), channels: 51, size_bytes: 52, reservation_ops: 53 };
    let (caller_uid, dry_run) = (1000, true);
    let endpoint = "/run/disk-a.sock".to_owned();
    let create = |channel| Create { channel, device: device(), tenant: tenant.clone(), caller_uid, dry_run };
    let migrate = |target| Migrate {
        channel: full(),
        target,
        target_host: "elsewhere".to_owned(),
        tenant: tenant.clone(),
        caller_uid,
        dry_run,
    };
    let fault = |kind, channel| Fault {
        kind,
        device: "sim0".to_owned(),
        channel,
        description: "it burns".to_owned(),
    };
    vec![
        Call::Discover(Discover { function: function.clone() }),
        Call::Claim(Claim { function, unprotected: true, caller_uid, dry_run }),
        Call::Create(create(full())),
        Call::Create(create(Channel::default())),
        Call::Attach(Attach { channel: full(), endpoint, client: true, caller_uid, dry_run }),
        Call::Session(Session {
            channel: full(),
            features_offered: u64::MAX,
            features_taken: 61,
            memory_regions: 62,
            memory_bytes: 63,
            peer_pid: 64,
            peer_uid: 65,
        }),
        Call::Tune(Box::new(Tune {
            channel: channel(),
            wanted: full(),
            device: device(),
            tenant: tenant.clone(),
            caller_uid,
            dry_run,
        })),
        Call::Migrate(migrate(Some(device()))),
        Call::Migrate(migrate(None)),
        Call::Destroy(Destroy { channel: full(), force: true, caller_uid, dry_run }),
        Call::Tick(Tick { unix_seconds: 71, period_ns: 72, channels: samples() }),
        Call::Pressure(Pressure {
            kind: PressureKind::Memory,
            level_permille: 73,
            subject: "1".to_owned(),
            channels: samples(),
        }),
        Call::Fault(fault(FaultKind::FrontEnd, Some(full()))),
        Call::Fault(fault(FaultKind::DeviceLost, None)),
    ]
}

/// The SDK reads each question, to the last field: what it would write itself has the same in it.
#[test]
fn what_is_noted_is_what_the_sdk_reads() {
    for call in calls() {
        let line = asked(&call);
        let recording = Recording::read(line.as_bytes()).unwrap_or_else(|error| panic!("{line}: {error:?}"));
        let [question] = recording.questions().collect::<Vec<_>>()[..] else { panic!("{line}") };
        let (ours, theirs) = (value(&line), value(&Question::to_line(question)));
        assert!(holds(&theirs, &ours), "{ours:#}\nis read as\n{theirs:#}");
    }
}

fn value(line: &str) -> serde_json::Value {
    serde_json::from_str(line).unwrap()
}

/// Whether everything that `ours` says is in `theirs`. What the SDK leaves out is empty.
fn holds(theirs: &serde_json::Value, ours: &serde_json::Value) -> bool {
    let empty = |value: &serde_json::Value| {
        value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty)
    };
    match (theirs, ours) {
        (serde_json::Value::Object(theirs), serde_json::Value::Object(ours)) => ours
            .iter()
            .all(|(key, value)| theirs.get(key).map_or(empty(value), |theirs| holds(theirs, value))),
        (serde_json::Value::Array(theirs), serde_json::Value::Array(ours)) => {
            theirs.len() == ours.len() && theirs.iter().zip(ours).all(|(theirs, ours)| holds(theirs, ours))
        }
        (theirs, ours) => theirs == ours,
    }
}

#[test]
fn answers_say_nothing_to_a_harness() {
    let amendments = vec![Amendment { setting: Setting::SHARE, value: 7 }];
    let retune = Retune { channel_id: "8f0c".to_owned(), generation: 3, amendments: amendments.clone() };
    let lines = [
        answered(&Verdict::Allow),
        answered(&Verdict::deny("no more")),
        answered(&Verdict::Amend(amendments)),
        answered(&Verdict::Unanswered { why: "it sleeps".to_owned() }),
        retuned(&Ok(vec![retune])),
        retuned(&Err("it sleeps".to_owned())),
    ];
    assert_eq!(lines[1..3], ["# deny: no more", "# share=7"]);
    assert_eq!(lines[4..], ["# 1 retunes; 8f0c at 3: share=7", "# no answer: it sleeps"]);
    assert_eq!(Recording::read(lines.join("\n").as_bytes()).unwrap().questions().count(), 0);
}

/// Who wants nothing and who says nothing are told apart, also where both leave everything as it is.
#[test]
fn a_plugin_that_does_not_answer_is_not_noted_as_one_that_wants_nothing() {
    let mut host = PluginHost::refused(PluginSpec::new("p", "/p.so"), "it is of another build");
    host.recorder().unwrap().excerpt(None, Instant::now());
    let tick = Tick { unix_seconds: 1, period_ns: 2, channels: Vec::new() };
    assert_eq!(host.tick(&tick), []);
    let heard = host.recorder().unwrap().excerpt(Some(0), Instant::now());
    let answer = heard.lines.last().unwrap();
    assert!(answer.starts_with("# no answer: ") && answer.contains("another build"), "{answer}");
}

fn noting(recorder: &mut Recorder, count: u64) {
    (0..count).for_each(|_| {
        let number = recorder.last + 1;
        recorder.note(|| format!("line {number}"));
    });
}

#[test]
fn nothing_is_kept_while_nobody_listens() {
    let mut recorder = Recorder::default();
    recorder.note(|| panic!("nobody wants it"));
    assert_eq!(
        recorder.excerpt(Some(0), Instant::now()),
        Excerpt { missed: 1, last: 1, ..Excerpt::default() }
    );
}

#[test]
fn who_listens_hears_everything_once_and_in_order() {
    let (mut recorder, now) = (Recorder::default(), Instant::now());
    noting(&mut recorder, 2);
    assert_eq!(recorder.excerpt(None, now), Excerpt { last: 2, ..Excerpt::default() });
    noting(&mut recorder, 3);
    let heard = recorder.excerpt(Some(2), now);
    assert_eq!((heard.lines.len(), heard.missed, heard.last), (3, 0, 5));
    assert_eq!(heard.lines[0], "line 3");
    assert_eq!(recorder.excerpt(Some(5), now), Excerpt { last: 5, ..Excerpt::default() });
    // A number that has not been given out yet is the last one.
    assert_eq!(recorder.excerpt(Some(99), now).last, 5);
}

#[test]
fn who_went_away_is_forgotten_with_all_that_was_kept() {
    let (mut recorder, now) = (Recorder::default(), Instant::now());
    recorder.excerpt(None, now);
    noting(&mut recorder, 3);
    let heard = recorder.excerpt(Some(0), now + LISTENS);
    assert_eq!((heard.lines.len(), heard.missed, heard.last), (0, 3, 3));
}

#[test]
fn memory_is_bounded_and_so_is_what_is_given_at_once() {
    let (mut recorder, now) = (Recorder::default(), Instant::now());
    recorder.excerpt(None, now);
    let line = "x".repeat(EXCERPT_BYTES_MAX / 2);
    let count = 2 * KEPT_BYTES_MAX / line.len() + 5;
    (0..count).for_each(|_| recorder.note(|| line.clone()));
    assert!(recorder.bytes <= KEPT_BYTES_MAX);
    let heard = recorder.excerpt(Some(0), now);
    assert_eq!((heard.lines.len(), heard.missed), (2, count as u64 - recorder.lines.len() as u64));
    recorder.note(|| "x".repeat(3 * EXCERPT_BYTES_MAX));
    let long = recorder.excerpt(Some(recorder.last - 1), now);
    assert_eq!(long.lines.len(), 1, "a line that is longer comes by itself");
}
