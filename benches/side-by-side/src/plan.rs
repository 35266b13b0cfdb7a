//! What is measured: groups of contenders and workloads.

use std::fmt::Write as _;

use vfiomux_load::Pattern;

use crate::arguments::Arguments;
use crate::contender::{Backing, Contender, Kind};
use crate::cores::Cores;
use crate::workload::Workload;

/// Depths at which random requests are made.
pub(crate) const DEPTHS: [u16; 4] = [1, 8, 32, 128];
/// Numbers of guests on one sidecore.
pub(crate) const GUESTS: [usize; 5] = [1, 4, 16, 64, 200];
/// The group in which they are.
pub(crate) const GUESTS_GROUP: &str = "guests";
/// Sessions that do nothing.
pub(crate) const IDLE_SESSIONS: usize = 100;
/// Requests a second that leave a server time to sleep.
const RATE_PER_S: u32 = 500;

/// Contenders that are alive together and measured in turn.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    pub(crate) name: &'static str,
    pub(crate) contenders: Vec<Contender>,
    /// Disks that each contender is started with.
    pub(crate) disks: usize,
    pub(crate) work: Work,
}

/// What is done with the contenders.
#[derive(Debug, Clone)]
pub(crate) enum Work {
    /// Load.
    Load {
        workloads: Vec<Workload>,
        /// Cores of the client.
        clients: Vec<u32>,
        /// Each workload's contenders, by index.
        selected: Vec<Vec<usize>>,
    },
    /// Sessions that do nothing.
    Idle,
}

/// Everything that was asked for.
pub(crate) fn groups(arguments: &Arguments, cores: &Cores) -> Vec<Group> {
    let (null, ram, nvme) = (Backing::Null, Backing::Ram, Backing::Nvme);
    let ours = |name: &str, backing, mode, cpus: &[u32]| Contender {
        name: name.to_owned(),
        kind: Kind::Ours { mode, cpus: cpus.to_vec(), program: arguments.daemon.clone() },
        backing,
    };
    let peer =
        |name: &str, kind: &Kind, backing| Contender { name: name.to_owned(), kind: kind.clone(), backing };
    let here = [cores.server];
    let spdk = arguments.spdk.clone().map(|program| Kind::Spdk { program });
    let with_spdk = |mut list: Vec<Contender>, names: &[(&str, Backing)]| {
        list.extend(
            spdk.iter().flat_map(|kind| names.iter().map(|(name, backing)| peer(name, kind, *backing))),
        );
        list
    };

    let one = with_spdk(
        vec![
            ours("vfiomux-null-poll", null, "poll", &here),
            ours("vfiomux-null", null, "adaptive", &here),
            ours("vfiomux-ram-poll", ram, "poll", &here),
            ours("vfiomux-ram", ram, "adaptive", &here),
            ours("vfiomux-nvme", nvme, "adaptive", &here),
            peer("qsd-null", &Kind::Qsd, null),
            peer("qsd-ram", &Kind::Qsd, ram),
        ],
        &[("spdk-null", null), ("spdk-ram", ram)],
    );
    let many = with_spdk(
        vec![
            ours("vfiomux-null-poll", null, "poll", &here),
            ours("vfiomux-null", null, "adaptive", &here),
            peer("qsd-null", &Kind::Qsd, null),
        ],
        &[("spdk-null", null)],
    );
    let resting = with_spdk(
        vec![
            ours("vfiomux-null-poll", null, "poll", &here),
            ours("vfiomux-null", null, "adaptive", &here),
            ours("vfiomux-null-event", null, "event", &here),
            peer("qsd-null", &Kind::Qsd, null),
        ],
        &[("spdk-null", null)],
    );
    let scaled = vec![
        ours("vfiomux-null-1-sidecore", null, "adaptive", &here),
        ours("vfiomux-null-2-sidecores", null, "adaptive", &[cores.server, cores.second]),
    ];

    let random = |pattern| DEPTHS.map(|depth| Workload::random(pattern, depth));
    let mut single: Vec<Workload> = random(Pattern::RandRead).into();
    if arguments.quick {
        single.retain(|workload| workload.depth != 8);
    } else {
        single.extend(random(Pattern::RandWrite));
        single.extend([Pattern::Read, Pattern::Write].map(Workload::sequential));
        single.extend([1, 32].map(|depth| Workload::random(Pattern::RandRw, depth)));
    }
    let numbers: &[usize] = if arguments.quick { &[1, 200] } else { &GUESTS };
    let load = |workloads| Work::Load { workloads, clients: vec![cores.client], selected: Vec::new() };
    let group = |name, contenders, disks, work| Group { name, contenders, disks, work };
    let groups = [
        group("guest", one, 1, load(single)),
        group(
            GUESTS_GROUP,
            many,
            200,
            load(numbers.iter().map(|guests| Workload::guests(*guests)).collect()),
        ),
        group("idle", resting.clone(), IDLE_SESSIONS, Work::Idle),
        group("wake", resting, 1, load(vec![Workload::now_and_then(RATE_PER_S)])),
        group("sidecores", scaled, 4, load(vec![Workload::guests(4)])),
    ];
    groups.into_iter().filter_map(|group| group.select(arguments)).collect()
}

/// A workload and a contender, beside another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pair<'a> {
    pub(crate) ours: (&'a str, &'a str),
    pub(crate) theirs: (&'a str, &'a str),
}

