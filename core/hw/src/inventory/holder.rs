//! What of the host depends on a function: filesystems, swap, volumes, interfaces, processes.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use super::{Sysfs, name_of, present, unreadable};
use crate::{HwError, PciAddress};

/// Something of the host that would break if the function were taken.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Holder {
    /// What the kernel made of the function: a block device, a network interface.
    pub of: String,
    /// How it is used.
    pub by: Use,
}

/// How a part of a function is used.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Use {
    /// A filesystem on it is mounted.
    Mounted {
        /// Where.
        at: PathBuf,
    },
    /// The host swaps to it.
    Swap,
    /// A volume manager, RAID or encryption builds on it.
    Volume {
        /// The block device built, and the name it was given, if any: `dm-0 (vg0-root)`.
        name: String,
    },
    /// A process has its block device open.
    Open {
        /// Process.
        pid: u32,
        /// Command of the process.
        command: String,
    },
    /// The kernel has its block device open exclusively, for something that nothing else here tells of: a mount in
    /// another namespace, say.
    Exclusive,
    /// The network interface is up.
    Up,
    /// Virtual functions of it are there, and would go with it.
    VirtualFunctions {
        /// How many.
        count: u32,
    },
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = &self.of;
        match &self.by {
            Use::Mounted { at } => write!(f, "{of} is mounted on {}", at.display()),
            Use::Swap => write!(f, "{of} is swapped to"),
            Use::Volume { name } => write!(f, "{of} is part of {name}"),
            Use::Open { pid, command } => write!(f, "{of} is open in process {pid} ({command})"),
            Use::Exclusive => write!(f, "{of} is held by the kernel"),
            Use::Up => write!(f, "{of} is up"),
            Use::VirtualFunctions { count } => write!(f, "{of} has {count} virtual functions"),
        }
    }
}

impl Sysfs {
    /// What of the host depends on the function at `address`, as far as can be told without touching devices.
    pub fn holders(&self, address: PciAddress) -> Result<Vec<Holder>, HwError> {
        let path = self.function_path(address);
        let mut holders = Vec::new();
        if let Some(real) = present(&path, fs::canonicalize(&path))? {
            let blocks = self.below(&self.path("sys/class/block"), &real)?;
            self.mounted(&blocks, &mut holders)?;
            self.swapped(&blocks, &mut holders)?;
            self.built_upon(&blocks, &mut holders)?;
            self.interfaces_up(&real, &mut holders)?;
        }
        let count = path.join("sriov_numvfs");
        let count = if count.exists() { self.number(&count)? } else { 0 };
        if count > 0 {
            holders.push(Holder { of: address.to_string(), by: Use::VirtualFunctions { count } });
        }
        holders.sort_unstable();
        holders.dedup();
        Ok(holders)
    }

    /// Who has block devices of the function at `address` open: processes, and the kernel by other ways than
    /// [`Self::holders`] knows. Needs the right to look into all processes; opens the block devices for an instant.
    pub fn openers(&self, address: PciAddress) -> Result<Vec<Holder>, HwError> {
        let path = self.function_path(address);
        let Some(real) = present(&path, fs::canonicalize(&path))? else { return Ok(Vec::new()) };
        let blocks = self.below(&self.path("sys/class/block"), &real)?;
        let mut holders = Vec::new();
        if !blocks.is_empty() {
            self.open_in_processes(&blocks, &mut holders)?;
            self.exclusively_open(&blocks, &mut holders)?;
        }
        Ok(holders)
    }

    /// The devices of a class that belong to the function whose directory is `real`.
    fn below(&self, class: &Path, real: &Path) -> Result<Vec<String>, HwError> {
        let mut found = Vec::new();
        for name in self.list(class)?.unwrap_or_default() {
            let link = class.join(&name);
            let Some(device) = present(&link, fs::canonicalize(&link))? else { continue };
            if device.starts_with(real) || self.is_multipath_of(&device, real)? {
                found.push(name);
            }
        }
        Ok(found)
    }

