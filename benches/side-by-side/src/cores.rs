//! Which cores the server and the client have.

use rustix::io::Errno;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::Serialize;

use crate::arguments::Arguments;
use crate::error::BenchError;

/// The cores that everything runs on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Cores {
    /// Of the server.
    pub(crate) server: u32,
    /// Of a second sidecore. The client's when there is no third core, and then it shows nothing.
    pub(crate) second: u32,
    /// Of the client.
    pub(crate) client: u32,
    /// Those that this process may run on.
    pub(crate) available: usize,
}

impl Cores {
    /// The last for the server and the first for the client, unless told otherwise.
    pub(crate) fn choose(arguments: &Arguments) -> Result<Self, BenchError> {
        Self::among(&here().map_err(BenchError::Pin)?, arguments.server_cpu, arguments.client_cpu)
    }

    fn among(usable: &[u32], server: Option<u32>, client: Option<u32>) -> Result<Self, BenchError> {
        let known = |cpu: u32| if usable.contains(&cpu) { Ok(cpu) } else { Err(BenchError::NoSuchCpu(cpu)) };
        let last = usable.iter().rev().copied().find(|cpu| Some(*cpu) != client);
        let server = known(server.or(last).or(client).unwrap_or(0))?;
        let first = usable.iter().copied().find(|cpu| *cpu != server);
        let client = known(client.or(first).unwrap_or(server))?;
        let second = usable.iter().rev().copied().find(|cpu| *cpu != server && *cpu != client);
        Ok(Self { server, second: second.unwrap_or(client), client, available: usable.len() })
    }

    /// Whether a second sidecore has a core to itself.
    pub(crate) fn has_second(&self) -> bool {
        self.second != self.client
    }
}

/// The cores that the calling thread may run on.
pub(crate) fn here() -> Result<Vec<u32>, Errno> {
    let set = sched_getaffinity(None)?;
    let cpus = (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu));
    Ok(cpus.filter_map(|cpu| u32::try_from(cpu).ok()).collect())
}

/// Pins the calling thread, and with it what it starts from now on.
pub(crate) fn pin(cpus: &[u32]) -> Result<(), Errno> {
    let mut set = CpuSet::new();
    for cpu in cpus {
        set.set(usize::try_from(*cpu).unwrap_or(0));
    }
    sched_setaffinity(None, &set)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_has_the_last_core_and_the_client_the_first() {
        let cores = Cores::among(&[2, 3, 5], None, None).unwrap();
        assert_eq!((cores.server, cores.client, cores.second), (5, 2, 3));
        assert!(cores.has_second());
    }

    #[test]
    fn a_core_asked_for_by_one_is_not_given_to_the_other() {
        let cores = Cores::among(&[0, 1], Some(0), None).unwrap();
        assert_eq!((cores.server, cores.client), (0, 1));
        let cores = Cores::among(&[0, 1], None, Some(1)).unwrap();
        assert_eq!((cores.server, cores.client), (0, 1));
        assert!(!cores.has_second());
    }

    #[test]
    fn a_single_core_is_shared() {
        let cores = Cores::among(&[4], None, None).unwrap();
        assert_eq!((cores.server, cores.client, cores.second), (4, 4, 4));
    }

    #[test]
    fn a_core_that_is_not_there_is_refused() {
        assert!(matches!(Cores::among(&[0, 1], Some(7), None), Err(BenchError::NoSuchCpu(7))));
    }
}
