//! What changes whole namespaces: Format NVM and Sanitize.

use std::time::Duration;

use vfiomux_spec::nvme::SubmissionEntry;
use vfiomux_spec::nvme::command::{SANITIZE_BLOCK_ERASE, SANITIZE_CRYPTO_ERASE};
use vfiomux_spec::nvme::log::{
    SANITIZE_FAILED, SANITIZE_RUNNING, SANITIZE_STATUS, SanitizeLog, SanitizeStatus,
};

use super::Controller;
use crate::clock::Deadline;
use crate::{Namespace, NvmeError};

/// How often a sanitize operation is asked how far it is.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// How thoroughly a format destroys what was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SecureErase {
    /// Not on purpose.
    #[default]
    None,
    /// User data is erased.
    UserData,
    /// The key that user data was encrypted with is destroyed.
    Cryptographic,
}

impl Controller {
    /// Formats a namespace with blocks of `block_bytes` and without metadata. All its data is lost; on some controllers
    /// ([`super::Info::format_affects_all`]) that of all others too. Nothing may be in flight on it.
    pub fn format(
        &mut self,
        nsid: u32,
        block_bytes: u32,
        erase: SecureErase,
    ) -> Result<&Namespace, NvmeError> {
        if !self.abilities.format {
            return Err(self.unsupported("Format NVM; use namespaces as they are"));
        }
        if erase == SecureErase::Cryptographic && !self.abilities.crypto_format {
            return Err(self.unsupported("cryptographic erase; choose an erase of user data"));
        }
        let served = self.namespaces.iter().map(|namespace| (namespace.id, &namespace.formats));
        let skipped = self.skipped.iter().map(|namespace| (namespace.id, &namespace.formats));
        let (_, formats) = served
            .chain(skipped)
            .find(|&(id, _)| id == nsid)
            .ok_or_else(|| NvmeError::NoSuchNamespace { controller: self.name(), nsid })?;
        let fitting = formats.iter().filter(|format| format.block_bytes == block_bytes);
        let format = fitting.min_by_key(|format| format.relative_performance).ok_or_else(|| {
            let sizes: Vec<String> = formats.iter().map(|format| format.block_bytes.to_string()).collect();
            self.unsupported(format!(
                "blocks of {block_bytes} bytes on namespace {nsid}; it has {}",
                sizes.join(", ")
            ))
        })?;
        let erase = match erase {
            SecureErase::None => 0,
            SecureErase::UserData => 1,
            SecureErase::Cryptographic => 2,
        };
        let command = SubmissionEntry::format_nvm(nsid, format.index, erase);
        self.execute("Format NVM", command, self.options.media_timeout)?
            .map_err(|status| self.refused("Format NVM", status))?;
        self.rescan_namespaces()?;
        self.namespaces
            .iter()
            .find(|namespace| namespace.id == nsid)
            .ok_or_else(|| NvmeError::NoSuchNamespace { controller: self.name(), nsid })
    }

    /// Erases all namespaces of the NVM subsystem beyond recovery, by destroying keys where the controller can, else by block erase, and
    /// waits until that is done. Nothing may be in flight.
    pub fn sanitize(&mut self) -> Result<(), NvmeError> {
        let able = self.abilities.sanitize;
        let action = if able.crypto_erase() {
            SANITIZE_CRYPTO_ERASE
        } else if able.block_erase() {
            SANITIZE_BLOCK_ERASE
        } else {
            return Err(self.unsupported("Sanitize; format it, or overwrite it"));
        };
        self.command("Sanitize", SubmissionEntry::sanitize(action))?;
        let timeout = self.options.media_timeout;
        let deadline = Deadline::after(&*self.clock, timeout);
        loop {
            match self.sanitize_log()?.map(|log| SanitizeStatus::from_bits(log.status.get()).outcome()) {
                Some(SANITIZE_RUNNING) => {}
                Some(SANITIZE_FAILED) => {
                    return Err(self.unsupported("finishing Sanitize: it reports a failure"));
                }
                _ => return Ok(()),
            }
            if deadline.passed(&*self.clock) {
                return Err(NvmeError::Timeout {
                    controller: self.name(),
                    step: "its sanitize operation",
                    timeout,
                });
            }
            self.clock.pause(PROGRESS_EVERY);
        }
    }

    pub(super) fn sanitize_log(&mut self) -> Result<Option<SanitizeLog>, NvmeError> {
        self.read_log(SANITIZE_STATUS, size_of::<SanitizeLog>())
    }
}
