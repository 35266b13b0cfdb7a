//! Device identifiers (virtio 1.3 section 5) and the device status field (virtio 1.3 2.1).

/// Device identifier of a network card.
pub const ID_NET: u32 = 1;
/// Device identifier of a block device.
pub const ID_BLOCK: u32 = 2;

/// Status: a guest has found the device.
pub const STATUS_ACKNOWLEDGE: u8 = 1;
/// Status: the guest knows how to drive it.
pub const STATUS_DRIVER: u8 = 2;
/// Status: the driver is set up and drives the device.
pub const STATUS_DRIVER_OK: u8 = 4;
/// Status: the driver has acknowledged its features; they no longer change.
pub const STATUS_FEATURES_OK: u8 = 8;
/// Status: the device is suspended.
pub const STATUS_SUSPEND: u8 = 16;
/// Status: the device has met an error from which it cannot recover without a reset.
pub const STATUS_DEVICE_NEEDS_RESET: u8 = 64;
/// Status: the driver has given up on the device.
pub const STATUS_FAILED: u8 = 128;
