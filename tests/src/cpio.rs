//! The archive format of an initramfs: cpio "newc" (kernel: Documentation/driver-api/early-userspace/buffer-format.rst).

use std::collections::BTreeMap;
use std::io::{self, Write};

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;

/// A tree of files to be written as one archive. Parent directories come by themselves.
#[derive(Debug, Default)]
pub(crate) struct Archive {
    /// By path without a leading slash; a directory sorts before what lies in it.
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    mode: u32,
    content: Vec<u8>,
}

impl Archive {
    /// Adds a file, or replaces it.
    pub(crate) fn file(&mut self, path: &str, permissions: u32, content: Vec<u8>) {
        let path = path.trim_start_matches('/');
        for (slash, _) in path.match_indices('/') {
            self.directory(&path[..slash]);
        }
        self.entries.insert(path.to_owned(), Entry { mode: REGULAR | permissions, content });
    }

    /// Adds an empty directory.
    pub(crate) fn directory(&mut self, path: &str) {
        let path = path.trim_start_matches('/').to_owned();
        self.entries.entry(path).or_insert(Entry { mode: DIRECTORY | 0o755, content: Vec::new() });
    }

    /// Writes the archive.
    pub(crate) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        for (inode, (path, entry)) in (1..).zip(&self.entries) {
            write_entry(out, inode, path, entry)?;
        }
        write_entry(out, 0, "TRAILER!!!", &Entry { mode: 0, content: Vec::new() })
    }
}

fn write_entry(out: &mut impl Write, inode: u32, path: &str, entry: &Entry) -> io::Result<()> {
    let too_large = |_| io::Error::other(format!("{path} is too large for a cpio archive"));
    let size = u32::try_from(entry.content.len()).map_err(too_large)?;
    let name_size = u32::try_from(path.len() + 1).map_err(too_large)?;
    let links = if entry.mode & DIRECTORY != 0 { 2 } else { 1 };

    // c_ino, c_mode, c_uid, c_gid, c_nlink, c_mtime, c_filesize, c_maj, c_min, c_rmaj, c_rmin, c_namesize, c_chksum
    write!(out, "070701")?;
    for field in [inode, entry.mode, 0, 0, links, 0, size, 0, 0, 0, 0, name_size, 0] {
        write!(out, "{field:08x}")?;
    }
    out.write_all(path.as_bytes())?;
    // The name's NUL, then zeros up to a multiple of four counted from the header's start (110 bytes long).
    let header_and_name = 110 + path.len() + 1;
    out.write_all(&[0; 4][..1 + padding(header_and_name)])?;
    out.write_all(&entry.content)?;
    out.write_all(&[0; 3][..padding(entry.content.len())])
}

fn padding(length: usize) -> usize {
    length.next_multiple_of(4) - length
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_lists_directories_before_their_files_and_ends_in_the_trailer() {
        let mut archive = Archive::default();
        archive.file("/a/b/file", 0o644, b"hello".to_vec());
        let mut bytes = Vec::new();
        archive.write(&mut bytes).expect("a vector takes every byte");

        let names: Vec<_> = ["a", "a/b", "a/b/file", "TRAILER!!!"].to_vec();
        let mut rest = bytes.as_slice();
        for name in names {
            assert_eq!(&rest[..6], b"070701");
            assert_eq!(&rest[110..110 + name.len()], name.as_bytes());
            let hex = |range: std::ops::Range<usize>| {
                usize::from_str_radix(std::str::from_utf8(&rest[range]).expect("ASCII"), 16)
                    .expect("hexadecimal")
            };
            let data = (110 + hex(94..102)).next_multiple_of(4);
            rest = &rest[data + hex(54..62).next_multiple_of(4)..];
        }
        assert!(rest.is_empty());
    }
}
