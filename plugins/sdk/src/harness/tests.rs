use std::collections::BTreeMap;

use super::*;
use crate::abi::Setting;
use crate::{
    Amendments, Channel, ChannelTelemetry, Device, Guarantees, Host, Objective, RateLimit, Retunes, Tenant,
};

/// Answers with all that it was asked, so that a test sees what crossed.
struct Mirror {
    seen: String,
    host: Host,
}

impl Mirror {
    fn see(&mut self, request: &impl std::fmt::Debug) -> Verdict {
        self.seen = format!("{request:?}");
        Verdict::Allow
    }
}

impl Policy for Mirror {
    fn init(request: &InitRequest, host: &Host) -> Result<Self, String> {
        if request.configuration == "bad" {
            return Err("it is bad".to_owned());
        }
        host.info(format!("minor {}", host.minor()));
        Ok(Self { seen: String::new(), host: host.clone() })
    }

    fn discover(&mut self, request: &DiscoverRequest) -> Verdict {
        self.see(request)
    }

    fn claim(&mut self, request: &ClaimRequest) -> Verdict {
        self.see(request)
    }

    fn create(&mut self, request: &CreateRequest) -> Verdict {
        match request.channel.name.as_str() {
            "panic" => panic!("on purpose"),
            "amend" => Amendments::none().share(7).reservation_ops(9).into(),
            "many" => (0..65).fold(Amendments::none(), |all, _| all.share(1)).into(),
            _ => self.see(request),
        }
    }

    fn attach(&mut self, request: &AttachRequest) -> Verdict {
        self.see(request)
    }

    fn session(&mut self, request: &SessionRequest) -> Verdict {
        self.see(request)
    }

    fn tune(&mut self, request: &TuneRequest) -> Verdict {
        self.see(request)
    }

    fn tick(&mut self, request: &TickRequest, retunes: &mut Retunes) {
        let _ = self.see(request);
        for telemetry in &request.channels {
            retunes.set(&telemetry.channel, Amendments::none().share(5));
        }
        assert!(request.unix_seconds != 13, "an unlucky second");
    }

    fn pressure(&mut self, request: &PressureRequest, _: &mut Retunes) {
        let _ = self.see(request);
    }

    fn fault(&mut self, request: &FaultRequest, retunes: &mut Retunes) -> Verdict {
        if let Some(channel) = &request.channel {
            retunes.set(channel, Amendments::none().share(1));
        }
        self.see(request)
    }

    fn migrate(&mut self, request: &MigrateRequest) -> Verdict {
        self.see(request)
    }

    fn destroy(&mut self, request: &DestroyRequest) -> Verdict {
        self.see(request)
    }

    fn save(&self) -> Option<Vec<u8>> {
        Some(self.seen.clone().into_bytes())
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), String> {
        self.seen = String::from_utf8(state.to_vec()).map_err(|_| "it is no text".to_owned())?;
        Ok(())
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.host.info("gone");
    }
}

fn mirror() -> Harness {
    Harness::start::<Mirror>("").expect("it takes any configuration but one")
}

fn seen(harness: &mut Harness) -> String {
    String::from_utf8(harness.save().expect("it always has something")).expect("it saves text")
}

fn rate(per_second: u64) -> Option<RateLimit> {
    Some(RateLimit { per_second, burst: Some(per_second * 2) })
}

/// A channel in which no two numbers are the same.
fn channel() -> Channel {
    Channel {
        id: "3f6c".to_owned(),
        name: "disk-a".to_owned(),
        tenant: "acme".to_owned(),
        device: "sim0".to_owned(),
        size_bytes: 1,
        queues: 2,
        read_only: true,
        generation: 3,
        labels: BTreeMap::from([("tier".into(), "gold".into()), ("for".into(), "ä db".into())]),
        guarantees: Guarantees {
            ops: rate(10),
            bytes: rate(11),
            read_ops: rate(12),
            read_bytes: rate(13),
            write_ops: rate(14),
            write_bytes: Some(RateLimit { per_second: 15, burst: None }),
            reservation_ops: 16,
            share: Some(17),
            objective: Some(Objective { permille: 990, latency_ns: 18 }),
        },
    }
}

fn device() -> Device {
    Device {
        name: "sim0".to_owned(),
        queues_max: 30,
        capacity_bytes: 31,
        free_bytes: 32,
        calibrated_ops: 33,
        reservation_ops_left: 34,
        channels: 35,
    }
}

fn tenant() -> Tenant {
    Tenant { name: "acme".to_owned(), channels: 40, size_bytes: 41, reservation_ops: 42 }
}

fn telemetry() -> ChannelTelemetry {
    ChannelTelemetry {
        channel: channel(),
        active: true,
        ops: 50,
        read_ops: 51,
        write_ops: 52,
        bytes: 53,
        read_bytes: 54,
        write_bytes: 55,
        latency_p50_ns: 56,
        latency_p99_ns: 57,
        latency_p999_ns: 58,
        throttle_ns: 59,
        reservation_shortfall_ops: 60,
        queue_wait_ns: 61,
    }
}

