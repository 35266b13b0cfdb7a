//! The order of things: servers up, rounds, servers down.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::Serialize;
use vfiomux_bench_daemon::chain;

use crate::arguments::Arguments;
use crate::cores::Cores;
use crate::error::BenchError;
use crate::idle::{self, Idle};
use crate::measurement::{self, How, Measurement};
use crate::plan::{Group, Pair, Work};
use crate::ratio::{Side, fair_pairs};
use crate::server::Server;
use crate::workload::Workload;
use crate::{instructions, probe};

/// Rounds of looking at servers that rest: they are all alike.
const IDLE_ROUNDS: u32 = 3;
/// A look at a server that rests is this much longer than a run: it has less to count.
const IDLE_LONGER: u32 = 2;
/// Rounds in all are at most so many times those planned: more are made while pairs of runs are unfair.
const ROUNDS_MORE: u32 = 2;

/// Everything that was measured.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Results {
    pub(crate) cores: Cores,
    pub(crate) rounds: u32,
    pub(crate) run: Duration,
    /// Whether the machine counts instructions.
    pub(crate) counts_instructions: bool,
    /// Whether it was ended early.
    pub(crate) interrupted: bool,
    pub(crate) servers: Vec<About>,
    pub(crate) failures: Vec<Failure>,
    pub(crate) measurements: Vec<Measurement>,
    pub(crate) idle: Vec<Idle>,
    /// What our own servers say of the time from waking up to the first command, median.
    pub(crate) wake_to_submit_ns: Vec<(String, u64)>,
}

/// A server that took part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct About {
    pub(crate) contender: String,
    /// Version and settings.
    pub(crate) about: String,
}

/// A server that did not, or not to the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Failure {
    pub(crate) group: &'static str,
    pub(crate) contender: String,
    pub(crate) why: String,
}

/// Which of `count` has its turn when, in this round: each begins once before any begins again.
fn rotated(count: usize, round: u32) -> impl Iterator<Item = usize> {
    let first = usize::try_from(round).unwrap_or(0) % count.max(1);
    (0..count).map(move |turn| (turn + first) % count)
}

/// Measures all groups.
pub(crate) fn run(
    arguments: &Arguments,
    cores: &Cores,
    groups: &[Group],
    stop: &AtomicBool,
) -> Result<Results, BenchError> {
    // In memory where that is to be had: peers keep their disks there.
    let memory = Path::new("/dev/shm");
    let mut builder = tempfile::Builder::new();
    let builder = builder.prefix("side-by-side.");
    let directory = if memory.is_dir() { builder.tempdir_in(memory) } else { builder.tempdir() };
    let directory = directory.map_err(BenchError::Directory)?;
    let mut bench = Bench {
        arguments,
        stop,
        results: Results {
            cores: cores.clone(),
            rounds: arguments.rounds(),
            run: arguments.duration(),
            counts_instructions: instructions::countable(),
            interrupted: false,
            servers: Vec::new(),
            failures: Vec::new(),
            measurements: Vec::new(),
            idle: Vec::new(),
            wake_to_submit_ns: Vec::new(),
        },
    };
    for group in groups {
        if bench.stopped() {
            break;
        }
        bench.group(group, &directory.path().join(group.name));
    }
    bench.results.interrupted = bench.stopped();
    Ok(bench.results)
}

struct Bench<'a> {
    arguments: &'a Arguments,
    stop: &'a AtomicBool,
    results: Results,
}

