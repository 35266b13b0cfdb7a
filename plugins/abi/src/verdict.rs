/// Most bytes of a denial's reason; what is longer is cut.
pub const REASON_BYTES_MAX: usize = 1024;
/// Most amendments in one answer, and in one retune.
pub const AMENDMENTS_MAX: usize = 64;
/// Most retunes that one hook may give.
pub const RETUNES_MAX: usize = 4096;
/// Most bytes of state that a plugin may leave to its successor.
pub const STATE_BYTES_MAX: usize = 1 << 20;

/// What a hook answers. Any number may come back, and only these three mean something. Any other is no answer: the plugin is taken
/// for broken, its process is killed and started again, and what holds is what holds for a plugin that does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct RawVerdict(pub u32);

impl RawVerdict {
    /// As asked.
    pub const ALLOW: Self = Self(0);
    /// Not at all, with a reason given to the sink.
    pub const DENY: Self = Self(1);
    /// With the amendments that were given to the sink, in their order.
    pub const AMEND: Self = Self(2);
}

/// What an amendment may change. Any number may come back; one that the request does not have, or to a value that it cannot have,
/// makes the answer a denial that says so. Of new guarantees, it makes that retune nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Setting(pub u32);

impl Setting {
    /// A channel's size.
    pub const SIZE_BYTES: Self = Self(1);
    /// Most virtqueues that a front-end may start.
    pub const QUEUES: Self = Self(2);
    /// Writes are refused: 0 or 1.
    pub const READ_ONLY: Self = Self(3);
    /// Limit of operations of any kind; 0 takes it away, as for each limit that follows.
    pub const OPS: Self = Self(16);
    /// Operations that may go at once after a pause; 0 for what a tenth of a second is worth, as for each burst that follows.
    pub const OPS_BURST: Self = Self(17);
    /// Limit of bytes read and written.
    pub const BYTES: Self = Self(18);
    /// Bytes that may go at once after a pause.
    pub const BYTES_BURST: Self = Self(19);
    /// Limit of read operations.
    pub const READ_OPS: Self = Self(20);
    /// Read operations that may go at once after a pause.
    pub const READ_OPS_BURST: Self = Self(21);
    /// Limit of bytes read.
    pub const READ_BYTES: Self = Self(22);
    /// Bytes that may be read at once after a pause.
    pub const READ_BYTES_BURST: Self = Self(23);
    /// Limit of operations that are no reads.
    pub const WRITE_OPS: Self = Self(24);
    /// Operations that are no reads and may go at once after a pause.
    pub const WRITE_OPS_BURST: Self = Self(25);
    /// Limit of bytes written.
    pub const WRITE_BYTES: Self = Self(26);
    /// Bytes that may be written at once after a pause.
    pub const WRITE_BYTES_BURST: Self = Self(27);
    /// Promised minimum: reads of 4 KiB a second, or what costs as much; 0 for none.
    pub const RESERVATION_OPS: Self = Self(32);
    /// Weight over what is left, 1 to 10000; 0 for the usual weight.
    pub const SHARE: Self = Self(33);
    /// Latency target; 0 for none.
    pub const OBJECTIVE_LATENCY_NS: Self = Self(34);
    /// The part of requests, in thousandths, that must meet the latency target: 990 is the 99th percentile.
    pub const OBJECTIVE_PERMILLE: Self = Self(35);

    /// What the setting is called in files and messages; `None` for a number that is no setting.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        NAMES.iter().find(|(setting, _)| *setting == self).map(|(_, name)| *name)
    }

    /// Every setting that there is, with its name.
    pub fn all() -> impl Iterator<Item = (Self, &'static str)> {
        NAMES.into_iter()
    }

    /// The setting with a name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        NAMES.iter().find(|(_, known)| *known == name).map(|(setting, _)| *setting)
    }
}

/// cbindgen:ignore
const NAMES: [(Setting, &str); 19] = [
    (Setting::SIZE_BYTES, "size_bytes"),
    (Setting::QUEUES, "queues"),
    (Setting::READ_ONLY, "read_only"),
    (Setting::OPS, "ops"),
    (Setting::OPS_BURST, "ops_burst"),
    (Setting::BYTES, "bytes"),
    (Setting::BYTES_BURST, "bytes_burst"),
    (Setting::READ_OPS, "read_ops"),
    (Setting::READ_OPS_BURST, "read_ops_burst"),
    (Setting::READ_BYTES, "read_bytes"),
    (Setting::READ_BYTES_BURST, "read_bytes_burst"),
    (Setting::WRITE_OPS, "write_ops"),
    (Setting::WRITE_OPS_BURST, "write_ops_burst"),
    (Setting::WRITE_BYTES, "write_bytes"),
    (Setting::WRITE_BYTES_BURST, "write_bytes_burst"),
    (Setting::RESERVATION_OPS, "reservation_ops"),
    (Setting::SHARE, "share"),
    (Setting::OBJECTIVE_LATENCY_NS, "objective_latency_ns"),
    (Setting::OBJECTIVE_PERMILLE, "objective_permille"),
];

/// One setting, and the value that it must have, in its unit. It will not grow, and has no size of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Amendment {
    /// Which.
    pub setting: Setting,
    /// 0.
    pub reserved: u32,
    /// Its value.
    pub value: u64,
}

impl Amendment {
    /// The setting must have the value.
    #[must_use]
    pub const fn new(setting: Setting, value: u64) -> Self {
        Self { setting, reserved: 0, value }
    }
}
