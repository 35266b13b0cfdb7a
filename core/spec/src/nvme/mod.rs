//! NVMe as the standards define it: NVMe Base 2.0c, NVM Command Set 1.0c, NVMe over PCIe Transport 1.0c.
//!
//! | module       | what it holds                                                                |
//! |--------------|------------------------------------------------------------------------------|
//! | [`register`] | controller properties: offsets, `CAP`, `CC`, `CSTS`, …, and doorbell offsets |
//! | [`queue`]    | the 64-byte submission entry and the 16-byte completion entry                |
//! | [`opcode`]   | admin and NVM opcodes                                                        |
//! | [`status`]   | the status field, its codes, and their names                                 |
//! | [`command`]  | constructors for the commands we send, and the dwords they are made of       |
//! | [`identify`] | what a controller and its namespaces say of themselves                       |
//! | [`feature`]  | Get and Set Features                                                         |
//! | [`log`]      | log pages, and the asynchronous events that point at them                    |
//! | [`sgl`]      | scatter-gather descriptors                                                   |
//!
//! Sections are cited by the standard's own numbers; "NVM" marks the command set's document and "PCIe" the transport's.

#![warn(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_lossless)]

pub mod command;
pub mod feature;
pub mod identify;
pub mod log;
pub mod opcode;
pub mod queue;
pub mod register;
pub mod sgl;
pub mod status;

pub use opcode::{AdminOpcode, NvmOpcode};
pub use queue::{CompletionEntry, SubmissionEntry};
pub use status::{Status, StatusField};

/// The namespace identifier that names every namespace at once (NVMe 2.0c 3.2.1).
pub const NSID_ALL: u32 = 0xffff_ffff;

/// The highest identifier that a namespace can have (NVMe 2.0c 3.2.1.4).
pub const NSID_MAX: u32 = 0xffff_fffe;

/// The admin queue pair's identifier.
pub const ADMIN_QUEUE_ID: u16 = 0;
