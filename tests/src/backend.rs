//! What serves disks to the machines under test, running on the host.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::vm::Killed;

/// A running server of one vhost-user-blk socket a disk.
pub trait Backend {
    /// Makes a disk of this size, and returns the socket that it is served on.
    fn create_disk(&mut self, name: &str, size_mib: u64, queues: u16) -> PathBuf;
}

/// QEMU's own storage daemon, a process a disk, with the disk's content in memory: tells whether a failure is ours or the harness's.
#[derive(Debug)]
pub struct QemuStorageDaemon {
    directory: PathBuf,
    disks: Vec<Killed>,
}

impl QemuStorageDaemon {
    /// Serves disks with sockets and images in `directory`.
    pub fn new(directory: &Path) -> QemuStorageDaemon {
        QemuStorageDaemon { directory: directory.to_owned(), disks: Vec::new() }
    }
}

impl Backend for QemuStorageDaemon {
    fn create_disk(&mut self, name: &str, size_mib: u64, queues: u16) -> PathBuf {
        let socket = self.directory.join(format!("{name}.sock"));
        let image = self.directory.join(format!("{name}.img"));
        let file = fs::File::create(&image).expect("an image in the test's own directory");
        file.set_len(size_mib << 20).expect("a sparse image");
        let child = Command::new("qemu-storage-daemon")
            .arg("--blockdev")
            .arg(format!("driver=file,node-name=disk,discard=unmap,filename={}", image.display()))
            .arg("--export")
            .arg(format!(
                "type=vhost-user-blk,id=export,node-name=disk,writable=on,num-queues={queues},\
                 addr.type=unix,addr.path={}",
                socket.display()
            ))
            .stdin(Stdio::null())
            .spawn()
            .expect("qemu-storage-daemon, which comes with QEMU");
        self.disks.push(Killed(child));
        wait_for_socket(&socket, Duration::from_secs(10)).expect("qemu-storage-daemon listens");
        socket
    }
}

/// Waits until a socket has come into being: a server binds it when it is ready to be connected to.
fn wait_for_socket(path: &Path, patience: Duration) -> io::Result<()> {
    let deadline = Instant::now() + patience;
    while !path.exists() {
        if Instant::now() > deadline {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("{} did not appear", path.display()),
            ));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
