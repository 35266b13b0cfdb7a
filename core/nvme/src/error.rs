use std::time::Duration;

use vfiomux_hw::HwError;
use vfiomux_spec::nvme::Status;

/// What can go wrong on the control side. The message is what an operator reads.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NvmeError {
    /// The function under the controller failed.
    #[error(transparent)]
    Hw(HwError),
    /// The controller left: its registers no longer answer.
    #[error(
        "{controller} is gone: its registers no longer answer; plug it in again, or destroy its channels and release it"
    )]
    Gone {
        /// Name of the function.
        controller: String,
    },
    /// The controller says that it cannot go on.
    #[error(
        "{controller} reports a fatal internal error (CSTS.CFS) while {step}; reset it, and replace it if that recurs"
    )]
    Fatal {
        /// Name of the function.
        controller: String,
        /// What was being done, as a phrase.
        step: &'static str,
    },
    /// The controller did not do something in its time.
    #[error(
        "{controller} did not finish {step} within {timeout:?}; reset it, and power-cycle it if that does not help"
    )]
    Timeout {
        /// Name of the function.
        controller: String,
        /// What was being done, as a phrase.
        step: &'static str,
        /// How long it was given.
        timeout: Duration,
    },
    /// The controller is of a kind that this driver cannot use.
    #[error("{controller} cannot be used: {reason}")]
    Unusable {
        /// Name of the function.
        controller: String,
        /// What is missing, worded whole.
        reason: String,
    },
    /// The controller refused an admin command.
    #[error("{controller} refused {command}: {status}")]
    Refused {
        /// Name of the function.
        controller: String,
        /// The command, by the standard's name.
        command: &'static str,
        /// The controller's answer.
        status: Status,
    },
    /// The controller is stopped or broken, and must be restarted first.
    #[error("{controller} is not running; reset it first (device reset), or release and claim it again")]
    Stopped {
        /// Name of the function.
        controller: String,
    },
    /// All queues of a kind are in use.
    #[error(
        "{controller} grants {granted} {kind} queues and all are in use; let channels share one, or use fewer sidecores or channels"
    )]
    NoQueues {
        /// Name of the function.
        controller: String,
        /// `submission` or `completion`.
        kind: &'static str,
        /// How many there are.
        granted: u16,
    },
    /// A queue or lane was named that the controller does not have.
    #[error("{controller} has no {kind} queue {id}; it was deleted, or lost in a reset")]
    NoSuchQueue {
        /// Name of the function.
        controller: String,
        /// `submission` or `completion`.
        kind: &'static str,
        /// Its number.
        id: u16,
    },
    /// A completion queue cannot be deleted while lanes complete on it.
    #[error("completion queue {id} of {controller} still has {lanes} lanes; delete them first")]
    QueueInUse {
        /// Name of the function.
        controller: String,
        /// Its number.
        id: u16,
        /// How many lanes it has.
        lanes: usize,
    },
    /// A namespace was named that is not there or cannot be served.
    #[error("{controller} has no usable namespace {nsid}; see device show for what it has")]
    NoSuchNamespace {
        /// Name of the function.
        controller: String,
        /// The namespace.
        nsid: u32,
    },
    /// The controller lacks an optional function.
    #[error("{controller} does not support {function}")]
    Unsupported {
        /// Name of the function.
        controller: String,
        /// What it lacks, as a phrase.
        function: String,
    },
}

impl From<HwError> for NvmeError {
    /// A function that is gone and a controller that is gone are one thing.
    fn from(error: HwError) -> Self {
        match error {
            HwError::Gone { function } => Self::Gone { controller: function },
            other => Self::Hw(other),
        }
    }
}

/// Why a blocking transfer ([`crate::sync::BlockIo`]) failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IoError {
    /// The device ended the command badly.
    #[error("{operation} of {blocks} blocks at block {lba} failed: {status:?}")]
    Failed {
        /// What was done.
        operation: &'static str,
        /// First block.
        lba: u64,
        /// How many blocks.
        blocks: u32,
        /// How it ended.
        status: vfiomux_block::Status,
    },
    /// The device did not answer in time. The command may still be at work: end the lane before the buffer goes.
    #[error("{operation} at block {lba} did not finish within {timeout:?}; reset the device")]
    Timeout {
        /// What was done.
        operation: &'static str,
        /// First block.
        lba: u64,
        /// How long it was given.
        timeout: Duration,
    },
    /// The command could not be submitted.
    #[error("{operation} at block {lba} was not taken: {source}")]
    Submit {
        /// What was done.
        operation: &'static str,
        /// First block.
        lba: u64,
        /// Why.
        source: vfiomux_block::SubmitError,
    },
    /// The range lies outside the namespace, or the buffer is shorter than it.
    #[error("{operation} of {blocks} blocks at block {lba} lies outside the namespace or the buffer")]
    Range {
        /// What was done.
        operation: &'static str,
        /// First block.
        lba: u64,
        /// How many blocks.
        blocks: u64,
    },
    /// The device lacks the operation.
    #[error("the device has no {operation}")]
    Unsupported {
        /// What was wanted.
        operation: &'static str,
    },
}
