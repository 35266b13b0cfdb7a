//! For whom places at a device are kept free for a moment.
//!
//! Whoever sends one request at a time has nothing to go on with in the breath in which one has ended: its guest has to see that first.
//! The place that it leaves would be given away there and then, and where commands were sent together, and so end together, all
//! others with it: what its guest asks for a moment later would wait for one of them to end, as long as a command takes.
//!
//! ```text
//!   its turn                          7/8 of what          its command      its next turn, or as long
//!      │                              that takes               ends           later as places are kept
//!      └──────────────────────────────────┴─────────────────────┴──────────────────┘
//!                                         └────────── a quarter of the window is its own
//! ```
//!
//! So when one who was behind its reservation, and will be again, has nothing at the device any more, a quarter of the window is given to
//! nobody who is not behind its own, for as long as a guest needs to ask again, and a little before: what is sent just before an end is
//! there after it. That is more than one place, since a window is larger than what a device works on at once: what it has beyond that
//! would take a single place that is left.
//!
//! What is lost by it is bounded. Places are kept for one client at a time, for an eighth of what its command takes and a quarter of that twice at
//! most, before an end that is late and after it; and one who does not come in that time is waited for half as often each time, down to once in 64.

/// Places are kept no longer than this.
const KEPT_NS_MAX: u64 = 250_000;
/// What takes longer than a second takes a second.
const TAKES_NS_MAX: u64 = 1_000_000_000;
/// Who comes late so often is waited for no less often from then on.
const IN_VAIN_MAX: u32 = 6;

/// For whom places are kept.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    whose: Whose,
    /// Of whom the rest tells.
    of: u16,
    /// How often in a row they were kept in vain.
    in_vain: u32,
    /// So often they are not kept before they are again.
    passes: u32,
    /// What its turns take until all that went is done, in the mean; 0 before the first.
    takes_ns: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Whose {
    #[default]
    Nobody,
    /// Somebody who was behind its reservation, had its last turn at a time, and has commands at the device.
    Busy(u16, u64),
    /// The same, who has none any more, and until when places are kept.
    Away(u16, u64),
}

impl Kept {
    /// Somebody who had no commands at the device was behind its reservation, and had its turn.
    pub(crate) fn went(&mut self, place: u16, now_ns: u64) {
        match self.whose {
            // One at a time, unless that one seems to send more than one.
            Whose::Away(whose, _) if whose != place => return,
            Whose::Busy(whose, since_ns)
                if whose != place && now_ns.saturating_sub(since_ns) < self.given_up_after_ns() =>
            {
                return;
            }
            Whose::Away(..) => (self.in_vain, self.passes) = (0, 0),
            Whose::Nobody | Whose::Busy(..) => {}
        }
        if self.of != place {
            *self = Self { of: place, ..Self::default() };
        }
        self.whose = Whose::Busy(place, now_ns);
    }

    /// Whose commands at the device are asked about.
    pub(crate) fn whose(&self) -> Option<u16> {
        match self.whose {
            Whose::Nobody => None,
            Whose::Busy(place, _) | Whose::Away(place, _) => Some(place),
        }
    }

    /// Nobody is waited for any more: there is room for all. What is known of whoever was stays.
    pub(crate) fn pause(&mut self) {
        self.whose = Whose::Nobody;
    }

    /// Nothing is known of somebody any more, whose place may be another's next.
    pub(crate) fn forget(&mut self, place: u16) {
        if self.of == place {
            *self = Self::default();
        }
    }

    /// Whether places are kept now. Once a breath; told whether that one has commands at the device, and when its next claim on its
    /// reservation is due: before that it comes with the others.
    pub(crate) fn are_kept(&mut self, has_commands: bool, claim_ns: u64, now_ns: u64) -> bool {
        match self.whose {
            Whose::Busy(_, since_ns) if has_commands => {
                let ends_ns = since_ns.saturating_add(self.takes_ns);
                let until_ns = ends_ns.saturating_add(self.kept_ns());
                let soon = ends_ns - self.takes_ns / 8..until_ns;
                self.takes_ns > 0 && self.passes == 0 && claim_ns <= until_ns && soon.contains(&now_ns)
            }
            Whose::Busy(place, since_ns) => {
                let took_ns = now_ns.saturating_sub(since_ns).clamp(1, TAKES_NS_MAX);
                self.takes_ns = if self.takes_ns == 0 { took_ns } else { (7 * self.takes_ns + took_ns) / 8 };
                let until_ns = now_ns.saturating_add(self.kept_ns());
                self.whose = Whose::Nobody;
                if claim_ns > until_ns {
                    return false;
                }
                if self.passes > 0 {
                    self.passes -= 1;
                    return false;
                }
                self.whose = Whose::Away(place, until_ns);
                true
            }
            Whose::Away(_, until_ns) if now_ns >= until_ns => {
                self.in_vain = (self.in_vain + 1).min(IN_VAIN_MAX);
                self.passes = (1 << self.in_vain) - 1;
                self.whose = Whose::Nobody;
                false
            }
            Whose::Away(..) => true,
            Whose::Nobody => false,
        }
    }

