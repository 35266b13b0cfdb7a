//! What holds for every stream of messages, well-formed or hostile, however it is cut and whenever the owner answers.
//!
//! `PROPTEST_CASES` and `PROPTEST_RNG_SEED` set how long and from where; a failure prints the smallest stream found.

use std::collections::BTreeSet;

use crate::wire::{Descriptors, Said, block_device, reply, start_ring, success, told};
use proptest::prelude::*;
use proptest::sample::Index;
use vfiomux_spec::vhost_user::{ConfigHeader, FrontendRequest as R, Inflight};
use vfiomux_spec::virtio::features;
use vfiomux_vhost::{Action, Device, Outcome, Session, Token};
use zerocopy::IntoBytes;

fn config_for(cases: u32) -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(cases);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// Something that a front-end may want, whatever state things are in.
#[derive(Clone, Debug)]
enum Wish {
    /// Set a ring up and kick it, after stopping it if it runs.
    SetUp {
        ring: u32,
        base: u32,
    },
    Enable {
        ring: u32,
        on: bool,
    },
    Stop {
        ring: u32,
    },
    /// Replace an eventfd, or set it for the first time.
    Notifier {
        request: R,
        ring: u32,
        polled: bool,
    },
    /// Add a region if it is not there, remove it if it is.
    Region {
        slot: u64,
    },
    Table {
        regions: u64,
    },
    /// Reset in one of three ways.
    Reset(R),
    /// Something that does not depend on what has been.
    Say(Said),
}

fn wishes() -> impl Strategy<Value = Wish> {
    let notifiers = prop::sample::select(vec![R::SetVringKick, R::SetVringCall, R::SetVringErr]);
    let inflight = Inflight { num_queues: 2, queue_size: 64, ..Default::default() };
    let plain = prop::sample::select(vec![
        Said::new(R::GetFeatures, &[]),
        Said::new(R::GetMaxMemSlots, &[]),
        Said::new(R::GetStatus, &[]),
        Said::number(R::SetStatus, 15),
        Said::new(R::SetBackendReqFd, &[]).fds(1),
        Said::new(R::SetLogBase, &[0; 16]).fds(1),
        Said::with(R::GetInflightFd, &inflight),
    ]);
    let config = |request: R, offset: u32, bytes: &[u8]| {
        let header = ConfigHeader { offset, size: bytes.len() as u32, flags: 0 };
        Wish::Say(Said::new(request, &[header.as_bytes(), bytes].concat()).acked())
    };
    prop_oneof![
        3 => (0..2_u32, 0..4_u32).prop_map(|(ring, base)| Wish::SetUp { ring, base }),
        4 => (0..2_u32, any::<bool>()).prop_map(|(ring, on)| Wish::Enable { ring, on }),
        2 => (0..2_u32).prop_map(|ring| Wish::Stop { ring }),
        2 => (notifiers, 0..2_u32, any::<bool>())
            .prop_map(|(request, ring, polled)| Wish::Notifier { request, ring, polled }),
        2 => (0..4_u64).prop_map(|slot| Wish::Region { slot }),
        1 => (0..3_u64).prop_map(|regions| Wish::Table { regions }),
        1 => prop::sample::select(vec![R::ResetDevice, R::ResetOwner, R::SetStatus]).prop_map(Wish::Reset),
        3 => plain.prop_map(Wish::Say),
        1 => (20..40_u32).prop_map(move |offset| config(R::SetConfig, offset, &[1])),
        1 => (0..80_u32).prop_map(move |offset| config(R::GetConfig, offset, &[0; 60])),
    ]
}

/// What a front-end knows of a ring.
#[derive(Clone, Copy, Default)]
struct KnownRing {
    set_up: bool,
    kicked: bool,
    enabled: bool,
}

/// What a front-end that keeps to the protocol says to have its wishes fulfilled.
fn well_behaved(wishes: Vec<(Wish, bool)>) -> Vec<Said> {
    let bits = features::VERSION_1 | features::VHOST_USER_PROTOCOL_FEATURES;
    let mut stream = vec![
        Said::number(R::SetProtocolFeatures, Device::PROTOCOL_FEATURES),
        Said::number(R::SetFeatures, bits),
    ];
    let mut rings = [KnownRing::default(); 2];
    let mut slots = BTreeSet::new();
    for (wish, acked) in wishes {
        let messages = match wish {
            Wish::SetUp { ring, base } => {
                let known = &mut rings[ring as usize];
                let stop = (known.kicked && known.enabled).then(|| Said::state(R::GetVringBase, ring, 0));
                (known.set_up, known.kicked) = (true, true);
                stop.into_iter().chain(start_ring(ring, 64, base)).collect()
            }
            Wish::Enable { ring, on } => {
                rings[ring as usize].enabled = on;
                vec![Said::state(R::SetVringEnable, ring, u32::from(on))]
            }
            Wish::Stop { ring } => {
                rings[ring as usize].kicked = false;
                vec![Said::state(R::GetVringBase, ring, 0)]
            }
            Wish::Notifier { request, ring, polled } => {
                let known = &mut rings[ring as usize];
                known.kicked |= request == R::SetVringKick;
                let said = if polled { Said::polled } else { Said::notifier };
                vec![said(request, u64::from(ring))]
            }
            Wish::Region { slot } if slots.insert(slot) => vec![Said::add_region(slot << 20, 0x1000)],
            Wish::Region { slot } => {
                slots.remove(&slot);
                vec![Said::remove_region(slot << 20, 0x1000)]
            }
            Wish::Table { regions } => {
                slots = (0..regions).collect();
                let regions: Vec<_> = (0..regions).map(|slot| Said::region(slot << 20, 0x1000)).collect();
                vec![Said::mem_table(&regions)]
            }
            Wish::Reset(request) => {
                for known in &mut rings {
                    known.kicked = false;
                    if request == R::ResetDevice {
                        *known = KnownRing::default();
                    }
                }
                let status =
                    if request == R::SetStatus { Said::number(request, 0) } else { Said::new(request, &[]) };
                vec![status]
            }
            Wish::Say(said) => vec![said],
        };
        stream.extend(messages.into_iter().map(|said| if acked { said.acked() } else { said }));
    }
    stream
}

