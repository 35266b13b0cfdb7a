use crate::{Amendments, Guarantees, Objective, RateLimit};
#[cfg(feature = "serde")]
use serde::{Deserialize, Serialize};

/// Some guarantees, by name, as a policy's configuration has them. What is not named is left as it is; 0 takes away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize), serde(default, deny_unknown_fields))]
pub struct Terms {
    /// Most operations of any kind.
    pub ops: Option<RateLimit>,
    /// Most bytes, read and written.
    pub bytes: Option<RateLimit>,
    /// Most read operations.
    pub read_ops: Option<RateLimit>,
    /// Most bytes read.
    pub read_bytes: Option<RateLimit>,
    /// Most operations that are no reads.
    pub write_ops: Option<RateLimit>,
    /// Most bytes written.
    pub write_bytes: Option<RateLimit>,
    /// Reads of 4 KiB a second, or what costs as much.
    pub reservation_ops: Option<u64>,
    /// Weight over what is left.
    pub share: Option<u32>,
    /// Latency target.
    pub objective: Option<Objective>,
}

impl Terms {
    /// The guarantees of a channel that is under these terms.
    #[must_use]
    pub fn over(&self, guarantees: &Guarantees) -> Guarantees {
        let limit = |named: Option<RateLimit>, present: Option<RateLimit>| match named {
            Some(limit) => Some(limit).filter(|limit| limit.per_second > 0),
            None => present,
        };
        Guarantees {
            ops: limit(self.ops, guarantees.ops),
            bytes: limit(self.bytes, guarantees.bytes),
            read_ops: limit(self.read_ops, guarantees.read_ops),
            read_bytes: limit(self.read_bytes, guarantees.read_bytes),
            write_ops: limit(self.write_ops, guarantees.write_ops),
            write_bytes: limit(self.write_bytes, guarantees.write_bytes),
            reservation_ops: self.reservation_ops.unwrap_or(guarantees.reservation_ops),
            share: self.share.map_or(guarantees.share, |share| Some(share).filter(|&share| share > 0)),
            objective: match self.objective {
                Some(objective) => Some(objective).filter(|objective| objective.latency_ns > 0),
                None => guarantees.objective,
            },
        }
    }

    /// What must change for these guarantees to be under these terms.
    #[must_use]
    pub fn amendments(&self, guarantees: &Guarantees) -> Amendments {
        Amendments::between(guarantees, &self.over(guarantees))
    }

    /// Whether all that the other names is named here too.
    #[must_use]
    pub fn names_all_of(&self, other: &Self) -> bool {
        self.named().iter().zip(other.named()).all(|(here, there)| *here || !there)
    }

    fn named(&self) -> [bool; 9] {
        [
            self.ops.is_some(),
            self.bytes.is_some(),
            self.read_ops.is_some(),
            self.read_bytes.is_some(),
            self.write_ops.is_some(),
            self.write_bytes.is_some(),
            self.reservation_ops.is_some(),
            self.share.is_some(),
            self.objective.is_some(),
        ]
    }

    /// What no guarantee can be, as a phrase.
    #[must_use]
    pub fn complaint(&self) -> Option<String> {
        if self.share.is_some_and(|share| share > Guarantees::SHARE_MAX) {
            return Some(format!("a share is at most {}", Guarantees::SHARE_MAX));
        }
        if self.objective.is_some_and(|objective| !(1..=999).contains(&objective.permille)) {
            return Some("an objective is for 1 to 999 of 1000 requests".to_owned());
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRESENT: Guarantees = Guarantees {
        ops: Some(RateLimit { per_second: 10, burst: Some(5) }),
        bytes: None,
        read_ops: None,
        read_bytes: None,
        write_ops: None,
        write_bytes: None,
        reservation_ops: 7,
        share: Some(3),
        objective: None,
    };

    #[test]
    fn what_is_not_named_stays() {
        let terms = Terms { reservation_ops: Some(9), ..Terms::default() };
        assert_eq!(terms.over(&PRESENT), Guarantees { reservation_ops: 9, ..PRESENT });
        assert_eq!(terms.amendments(&PRESENT), Amendments::none().reservation_ops(9));
        assert!(Terms::default().amendments(&PRESENT).is_empty());
    }

    #[test]
    fn what_is_named_0_goes() {
        let terms = Terms {
            ops: Some(RateLimit { per_second: 0, burst: None }),
            reservation_ops: Some(0),
            share: Some(0),
            ..Terms::default()
        };
        assert_eq!(terms.over(&PRESENT), Guarantees::default());
    }

    #[test]
    fn naming_is_compared_name_by_name() {
        let share = Terms { share: Some(1), ..Terms::default() };
        let both = Terms { reservation_ops: Some(1), ..share };
        assert!(both.names_all_of(&share) && !share.names_all_of(&both));
    }
}
