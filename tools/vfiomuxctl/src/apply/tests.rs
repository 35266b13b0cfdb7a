//! Plans against a model of the daemon: what is carried out gives what was wanted, whatever was there.

#[path = "../../tests/daemon/model.rs"]
mod model;
mod properties;

use vfiomux_rpc::{
    Admin, Change, ChannelInfo, ChannelKind, Counters, Guarantees, Health, Kept, Labels, Latency, Method,
    Objective, Oper, RateLimit, Reasons, SessionInfo,
};

use self::model::Model;
use super::channel::ALLOCATION_UNIT_BYTES;
use super::desired::Desired;
use super::plan::{Obstacle, Options, Plan, plan};
use super::step::{Act, Step};

const EVERYTHING: Options = Options { prune: true, shrink: true };

fn template() -> ChannelInfo {
    ChannelInfo {
        name: String::new(),
        id: String::new(),
        kind: ChannelKind::Block,
        tenant: String::new(),
        device: String::new(),
        namespace: 1,
        size_bytes: 0,
        block_bytes: 512,
        queues: 1,
        read_only: false,
        guarantees: Guarantees::default(),
        labels: Labels::default(),
        serial: None,
        endpoint: None,
        admin: Admin::Enabled,
        oper: Oper::Provisioned,
        health: Health::Ok,
        reasons: Reasons::default(),
        generation: 1,
        epoch: 1,
        session: None,
        sidecore: Some(0),
        plan: None,
        extents: vec![],
        counters: Counters::default(),
        latency: Latency::default(),
        kept: Kept::default(),
    }
}

fn method(act: Act) -> Method {
    match act {
        Act::Destroy(call) => Method::ChannelDestroy(call),
        Act::TuneTenant(call) => Method::TenantTune(call),
        Act::Resume(call) => Method::ChannelResume(call),
        Act::Detach(call) => Method::ChannelDetach(call),
        Act::Set(call) => Method::ChannelSet(call),
        Act::Tune(call) => Method::ChannelTune(call),
        Act::Resize(call) => Method::ChannelResize(call),
        Act::Move(call) => Method::ChannelMove(call),
        Act::Attach(call) => Method::ChannelAttach(call),
        Act::Suspend(call) => Method::ChannelSuspend(call),
        Act::Create(call) => Method::ChannelCreate(call),
    }
}

fn plan_for(model: &Model, desired: &Desired, options: Options) -> Result<Plan, Vec<Obstacle>> {
    let channels: Vec<_> = model.channels.values().cloned().collect();
    let tenants: Vec<_> = model.tenants.values().cloned().collect();
    plan(desired, &channels, &tenants, options)
}

