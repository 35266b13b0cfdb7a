use std::env;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::Hook;

/// Name of the program that runs a plugin.
const HOST: &str = "vfiomux-plugin-host";

/// A plugin as it is to be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginSpec {
    /// What the operator calls it; unique in a chain.
    pub name: String,
    /// The shared library.
    pub library: PathBuf,
    /// What the plugin is given to read when it begins.
    pub configuration: String,
    /// The program that runs it.
    pub host: PathBuf,
    /// How long it may take to answer.
    pub deadlines: Deadlines,
    /// Its address space.
    pub memory_bytes_max: u64,
    /// The processors that it may run on: those of no sidecore. Empty for any.
    pub cpus: Vec<usize>,
}

/// How long a plugin may take to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// To load, and to make sense of its configuration.
    pub init: Duration,
    /// To a question.
    pub verdict: Duration,
    /// To a tick, to pressure, to a fault, and to save or restore its state.
    pub report: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            init: Duration::from_secs(5),
            verdict: Duration::from_millis(500),
            report: Duration::from_secs(1),
        }
    }
}

impl Deadlines {
    /// The same for whatever it is asked or told; to begin it has at least as long as usual.
    #[must_use]
    pub fn all(answer: Duration) -> Self {
        Self { init: Self::default().init.max(answer), verdict: answer, report: answer }
    }

    /// That of one hook.
    #[must_use]
    pub const fn of(&self, hook: Hook) -> Duration {
        match hook {
            Hook::Tick | Hook::Pressure | Hook::Fault => self.report,
            _ => self.verdict,
        }
    }
}

impl PluginSpec {
    /// Its address space when nothing else is said.
    pub const MEMORY_BYTES_MAX: u64 = 256 << 20;

    /// A plugin with no configuration, the usual limits, and the host that lies beside this program.
    #[must_use]
    pub fn new(name: impl Into<String>, library: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            library: library.into(),
            configuration: String::new(),
            host: host_beside(env::current_exe().ok().as_deref()),
            deadlines: Deadlines::default(),
            memory_bytes_max: Self::MEMORY_BYTES_MAX,
            cpus: Vec::new(),
        }
    }
}

/// The host that lies in the directory of a program, or, for tests that cargo runs, in the directory above.
fn host_beside(program: Option<&Path>) -> PathBuf {
    let Some(directory) = program.and_then(Path::parent) else { return PathBuf::from(HOST) };
    let above = directory.parent().map(|above| above.join(HOST));
    match above.filter(|_| directory.ends_with("deps")) {
        Some(host) => host,
        None => directory.join(HOST),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_lies_beside_the_daemon() {
        let host = |program: &str| host_beside(Some(Path::new(program)));
        assert_eq!(host("/usr/sbin/vfiomuxd"), Path::new("/usr/sbin/vfiomux-plugin-host"));
        assert_eq!(host("/t/debug/deps/it-1"), Path::new("/t/debug/vfiomux-plugin-host"));
        assert_eq!(host_beside(None), Path::new("vfiomux-plugin-host"));
    }
}
