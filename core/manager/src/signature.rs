//! What stands on a device before it is ours: so that nobody's data is formatted away unseen.

/// How much of a device's beginning is looked at, bytes.
pub const PROBED_BYTES: usize = 2 << 20;

/// One mark that a format leaves: bytes at an offset.
struct Mark {
    name: &'static str,
    at: usize,
    bytes: &'static [u8],
}

const fn mark(name: &'static str, at: usize, bytes: &'static [u8]) -> Mark {
    Mark { name, at, bytes }
}

/// From the most particular to the least. Offsets and values are those of each format's own documentation.
const MARKS: &[Mark] = &[
    mark("a GPT partition table", 512, b"EFI PART"),
    mark("a GPT partition table", 4096, b"EFI PART"),
    mark("an LVM physical volume", 512, b"LABELONE"),
    mark("an LVM physical volume", 0, b"LABELONE"),
    mark("an LVM physical volume", 1024, b"LABELONE"),
    mark("an LVM physical volume", 1536, b"LABELONE"),
    mark("a LUKS container", 0, b"LUKS\xba\xbe"),
    mark("a Linux RAID member", 4096, &[0xfc, 0x4e, 0x2b, 0xa9]),
    mark("a Linux RAID member", 0, &[0xfc, 0x4e, 0x2b, 0xa9]),
    mark("an ext2, ext3 or ext4 filesystem", 1080, &[0x53, 0xef]),
    mark("an XFS filesystem", 0, b"XFSB"),
    mark("a btrfs filesystem", 65600, b"_BHRfS_M"),
    mark("an F2FS filesystem", 1024, &[0x10, 0x20, 0xf5, 0xf2]),
    mark("a swap area", 4086, b"SWAPSPACE2"),
    mark("a SPDK blobstore", 0, b"SPDKBLOB"),
    mark("a Ceph BlueStore device", 0, b"bluestore block device"),
    mark("a VDO volume", 0, b"dmvdo001"),
    mark("a Stratis pool", 512, b"!Stra0tis\x86\xff\x02^\x41rh"),
    mark("a bcache device", 4120, &[0xc6, 0x85, 0x73, 0xf6, 0x4e, 0x1a, 0x45, 0xca]),
    mark("an NTFS filesystem", 3, b"NTFS    "),
    mark("an exFAT filesystem", 3, b"EXFAT   "),
    mark("a FAT filesystem", 54, b"FAT"),
    mark("a FAT filesystem", 82, b"FAT32"),
    mark("an ISO 9660 filesystem", 32769, b"CD001"),
    mark("a squashfs filesystem", 0, b"hsqs"),
    mark("an EROFS filesystem", 1024, &[0xe2, 0xe1, 0xf5, 0xe0]),
    mark("an MBR partition table", 510, &[0x55, 0xaa]),
];

/// ZFS: a ring of uberblocks from 128 KiB on, each beginning with this number in the order of the pool's maker.
const ZFS_UBERBLOCK: u64 = 0x00ba_b10c;

/// Names what the first bytes of a device hold; `None` when they are all zero.
#[must_use]
pub fn found(head: &[u8]) -> Option<&'static str> {
    let holds = |mark: &&Mark| head.get(mark.at..).is_some_and(|rest| rest.starts_with(mark.bytes));
    if let Some(mark) = MARKS.iter().find(holds) {
        return Some(mark.name);
    }
    let zfs = |block: &[u8]| {
        let word = block.first_chunk::<8>().copied().unwrap_or_default();
        u64::from_le_bytes(word) == ZFS_UBERBLOCK || u64::from_be_bytes(word) == ZFS_UBERBLOCK
    };
    if head.get(128 << 10..256 << 10).is_some_and(|ring| ring.chunks(1024).any(zfs)) {
        return Some("a ZFS pool member");
    }
    head.iter().any(|&byte| byte != 0).then_some("data of an unknown kind")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blank_device_holds_nothing() {
        assert_eq!(found(&vec![0; PROBED_BYTES]), None);
    }

    #[test]
    fn each_mark_is_found_where_its_format_puts_it() {
        for mark in MARKS {
            let mut head = vec![0; PROBED_BYTES];
            head[mark.at..][..mark.bytes.len()].copy_from_slice(mark.bytes);
            assert_eq!(found(&head), Some(mark.name));
        }
    }

    #[test]
    fn a_zfs_uberblock_is_found_in_either_byte_order() {
        for bytes in [ZFS_UBERBLOCK.to_le_bytes(), ZFS_UBERBLOCK.to_be_bytes()] {
            let mut head = vec![0; PROBED_BYTES];
            head[(128 << 10) + 7 * 1024..][..8].copy_from_slice(&bytes);
            assert_eq!(found(&head), Some("a ZFS pool member"));
        }
    }

    #[test]
    fn anything_else_is_data_of_an_unknown_kind() {
        let mut head = vec![0; PROBED_BYTES];
        head[PROBED_BYTES - 1] = 1;
        assert_eq!(found(&head), Some("data of an unknown kind"));
    }
}
