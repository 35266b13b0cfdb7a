//! The vhost-user codec: a message in, a reply out.

use std::hint::black_box;

use vfiomux_spec::vhost_user::{FrontendRequest, Header, VERSION};
use vfiomux_spec::virtio::features;
use vfiomux_vhost::{Device, Session};
use zerocopy::IntoBytes;

use crate::{OPERATIONS, counted};

/// A session, and bytes that a front-end says over and over.
#[derive(Debug)]
pub struct Messages {
    session: Session,
    message: Vec<u8>,
}

impl Messages {
    /// A front-end that asks for the features: the shortest message that is answered.
    #[must_use]
    pub fn get_features() -> Self {
        let device = Device {
            features: features::VERSION_1 | features::RING_INDIRECT_DESC | features::RING_EVENT_IDX,
            protocol_features: Device::PROTOCOL_FEATURES,
            rings_max: 4,
            ring_size_max: 1024,
            config: vec![0; 60],
            config_writable: 0..0,
        };
        let header = Header { request: FrontendRequest::GetFeatures as u32, flags: VERSION, size: 0 };
        let message = header.as_bytes().to_vec();
        Self { session: Session::new(device).expect("a session"), message }
    }

    /// Each message is decoded, and its reply encoded.
    pub fn run(&mut self) {
        let Self { session, message } = self;
        let mut replies = 0;
        // The session's trace has grown to its full length after a while, and memory is used over again from then on.
        for _ in 0..OPERATIONS {
            session.feed(message, Vec::new());
            while session.next_output().is_some() {}
        }
        counted(&mut || {
            for _ in 0..OPERATIONS {
                session.feed(black_box(message), Vec::new());
                while let Some(frame) = session.next_output() {
                    black_box(frame);
                    replies += 1;
                }
            }
        });
        assert_eq!(replies, OPERATIONS);
    }
}
