#![expect(unsafe_code, reason = "a fault must be a real one")]

use std::fs::File;
use std::net::TcpListener;
use std::process::Command;
use std::ptr;

use vfiomux_plugin::Verdict;

/// Tries what a sandbox should not let it, and says what worked.
pub(crate) fn probe() -> String {
    let tries = [
        ("a file was read", File::open("/etc/passwd").is_ok()),
        ("a file was written", File::create("/tmp/vfiomux-faulty-probe").is_ok()),
        ("a socket was opened", TcpListener::bind("127.0.0.1:0").is_ok()),
        ("a process was started", Command::new("/bin/true").status().is_ok()),
    ];
    let worked: Vec<&str> = tries.iter().filter(|(_, worked)| *worked).map(|(what, _)| *what).collect();
    let worked = if worked.is_empty() { "nothing worked".to_owned() } else { worked.join(", ") };
    format!("probe: {worked}")
}

/// The fault that a wild pointer makes.
pub(crate) fn write_to_null() -> Verdict {
    // SAFETY: none, on purpose: nothing is mapped at 0, so that the kernel ends the process.
    unsafe { ptr::without_provenance_mut::<u8>(8).write_volatile(1) };
    Verdict::Allow
}