impl Bench<'_> {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn group(&mut self, group: &Group, directory: &Path) {
        match &group.work {
            Work::Idle => self.idle(group, directory),
            Work::Load { workloads, clients, selected } => {
                self.load(group, workloads, clients, selected, directory);
            }
        }
    }

    /// Starts a server and pauses it. One that fails is reported, and the others go on.
    fn start(&mut self, group: &Group, index: usize, directory: &Path) -> Option<Server> {
        let contender = group.contenders.get(index)?;
        let cpu = self.results.cores.server;
        eprintln!("{}: starting {}", group.name, contender.name);
        let started = Server::start(contender, group.disks, cpu, &directory.join(&contender.name))
            .map_err(|error| chain(&error));
        let filled = started.and_then(|server| {
            if contender.backing.needs_filling() {
                let disk_bytes = contender.backing.disk_bytes(group.disks);
                for socket in &server.sockets {
                    measurement::fill(socket, self.results.cores.client, disk_bytes)?;
                }
            }
            Ok(server)
        });
        match filled {
            Ok(server) => {
                server.pause();
                let about = About { contender: contender.name.clone(), about: server.about.clone() };
                if !self.results.servers.contains(&about) {
                    self.results.servers.push(about);
                }
                Some(server)
            }
            Err(why) => {
                self.fail(group, &contender.name, why);
                None
            }
        }
    }

    fn fail(&mut self, group: &Group, contender: &str, why: String) {
        eprintln!("{}: {contender} is out: {why}", group.name);
        self.results.failures.push(Failure { group: group.name, contender: contender.to_owned(), why });
    }

    fn load(
        &mut self,
        group: &Group,
        workloads: &[Workload],
        clients: &[u32],
        selected: &[Vec<usize>],
        directory: &Path,
    ) {
        let needed = |index: usize| selected.iter().any(|chosen| chosen.contains(&index));
        let mut servers: Vec<Option<Server>> = Vec::new();
        for index in 0..group.contenders.len() {
            let start = needed(index) && !self.stopped();
            servers.push(if start { self.start(group, index, directory) } else { None });
        }
        let planned = self.results.rounds;
        let pairs = group.pairs();
        for round in 0..planned * ROUNDS_MORE {
            for (workload, chosen) in workloads.iter().zip(selected) {
                // Once the planned rounds are over: what still lacks pairs that may be compared.
                if round >= planned && !self.lacks_pairs(group, &workload.name, &pairs) {
                    continue;
                }
                let further = if round < planned { "" } else { ", and further ones for fair pairs" };
                eprintln!("{}: round {} of {planned}{further}, {}", group.name, round + 1, workload.name);
                for index in rotated(chosen.len(), round).filter_map(|turn| chosen.get(turn).copied()) {
                    if self.stopped() {
                        return;
                    }
                    let Some(slot) = servers.get_mut(index) else { continue };
                    let name = group.contenders.get(index).map_or("", |contender| &contender.name);
                    self.turn(group, name, slot, workload, clients, round);
                }
            }
        }
        for (contender, server) in group.contenders.iter().zip(&servers) {
            let Some(server) = server else { continue };
            server.resume();
            if group.name == "wake" {
                let says = server.wake_to_submit_ns().map(|ns| (contender.name.clone(), ns));
                self.results.wake_to_submit_ns.extend(says);
            }
        }
    }

    /// Whether a comparison in which this workload has a part has fewer fair pairs than rounds were planned.
    fn lacks_pairs(&self, group: &Group, workload: &str, pairs: &[Pair<'_>]) -> bool {
        let planned = usize::try_from(self.results.rounds).unwrap_or(usize::MAX);
        let side = |(workload, contender)| Side { group: group.name, workload, contender };
        let all = &self.results.measurements;
        // A server that failed has no more runs, whoever waits for them.
        let alive = |contender: &str| {
            !self
                .results
                .failures
                .iter()
                .any(|failure| failure.group == group.name && failure.contender == contender)
        };
        pairs.iter().any(|pair| {
            let (ours, theirs) = (pair.ours, pair.theirs);
            (ours.0 == workload || theirs.0 == workload)
                && alive(ours.1)
                && alive(theirs.1)
                && fair_pairs(all, side(ours), side(theirs)).count() < planned
        })
    }

    /// One run of one contender.
    fn turn(
        &mut self,
        group: &Group,
        contender: &str,
        slot: &mut Option<Server>,
        workload: &Workload,
        clients: &[u32],
        round: u32,
    ) {
        let Some(server) = slot else { return };
        let cores = &self.results.cores;
        let distance_ns = || probe::one_way_ns(cores.client, cores.server);
        let how = How {
            clients,
            duration: self.arguments.duration(),
            // The same requests for all contenders of a round, others in the next.
            seed: u64::from(round) + 1,
            counts: self.results.counts_instructions,
            server: cores.server,
        };
        let core_to_core_ns = distance_ns();
        server.resume();
        let outcome = measurement::measure(server, workload, how, self.stop);
        server.pause();
        let core_to_core_after_ns = distance_ns();
        match outcome {
            Ok(figures) => self.results.measurements.push(Measurement {
                group: group.name,
                workload: workload.name.clone(),
                contender: contender.to_owned(),
                round,
                core_to_core_ns,
                core_to_core_after_ns,
                figures,
            }),
            // What ended because a person wanted it has not failed.
            Err(_) if self.stopped() => {}
            Err(why) => {
                let why = format!("{}: {}", workload.name, server.blame(&why));
                *slot = None;
                self.fail(group, contender, why);
            }
        }
    }

    /// One server after the other: those that rest do not disturb each other, those that poll would.
    fn idle(&mut self, group: &Group, directory: &Path) {
        for (index, contender) in group.contenders.iter().enumerate() {
            if self.stopped() {
                return;
            }
            let Some(server) = self.start(group, index, directory) else { continue };
            server.resume();
            let duration = self.arguments.duration() * IDLE_LONGER;
            match idle::measure(&server, &contender.name, IDLE_ROUNDS, duration) {
                Ok(idle) => self.results.idle.push(idle),
                Err(why) => self.fail(group, &contender.name, why),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_contender_has_every_turn_once_in_as_many_rounds() {
        let orders: Vec<Vec<usize>> = (0..3).map(|round| rotated(3, round).collect()).collect();
        assert_eq!(orders, [[0, 1, 2], [1, 2, 0], [2, 0, 1]]);
        assert_eq!(rotated(3, 3).collect::<Vec<_>>(), [0, 1, 2]);
    }

    #[test]
    fn nobody_has_no_turn() {
        assert_eq!(rotated(0, 5).count(), 0);
    }
}
