//! Sessions with back-ends that can less, or more, than ours: just enough of one to answer what is asked of it.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::thread::JoinHandle;

use vfiomux_spec::virtio::features::RING_PACKED;

use super::*;

/// The vhost-user specification's numbers.
const GET_FEATURES: u32 = 1;
const SET_FEATURES: u32 = 2;
const GET_VRING_BASE: u32 = 11;
const GET_PROTOCOL_FEATURES: u32 = 15;
const GET_QUEUE_NUM: u32 = 17;
const GET_CONFIG: u32 = 24;
const VERSION: u32 = 1;
const REPLY: u32 = 1 << 2;
const NEED_REPLY: u32 = 1 << 3;
const PROTOCOL_MQ: u64 = 1 << 0;
const PROTOCOL_REPLY_ACK: u64 = 1 << 3;
const PROTOCOL_CONFIG: u64 = 1 << 9;

/// A back-end's abilities.
#[derive(Debug, Clone, Copy)]
struct Able {
    features: u64,
    protocol_features: u64,
    /// How much of a configuration space it has.
    config_bytes: usize,
}

/// The least that a disk can be.
const PLAIN: Able = Able {
    features: VERSION_1 | VHOST_USER_PROTOCOL_FEATURES,
    protocol_features: PROTOCOL_CONFIG,
    config_bytes: 36,
};

const SHAPE: Shape = Shape { queues: 1, requests: 4, request_bytes: 4096 };

/// Answers one session, as a back-end of these abilities would. Returns the features that were agreed on.
fn serve(path: &Path, able: Able) -> JoinHandle<u64> {
    let listener = UnixListener::bind(path).unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut agreed = 0;
        loop {
            let mut header = [0; 12];
            // A plain read leaves descriptors behind, which nobody here needs. The end of the session is no error.
            if stream.read_exact(&mut header).is_err() {
                return agreed;
            }
            let [request, flags, size] = header.as_chunks::<4>().0 else { unreachable!("twelve bytes") };
            let [request, flags, size] = [request, flags, size].map(|word| u32::from_le_bytes(*word));
            let mut body = vec![0; size as usize];
            stream.read_exact(&mut body).unwrap();
            let number = |number: u64| Some(number.to_le_bytes().to_vec());
            let answer = match request {
                GET_FEATURES => number(able.features),
                GET_PROTOCOL_FEATURES => number(able.protocol_features),
                GET_QUEUE_NUM => number(2),
                GET_VRING_BASE => Some(body),
                GET_CONFIG => config(&body, able),
                SET_FEATURES => {
                    agreed = u64::from_le_bytes(body.try_into().unwrap());
                    acknowledged(flags)
                }
                _ => acknowledged(flags),
            };
            if let Some(answer) = answer {
                let words = [request, VERSION | REPLY, answer.len() as u32].map(u32::to_le_bytes);
                stream.write_all(&[&words.concat()[..], &answer].concat()).unwrap();
            }
        }
    })
}

fn acknowledged(flags: u32) -> Option<Vec<u8>> {
    (flags & NEED_REPLY != 0).then(|| vec![0; 8])
}

/// What was asked of the configuration space; nothing but a header of zeroes, as QEMU does, when that is more than there is.
fn config(body: &[u8], able: Able) -> Option<Vec<u8>> {
    let asked = u32::from_le_bytes(body[4..8].try_into().unwrap()) as usize;
    if asked > able.config_bytes {
        return Some(vec![0; 12]);
    }
    let mut answer = body.to_vec();
    answer[12..20].copy_from_slice(&2048u64.to_le_bytes());
    Some(answer)
}

/// Connects and stops again. Returns the features that both sides agree on.
fn agreed_with(able: Able, shape: &Shape) -> Result<u64, FrontendError> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk.sock");
    let server = serve(&path, able);
    let session = Session::connect(&path, shape)?;
    let (agreed, capacity) = (session.features(), session.config().capacity.get());
    session.stop()?;
    assert_eq!((server.join().unwrap(), capacity), (agreed, 2048));
    Ok(agreed)
}

#[test]
fn a_back_end_without_queues_acknowledgements_indirect_tables_or_event_indices_will_do() {
    assert_eq!(agreed_with(PLAIN, &SHAPE).unwrap(), VERSION_1 | VHOST_USER_PROTOCOL_FEATURES);
}

#[test]
fn a_back_end_that_can_more_is_asked_only_for_what_is_understood() {
    let able = Able {
        features: u64::MAX,
        protocol_features: PROTOCOL_CONFIG | PROTOCOL_MQ | PROTOCOL_REPLY_ACK,
        config_bytes: 256,
    };
    let agreed = agreed_with(able, &Shape { queues: 2, ..SHAPE }).unwrap();
    assert_eq!(agreed & RING_PACKED, 0);
    assert_ne!(agreed & RING_INDIRECT_DESC, 0);
}

#[test]
fn a_back_end_without_multiple_queues_has_one() {
    let refused = agreed_with(PLAIN, &Shape { queues: 2, ..SHAPE });
    assert!(matches!(refused, Err(FrontendError::Queues { wanted: 2, available: 1 })), "{refused:?}");
}

#[test]
fn what_is_no_disk_is_refused_with_a_question() {
    let refused = agreed_with(Able { protocol_features: 0, ..PLAIN }, &SHAPE);
    assert!(refused.unwrap_err().to_string().ends_with("is it a vhost-user-blk socket?"));
    let refused = agreed_with(Able { features: VERSION_1, ..PLAIN }, &SHAPE);
    assert!(matches!(refused, Err(FrontendError::Lacks(_))), "{refused:?}");
}