fn sane_stream() -> impl Strategy<Value = Vec<Said>> {
    prop::collection::vec((wishes(), any::<bool>()), 0..48).prop_map(well_behaved)
}

/// Sane messages of which some have been damaged, and pure noise.
fn hostile_stream() -> impl Strategy<Value = Vec<Said>> {
    let damage = (any::<Index>(), any::<Index>(), any::<u8>(), 0..10_usize);
    let damaged = (sane_stream(), prop::collection::vec(damage, 0..4)).prop_map(|(mut stream, damages)| {
        for (which, at, value, fds) in damages {
            let which = which.index(stream.len());
            let said = &mut stream[which];
            let at = at.index(said.bytes.len());
            said.bytes[at] = value;
            said.fds = if value % 3 == 0 { fds } else { said.fds };
        }
        stream
    });
    let noise = (prop::collection::vec(any::<u8>(), 1..64), 0..10_usize);
    let any_message = (0..50_u32, 0..16_u32, prop::collection::vec(any::<u8>(), 0..64), 0..3_usize)
        .prop_map(|(request, flags, payload, fds)| Said::raw(request, flags, &payload).fds(fds));
    prop_oneof![
        2 => damaged,
        1 => prop::collection::vec(any_message, 0..24),
        1 => prop::collection::vec(noise.prop_map(|(bytes, fds)| Said { bytes, fds }), 0..8),
    ]
}

/// A session that is watched: whatever happens, it must keep the rules of its own interface.
struct Watched {
    session: Session,
    descriptors: Descriptors,
    waiting: Vec<(Token, Action)>,
    running: BTreeSet<u16>,
    told: Vec<String>,
    replied: Vec<(R, Vec<u8>)>,
    ended: bool,
}

impl Watched {
    fn new() -> Self {
        Self {
            session: Session::new(block_device()).unwrap(),
            descriptors: Descriptors::new("property"),
            waiting: Vec::new(),
            running: BTreeSet::new(),
            told: Vec::new(),
            replied: Vec::new(),
            ended: false,
        }
    }

    fn look(&mut self) {
        while let Some(action) = self.session.next_action() {
            assert!(!self.ended, "an action after the end: {action:?}");
            self.told.push(told(&action));
            match &action {
                Action::StartRing { index, .. } => {
                    assert!(self.running.insert(*index), "ring {index} was started twice");
                }
                Action::StopRing { index, .. } => {
                    assert!(self.running.contains(index), "ring {index} was stopped without running");
                    let twice = self.waiting.iter().any(
                        |(_, other)| matches!(other, Action::StopRing { index: other, .. } if other == index),
                    );
                    assert!(!twice, "ring {index} was stopped twice");
                }
                Action::SetCall { index, .. }
                | Action::SetKick { index, .. }
                | Action::SetErr { index, .. } => {
                    assert!(self.running.contains(index), "ring {index} was changed without running");
                }
                Action::Ended(_) => self.ended = true,
                _ => {}
            }
            if let Some(token) = action.token() {
                self.waiting.push((token, action));
            }
        }
        assert_eq!(self.ended, self.session.is_ended());
        while let Some(frame) = self.session.next_output() {
            self.replied.push(reply(&frame));
        }
    }

    /// Answer the oldest action, with a failure if so chosen.
    fn answer(&mut self, fail: bool) {
        if self.waiting.is_empty() {
            return;
        }
        let (token, action) = self.waiting.remove(0);
        let outcome =
            if fail { Outcome::Failed(String::from("chosen")) } else { success(&action, &self.descriptors) };
        match (&action, &outcome) {
            (Action::StopRing { index, .. }, Outcome::RingStopped { .. }) => _ = self.running.remove(index),
            (Action::StartRing { index, .. }, Outcome::Failed(_)) => _ = self.running.remove(index),
            _ => {}
        }
        self.session.complete(token, outcome).unwrap();
        self.look();
    }

    fn answer_all(&mut self) {
        while !self.waiting.is_empty() {
            self.answer(false);
        }
    }