    /// Whether `device` is a namespace of an NVMe subsystem that the function's controller belongs to: with native multipath
    /// the block devices hang below the subsystem, beside links to the controllers.
    fn is_multipath_of(&self, device: &Path, real: &Path) -> Result<bool, HwError> {
        let in_subsystem = |path: &&Path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("nvme-subsys"))
        };
        let Some(subsystem) = device.ancestors().find(in_subsystem) else { return Ok(false) };
        for name in self.list(subsystem)?.unwrap_or_default() {
            let link = subsystem.join(name);
            let controller =
                link.is_symlink().then(|| present(&link, fs::canonicalize(&link))).transpose()?;
            if controller.flatten().is_some_and(|controller| controller.starts_with(real)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn mounted(&self, blocks: &[String], holders: &mut Vec<Holder>) -> Result<(), HwError> {
        let file = self.path("proc/self/mountinfo");
        let text = self.text(&file)?.ok_or_else(|| unreadable(&file, std::io::ErrorKind::NotFound.into()))?;
        for line in text.lines() {
            // `36 35 98:0 /root /mount/point options … - fstype source options` (proc(5)).
            let mut fields = line.split(' ');
            let (number, at) = (fields.nth(2), fields.nth(1));
            let source = line.split(" - ").nth(1).and_then(|rest| rest.split(' ').nth(1));
            let (Some(number), Some(at), Some(source)) = (number, at, source) else {
                return Err(unreadable(&file, std::io::ErrorKind::InvalidData.into()));
            };
            // By device number, or by name: filesystems on several devices have a number of their own.
            let source = self.block_of_node(&unescaped(source));
            for block in blocks {
                let own_number = self.text(&self.path("sys/class/block").join(block).join("dev"))?;
                if own_number.as_deref() == Some(number) || source.as_deref() == Some(block) {
                    let by = Use::Mounted { at: unescaped(at).into() };
                    holders.push(Holder { of: block.clone(), by });
                }
            }
        }
        Ok(())
    }

    fn swapped(&self, blocks: &[String], holders: &mut Vec<Holder>) -> Result<(), HwError> {
        // No such file in kernels without swap.
        let text = self.text(&self.path("proc/swaps"))?.unwrap_or_default();
        for line in text.lines().skip(1) {
            let node = line.split_whitespace().next().map(unescaped).unwrap_or_default();
            let block = self.block_of_node(&node).filter(|block| blocks.contains(block));
            holders.extend(block.map(|of| Holder { of, by: Use::Swap }));
        }
        Ok(())
    }

    fn built_upon(&self, blocks: &[String], holders: &mut Vec<Holder>) -> Result<(), HwError> {
        for block in blocks {
            let class = self.path("sys/class/block");
            for volume in self.list(&class.join(block).join("holders"))?.unwrap_or_default() {
                let given = self.text(&class.join(&volume).join("dm/name"))?;
                let name = given.map_or(volume.clone(), |given| format!("{volume} ({given})"));
                holders.push(Holder { of: block.clone(), by: Use::Volume { name } });
            }
        }
        Ok(())
    }

    fn interfaces_up(&self, real: &Path, holders: &mut Vec<Holder>) -> Result<(), HwError> {
        /// `IFF_UP` (netdevice(7)).
        const UP: u32 = 1;
        let class = self.path("sys/class/net");
        for name in self.below(&class, real)? {
            if self.number(&class.join(&name).join("flags"))? & UP != 0 {
                holders.push(Holder { of: name, by: Use::Up });
            }
        }
        Ok(())
    }

    fn open_in_processes(&self, blocks: &[String], holders: &mut Vec<Holder>) -> Result<(), HwError> {
        let nodes: BTreeSet<_> = blocks.iter().map(|block| Path::new("/dev").join(block)).collect();
        let processes = self.path("proc");
        for pid in self.list(&processes)?.unwrap_or_default() {
            let Ok(number) = pid.parse::<u32>() else { continue };
            let process = processes.join(&pid);
            // A process that has ended meanwhile holds nothing.
            for descriptor in self.list(&process.join("fd"))?.unwrap_or_default() {
                let target = self.link(&process.join("fd").join(descriptor))?;
                let Some(node) = target.filter(|target| nodes.contains(target)) else { continue };
                let command = self.text(&process.join("comm"))?.unwrap_or_default();
                let of = name_of(&node).unwrap_or_default();
                holders.push(Holder { of, by: Use::Open { pid: number, command } });
            }
        }
        holders.dedup();
        Ok(())
    }

    fn exclusively_open(&self, blocks: &[String], holders: &mut Vec<Holder>) -> Result<(), HwError> {
        use rustix::fs::{FileType, Mode, OFlags, open, stat};
        for block in blocks {
            let node = self.path("dev").join(block);
            let is_block =
                |stat: rustix::fs::Stat| FileType::from_raw_mode(stat.st_mode) == FileType::BlockDevice;
            if !stat(&node).is_ok_and(is_block) {
                continue;
            }
            // An exclusive open of a block device fails when the kernel, or somebody who asked, has it (open(2), O_EXCL).
            match open(&node, OFlags::RDONLY | OFlags::EXCL | OFlags::CLOEXEC, Mode::empty()) {
                Err(rustix::io::Errno::BUSY) => {
                    holders.push(Holder { of: block.clone(), by: Use::Exclusive })
                }
                // No medium, or gone: nothing that could be held.
                Ok(_)
                | Err(rustix::io::Errno::NXIO | rustix::io::Errno::NODEV | rustix::io::Errno::NOMEDIUM) => {}
                Err(errno) => return Err(unreadable(&node, errno.into())),
            }
        }
        Ok(())
    }

    /// The kernel's name of the block device that a node stands for, through links such as `/dev/mapper/x` and `/dev/disk/by-id/y`.
    fn block_of_node(&self, node: &str) -> Option<String> {
        let below = Path::new(node).strip_prefix("/").ok().filter(|below| below.starts_with("dev"))?;
        let node = self.root.join(below);
        name_of(&fs::canonicalize(&node).unwrap_or(node))
    }
}

/// A path as `/proc` writes it: space, tab, newline and backslash as a backslash and three octal digits.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let octal =
            after.get(..3).filter(|_| byte == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        if let Some(value) = octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            bytes.push(value);
            rest = after.get(3..).unwrap_or_default();
        } else {
            bytes.push(byte);
            rest = after;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
#[test]
fn escaped_paths_are_read_back() {
    assert_eq!(unescaped(r"/srv/my\040disk\134x\04"), r"/srv/my disk\x\04");
}
