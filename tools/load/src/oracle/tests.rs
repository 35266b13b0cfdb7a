use proptest::prelude::*;

use super::*;

const REGION: Region = Region { offset_bytes: 4096, blocks: 4, block_bytes: 1024 };

/// A disk that does what it is told, and an oracle beside it.
struct Bench {
    oracle: Oracle,
    disk: Vec<u8>,
}

impl Bench {
    fn new() -> Self {
        Self { oracle: Oracle::new(REGION, 9), disk: vec![0xaa; 4096 + 4 * 1024] }
    }

    fn place(block: u64) -> std::ops::Range<usize> {
        let at = 4096 + 1024 * block as usize;
        at..at + 1024
    }

    fn submit_write(&mut self, block: u64) -> Vec<u8> {
        self.oracle.write(REGION.sector(block)).to_vec()
    }

    fn land(&mut self, block: u64, data: &[u8]) {
        self.disk[Self::place(block)].copy_from_slice(data);
    }

    fn answer_write(&mut self, block: u64) {
        self.oracle.written(REGION.sector(block), true);
    }

    fn write(&mut self, block: u64) {
        let data = self.submit_write(block);
        self.land(block, &data);
        self.answer_write(block);
    }

    fn judge(&mut self, block: u64, floor: u32, data: &[u8]) {
        self.oracle.scratch().copy_from_slice(data);
        self.oracle.judge(REGION.sector(block), floor);
    }

    fn read(&mut self, block: u64) -> u64 {
        let floor = self.oracle.read(REGION.sector(block));
        let data = self.disk[Self::place(block)].to_vec();
        self.judge(block, floor, &data);
        self.oracle.verdict().wrong()
    }
}

#[test]
fn what_was_written_is_right_and_what_was_there_before_is_nobodys_business() {
    let mut bench = Bench::new();
    assert_eq!(bench.read(0), 0);
    assert_eq!(bench.oracle.verdict().blocks_checked, 0);
    bench.write(0);
    bench.write(0);
    assert_eq!(bench.read(0), 0);
    assert_eq!(bench.oracle.verdict().blocks_checked, 1);
    assert_eq!(bench.oracle.verdict().blocks_written, 1);
}

#[test]
fn a_write_that_was_answered_and_never_landed_is_stale() {
    let mut bench = Bench::new();
    bench.write(1);
    bench.submit_write(1);
    bench.answer_write(1);
    bench.read(1);
    assert_eq!(bench.oracle.verdict().stale, 1);
    assert!(bench.oracle.verdict().first.unwrap().contains("holds writing 1, but 2 had been answered"));
}

#[test]
fn a_write_that_landed_on_a_neighbour_is_misplaced_there_and_missing_here() {
    let mut bench = Bench::new();
    bench.write(2);
    let data = bench.submit_write(1);
    bench.land(2, &data);
    bench.answer_write(1);
    bench.read(2);
    assert_eq!(bench.oracle.verdict().misplaced, 1);
    bench.read(1);
    assert_eq!(bench.oracle.verdict().foreign, 1);
}

#[test]
fn a_stray_write_shows_even_where_this_run_wrote_nothing() {
    let mut bench = Bench::new();
    let data = bench.submit_write(1);
    bench.land(3, &data);
    bench.read(3);
    assert_eq!(bench.oracle.verdict().misplaced, 1);
}

#[test]
fn half_a_sector_of_each_of_two_writings_is_torn() {
    let mut bench = Bench::new();
    bench.write(0);
    let data = bench.submit_write(0);
    let at = Bench::place(0).start;
    bench.disk[at..at + 700].copy_from_slice(&data[..700]);
    bench.read(0);
    assert_eq!(bench.oracle.verdict().torn, 1);
}

#[test]
fn whole_sectors_of_two_writings_are_right_only_while_both_are_in_flight() {
    let mut bench = Bench::new();
    let (first, second) = (bench.submit_write(0), bench.submit_write(0));
    let mixed = [&first[..512], &second[512..]].concat();
    bench.answer_write(0);
    bench.answer_write(0);
    bench.land(0, &mixed);
    assert_eq!(bench.read(0), 0, "the disk may have done them in any order, sector by sector");
    bench.write(0);
    bench.land(0, &mixed);
    bench.read(0);
    assert_eq!(bench.oracle.verdict().stale, 1);
}

#[test]
fn a_failed_write_may_have_happened_or_not() {
    let mut bench = Bench::new();
    bench.write(0);
    let data = bench.submit_write(0);
    bench.oracle.written(REGION.sector(0), false);
    assert_eq!(bench.read(0), 0);
    bench.land(0, &data);
    assert_eq!(bench.read(0), 0);
}

/// What happens next in a random history of one block.
#[derive(Debug, Clone, Copy)]
enum Step {
    SubmitWrite,
    /// The disk does one of the writes it has.
    LandWrite(usize),
    /// One that landed is answered.
    AnswerWrite,
    SubmitRead,
    /// The disk does one of the reads it has.
    DoRead(usize),
    AnswerRead(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        Just(Step::SubmitWrite),
        any::<usize>().prop_map(Step::LandWrite),
        Just(Step::AnswerWrite),
        Just(Step::SubmitRead),
        any::<usize>().prop_map(Step::DoRead),
        any::<usize>().prop_map(Step::AnswerRead),
    ]
}

fn pick<T>(from: &mut Vec<T>, which: usize) -> Option<T> {
    (!from.is_empty()).then(|| from.swap_remove(which % from.len()))
}

proptest! {
    /// A disk that does its requests in any order, each at one moment between submission and answer, is never accused.
    #[test]
    fn an_honest_disk_is_never_accused(steps in prop::collection::vec(step(), 1..200)) {
        let mut bench = Bench::new();
        let (mut submitted, mut landed) = (Vec::new(), 0u32);
        let (mut reads, mut done) = (Vec::new(), Vec::new());
        for step in steps {
            match step {
                Step::SubmitWrite => { let data = bench.submit_write(0); submitted.push(data); }
                Step::LandWrite(which) => if let Some(data) = pick(&mut submitted, which) {
                    bench.land(0, &data);
                    landed += 1;
                },
                Step::AnswerWrite => if landed > 0 { bench.answer_write(0); landed -= 1; },
                Step::SubmitRead => reads.push(bench.oracle.read(REGION.sector(0))),
                Step::DoRead(which) => if let Some(floor) = pick(&mut reads, which) {
                    done.push((floor, bench.disk[Bench::place(0)].to_vec()));
                },
                Step::AnswerRead(which) => if let Some((floor, data)) = pick(&mut done, which) {
                    bench.judge(0, floor, &data);
                },
            }
            prop_assert_eq!(bench.oracle.verdict().wrong(), 0);
        }
    }
}
