use proptest::prelude::*;

use super::*;
use crate::seeded::turn_on;

fn holder(number: u8) -> Holder {
    Holder { id: format!("id-{number}"), name: format!("disk-{number}"), tenant: "acme".to_owned() }
}

fn book(ops: u64) -> Book {
    let mut book = Book::default();
    book.set_offer(Offer::Ops(ops));
    book
}

/// What racing operators do to a device's reservations.
#[derive(Debug, Clone, Copy)]
enum Act {
    /// A creation or a tune begins, and goes to ask the policies.
    Begin(u8, u64),
    /// It was allowed, and is in force.
    Finish(u8),
    /// It was denied, or could not be done.
    Fail(u8),
    /// The channel is destroyed.
    Destroy(u8),
    /// The daemon starts again: what was not in force is gone.
    Restart,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (0..6u8, 0..700u64).prop_map(|(who, ops)| Act::Begin(who, ops)),
        3 => (0..6u8).prop_map(Act::Finish),
        1 => (0..6u8).prop_map(Act::Fail),
        1 => (0..6u8).prop_map(Act::Destroy),
        1 => Just(Act::Restart),
    ]
}

/// Runs operators against a book, and gives the most that was ever in force together. What is in force is kept apart from the
/// book: the book is what is judged.
fn most_in_force(capacity_ops: u64, acts: &[Act]) -> u64 {
    let mut book = book(capacity_ops);
    let mut begun: BTreeMap<u8, u64> = BTreeMap::new();
    let mut in_force: BTreeMap<u8, u64> = BTreeMap::new();
    let mut most = 0;
    for act in acts {
        match *act {
            // One operation at a time on a channel.
            Act::Begin(who, ops) if !begun.contains_key(&who) => {
                if book.take(&holder(who), ops).is_ok() {
                    begun.insert(who, ops);
                }
            }
            Act::Begin(..) => {}
            Act::Finish(who) => {
                if let Some(ops) = begun.remove(&who) {
                    book.settle(&holder(who), ops);
                    in_force.insert(who, ops);
                }
            }
            Act::Fail(who) => {
                if begun.remove(&who).is_some() {
                    book.give_back(&holder(who).id);
                }
            }
            Act::Destroy(who) if !begun.contains_key(&who) => {
                in_force.remove(&who);
                book.release(&holder(who).id);
            }
            Act::Destroy(_) => {}
            Act::Restart => {
                begun.clear();
                book = self::book(capacity_ops);
                book.align(in_force.iter().map(|(who, ops)| (holder(*who), *ops)));
            }
        }
        most = most.max(in_force.values().sum());
    }
    most
}

proptest! {
    /// L5: whatever operators do at the same time, what is promised never exceeds what can be.
    #[test]
    fn racing_operators_never_get_more_than_there_is(acts in prop::collection::vec(act(), 1..80)) {
        prop_assert!(most_in_force(1000, &acts) <= 1000);
    }

    /// L5: what is free is free for somebody: a refusal says to the last operation what would have been taken.
    #[test]
    fn what_a_refusal_says_is_left_can_be_had(held in prop::collection::vec(0..400u64, 1..5), asked in 0..2000u64) {
        let mut book = book(1000);
        for (who, ops) in (0u8..).zip(held) {
            if book.take(&holder(who), ops).is_ok() {
                book.settle(&holder(who), ops);
            }
        }
        if let Err(short) = book.take(&holder(99), asked) {
            prop_assert!(short.free_ops < asked);
            prop_assert!(book.take(&holder(99), short.free_ops + 1).is_err());
            prop_assert!(book.take(&holder(99), short.free_ops).is_ok());
        }
    }
}

/// L5: the check sees two creations that look at the same room, when looking does not take it.
#[test]
fn looking_without_taking_is_caught() {
    turn_on(Some(Bug::CheckThenAct));
    let acts = [Act::Begin(0, 700), Act::Begin(1, 700), Act::Finish(0), Act::Finish(1)];
    let most = most_in_force(1000, &acts);
    turn_on(None);
    assert_eq!(most, 1400);
    assert_eq!(most_in_force(1000, &acts), 700);
}

#[test]
fn a_tune_holds_the_larger_of_what_it_has_and_what_it_may_get() {
    let mut book = book(1000);
    book.align([(holder(0), 600)]);
    book.take(&holder(0), 100).unwrap();
    // It may be denied, and then has its 600 again.
    assert!(book.take(&holder(1), 500).is_err());
    book.settle(&holder(0), 100);
    book.take(&holder(1), 900).unwrap();
    assert_eq!(book.held_ops(), 1000);
}

/// L5: the setting says the new number before the sidecore runs it.
#[test]
fn what_a_channel_had_is_nobody_elses_until_its_tune_is_in_force() {
    let mut book = book(1000);
    book.align([(holder(0), 900)]);
    book.take(&holder(0), 300).unwrap();
    book.align([(holder(0), 300)]);
    assert!(book.take(&holder(1), 400).is_err());
    book.give_back(&holder(0).id);
    book.align([(holder(0), 300)]);
    book.take(&holder(1), 400).unwrap();
}

#[test]
fn a_refusal_says_what_is_left_and_who_has_the_rest() {
    let mut book = book(1000);
    book.align([(holder(0), 200), (holder(1), 700)]);
    let short = book.take(&holder(2), 101).unwrap_err();
    assert_eq!((short.asked_ops, short.free_ops), (101, 100));
    let names: Vec<&str> = short.holders.iter().map(|entry| entry.holder.name.as_str()).collect();
    assert_eq!(names, ["disk-1", "disk-0"]);
}

#[test]
fn what_is_not_known_cannot_be_promised_and_what_was_promised_stays() {
    let mut book = Book::default();
    book.align([(holder(0), 200)]);
    assert!(!book.is_covered());
    assert!(book.take(&holder(1), 1).is_err());
    book.take(&holder(1), 0).unwrap();
    // Less is always to be had.
    book.take(&holder(0), 150).unwrap();
    book.settle(&holder(0), 150);
    book.set_offer(Offer::Impaired);
    assert!(book.take(&holder(0), 151).is_err());
    assert_eq!(book.held_ops(), 150);
}

#[test]
fn one_part_of_the_device_is_never_promised() {
    assert_eq!(Offer::of(32_000, Overcommit::default()), Offer::Ops(31_000));
    assert_eq!(Offer::of(32_000, Overcommit::from_permille(1500)), Offer::Ops(46_500));
    assert_eq!(Offer::of(u64::MAX, Overcommit::from_permille(100_000)), Offer::Ops(u64::MAX));
}
