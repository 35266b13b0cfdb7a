//! Feature bits that every device type shares (virtio 1.3 section 6), as masks over the 64-bit feature word.

/// Legacy: the device notifies when the ring runs empty, even if notifications are suppressed. Never offered here.
pub const NOTIFY_ON_EMPTY: u64 = 1 << 24;
/// vhost: the back-end can log the pages it dirties (vhost-user: Migration). Not seen by the guest.
pub const VHOST_LOG_ALL: u64 = 1 << 26;
/// Legacy: the device makes no assumption about how a request is spread over descriptors; implied by [`VERSION_1`].
pub const ANY_LAYOUT: u64 = 1 << 27;
/// A descriptor may point at a table of further descriptors (virtio 1.3 2.7.5.3).
pub const RING_INDIRECT_DESC: u64 = 1 << 28;
/// `used_event` and `avail_event` say at which index to notify (virtio 1.3 2.7.7 and 2.7.10).
pub const RING_EVENT_IDX: u64 = 1 << 29;
/// vhost-user: the back-end understands `GET_PROTOCOL_FEATURES`. Not seen by the guest.
pub const VHOST_USER_PROTOCOL_FEATURES: u64 = 1 << 30;
/// The device follows virtio 1.0 or later.
pub const VERSION_1: u64 = 1 << 32;
/// Addresses in the rings go through the platform's address translation (an IOMMU in the guest).
pub const ACCESS_PLATFORM: u64 = 1 << 33;
/// Packed virtqueues (virtio 1.3 2.8).
pub const RING_PACKED: u64 = 1 << 34;
/// Buffers are used in the order in which they were made available (virtio 1.3 2.7.9).
pub const IN_ORDER: u64 = 1 << 35;
/// Driver and device order memory accesses as the platform asks for real devices.
pub const ORDER_PLATFORM: u64 = 1 << 36;
/// Single Root I/O Virtualization.
pub const SR_IOV: u64 = 1 << 37;
/// The driver passes extra data in its notifications (virtio 1.3 2.9).
pub const NOTIFICATION_DATA: u64 = 1 << 38;
/// The driver passes data that the device chose in its notifications.
pub const NOTIF_CONFIG_DATA: u64 = 1 << 39;
/// The driver can reset one virtqueue (virtio 1.3 2.6.1).
pub const RING_RESET: u64 = 1 << 40;
/// Administration virtqueues (virtio 1.3 2.13).
pub const ADMIN_VQ: u64 = 1 << 41;

/// The bits that belong to the vhost protocol rather than to the virtio device, and which no guest driver acknowledges.
pub const VHOST_OWNED: u64 = VHOST_LOG_ALL | VHOST_USER_PROTOCOL_FEATURES;
