//! Request codes (sections "Front-end message types" and "Back-end message types").

/// An enumeration of request codes from one table of variant, number and the document's name (less `VHOST_USER_`).
macro_rules! requests {
    ($($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $raw:literal, $text:literal;)+ })+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u32)]
        pub enum $name {
            $($(#[$variant_doc])* $variant = $raw,)+
        }

        impl $name {
            /// The request with this code, or `None` if the document has none such.
            #[must_use]
            pub const fn from_raw(raw: u32) -> Option<Self> {
                match raw {
                    $($raw => Some(Self::$variant),)+
                    _ => None,
                }
            }

            /// The document's name for it, without its `VHOST_USER_` or `VHOST_USER_BACKEND_`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }
        }
    )+};
}

requests! {
    /// What a front-end asks of a back-end.
    FrontendRequest {
        /// Ask for the virtio features offered.
        GetFeatures = 1, "GET_FEATURES";
        /// Say which of them are in use.
        SetFeatures = 2, "SET_FEATURES";
        /// Take the session.
        SetOwner = 3, "SET_OWNER";
        /// Deprecated: give the session up; once used to stop all rings.
        ResetOwner = 4, "RESET_OWNER";
        /// Replace the whole memory table.
        SetMemTable = 5, "SET_MEM_TABLE";
        /// Give the dirty log.
        SetLogBase = 6, "SET_LOG_BASE";
        /// Give the eventfd that says that the dirty log has changed.
        SetLogFd = 7, "SET_LOG_FD";
        /// Size of a ring.
        SetVringNum = 8, "SET_VRING_NUM";
        /// Addresses of a ring.
        SetVringAddr = 9, "SET_VRING_ADDR";
        /// Index from which a ring goes on.
        SetVringBase = 10, "SET_VRING_BASE";
        /// Stop a ring and ask for the index that it had reached.
        GetVringBase = 11, "GET_VRING_BASE";
        /// Eventfd by which the driver notifies.
        SetVringKick = 12, "SET_VRING_KICK";
        /// Eventfd by which the device interrupts.
        SetVringCall = 13, "SET_VRING_CALL";
        /// Eventfd by which the device tells of an error.
        SetVringErr = 14, "SET_VRING_ERR";
        /// Ask for the protocol features offered.
        GetProtocolFeatures = 15, "GET_PROTOCOL_FEATURES";
        /// Say which of them are in use.
        SetProtocolFeatures = 16, "SET_PROTOCOL_FEATURES";
        /// Ask how many rings there may be.
        GetQueueNum = 17, "GET_QUEUE_NUM";
        /// Enable or disable a ring.
        SetVringEnable = 18, "SET_VRING_ENABLE";
        /// Announce a migrated guest's address.
        SendRarp = 19, "SEND_RARP";
        /// Maximum transmission unit of the guest.
        NetSetMtu = 20, "NET_SET_MTU";
        /// Socket for the back-end's own requests.
        SetBackendReqFd = 21, "SET_BACKEND_REQ_FD";
        /// Update or invalidate translations.
        IotlbMsg = 22, "IOTLB_MSG";
        /// Byte order of a ring.
        SetVringEndian = 23, "SET_VRING_ENDIAN";
        /// Read configuration space.
        GetConfig = 24, "GET_CONFIG";
        /// Write configuration space.
        SetConfig = 25, "SET_CONFIG";
        /// Create a crypto session.
        CreateCryptoSession = 26, "CREATE_CRYPTO_SESSION";
        /// Close a crypto session.
        CloseCryptoSession = 27, "CLOSE_CRYPTO_SESSION";
        /// Post-copy migration may come.
        PostcopyAdvise = 28, "POSTCOPY_ADVISE";
        /// Post-copy migration starts.
        PostcopyListen = 29, "POSTCOPY_LISTEN";
        /// Post-copy migration is over.
        PostcopyEnd = 30, "POSTCOPY_END";
        /// Ask for a region that tracks what is in flight.
        GetInflightFd = 31, "GET_INFLIGHT_FD";
        /// Hand that region back to a new session.
        SetInflightFd = 32, "SET_INFLIGHT_FD";
        /// Socket of the GPU protocol.
        GpuSetSocket = 33, "GPU_SET_SOCKET";
        /// Reset the device: all rings disabled, state initial.
        ResetDevice = 34, "RESET_DEVICE";
        /// A notification as a message.
        VringKick = 35, "VRING_KICK";
        /// Ask how many memory regions there may be.
        GetMaxMemSlots = 36, "GET_MAX_MEM_SLOTS";
        /// Add one memory region.
        AddMemReg = 37, "ADD_MEM_REG";
        /// Remove one memory region.
        RemMemReg = 38, "REM_MEM_REG";
        /// The device status field as the driver wrote it.
        SetStatus = 39, "SET_STATUS";
        /// Read the device status field.
        GetStatus = 40, "GET_STATUS";
        /// Ask for a shared object.
        GetSharedObject = 41, "GET_SHARED_OBJECT";
        /// Descriptor through which internal state is transferred.
        SetDeviceStateFd = 42, "SET_DEVICE_STATE_FD";
        /// Ask how that transfer ended.
        CheckDeviceState = 43, "CHECK_DEVICE_STATE";
    }

    /// What a back-end asks of a front-end, on the socket of `SET_BACKEND_REQ_FD`.
    BackendRequest {
        /// Report a translation that is missing.
        IotlbMsg = 1, "IOTLB_MSG";
        /// Configuration space has changed.
        ConfigChangeMsg = 2, "CONFIG_CHANGE_MSG";
        /// A doorbell to map into the guest.
        VringHostNotifierMsg = 3, "VRING_HOST_NOTIFIER_MSG";
        /// An interrupt as a message.
        VringCall = 4, "VRING_CALL";
        /// An error as a message.
        VringErr = 5, "VRING_ERR";
        /// Publish a shared object.
        SharedObjectAdd = 6, "SHARED_OBJECT_ADD";
        /// Withdraw a shared object.
        SharedObjectRemove = 7, "SHARED_OBJECT_REMOVE";
        /// Ask for a shared object.
        SharedObjectLookup = 8, "SHARED_OBJECT_LOOKUP";
    }
}
