//! virtio: what a guest driver and a device agree on, as *Virtual I/O Device (VIRTIO) Version 1.3* defines it.
//!
//! Everything here is little-endian, the only byte order a modern (`VERSION_1`) device knows. Structures are made of
//! unaligned little-endian integers, so they can be read from any byte slice; rings and descriptors in guest memory are
//! instead read word by word, and [`split::Descriptor::from_words`] turns two such words into a descriptor.

pub mod blk;
pub mod device;
pub mod features;
pub mod split;
