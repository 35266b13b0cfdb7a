//! SPDK's `vhost`, configured over its JSON-RPC socket.

use std::fs;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use super::process::Process;
use super::{Server, Shape, StartError, version};
use crate::contender::Backing;

const BLOCK_BYTES: u64 = 512;
/// What SPDK needs for itself beside its disks.
const MEMORY_MIB: u64 = 768;
/// More disks than this need smaller caches of buffers.
const MANY_DISKS: usize = 16;
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

pub(super) fn start(shape: &Shape<'_>, program: &Path) -> Result<Server, StartError> {
    let disks_mib =
        if shape.backing == Backing::Null { 0 } else { (shape.disk_bytes * shape.disks as u64) >> 20 };
    let memory_mib = MEMORY_MIB + disks_mib;
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let huge = free_huge_mib(&meminfo) >= memory_mib;
    let control = shape.directory.join("rpc.sock");
    let mut command = Command::new(program);
    command
        .args(["-m", &format!("[{}]", shape.cpu), "-s", &memory_mib.to_string(), "--no-pci", "-S"])
        .arg(shape.directory)
        .arg("-r")
        .arg(&control)
        // Its trace would outlive it in /dev/shm.
        .args(["--num-trace-entries", "0"])
        // How much it keeps in caches can be said only before it starts in earnest.
        .arg("--wait-for-rpc")
        // Others are on the same core, stopped while this one is measured.
        .arg("--disable-cpumask-locks")
        // The files behind huge pages go at once: a server that is killed leaves none.
        .arg(if huge { "--huge-unlink" } else { "--no-huge" });
    let mut process = Process::spawn(command, shape)?;
    process.wait_until(|_| Rpc::connect(&control).ok()?.call("spdk_get_version", &Value::Null).ok())?;
    let sockets = shape.sockets();
    configure(shape, &control).map_err(|what| StartError::Refused { what })?;
    process.wait_until(|_| sockets.iter().all(|socket| socket.exists()).then_some(()))?;
    let pages = if huge { "huge pages" } else { "ordinary pages (--no-huge)" };
    let caches = if shape.disks > MANY_DISKS { ", small iobuf caches" } else { "" };
    let about = format!("{}, {pages}{caches}", version(program).unwrap_or_else(|| "SPDK vhost".to_owned()));
    Ok(Server { process, sockets, about, control: None })
}

fn configure(shape: &Shape<'_>, control: &Path) -> Result<(), String> {
    let mut rpc = Rpc::connect(control)?;
    if shape.disks > MANY_DISKS {
        // Each disk's channel fills caches of buffers from a pool that is enough for 32 channels; null disks use none.
        let (small, large) = (8, 1);
        let bdev = json!({ "iobuf_small_cache_size": small, "iobuf_large_cache_size": large });
        rpc.call("bdev_set_options", &bdev)?;
        rpc.call("accel_set_options", &json!({ "small_cache_size": small, "large_cache_size": large }))?;
    }
    rpc.call("framework_start_init", &Value::Null)?;
    let blocks = shape.disk_bytes / BLOCK_BYTES;
    let create = if shape.backing == Backing::Null { "bdev_null_create" } else { "bdev_malloc_create" };
    for disk in 0..shape.disks {
        let name = format!("Disk{disk}");
        rpc.call(create, &json!({ "name": name, "num_blocks": blocks, "block_size": BLOCK_BYTES }))?;
        // The controller's name is that of its socket, in the directory given by -S.
        let controller = json!({ "ctrlr": format!("{disk}.sock"), "dev_name": name });
        rpc.call("vhost_create_blk_controller", &controller)?;
    }
    Ok(())
}

/// Free huge pages of 2 MiB, MiB.
fn free_huge_mib(meminfo: &str) -> u64 {
    let line = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    line("HugePages_Free:").unwrap_or(0) * line("Hugepagesize:").unwrap_or(0) / 1024
}

/// A connection to SPDK's control socket: JSON-RPC 2.0 whose messages are JSON texts with nothing between them.
struct Rpc {
    stream: UnixStream,
    last_id: u64,
}

impl Rpc {
    fn connect(path: &Path) -> Result<Self, String> {
        let stream = UnixStream::connect(path).map_err(|error| error.to_string())?;
        Self::new(stream)
    }