impl Group {
    /// What will be compared: each of ours with each peer over the same backing, and ours with many guests with ours with
    /// one.
    pub(crate) fn pairs(&self) -> Vec<Pair<'_>> {
        let Work::Load { workloads, selected, .. } = &self.work else { return Vec::new() };
        let is_ours = |contender: &&Contender| matches!(contender.kind, Kind::Ours { .. });
        let mut pairs = Vec::new();
        for (workload, chosen) in workloads.iter().zip(selected) {
            let chosen: Vec<&Contender> =
                chosen.iter().filter_map(|index| self.contenders.get(*index)).collect();
            let name = workload.name.as_str();
            for ours in chosen.iter().copied().filter(is_ours) {
                let peers = chosen.iter().filter(|peer| !is_ours(peer) && peer.backing == ours.backing);
                pairs.extend(peers.map(|peer| Pair { ours: (name, &ours.name), theirs: (name, &peer.name) }));
            }
        }
        let fewest_and_most = workloads.first().zip(workloads.last()).filter(|_| self.name == GUESTS_GROUP);
        if let Some((one, many)) = fewest_and_most.filter(|(one, many)| one.name != many.name) {
            pairs.extend(
                self.contenders
                    .iter()
                    .filter(is_ours)
                    .map(|ours| Pair { ours: (&many.name, &ours.name), theirs: (&one.name, &ours.name) }),
            );
        }
        pairs
    }

    /// The name of one measurement, for `--only`.
    fn names<'a>(&'a self, workload: &'a str) -> impl Iterator<Item = String> + 'a {
        self.contenders.iter().map(move |contender| format!("{}/{workload}/{}", self.name, contender.name))
    }

    /// What is left of it by `--only`; nothing when nothing is.
    fn select(mut self, arguments: &Arguments) -> Option<Self> {
        let chosen = |workload: &str| -> Vec<usize> {
            let names = self.names(workload).enumerate();
            names.filter(|(_, name)| arguments.selects(name)).map(|(index, _)| index).collect()
        };
        match &self.work {
            Work::Idle => {
                let keep = chosen(IDLE);
                self.contenders =
                    keep.into_iter().filter_map(|index| self.contenders.get(index).cloned()).collect();
                (!self.contenders.is_empty()).then_some(self)
            }
            Work::Load { workloads, clients, .. } => {
                let (workloads, selected): (Vec<Workload>, Vec<Vec<usize>>) = workloads
                    .iter()
                    .map(|workload| (workload.clone(), chosen(&workload.name)))
                    .filter(|(_, chosen)| !chosen.is_empty())
                    .unzip();
                let clients = clients.clone();
                let any = !workloads.is_empty();
                self.work = Work::Load { workloads, clients, selected };
                any.then_some(self)
            }
        }
    }
}

/// What idle sessions are called where workloads have a name.
const IDLE: &str = "100-sessions";

/// The names of all measurements, a line each.
pub(crate) fn list(groups: &[Group]) -> String {
    let mut text = String::new();
    for group in groups {
        let lines: Vec<String> = match &group.work {
            Work::Idle => group.names(IDLE).collect(),
            Work::Load { workloads, selected, .. } => workloads
                .iter()
                .zip(selected)
                .flat_map(|(workload, chosen)| {
                    let names: Vec<String> = group.names(&workload.name).collect();
                    chosen.iter().filter_map(|index| names.get(*index).cloned()).collect::<Vec<_>>()
                })
                .collect(),
        };
        for line in lines {
            let _ = writeln!(text, "{line}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn listed(words: &[&str]) -> String {
        let arguments = Arguments::try_parse_from([&["side-by-side"], words].concat()).unwrap();
        let cores = Cores { server: 1, second: 0, client: 0, available: 2 };
        list(&groups(&arguments, &cores))
    }

    #[test]
    fn spdk_takes_part_when_its_path_is_given() {
        assert!(!listed(&[]).contains("spdk"));
        let all = listed(&["--spdk", "/x/vhost"]);
        for name in
            ["guest/randread-4k-qd32/spdk-null", "guests/guests-200/spdk-null", "idle/100-sessions/spdk-null"]
        {
            assert!(all.lines().any(|line| line == name), "{name}");
        }
    }

    #[test]
    fn only_what_answers_alike_is_compared() {
        let arguments = Arguments::try_parse_from(["side-by-side", "--quick"]).unwrap();
        let cores = Cores { server: 1, second: 0, client: 0, available: 2 };
        let groups = groups(&arguments, &cores);
        let pairs = |name| groups.iter().find(|group| group.name == name).map_or(Vec::new(), Group::pairs);
        let qd1 = "randread-4k-qd1";
        assert!(pairs("guest").contains(&Pair { ours: (qd1, "vfiomux-ram"), theirs: (qd1, "qsd-ram") }));
        assert!(!pairs("guest").iter().any(|pair| pair.ours.1.contains("nvme")), "no peer has it");
        let (one, many) = (("guests-1", "vfiomux-null"), ("guests-200", "vfiomux-null"));
        assert!(pairs(GUESTS_GROUP).contains(&Pair { ours: many, theirs: one }));
        assert!(pairs("idle").is_empty());
    }

    #[test]
    fn only_what_is_selected_is_left() {
        let some = listed(&["--only", "randread-4k-qd1/+qsd-null"]);
        assert_eq!(some, "guest/randread-4k-qd1/qsd-null\n");
        assert_eq!(listed(&["--only", "nonsense"]), "");
    }

    #[test]
    fn quick_keeps_what_the_targets_need() {
        let quick = listed(&["--quick", "--spdk", "/x/vhost"]);
        for name in [
            "randread-4k-qd1/",
            "randread-4k-qd32/",
            "randread-4k-qd128/",
            "guests-1/",
            "guests-200/",
            "idle/",
        ] {
            assert!(quick.contains(name), "{name}");
        }
    }
}