/// Carries out the steps of a plan, none of which may be refused.
fn carry_out(model: &mut Model, plan: Plan) {
    for step in plan.steps {
        let line = step.to_string();
        model.answer(&method(step.act), &Change::default()).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
}

fn made(text: &str) -> (Model, Desired) {
    let desired = Desired::parse(text).unwrap();
    let mut model = Model::new(template());
    let plan = plan_for(&model, &desired, Options::default()).unwrap();
    carry_out(&mut model, plan);
    (model, desired)
}

fn lines(plan: &Plan) -> Vec<String> {
    plan.steps.iter().map(Step::to_string).collect()
}

/// Has a VM connected to a channel that waits for one.
fn connect(channel: &mut ChannelInfo) {
    if channel.endpoint.is_some() {
        channel.session = Some(SessionInfo::default());
        if channel.oper == Oper::Listening {
            channel.oper = Oper::Active;
        }
    }
}

/// A file with one channel, `more` being further lines of its table.
fn one(name: &str, size: &str, more: &str) -> String {
    format!("[channel.{name}]\ntenant = \"acme\"\ndevice = \"sim0\"\nsize = \"{size}\"\n{more}\n")
}

#[test]
fn a_file_is_read_in_the_words_of_the_command_line() {
    let more =
        "iops = \"5000/500\"\nbps = \"100M\"\nreserve = 800\nobjective = \"2ms@99.9\"\nblock_size = 4096";
    let desired = Desired::parse(&one("a", "256M", more)).unwrap();
    let channel = &desired.channels["a"];
    assert_eq!((channel.size_bytes, channel.queues, channel.block_bytes), (256 << 20, 1, Some(4096)));
    assert_eq!(
        channel.guarantees,
        Guarantees {
            ops: Some(RateLimit { per_second: 5000, burst: Some(500) }),
            bytes: Some(RateLimit { per_second: 100 << 20, burst: None }),
            reservation_ops: Some(800),
            objective: Some(Objective { permille: 999, latency_ns: 2_000_000 }),
            ..Guarantees::default()
        }
    );
}

#[test]
fn what_the_file_says_wrongly_is_refused_with_its_place() {
    for (more, said) in [
        ("weight = 5", "unknown field `weight`"),
        ("iops = \"many\"", "a rate is a whole number"),
        ("endpoint = \"a.sock\"", "write the absolute path"),
        ("bps = 1.5", "not a float"),
    ] {
        let refused = Desired::parse(&one("a", "1G", more)).unwrap_err();
        assert!(refused.contains(said) && refused.contains("line 5"), "{refused}");
    }
    assert!(Desired::parse("[chanel.a]").unwrap_err().contains("unknown field `chanel`"));
    assert!(Desired::parse("[tenant.a]\nshare = 5").unwrap_err().contains("unknown field `share`"));
}

#[test]
fn a_size_that_is_rounded_up_is_the_size_that_was_wanted() {
    assert_eq!(ALLOCATION_UNIT_BYTES, vfiomux_manager::label::GRAIN_BYTES);
    let (model, desired) = made(&one("a", "1000K", ""));
    assert_eq!(model.channels["a"].size_bytes, 1 << 20);
    assert_eq!(plan_for(&model, &desired, EVERYTHING).unwrap(), Plan::default());
}

#[test]
fn room_is_given_back_before_more_is_asked_for() {
    let three = one("a", "1G", "") + &one("b", "4G", "reserve = 900") + &one("old", "1G", "");
    let (model, _) = made(&three);
    let wanted = one("a", "3G", "reserve = 500") + &one("b", "2G", "reserve = 100") + &one("new", "1G", "");
    let plan = plan_for(&model, &Desired::parse(&wanted).unwrap(), EVERYTHING).unwrap();
    let verbs: Vec<String> =
        lines(&plan).iter().map(|line| line.split(':').next().unwrap().to_owned()).collect();
    assert_eq!(verbs, ["- destroy old", "~ tune b", "~ resize b", "~ resize a", "~ tune a", "+ create new"]);
}

#[test]
fn what_a_guest_has_looked_at_is_not_changed_under_it() {
    let (mut model, _) = made(&one("a", "1G", "endpoint = \"/run/a.sock\""));
    connect(model.channels.get_mut("a").unwrap());
    let wanted = |endpoint: &str| {
        Desired::parse(&one("a", "1G", &format!("endpoint = \"{endpoint}\"\nread_only = true"))).unwrap()
    };
    let refused = plan_for(&model, &wanted("/run/a.sock"), EVERYTHING).unwrap_err();
    assert_eq!(refused, [Obstacle::Guest { channel: "a".into() }]);
    // An endpoint that is taken away is what the file asks for.
    assert!(plan_for(&model, &wanted("/run/b.sock"), EVERYTHING).is_ok());
    let nothing = Desired::default();
    let refused = plan_for(&model, &nothing, EVERYTHING).unwrap_err();
    assert_eq!(refused, [Obstacle::InUse { channel: "a".into() }]);
}

#[test]
fn a_channel_in_quarantine_is_left_to_its_operator() {
    let (mut model, desired) = made(&one("a", "1G", ""));
    model.channels.get_mut("a").unwrap().oper = Oper::Quarantined;
    assert_eq!(plan_for(&model, &desired, EVERYTHING).unwrap(), Plan::default());
    let larger = Desired::parse(&one("a", "2G", "")).unwrap();
    let refused = plan_for(&model, &larger, EVERYTHING).unwrap_err();
    assert_eq!(refused, [Obstacle::State { channel: "a".into(), oper: Oper::Quarantined }]);
}

#[test]
fn a_channel_that_is_ending_is_neither_kept_nor_pruned() {
    let (mut model, desired) = made(&one("a", "1G", ""));
    model.channels.get_mut("a").unwrap().oper = Oper::Scrubbing;
    let refused = plan_for(&model, &desired, EVERYTHING).unwrap_err();
    assert_eq!(refused, [Obstacle::State { channel: "a".into(), oper: Oper::Scrubbing }]);
    assert_eq!(plan_for(&model, &Desired::default(), EVERYTHING).unwrap(), Plan::default());
}

#[test]
fn a_pci_address_without_its_domain_names_the_same_device() {
    let (mut model, mut desired) = made(&one("a", "1G", ""));
    model.channels.get_mut("a").unwrap().device = "0000:3b:00.0".to_owned();
    for written in ["3b:00.0", "3B:00.0", "0000:3B:00.0"] {
        desired.channels.get_mut("a").unwrap().device = written.to_owned();
        assert_eq!(plan_for(&model, &desired, EVERYTHING).unwrap(), Plan::default(), "{written}");
    }
}
