//! What to type, or to put into a file, so that a VMM uses a channel as its disk.
//!
//! All of them need guest memory that the daemon can map, which is why memory appears in each.

use std::path::Path;

use serde_json::json;

use crate::{ChannelInfo, Endpoint, EndpointMode};

/// A program that can have a vhost-user disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Vmm {
    /// QEMU 7.2 or later.
    Qemu,
    /// libvirt 7.1 or later.
    Libvirt,
    /// Cloud Hypervisor.
    CloudHypervisor,
    /// Firecracker.
    Firecracker,
}

/// What to do with a channel so that the VMM uses it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attachment {
    /// Arguments to add to the VMM's command line.
    Arguments(Vec<String>),
    /// Text for the VMM's configuration.
    Configuration(String),
}

/// Why a channel cannot be attached to a VMM.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AttachmentError {
    /// It has no endpoint.
    #[error("channel {0} has no endpoint; run vfiomuxctl channel attach {0} --endpoint SOCKET")]
    Detached(String),
    /// The VMM cannot listen, and the channel's endpoint wants it to.
    #[error(
        "{vmm} can only connect, and channel {channel} wants it to listen; detach it, and attach it without --client"
    )]
    ModeUnsupported {
        /// The VMM.
        vmm: &'static str,
        /// The channel.
        channel: String,
    },
    /// The socket's path cannot be written in the VMM's language.
    #[error("{vmm} cannot be given the path {path:?}; attach the channel to a plainer one")]
    Path {
        /// The VMM.
        vmm: &'static str,
        /// The path.
        path: String,
    },
}

impl Vmm {
    /// What it is called.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Qemu => "QEMU",
            Self::Libvirt => "libvirt",
            Self::CloudHypervisor => "Cloud Hypervisor",
            Self::Firecracker => "Firecracker",
        }
    }

    /// How it is made to use a channel.
    ///
    /// # Errors
    /// [`AttachmentError`], which says what to do next.
    pub fn attachment(self, channel: &ChannelInfo) -> Result<Attachment, AttachmentError> {
        let Some(Endpoint { path, mode }) = &channel.endpoint else {
            return Err(AttachmentError::Detached(channel.name.clone()));
        };
        let vmm = self.name();
        let listens = *mode == EndpointMode::Client;
        if listens && !matches!(self, Self::Qemu) {
            return Err(AttachmentError::ModeUnsupported { vmm, channel: channel.name.clone() });
        }
        let disk = Disk { channel, path: self.path_text(path)?, listens };
        Ok(match self {
            Self::Qemu => Attachment::Arguments(disk.qemu()),
            Self::Libvirt => Attachment::Configuration(disk.libvirt()),
            Self::CloudHypervisor => Attachment::Arguments(disk.cloud_hypervisor()),
            Self::Firecracker => Attachment::Configuration(disk.firecracker()),
        })
    }

    /// The path as text, if the VMM's language can hold it.
    fn path_text(self, path: &Path) -> Result<String, AttachmentError> {
        let unfit = |text: &str| match self {
            // Cloud Hypervisor knows no escape for what separates its options.
            Self::CloudHypervisor => text.contains([',', '"', '[', ']']),
            _ => false,
        };
        match path.to_str() {
            Some(text) if !text.chars().any(char::is_control) && !unfit(text) => Ok(text.to_owned()),
            _ => Err(AttachmentError::Path { vmm: self.name(), path: path.display().to_string() }),
        }
    }
}

struct Disk<'a> {
    channel: &'a ChannelInfo,
    path: String,
    listens: bool,
}

impl Disk<'_> {
    /// Understood by QEMU 7.2; `reconnect=1` has QEMU connect again after the daemon was restarted.
    fn qemu(&self) -> Vec<String> {
        let name = &self.channel.name;
        // In a QEMU option list a comma is written twice.
        let path = self.path.replace(',', ",,");
        let side = if self.listens { "server=on,wait=off" } else { "reconnect=1" };
        [
            "-object",
            "memory-backend-memfd,id=mem0,size=1G,share=on",
            "-machine",
            "memory-backend=mem0",
            "-m",
            "1G",
            "-chardev",
            &format!("socket,id=chardev-{name},path={path},{side}"),
            "-device",
            &format!(
                "vhost-user-blk-pci,id=disk-{name},chardev=chardev-{name},num-queues={}",
                self.channel.queues
            ),
        ]
        .map(str::to_owned)
        .to_vec()
    }

    /// A fragment of a domain: shared memory, and the disk. A read-only channel says so itself; libvirt is not asked to.
    fn libvirt(&self) -> String {
        let path = xml(&self.path);
        let queues = self.channel.queues;
        format!(
            "<domain>
  <memoryBacking>
    <source type='memfd'/>
    <access mode='shared'/>
  </memoryBacking>
  <devices>
    <disk type='vhostuser' device='disk'>
      <driver name='qemu' type='raw' queues='{queues}'/>
      <source type='unix' path='{path}'>
        <reconnect enabled='yes' timeout='1'/>
      </source>
      <target dev='vda' bus='virtio'/>
    </disk>
  </devices>
</domain>
"
        )
    }

    fn cloud_hypervisor(&self) -> Vec<String> {
        let (path, queues) = (&self.path, self.channel.queues);
        [
            "--memory",
            "size=1G,shared=on",
            "--disk",
            &format!("vhost_user=true,socket={path},num_queues={queues},queue_size=256"),
        ]
        .map(str::to_owned)
        .to_vec()
    }

    /// Firecracker serves one queue, and shares its memory by itself once a drive has a socket. Without `Writeback` it
    /// hides from the guest that the disk can flush. Its identifiers have no hyphens.
    fn firecracker(&self) -> String {
        let drive = json!({
            "drive_id": self.channel.name.replace('-', "_"),
            "socket": self.path,
            "is_root_device": false,
            "cache_type": "Writeback",
        });
        format!("{:#}\n", json!({ "drives": [drive] }))
    }
}

/// Text inside an attribute in single quotes.
fn xml(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('\'', "&apos;")
}

/// Arguments as a shell reads them, one option with its value a line.
#[must_use]
pub fn shell_lines(arguments: &[String]) -> String {
    let mut lines = String::new();
    for (index, argument) in arguments.iter().enumerate() {
        if index > 0 {
            lines.push_str(if argument.starts_with('-') { " \\\n" } else { " " });
        }
        lines.push_str(&shell_word(argument));
    }
    lines.push('\n');
    lines
}

fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=,./:+@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests;
