//! For whom places at a device are kept free for a moment.
//!
//! Whoever sends one request at a time has nothing to go on with in the breath in which one has ended: its guest has to see that first.
//! The place that it leaves would be given away there and then, and where commands were sent together, and so end together, all
//! others with it: what its guest asks for a moment later would wait for one of them to end, as long as a command takes.
//!
//! ```text
//!   its turn                          7/8 of what          its command      its next turn, or 250 us later
//!      │                              that takes               ends                │
//!      └──────────────────────────────────┴─────────────────────┴──────────────────┘
//!                                         └────────── a quarter of the window is its own
//! ```
//!
//! So when one who was behind its reservation has nothing at the device any more, a quarter of the window is given to nobody who is not
//! behind its own, for as long as a guest needs to ask again, and a little before: what is sent just before an end is there after it. That is
//! more than one place, since a window is larger than what a device works on at once: what it has beyond that would take a single
//! place that is left.
//!
//! What is lost by it is bounded twice. It is for one channel at a time, no longer than [`KEPT_NS`] and an eighth of what its command takes; and
//! one who does not come in that time is waited for half as often each time, down to once in 64.

/// Places are kept for so long: a turn's time.
const KEPT_NS: u64 = 250_000;
/// What takes longer than a second takes a second.
const TAKES_NS_MAX: u64 = 1_000_000_000;
/// Who comes late so often is waited for no less often from then on.
const IN_VAIN_MAX: u32 = 6;

/// For whom places are kept.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    whose: Whose,
    /// How often in a row they were kept in vain.
    in_vain: u32,
    /// So often they are not kept before they are again.
    passes: u32,
    /// What turns take until all that went is done, in the mean; 0 before the first.
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
    /// Somebody was behind its reservation, and had its turn.
    pub(crate) fn went(&mut self, place: u16, now_ns: u64) {
        match self.whose {
            // One at a time.
            Whose::Away(whose, _) if whose != place => return,
            Whose::Away(..) => (self.in_vain, self.passes) = (0, 0),
            Whose::Busy(whose, _) if whose != place => self.takes_ns = 0,
            Whose::Nobody | Whose::Busy(..) => {}
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

    /// Whether places are kept now. Once a breath; told whether that one has commands at the device.
    pub(crate) fn are_kept(&mut self, has_commands: bool, now_ns: u64) -> bool {
        match self.whose {
            Whose::Busy(_, since_ns) if has_commands => {
                let since_ns = now_ns.saturating_sub(since_ns);
                let soon = self.takes_ns - self.takes_ns / 8..self.takes_ns + KEPT_NS;
                self.takes_ns > 0 && self.passes == 0 && soon.contains(&since_ns)
            }
            Whose::Busy(place, since_ns) => {
                let took_ns = now_ns.saturating_sub(since_ns).clamp(1, TAKES_NS_MAX);
                self.takes_ns = if self.takes_ns == 0 { took_ns } else { (7 * self.takes_ns + took_ns) / 8 };
                let passes = self.passes > 0;
                self.passes = self.passes.saturating_sub(1);
                self.whose =
                    if passes { Whose::Nobody } else { Whose::Away(place, now_ns.saturating_add(KEPT_NS)) };
                !passes
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
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What its commands take.
    const TAKES_NS: u64 = 1_000_000;

    #[test]
    fn places_are_kept_from_just_before_the_end_until_the_next_turn() {
        let mut kept = Kept::default();
        assert!(!kept.are_kept(false, 0));
        kept.went(3, 0);
        assert_eq!(kept.whose(), Some(3));
        assert!(!kept.are_kept(true, TAKES_NS - 1), "nothing is known of it yet");
        assert!(kept.are_kept(false, TAKES_NS) && kept.are_kept(false, TAKES_NS + KEPT_NS - 1));
        // Another one's turn does not end it.
        kept.went(4, TAKES_NS + 10);
        assert!(kept.are_kept(false, TAKES_NS + KEPT_NS - 1));
        let from_ns = TAKES_NS + KEPT_NS;
        kept.went(3, from_ns);
        assert!(!kept.are_kept(true, from_ns + TAKES_NS * 7 / 8 - 1));
        assert!(kept.are_kept(true, from_ns + TAKES_NS * 7 / 8));
        // What takes much longer than it did is not waited for.
        assert!(!kept.are_kept(true, from_ns + TAKES_NS + KEPT_NS));
    }

    #[test]
    fn who_does_not_come_in_time_is_waited_for_ever_more_seldom() {
        let mut kept = Kept::default();
        let (mut now_ns, mut waited) = (0, 0);
        for _ in 0..1_000 {
            kept.went(3, now_ns);
            now_ns += TAKES_NS;
            waited += u32::from(kept.are_kept(false, now_ns));
            now_ns += 2 * KEPT_NS;
            assert!(!kept.are_kept(false, now_ns));
        }
        assert!((15..25).contains(&waited), "{waited}");
        // Once it comes in time it is waited for each time.
        while !kept.are_kept(false, now_ns) {
            kept.went(3, now_ns);
        }
        for _ in 0..10 {
            kept.went(3, now_ns);
            assert!(kept.are_kept(false, now_ns));
        }
    }
}
