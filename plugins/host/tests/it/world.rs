//! Plugins to run, and questions to ask them.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use vfiomux_policy::{
    Chain, Channel, Create, Deadlines, Destroy, Device, HostFault, PluginEventKind, PluginHost, PluginSpec,
    PluginState, Sample, Tenant, Tick,
};

/// Long enough for a verdict on a machine that is busy with other tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The test policy, which cargo built beside this program.
pub(crate) fn faulty_library() -> PathBuf {
    // Named, so that it is built.
    let _ = size_of::<vfiomux_plugin_faulty::Faulty>();
    let program = env::current_exe().unwrap();
    let library = program.with_file_name("libvfiomux_plugin_faulty.so");
    assert!(library.exists(), "{} is not there", library.display());
    library
}

/// A plugin that has long for everything.
pub(crate) fn spec(name: &str, library: &Path) -> PluginSpec {
    PluginSpec {
        host: PathBuf::from(env!("CARGO_BIN_EXE_vfiomux-plugin-host")),
        deadlines: Deadlines { init: PATIENCE, verdict: PATIENCE, report: PATIENCE },
        ..PluginSpec::new(name, library)
    }
}

/// The test policy with its orders.
pub(crate) fn faulty(name: &str, orders: &str) -> PluginSpec {
    PluginSpec { configuration: orders.to_owned(), ..spec(name, &faulty_library()) }
}

/// A host that has begun.
pub(crate) fn begun(spec: PluginSpec) -> Box<PluginHost> {
    let mut host = PluginHost::new(spec);
    host.begin().unwrap();
    Box::new(host)
}

/// A chain with one plugin that has begun.
pub(crate) fn chain(spec: PluginSpec) -> Chain {
    let mut chain = Chain::default();
    chain.load(0, begun(spec)).unwrap();
    chain
}

pub(crate) fn channel() -> Channel {
    Channel {
        id: "8f0c".to_owned(),
        name: "disk-a".to_owned(),
        tenant: "acme".to_owned(),
        device: "sim0".to_owned(),
        size_bytes: 1 << 20,
        queues: 2,
        generation: 3,
        ..Channel::default()
    }
}

pub(crate) fn create() -> Create {
    Create {
        channel: channel(),
        device: Device { name: "sim0".to_owned(), free_bytes: 1 << 30, queues_max: 4, ..Device::default() },
        tenant: Tenant { name: "acme".to_owned(), ..Tenant::default() },
        caller_uid: 0,
        dry_run: false,
    }
}

pub(crate) fn destroy() -> Destroy {
    Destroy { channel: channel(), force: false, caller_uid: 0, dry_run: false }
}

pub(crate) fn tick() -> Tick {
    let sample = Sample { channel: channel(), ..Sample::default() };
    Tick { unix_seconds: 1_800_000_000, period_ns: 1_000_000_000, channels: vec![sample] }
}

/// Why a creation is denied, with the name of who denies it in front.
pub(crate) fn denial(chain: &mut Chain) -> String {
    let denial = chain.ask(create()).outcome.unwrap_err();
    format!("{}: {}", denial.policy, denial.reason)
}

pub(crate) fn state(chain: &Chain) -> PluginState {
    chain.states().remove(0)
}

/// What went wrong since events were last taken.
pub(crate) fn faults(chain: &mut Chain) -> Vec<HostFault> {
    let faults = chain.take_events().into_iter().filter_map(|event| match event.kind {
        PluginEventKind::Faulted { fault, .. } => Some(fault),
        _ => None,
    });
    faults.collect()
}

/// As if a minute, the longest pause, had passed.
pub(crate) fn later(chain: &mut Chain) {
    chain.maintain(Instant::now() + Duration::from_secs(61));
}

/// A library made of C, with the header of the ABI.
pub(crate) fn library_of(source: &str) -> (TempDir, PathBuf) {
    let directory = TempDir::new().unwrap();
    let (text, library) = (directory.path().join("plugin.c"), directory.path().join("plugin.so"));
    std::fs::write(&text, source).unwrap();
    let include = Path::new(env!("CARGO_MANIFEST_DIR")).join("../abi/include");
    let compiled = Command::new("cc")
        .args(["-std=c11", "-D_GNU_SOURCE", "-shared", "-fPIC", "-O1", "-I"])
        .arg(include)
        .arg("-o")
        .args([&library, &text])
        .output()
        .unwrap();
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    (directory, library)
}