    fn feed(&mut self, bytes: &[u8], fds: usize) {
        self.session.feed(bytes, self.descriptors.take(fds));
        self.look();
    }
}

/// Cut a stream anywhere, with each message's descriptors at any of its bytes.
fn cut(stream: &[Said], cuts: &[Index]) -> Vec<Said> {
    let whole: Vec<u8> = stream.iter().flat_map(|said| said.bytes.clone()).collect();
    let mut at = BTreeSet::from([0]);
    let mut fds_at = std::collections::BTreeMap::new();
    let mut start = 0;
    for (said, cut) in stream.iter().zip(cuts.iter().cycle()) {
        if said.fds > 0 {
            let byte = start + cut.index(said.bytes.len());
            at.insert(byte);
            fds_at.insert(byte, said.fds);
        }
        start += said.bytes.len();
    }
    at.extend(cuts.iter().map(|cut| cut.index(whole.len())));
    let ends = at.iter().copied().skip(1).chain([whole.len()]);
    at.iter()
        .zip(ends)
        .map(|(&from, to)| Said {
            bytes: whole[from..to].to_vec(),
            fds: fds_at.get(&from).copied().unwrap_or_default(),
        })
        .collect()
}

/// The requests that are owed a reply, in order.
fn owed(stream: &[Said]) -> Vec<R> {
    let own_reply = |request| {
        matches!(
            request,
            R::GetFeatures
                | R::GetMaxMemSlots
                | R::GetStatus
                | R::GetConfig
                | R::GetInflightFd
                | R::GetVringBase
        )
    };
    stream
        .iter()
        .filter_map(|said| {
            let request = R::from_raw(u32::from(said.bytes[0]))?;
            let needs_reply = said.bytes[4] & 8 != 0;
            (needs_reply || own_reply(request)).then_some(request)
        })
        .collect()
}

proptest! {
    #![proptest_config(config_for(300))]

    #[test]
    fn the_same_stream_has_the_same_effect_however_it_is_cut(
        stream in sane_stream(),
        cuts in prop::collection::vec(any::<Index>(), 1..40),
    ) {
        let mut whole = Watched::new();
        for said in &stream {
            whole.feed(&said.bytes, said.fds);
            whole.answer_all();
        }
        let mut pieces = Watched::new();
        for piece in cut(&stream, &cuts) {
            pieces.feed(&piece.bytes, piece.fds);
            pieces.answer_all();
        }
        prop_assert_eq!(&whole.told, &pieces.told);
        prop_assert_eq!(&whole.replied, &pieces.replied);
    }

    #[test]
    fn the_same_stream_has_the_same_effect_whenever_the_owner_answers(
        stream in sane_stream(),
        patience in prop::collection::vec(0..4_usize, 1..20),
    ) {
        let mut prompt = Watched::new();
        for said in &stream {
            prompt.feed(&said.bytes, said.fds);
            prompt.answer_all();
        }
        let mut slow = Watched::new();
        for (said, answers) in stream.iter().zip(patience.iter().cycle()) {
            slow.feed(&said.bytes, said.fds);
            for _ in 0..*answers {
                slow.answer(false);
            }
        }
        slow.answer_all();
        prop_assert_eq!(&prompt.told, &slow.told);
        prop_assert_eq!(&prompt.replied, &slow.replied);
    }

    #[test]
    fn every_request_that_wants_a_reply_gets_one_and_in_order(stream in sane_stream()) {
        let mut watched = Watched::new();
        for said in &stream {
            watched.feed(&said.bytes, said.fds);
            watched.answer_all();
        }
        let replied: Vec<R> = watched.replied.iter().map(|(request, _)| *request).collect();
        let owed = owed(&stream);
        prop_assert!(!watched.ended, "{:?}", watched.told.last());
        prop_assert_eq!(owed, replied);
    }
}

proptest! {
    #![proptest_config(config_for(1000))]

    #[test]
    fn nothing_that_arrives_panics_or_leaks_a_descriptor(
        stream in hostile_stream(),
        cuts in prop::collection::vec(any::<Index>(), 1..20),
        answers in prop::collection::vec(prop::option::of(any::<bool>()), 1..20),
    ) {
        let mut watched = Watched::new();
        if !stream.is_empty() {
            for (piece, answer) in cut(&stream, &cuts).into_iter().zip(answers.iter().cycle()) {
                watched.feed(&piece.bytes, piece.fds);
                if let Some(fail) = answer {
                    watched.answer(*fail);
                }
            }
        }
        let Watched { session, descriptors, waiting, .. } = watched;
        drop((session, waiting));
        prop_assert_eq!(descriptors.open(), 0);
    }

    #[test]
    fn a_session_that_has_ended_holds_no_descriptor_but_those_of_its_rings(stream in hostile_stream()) {
        let mut watched = Watched::new();
        for said in &stream {
            watched.feed(&said.bytes, said.fds);
            watched.answer_all();
            watched.waiting.clear();
        }
        if watched.ended {
            // Kick, call and error of each ring.
            prop_assert!(watched.descriptors.open() <= 3 * 4);
        }
    }
}
