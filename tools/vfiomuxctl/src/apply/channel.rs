//! From what a channel is to what it is to be.

use vfiomux_rpc::{Admin, ChannelInfo, Guarantees, Oper, call};

use super::desired::DesiredChannel;
use super::plan::{Obstacle, Options};
use super::step::{Act, Step};
use super::words;

/// What the daemon carves devices in: it rounds sizes up to whole ones.
pub(super) const ALLOCATION_UNIT_BYTES: u64 = 1 << 20;

/// The steps that make a channel: it is created, and then suspended when it is to stand still.
pub(super) fn creation(name: &str, desired: &DesiredChannel) -> Vec<Step> {
    let DesiredChannel { tenant, device, queues, .. } = desired;
    let plural = if *queues == 1 { "" } else { "s" };
    let mut why =
        format!("{} on {device} for {tenant}, {queues} queue{plural}", words::size(desired.size_bytes));
    if let Some(endpoint) = &desired.endpoint {
        why.push_str(&format!(", at {}", words::endpoint(endpoint)));
    }
    let create = call::ChannelCreate {
        name: name.to_owned(),
        device: device.clone(),
        tenant: tenant.clone(),
        size_bytes: desired.size_bytes,
        queues: *queues,
        endpoint: desired.endpoint.clone(),
        namespace: None,
        block_bytes: desired.block_bytes,
        read_only: desired.read_only,
        guarantees: desired.guarantees,
        labels: desired.labels.clone(),
    };
    let step = |act, why| Step { act, why, planned_generation: None, gives_room: false };
    let mut steps = vec![step(Act::Create(create), why)];
    if desired.suspended {
        let suspend = call::ChannelSuspend { name: name.to_owned() };
        steps.push(step(Act::Suspend(suspend), "it is to stand still".to_owned()));
    }
    steps
}

/// The steps that change a channel, in an order that the daemon takes: it resumes first when it must, lets go of its endpoint when
/// its guest would see a difference, gives up before it asks for more, and is attached and suspended last.
pub(super) fn changes(
    desired: &DesiredChannel,
    actual: &ChannelInfo,
    options: Options,
) -> Result<Vec<Step>, Vec<Obstacle>> {
    let differs = Differences::between(desired, actual);
    let steps = differs.steps(desired, actual);
    let obstacles = differs.obstacles(desired, actual, &steps, options);
    if obstacles.is_empty() { Ok(steps) } else { Err(obstacles) }
}

/// What of a channel is not as it is to be, and what follows for its state.
struct Differences {
    /// What a guest looks at once.
    seen: bool,
    labels: bool,
    guarantees: bool,
    device: bool,
    shrinks: bool,
    grows: bool,
    resume: bool,
    detach: bool,
    attach: bool,
    suspend: bool,
}

impl Differences {
    fn between(desired: &DesiredChannel, actual: &ChannelInfo) -> Self {
        let size_bytes = desired.size_bytes.checked_next_multiple_of(ALLOCATION_UNIT_BYTES);
        let size_bytes = size_bytes.unwrap_or(u64::MAX);
        let seen = desired.queues != actual.queues || desired.read_only != actual.read_only;
        let elsewhere = desired.endpoint != actual.endpoint;
        let detach = actual.endpoint.is_some() && (elsewhere || seen);
        let attach = desired.endpoint.is_some() && (elsewhere || seen);
        let stands = actual.admin == Admin::Suspended;
        // A suspended channel neither gives its endpoint away nor gets one.
        let resume = stands && (!desired.suspended || detach || attach || seen);
        Self {
            seen,
            labels: desired.labels != actual.labels,
            guarantees: desired.guarantees != actual.guarantees,
            device: !same_device(&desired.device, &actual.device),
            shrinks: size_bytes < actual.size_bytes,
            grows: size_bytes > actual.size_bytes,
            resume,
            detach,
            attach,
            suspend: desired.suspended && (!stands || resume),
        }
    }

