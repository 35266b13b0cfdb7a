//! `qemu-storage-daemon`, from the package qemu-utils or qemu-system-storage-daemon.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use super::process::Process;
use super::{Server, Shape, StartError, version};
use crate::contender::Backing;

const PROGRAM: &str = "qemu-storage-daemon";

pub(super) fn start(shape: &Shape<'_>) -> Result<Server, StartError> {
    match shape.backing {
        Backing::Null => start_with(shape, None),
        // What the machine's QEMU was built with is known only by trying.
        _ => start_with(shape, Some("io_uring")).or_else(|error| match error {
            StartError::Ended { .. } => start_with(shape, Some("threads")),
            other => Err(other),
        }),
    }
}

fn start_with(shape: &Shape<'_>, aio: Option<&str>) -> Result<Server, StartError> {
    let mut command = Command::new(PROGRAM);
    command.args(["--object", "iothread,id=io0"]);
    let sockets = shape.sockets();
    for (disk, socket) in sockets.iter().enumerate() {
        // A server that ended leaves its socket, and would be taken for the next one's.
        let _ = std::fs::remove_file(socket);
        let node = match aio {
            None => format!("driver=null-co,node-name=n{disk},size={},read-zeroes=on", shape.disk_bytes),
            Some(aio) => {
                let image = shape.directory.join(format!("{disk}.img"));
                File::create(&image)
                    .and_then(|file| file.set_len(shape.disk_bytes))
                    .map_err(StartError::Files)?;
                format!("driver=file,node-name=n{disk},filename={},aio={aio}", image.display())
            }
        };
        command.args(["--blockdev", &node]).args(["--export", &export(disk, socket)]);
    }
    let mut process = Process::spawn(command, shape)?;
    process.wait_until(|_| sockets.iter().all(|socket| socket.exists()).then_some(()))?;
    let about = version(Path::new(PROGRAM)).unwrap_or_else(|| PROGRAM.to_owned());
    let about = aio.map_or(about.clone(), |aio| format!("{about}, aio={aio} on a file in memory"));
    Ok(Server { process, sockets, about, control: None })
}

fn export(disk: usize, socket: &Path) -> String {
    format!(
        "type=vhost-user-blk,id=e{disk},node-name=n{disk},addr.type=unix,addr.path={},writable=on,num-queues=1,iothread=io0",
        socket.display()
    )
}
