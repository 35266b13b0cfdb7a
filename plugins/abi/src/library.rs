#![warn(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_lossless)]

use core::fmt;

/// Why a file is not a library that can be loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotALibrary {
    /// It is not in ELF.
    Format,
    /// It is in ELF, but not a shared library for a 64-bit little-endian machine.
    Kind,
    /// It ends before what its headers speak of.
    Truncated {
        /// How long it is.
        found_bytes: u64,
        /// How long it must be at least.
        needed_bytes: u64,
    },
}

impl fmt::Display for NotALibrary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Format => write!(f, "it is no library: it does not begin as an ELF file does"),
            Self::Kind => {
                write!(
                    f,
                    "it is no shared library for this machine; build it with crate-type cdylib, or cc -shared"
                )
            }
            Self::Truncated { found_bytes, needed_bytes } => write!(
                f,
                "it is cut short: it has {found_bytes} bytes, and its headers speak of {needed_bytes}; copy it again"
            ),
        }
    }
}

impl core::error::Error for NotALibrary {}

/// Whether a file's bytes can be handed to `dlopen`. That maps what the headers speak of without asking whether the file is
/// as long, so that a library cut short is a bus error when it is first touched, and no error that could be returned.
///
/// # Errors
/// [`NotALibrary`], which says what is wrong with it.
pub fn check_library(file: &[u8]) -> Result<(), NotALibrary> {
    if file.get(..4) != Some(b"\x7fELF") {
        return Err(NotALibrary::Format);
    }
    let found_bytes = u64::try_from(file.len()).unwrap_or(u64::MAX);
    let cut = |needed_bytes| NotALibrary::Truncated { found_bytes, needed_bytes };
    // ELF-64 file header: 64 bytes. e_ident[4] class, [5] byte order; e_type at 16; e_phoff at 32, e_shoff at 40;
    // e_phentsize, e_phnum, e_shentsize, e_shnum from 54.
    if file.len() < 64 {
        return Err(cut(64));
    }
    if file.get(4..6) != Some(&[2, 1]) || half(file, 16) != Some(3) {
        return Err(NotALibrary::Kind);
    }
    let field = |at| word(file, at).ok_or(cut(64));
    let count = |at| half(file, at).map(u64::from).ok_or(cut(64));
    let (segments, segment_bytes, segments_count) = (field(32)?, count(54)?, count(56)?);
    let (sections, section_bytes, sections_count) = (field(40)?, count(58)?, count(60)?);
    // A sum that would not fit is beyond the end of any file.
    let end_of = u64::saturating_add;
    let mut needed_bytes = end_of(segments, segment_bytes * segments_count)
        .max(end_of(sections, section_bytes * sections_count));
    // Program header: p_offset at 8, p_filesz at 32.
    for index in 0..segments_count {
        let at = usize::try_from(end_of(segments, index * segment_bytes)).unwrap_or(usize::MAX);
        let (Some(offset), Some(bytes)) =
            (word(file, at.saturating_add(8)), word(file, at.saturating_add(32)))
        else {
            break;
        };
        needed_bytes = needed_bytes.max(end_of(offset, bytes));
    }
    if needed_bytes > found_bytes { Err(cut(needed_bytes)) } else { Ok(()) }
}

fn half(file: &[u8], at: usize) -> Option<u16> {
    file.get(at..)?.first_chunk().copied().map(u16::from_le_bytes)
}

fn word(file: &[u8], at: usize) -> Option<u64> {
    file.get(at..)?.first_chunk().copied().map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file header, one program header and a segment of 16 bytes behind them.
    fn library() -> [u8; 136] {
        let mut file = [0; 136];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[16] = 3;
        file[32] = 64;
        file[54] = 56;
        file[56] = 1;
        file[64 + 8] = 120;
        file[64 + 32] = 16;
        file
    }

    #[test]
    fn a_whole_library_is_one() {
        assert_eq!(check_library(&library()), Ok(()));
    }

    #[test]
    fn a_library_cut_short_anywhere_is_said_to_be() {
        for length in 4..136 {
            assert!(
                matches!(check_library(&library()[..length]), Err(NotALibrary::Truncated { .. })),
                "{length}"
            );
        }
        let error = check_library(&library()[..130]).unwrap_err();
        assert_eq!(error, NotALibrary::Truncated { found_bytes: 130, needed_bytes: 136 });
    }

    #[test]
    fn another_file_is_none() {
        assert_eq!(check_library(b"#!/bin/sh\n"), Err(NotALibrary::Format));
        assert_eq!(check_library(b""), Err(NotALibrary::Format));
        let mut program = library();
        program[16] = 2;
        assert_eq!(check_library(&program), Err(NotALibrary::Kind));
        let mut other_class = library();
        other_class[4] = 1;
        assert_eq!(check_library(&other_class), Err(NotALibrary::Kind));
    }

    #[test]
    fn headers_full_of_large_numbers_are_a_library_cut_short() {
        let mut file = library();
        file[32..48].fill(0xff);
        file[54..62].fill(0xff);
        assert!(matches!(check_library(&file), Err(NotALibrary::Truncated { .. })));
    }
}