    fn steps(&self, desired: &DesiredChannel, actual: &ChannelInfo) -> Vec<Step> {
        let name = || actual.name.clone();
        let mut steps = Vec::new();
        let mut add = |act, why: String, gives_room| {
            steps.push(Step { act, why, planned_generation: Some(actual.generation), gives_room });
        };
        if self.resume {
            let why = if desired.suspended { "so that it can be changed" } else { "it is to serve" };
            add(Act::Resume(call::ChannelResume { name: name() }), why.to_owned(), false);
        }
        if let Some(endpoint) = actual.endpoint.as_ref().filter(|_| self.detach) {
            let why = if self.seen { ", for what a guest looks at once" } else { "" };
            let why = format!("from {}{why}", words::endpoint(endpoint));
            add(Act::Detach(call::ChannelDetach { name: name() }), why, false);
        }
        if self.seen || self.labels {
            let (set, why) = setting(desired, actual);
            add(Act::Set(set), why, false);
        }
        let gives_up = reserved(&desired.guarantees) < reserved(&actual.guarantees);
        let tune = || Act::Tune(call::ChannelTune { name: name(), guarantees: desired.guarantees });
        let tuned = || words::guarantees(&actual.guarantees, &desired.guarantees);
        if self.guarantees && gives_up {
            add(tune(), tuned(), true);
        }
        let resize = || Act::Resize(call::ChannelResize { name: name(), size_bytes: desired.size_bytes });
        let resized = || format!("{} -> {}", words::size(actual.size_bytes), words::size(desired.size_bytes));
        if self.shrinks {
            add(resize(), format!("{}, what lies beyond is lost", resized()), true);
        }
        if self.device {
            let device = Some(desired.device.clone());
            let step = call::ChannelMove { name: name(), sidecore: None, device };
            // It leaves room behind, but where it goes it needs some: neither holds for the whole host.
            add(Act::Move(step), format!("device {} -> {}", actual.device, desired.device), false);
        }
        if self.grows {
            add(resize(), resized(), false);
        }
        if self.guarantees && !gives_up {
            add(tune(), tuned(), false);
        }
        if let Some(endpoint) = desired.endpoint.as_ref().filter(|_| self.attach) {
            let attach = call::ChannelAttach { name: name(), endpoint: endpoint.clone() };
            add(Act::Attach(attach), format!("at {}", words::endpoint(endpoint)), false);
        }
        if self.suspend {
            let why = "it is to stand still".to_owned();
            add(Act::Suspend(call::ChannelSuspend { name: name() }), why, false);
        }
        steps
    }

    fn obstacles(
        &self,
        desired: &DesiredChannel,
        actual: &ChannelInfo,
        steps: &[Step],
        options: Options,
    ) -> Vec<Obstacle> {
        let channel = || actual.name.clone();
        let mut found = Vec::new();
        let mut fixed = |what, has: String, wanted: String| {
            if has != wanted {
                found.push(Obstacle::Fixed { channel: channel(), what, has, wanted });
            }
        };
        fixed("tenant", actual.tenant.clone(), desired.tenant.clone());
        let block_bytes = desired.block_bytes.unwrap_or(actual.block_bytes);
        fixed("block_size", actual.block_bytes.to_string(), block_bytes.to_string());
        if self.shrinks && !options.shrink {
            let (from, to) = (words::size(actual.size_bytes), words::size(desired.size_bytes));
            found.push(Obstacle::Shrink { channel: channel(), from, to });
        }
        if self.seen && actual.session.is_some() && desired.endpoint == actual.endpoint {
            found.push(Obstacle::Guest { channel: channel() });
        }
        let steady =
            matches!(actual.oper, Oper::Provisioned | Oper::Listening | Oper::Active | Oper::Suspended);
        if !steady && !steps.is_empty() {
            found.push(Obstacle::State { channel: channel(), oper: actual.oper });
        }
        found
    }
}

fn setting(desired: &DesiredChannel, actual: &ChannelInfo) -> (call::ChannelSet, String) {
    let queues = (desired.queues != actual.queues).then_some(desired.queues);
    let read_only = (desired.read_only != actual.read_only).then_some(desired.read_only);
    let labels = (desired.labels != actual.labels).then(|| desired.labels.clone());
    let why = [
        queues.map(|queues| format!("queues {} -> {queues}", actual.queues)),
        read_only.map(|read_only| format!("read_only {} -> {read_only}", actual.read_only)),
        labels.as_ref().map(|labels| words::labels(&actual.labels, labels)),
    ];
    let why = why.into_iter().flatten().collect::<Vec<_>>().join(", ");
    let name = actual.name.clone();
    (call::ChannelSet { name, labels, queues, read_only, ..call::ChannelSet::default() }, why)
}

fn reserved(guarantees: &Guarantees) -> u64 {
    guarantees.reservation_ops.unwrap_or(0)
}

/// Whether a device as written is the one that the daemon calls `name`: a PCI address can go without its domain.
fn same_device(written: &str, name: &str) -> bool {
    written.eq_ignore_ascii_case(name) && name.contains(':')
        || written == name
        || name.strip_prefix("0000:").is_some_and(|rest| rest.eq_ignore_ascii_case(written))
}
