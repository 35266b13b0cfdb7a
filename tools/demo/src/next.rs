//! What to type to have the same with a QEMU guest.

use std::path::{Path, PathBuf};

use vfiomux_rpc::vmm_arguments::{Attachment, Vmm, shell_lines};
use vfiomux_rpc::{ChannelInfo, Endpoint, EndpointMode};

const DIRECTORY: &str = "/tmp/vfiomux";
const CHANNEL: &str = "disk0";

/// Commands that lead from here to a guest. The QEMU arguments are those of a channel like `sample`.
pub(crate) fn commands(sample: &ChannelInfo) -> String {
    let endpoint = PathBuf::from(format!("{DIRECTORY}/{CHANNEL}.sock"));
    let channel = ChannelInfo {
        name: CHANNEL.to_owned(),
        endpoint: Some(Endpoint { path: endpoint.clone(), mode: EndpointMode::Server }),
        ..sample.clone()
    };
    let attach = match Vmm::Qemu.attachment(&channel) {
        Ok(Attachment::Arguments(arguments)) => shell_lines(&arguments).replace('\n', "\n  "),
        // A path of plain letters can be said to QEMU; if it could not, this says why.
        Ok(Attachment::Configuration(text)) => text,
        Err(error) => error.to_string(),
    };
    let program = |name: &str| programs().join(name).display().to_string();
    let (daemon, tool, endpoint) = (program("vfiomuxd"), program("vfiomuxctl"), endpoint.display());
    let queues = channel.queues;
    format!(
        "\
cargo build --release -p vfiomux-daemon -p vfiomuxctl
{daemon} --device sim:nvme,size=4G --state-dir {DIRECTORY}/state --control {DIRECTORY}/control.sock &
export VFIOMUX_CONTROL={DIRECTORY}/control.sock
{tool} channel create {CHANNEL} --device sim0 --tenant acme --size 1G --queues {queues} --endpoint {endpoint}
qemu-system-x86_64 -accel kvm -accel tcg -drive file=YOUR-IMAGE.qcow2,if=virtio \\
  {}",
        attach.trim_end()
    )
}

/// Where cargo puts the programs of a release, as seen from here: beside this one when it is a release itself.
fn programs() -> PathBuf {
    let fallback = PathBuf::from("target/release");
    let Some(own) = std::env::current_exe().ok().and_then(|exe| exe.parent().map(Path::to_owned)) else {
        return fallback;
    };
    let here = std::env::current_dir().unwrap_or_default();
    match own.strip_prefix(&here) {
        Ok(relative) if own.ends_with("release") => relative.to_owned(),
        _ if own.ends_with("release") => own,
        _ => fallback,
    }
}