    fn new(stream: UnixStream) -> Result<Self, String> {
        stream.set_read_timeout(Some(CALL_TIMEOUT)).map_err(|error| error.to_string())?;
        Ok(Self { stream, last_id: 0 })
    }

    /// Calls a method and waits for its answer: one call is outstanding at a time, so a text is the answer to it.
    fn call(&mut self, method: &str, params: &Value) -> Result<Value, String> {
        self.last_id += 1;
        let mut request = json!({ "jsonrpc": "2.0", "id": self.last_id, "method": method });
        if !params.is_null() {
            request["params"] = params.clone();
        }
        self.stream
            .write_all(request.to_string().as_bytes())
            .map_err(|error| format!("{method}: {error}"))?;
        // Reads byte by byte to the end of one text and no further.
        let mut answers = serde_json::Deserializer::from_reader(&self.stream).into_iter::<Value>();
        let answer = answers.next().ok_or_else(|| format!("{method}: no answer"))?;
        let mut answer = answer.map_err(|error| format!("{method}: {error}"))?;
        if answer["id"] != self.last_id {
            return Err(format!("{method}: an answer to another call"));
        }
        if let Some(error) = answer.get("error") {
            return Err(format!("{method}: {}", error["message"].as_str().unwrap_or("refused")));
        }
        Ok(answer["result"].take())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::thread;

    use super::*;

    /// Answers one request after another with these pieces.
    fn answering(pieces: Vec<Vec<&'static str>>) -> (Rpc, thread::JoinHandle<Vec<Value>>) {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let peer = thread::spawn(move || {
            let mut asked = Vec::new();
            for answer in pieces {
                let mut request = [0; 4096];
                let length = theirs.read(&mut request).unwrap();
                asked.push(serde_json::from_slice(&request[..length]).unwrap());
                for piece in answer {
                    theirs.write_all(piece.as_bytes()).unwrap();
                    theirs.flush().unwrap();
                }
            }
            asked
        });
        (Rpc::new(ours).unwrap(), peer)
    }

    #[test]
    fn an_answer_in_pieces_is_one_answer() {
        let (mut rpc, peer) =
            answering(vec![vec![r#"{"jsonrpc":"2.0","#, r#""id":1,"result""#, r#":{"version":"}"}}"#]]);
        assert_eq!(rpc.call("spdk_get_version", &Value::Null).unwrap()["version"], "}");
        let asked = peer.join().unwrap();
        assert_eq!(asked[0]["method"], "spdk_get_version");
        assert!(asked[0].get("params").is_none());
    }

    #[test]
    fn calls_are_numbered_and_their_parameters_sent() {
        let (mut rpc, peer) =
            answering(vec![vec![r#"{"id":1,"result":"A"}"#], vec![r#"{"id":2,"result":true}"#]]);
        rpc.call("bdev_null_create", &json!({ "name": "A" })).unwrap();
        assert_eq!(rpc.call("second", &Value::Null).unwrap(), true);
        let asked = peer.join().unwrap();
        assert_eq!(asked[0]["params"]["name"], "A");
        assert_eq!(asked[1]["id"], 2);
    }

    #[test]
    fn a_refusal_is_told_with_the_method() {
        let (mut rpc, _peer) =
            answering(vec![vec![r#"{"id":1,"error":{"code":-17,"message":"File exists"}}"#]]);
        assert_eq!(rpc.call("bdev_null_create", &Value::Null).unwrap_err(), "bdev_null_create: File exists");
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        let (mut rpc, _peer) = answering(vec![vec!["SPDK"]]);
        assert!(rpc.call("x", &Value::Null).is_err());
        let (mut rpc, peer) = answering(vec![vec![]]);
        assert!(rpc.call("x", &Value::Null).is_err());
        peer.join().unwrap();
    }

    #[test]
    fn free_huge_pages_are_counted_in_mib() {
        let meminfo = "HugePages_Total:     512\nHugePages_Free:      300\nHugepagesize:       2048 kB\n";
        assert_eq!(free_huge_mib(meminfo), 600);
        assert_eq!(free_huge_mib(""), 0);
    }
}
