use crate::RingFault;
use crate::driver::Buffer;
use crate::memory::Hint;
use crate::ring::tests::{Bench, DATA, bytes, reads, writes};

fn popped(buffers: &[Buffer]) -> Bench {
    let mut bench = Bench::new(8, 0);
    bench.arena.write(DATA, b"0123456789abcdefDATA").unwrap();
    bench.driver.add(buffers).unwrap();
    let _ = bench.driver.publish();
    let _head = bench.popped();
    bench
}

fn header(bench: &mut Bench) -> Result<[u8; 16], RingFault> {
    let mut header = [0; 16];
    bench.chain.take_readable(bench.arena.map(), &mut header).map(|()| header)
}

#[test]
fn a_header_comes_off_however_it_is_cut_up() {
    for cuts in [vec![16], vec![1, 15], vec![4, 4, 8]] {
        let mut at = DATA;
        let mut buffers = Vec::new();
        for cut in cuts {
            buffers.push(reads(at, cut));
            at += u64::from(cut);
        }
        buffers.push(reads(DATA + 16, 4));
        let mut bench = popped(&buffers);
        assert_eq!(header(&mut bench).as_ref(), Ok(b"0123456789abcdef"));
        assert_eq!((bench.buffers(), bench.chain.readable_bytes()), (vec![reads(DATA + 16, 4)], 4));
    }
}

#[test]
fn a_header_in_one_buffer_with_its_data_leaves_the_data() {
    let mut bench = popped(&[reads(DATA, 20)]);
    assert_eq!(header(&mut bench).as_ref(), Ok(b"0123456789abcdef"));
    assert_eq!(bench.buffers(), [reads(DATA + 16, 4)]);
}

#[test]
fn a_chain_too_short_for_its_header_is_a_fault() {
    let mut bench = popped(&[reads(DATA, 15), writes(DATA, 16)]);
    assert_eq!(header(&mut bench), Err(RingFault::TooShort));
}

#[test]
fn a_status_comes_off_the_end() {
    let mut alone = popped(&[reads(DATA, 16), writes(DATA + 64, 8), writes(DATA + 72, 1)]);
    let mut joined = popped(&[reads(DATA, 16), writes(DATA + 64, 9)]);
    for bench in [&mut alone, &mut joined] {
        let status = bench.chain.take_last_byte().unwrap();
        bench.arena.map().copy_to(&status, b"!", &mut Hint::default()).unwrap();
        assert_eq!(bytes(bench.arena.map(), DATA + 72), *b"!");
        assert_eq!(bench.chain.writable_bytes(), 8);
        assert_eq!(bench.buffers(), [reads(DATA, 16), writes(DATA + 64, 8)]);
    }
}

#[test]
fn a_chain_without_room_for_a_status_is_a_fault() {
    let mut bench = popped(&[reads(DATA, 16)]);
    assert_eq!(bench.chain.take_last_byte(), Err(RingFault::TooShort));
}