/// One of each, with every field filled.
fn every_question() -> Vec<Question> {
    let (caller_uid, dry_run) = (1000, true);
    vec![
        Question::Discover(DiscoverRequest {
            device: "0000:03:00.0".to_owned(),
            driver: "nvme".to_owned(),
            vendor_id: 70,
            device_id: 71,
            class_code: 72,
        }),
        Question::Claim(ClaimRequest {
            device: "0000:03:00.0".to_owned(),
            unprotected: true,
            caller_uid,
            dry_run,
        }),
        Question::Create(CreateRequest {
            channel: channel(),
            device: device(),
            tenant: tenant(),
            caller_uid,
            dry_run,
        }),
        Question::Attach(AttachRequest {
            channel: channel(),
            endpoint: "/run/a.sock".to_owned(),
            client: true,
            caller_uid,
            dry_run,
        }),
        Question::Session(SessionRequest {
            channel: channel(),
            features_offered: 80,
            features_taken: 81,
            memory_bytes: 82,
            memory_regions: 83,
            peer_pid: 84,
            peer_uid: 85,
        }),
        Question::Tune(TuneRequest {
            channel: channel(),
            wanted: Channel { size_bytes: 99, ..channel() },
            device: device(),
            tenant: tenant(),
            caller_uid,
            dry_run,
        }),
        Question::Tick(TickRequest {
            unix_seconds: 90,
            period_ns: 91,
            channels: vec![telemetry(), ChannelTelemetry::default()],
        }),
        Question::Pressure(PressureRequest {
            kind: crate::PressureKind::DEVICE,
            subject: "sim0".to_owned(),
            level_permille: 92,
            channels: vec![telemetry()],
        }),
        Question::Fault(FaultRequest {
            kind: crate::FaultKind::CHANNEL,
            device: "sim0".to_owned(),
            description: "a ring makes no sense".to_owned(),
            channel: Some(channel()),
        }),
        Question::Migrate(MigrateRequest {
            channel: channel(),
            target: Some(device()),
            target_host: "elsewhere".to_owned(),
            tenant: tenant(),
            caller_uid,
            dry_run,
        }),
        Question::Destroy(DestroyRequest { channel: channel(), force: true, caller_uid, dry_run }),
    ]
}

#[test]
fn all_that_is_asked_arrives() {
    let mut harness = mirror();
    for question in every_question() {
        harness.ask(&question);
        let asked = format!("{question:?}");
        assert!(asked.ends_with(&format!("({})", seen(&mut harness))), "{asked}\n{}", seen(&mut harness));
    }
}

#[test]
fn a_recording_says_what_was_asked() {
    let lines: String = every_question().iter().map(|question| question.to_line() + "\n").collect();
    let recording = Recording::read(format!("# all\n\n{lines}").as_bytes()).expect("it was just written");
    assert!(recording.questions().eq(&every_question()));
    let exchanges = mirror().replay(&recording);
    assert_eq!(exchanges.len(), 11);
    assert_eq!(exchanges[0].line, 3);
    assert_eq!(exchanges[6].answer.retunes.len(), 2);
}

#[test]
fn a_line_that_is_no_question_is_named() {
    for line in ["{\"creat\": {}}", "{\"create\": {\"chanel\": {}}}", "nonsense"] {
        let error = Recording::read(format!("{{\"claim\": {{}}}}\n{line}").as_bytes()).unwrap_err();
        assert!(matches!(error, RecordingError::Line { line: 2, .. }), "{error}");
    }
}

#[test]
fn a_panic_is_a_denial_and_the_policy_goes_on() {
    let mut harness = mirror();
    let named = |name: &str| CreateRequest {
        channel: Channel { name: name.to_owned(), ..channel() },
        ..CreateRequest::default()
    };
    assert_eq!(harness.create(&named("panic")), Verdict::deny("the policy panicked: on purpose"));
    assert_eq!(harness.create(&named("plain")), Verdict::Allow);
}

#[test]
fn a_panic_gives_nobody_new_guarantees() {
    let mut harness = mirror();
    let tick = |unix_seconds| TickRequest { unix_seconds, period_ns: 1, channels: vec![telemetry()] };
    assert!(harness.tick(&tick(13)).is_empty());
    let [retune] = &harness.tick(&tick(14))[..] else { panic!("one channel, one retune") };
    assert_eq!((retune.channel_id.as_str(), retune.generation), ("3f6c", 3));
    assert!(harness.log().iter().any(|line| line.line.contains("an unlucky second")));
}

#[test]
fn amendments_arrive_in_order() {
    let channel = Channel { name: "amend".to_owned(), ..channel() };
    let verdict = mirror().create(&CreateRequest { channel, ..CreateRequest::default() });
    let Verdict::Amend(amendments) = verdict else { panic!("{verdict:?}") };
    let settings: Vec<_> = amendments.as_slice().iter().map(|amendment| amendment.setting).collect();
    assert_eq!(settings, [Setting::SHARE, Setting::RESERVATION_OPS]);
}

#[test]
fn more_amendments_than_are_taken_deny() {
    let channel = Channel { name: "many".to_owned(), ..channel() };
    let verdict = mirror().create(&CreateRequest { channel, ..CreateRequest::default() });
    assert_eq!(verdict, Verdict::deny("the policy amends more than the host takes"));
}

#[test]
fn a_refused_configuration_says_why() {
    let error = Harness::start::<Mirror>("bad").unwrap_err();
    assert_eq!(error.to_string(), "the policy refuses its configuration: it is bad");
}

#[test]
fn state_goes_from_one_to_the_next() {
    let mut old = mirror();
    old.claim(&ClaimRequest::default());
    let state = old.save().expect("it has seen something");
    let mut new = mirror();
    assert_eq!(new.restore(&state), Ok(()));
    assert_eq!(new.save(), Some(state));
    assert_eq!(new.restore(&[0xff]), Err("it is no text".to_owned()));
}

#[test]
fn what_is_left_out_allows() {
    struct Silent;
    impl Policy for Silent {
        fn init(_: &InitRequest, _: &Host) -> Result<Self, String> {
            Ok(Self)
        }
    }
    let mut harness = Harness::start::<Silent>("").expect("it takes anything");
    for question in every_question() {
        let answer = harness.ask(&question);
        assert!(matches!(answer.verdict, None | Some(Verdict::Allow)) && answer.retunes.is_empty());
    }
    assert_eq!(harness.save(), None);
}