    /// How long places are kept: for no more than a part of what its command takes, or a quick device would stand by most of the time.
    fn kept_ns(&self) -> u64 {
        (self.takes_ns / 4).min(KEPT_NS_MAX)
    }

    /// Whose commands have not ended for so long is no longer waited for, if there is somebody else.
    fn given_up_after_ns(&self) -> u64 {
        if self.takes_ns == 0 { TAKES_NS_MAX } else { 2 * self.takes_ns }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What its commands take.
    const TAKES_NS: u64 = 1_000_000;
    const KEPT_NS: u64 = TAKES_NS / 4;

    /// One whose commands are known to take that long, and which has had a turn.
    fn known(place: u16, now_ns: u64) -> Kept {
        let mut kept = Kept { of: place, takes_ns: TAKES_NS, ..Kept::default() };
        kept.went(place, now_ns);
        kept
    }

    #[test]
    fn places_are_kept_from_just_before_the_end_until_the_next_turn() {
        let mut kept = Kept::default();
        assert!(!kept.are_kept(false, 0, 0));
        kept.went(3, 0);
        assert_eq!(kept.whose(), Some(3));
        assert!(!kept.are_kept(true, 0, TAKES_NS - 1), "nothing is known of it yet");
        assert!(kept.are_kept(false, 0, TAKES_NS) && kept.are_kept(false, 0, TAKES_NS + KEPT_NS - 1));
        let from_ns = TAKES_NS + KEPT_NS;
        kept.went(3, from_ns);
        assert!(!kept.are_kept(true, 0, from_ns + TAKES_NS * 7 / 8 - 1));
        assert!(kept.are_kept(true, 0, from_ns + TAKES_NS * 7 / 8));
        // What takes much longer than it did is not waited for.
        assert!(!kept.are_kept(true, 0, from_ns + TAKES_NS + KEPT_NS));
    }

    #[test]
    fn who_does_not_come_in_time_is_waited_for_ever_more_seldom() {
        let mut kept = Kept::default();
        let (mut now_ns, mut waited) = (0, 0);
        for _ in 0..1_000 {
            kept.went(3, now_ns);
            now_ns += TAKES_NS;
            waited += u32::from(kept.are_kept(false, 0, now_ns));
            now_ns += 2 * KEPT_NS;
            assert!(!kept.are_kept(false, 0, now_ns));
        }
        assert!((15..25).contains(&waited), "{waited}");
        // Once it comes in time it is waited for each time.
        while !kept.are_kept(false, 0, now_ns) {
            kept.went(3, now_ns);
        }
        for _ in 0..10 {
            kept.went(3, now_ns);
            assert!(kept.are_kept(false, 0, now_ns));
        }
    }

    #[test]
    fn who_is_not_behind_its_reservation_when_it_is_back_is_not_waited_for() {
        let mut kept = known(3, 0);
        let late_ns = TAKES_NS + KEPT_NS + 1;
        assert!(!kept.are_kept(true, late_ns, TAKES_NS - 1) && !kept.are_kept(false, late_ns, TAKES_NS));
        assert_eq!((kept.whose(), kept.passes, kept.in_vain), (None, 0, 0), "nor held to have come late");
        kept.went(3, 0);
        assert!(
            kept.are_kept(true, late_ns - 1, TAKES_NS - 1) && kept.are_kept(false, late_ns - 1, TAKES_NS)
        );
    }

    #[test]
    fn a_quick_device_does_not_stand_by_for_long() {
        let mut kept = Kept { of: 3, takes_ns: 80_000, ..Kept::default() };
        kept.went(3, 0);
        assert!(
            !kept.are_kept(true, 0, 69_999)
                && kept.are_kept(true, 0, 99_999)
                && !kept.are_kept(true, 0, 100_000)
        );
        assert!(kept.are_kept(false, 0, 80_000) && !kept.are_kept(false, 0, 100_000));
    }

    #[test]
    fn one_at_a_time_is_waited_for_while_it_comes() {
        let mut kept = known(3, 0);
        kept.went(4, 10);
        assert_eq!(kept.whose(), Some(3));
        assert!(kept.are_kept(false, 0, TAKES_NS));
        kept.went(4, TAKES_NS + 10);
        assert_eq!(kept.whose(), Some(3));
        assert!(!kept.are_kept(false, 0, TAKES_NS + KEPT_NS));
        kept.went(4, TAKES_NS + KEPT_NS);
        assert_eq!(
            (kept.whose(), kept.takes_ns, kept.in_vain),
            (Some(4), 0, 0),
            "it is not held to what another did"
        );
    }

    #[test]
    fn who_sends_more_than_one_makes_way() {
        let mut kept = known(3, 0);
        kept.went(4, 2 * TAKES_NS - 1);
        assert_eq!(kept.whose(), Some(3));
        kept.went(4, 2 * TAKES_NS);
        assert_eq!(kept.whose(), Some(4));
    }

    #[test]
    fn a_pause_is_neither_a_long_command_nor_a_wait_in_vain() {
        let mut kept = known(3, 0);
        kept.pause();
        assert!(!kept.are_kept(false, 0, 100 * TAKES_NS));
        assert_eq!((kept.takes_ns, kept.in_vain), (TAKES_NS, 0));
        kept.forget(3);
        assert_eq!(kept.takes_ns, 0);
    }
}
