//! Tests of memory management, on a bus that only records its mappings.

use super::*;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

#[derive(Default)]
pub(super) struct Recorder {
    pub pinned: bool,
    /// That of an IOMMU if `None`.
    pub isolation: Option<Isolation>,
    pub cut_off: AtomicBool,
    pub refuse_unmap: AtomicBool,
    pub refuse: AtomicBool,
    pub maps: Mutex<Vec<(u64, u64, usize, Access)>>,
}

impl Recorder {
    pub fn mapped(&self) -> usize {
        self.maps.lock().unwrap().len()
    }

    /// Returns what the card would read at a device address.
    fn card_reads(&self, address: u64, len: u64) -> Vec<u8> {
        let (at, _) = self.translate(address, len, Access::CardReads);
        // SAFETY: `translate` found the mapping.
        unsafe { std::slice::from_raw_parts(at, len as usize) }.to_vec()
    }

    fn card_writes(&self, address: u64, bytes: &[u8]) {
        let (at, _) = self.translate(address, bytes.len() as u64, Access::CardWrites);
        // SAFETY: `translate` found the mapping.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), at, bytes.len()) };
    }

    fn translate(&self, address: u64, len: u64, access: Access) -> (*mut u8, u64) {
        let maps = self.maps.lock().unwrap();
        let inside =
            |m: &&(u64, u64, usize, Access)| m.0 <= address && address + len <= m.0 + m.1 && m.3 == access;
        let map = maps.iter().find(inside).expect("the address is mapped for this access");
        ((map.2 + (address - map.0) as usize) as *mut u8, len)
    }
}

// SAFETY: this card accesses only memory in `maps`.
unsafe impl Mapper for Recorder {
    fn addressing(&self) -> Addressing {
        Addressing::Chosen { ranges: vec![0..=0xffff_ffff_ffff], page_bytes: 4096 }
    }

    fn caller_memory(&self) -> CallerMemory {
        if self.pinned { CallerMemory::Pinned } else { CallerMemory::Staged("not pinned in this test") }
    }

    unsafe fn map(&self, memory: MemoryRef<'_>, iova: u64, access: Access) -> Result<Vec<Extent>, MapError> {
        assert_eq!((memory.ptr as u64 % 4096, memory.len % 4096, iova % 4096), (0, 0, 0), "whole pages");
        if self.refuse.load(Ordering::Relaxed) {
            let source = std::io::Error::from_raw_os_error(libc::ENOMEM);
            return Err(MapError::Refused { iova, len: memory.len, cause: source });
        }
        self.maps.lock().unwrap().push((iova, memory.len, memory.ptr as usize, access));
        Ok(vec![Extent { offset: 0, address: iova, len: memory.len }])
    }

    fn unmap(&self, iova: u64, len: u64) -> Result<(), MapError> {
        if self.refuse_unmap.load(Ordering::Relaxed) {
            return Err(MapError::Gone("refused in this test".into()));
        }
        let mut maps = self.maps.lock().unwrap();
        let at = maps.iter().position(|m| (m.0, m.1) == (iova, len)).expect("was mapped");
        maps.remove(at);
        Ok(())
    }

    fn isolation(&self) -> Isolation {
        self.isolation.unwrap_or(Isolation::Iommu)
    }

    fn is_cut_off(&self) -> bool {
        self.cut_off.load(Ordering::Relaxed)
    }
}

fn space(pinned: bool) -> (Arc<Recorder>, DmaSpace) {
    recorded(Recorder { pinned, ..Default::default() })
}

pub(super) fn recorded(recorder: Recorder) -> (Arc<Recorder>, DmaSpace) {
    let recorder = Arc::new(recorder);
    (recorder.clone(), DmaSpace::new(recorder, HugePages::Prefer, None, None))
}

fn pieces(memory: &dyn DmaMemory, range: std::ops::Range<u64>) -> Vec<(u64, u64)> {
    let mut all = vec![];
    memory.pieces(range, &mut |p| all.push((p.address(), p.len()))).unwrap();
    all
}

#[test]
fn small_buffers_share_a_mapping_and_are_zeroed_when_reused() {
    let (recorder, space) = space(false);
    let mut a = space.allocate(100, Access::CardReads).unwrap();
    let b = space.allocate(5000, Access::CardReads).unwrap();
    assert_eq!(recorder.mapped(), 1);
    assert_eq!((a.address() % 64, b.address() % 4096), (0, 0));
    a.write(0, &[0xffu8; 100]).unwrap();
    let address = a.address();
    drop(a);
    let again = space.allocate(100, Access::CardReads).unwrap();
    assert_eq!(again.address(), address);
    assert_eq!(recorder.card_reads(address, 100), [0; 100]);
}

#[test]
fn large_buffers_are_unmapped_when_dropped_and_pools_with_the_space() {
    let (recorder, space) = space(false);
    let large = space.allocate(3 << 20, Access::CardWrites).unwrap();
    let small = space.allocate(1, Access::CardWrites).unwrap();
    assert_eq!(recorder.mapped(), 2);
    drop(large);
    assert_eq!(recorder.mapped(), 1);
    drop(space);
    assert_eq!(recorder.mapped(), 1, "a buffer outlives the space");
    drop(small);
    assert_eq!(recorder.mapped(), 0);
}

#[test]
fn memory_in_flight_is_neither_written_nor_freed() {
    let (recorder, space) = space(false);
    let mut buffer = space.allocate(2 << 20, Access::CardReads).unwrap();
    let mut pin = None;
    buffer.pieces(0..64, &mut |p| pin = Some(p.handle().pin())).unwrap();
    assert!(matches!(buffer.write(0, &[1u8]), Err(MemoryError::InFlight(1))));
    assert!(buffer.as_mut_slice::<u8>().is_err());
    drop(buffer);
    assert_eq!(recorder.mapped(), 1);
    drop(pin);
    assert_eq!(recorder.mapped(), 0);
}

#[test]
fn memory_that_the_card_may_write_is_not_available_as_a_slice() {
    let (recorder, space) = space(false);
    let mut buffer = space.allocate(64, Access::CardWrites).unwrap();
    assert!(matches!(buffer.as_mut_slice::<u8>(), Err(MemoryError::WrongAccess { .. })));
    recorder.card_writes(buffer.address() + 4, &7u32.to_le_bytes());
    let mut seen = [0u32; 2];
    buffer.read(0, &mut seen).unwrap();
    assert_eq!(seen, [0, 7]);
    assert_eq!(buffer.words::<1>(4).unwrap().load(0), 7);
    assert!(buffer.words::<1>(2).is_err() && buffer.words::<2>(60).is_err());
}

#[test]
fn bad_ranges_are_errors() {
    let (_, space) = space(false);
    let mut buffer = space.allocate(64, Access::CardReads).unwrap();
    assert!(matches!(space.allocate(0, Access::CardReads), Err(MemoryError::Empty)));
    assert!(matches!(
        buffer.write(1, &[0u64; 8]),
        Err(MemoryError::OutOfRange { start: 1, end: 65, len: 64 })
    ));
    assert!(matches!(buffer.write(u64::MAX, &[0u8]), Err(MemoryError::OutOfRange { .. })));
    for range in [0..0, 64..64] {
        assert!(matches!(buffer.pieces(range, &mut |_| {}), Err(MemoryError::Empty)));
    }
    assert!(matches!(buffer.pieces(1..65, &mut |_| {}), Err(MemoryError::OutOfRange { .. })));
    assert!(matches!(
        space.register(Vec::<u8>::new(), Access::CardReads),
        Err(RegisterError { source: MemoryError::Empty, .. })
    ));
}

#[test]
fn a_refused_mapping_leaks_no_device_addresses() {
    let (recorder, space) = space(true);
    recorder.refuse.store(true, Ordering::Relaxed);
    assert!(matches!(space.allocate(2 << 20, Access::CardReads), Err(MemoryError::Map(_))));
    let refused = space.register(vec![5u8; 1 << 20], Access::CardReads).unwrap_err();
    assert_eq!(refused.data, vec![5; 1 << 20], "the vector comes back");
    recorder.refuse.store(false, Ordering::Relaxed);
    assert_eq!(space.allocate(2 << 20, Access::CardReads).unwrap().address(), space.base().unwrap());
}

#[test]
fn staged_registration_is_a_copy_that_follows_updates() {
    let (recorder, space) = space(false);
    let mut registered = space.register((0..1000u32).collect(), Access::CardReads).unwrap();
    assert_eq!(registered.staged_bytes(), 4000);
    registered.update(|all| all[999] = 5).unwrap();
    let at = pieces(&registered, 3996..4000)[0].0;
    assert_eq!(recorder.card_reads(at, 4), 5u32.to_le_bytes());
    assert_eq!(registered.into_inner().unwrap()[999], 5);
}

#[test]
fn pinned_registration_copies_only_partial_pages() {
    let (recorder, space) = space(true);
    let data: Vec<u8> = (0..100_000u32).map(|i| i as u8).collect();
    let ptr = data.as_ptr() as u64;
    let registered = space.register(data, Access::CardReads).unwrap();
    assert!(registered.staged_bytes() < 8192, "{}", registered.staged_bytes());
    let inner = recorder
        .maps
        .lock()
        .unwrap()
        .iter()
        .find(|m| m.2 as u64 >= ptr && (m.2 as u64) < ptr + 100_000)
        .copied();
    assert!(inner.is_some(), "the caller's own pages are mapped");
    let all: Vec<u8> =
        pieces(&registered, 0..100_000).iter().flat_map(|&(a, l)| recorder.card_reads(a, l)).collect();
    assert_eq!(all, registered.as_slice().unwrap());
    let data = registered.into_inner().unwrap();
    assert_eq!(data.as_ptr() as u64, ptr, "the same vector comes back");
    assert_eq!(recorder.mapped(), 1, "the pool of staged pages stays");
}

#[test]
fn into_inner_returns_what_the_card_wrote() {
    for pinned in [false, true] {
        let (recorder, space) = space(pinned);
        let registered = space.register(vec![0u8; 50_001], Access::CardWrites).unwrap();
        assert!(registered.as_slice().is_err());
        let mut at = 0u8;
        for (address, len) in pieces(&registered, 1..50_001) {
            at += 1;
            recorder.card_writes(address, &vec![at; len as usize]);
        }
        let mut last = [0u8; 2];
        registered.read(49_999, &mut last).unwrap();
        assert_eq!(last, [at, at]);
        let data = registered.into_inner().unwrap();
        assert_eq!((data[0], data[1], data[50_000]), (0, 1, at));
        assert!(data[1..].iter().all(|&b| b > 0));
    }
}

#[test]
fn raw_memory_is_synchronised_and_released() {
    for pinned in [false, true] {
        let (recorder, space) = space(pinned);
        let (mut sent, mut received) = (vec![1u8; 50_001], vec![0u8; 50_001]);
        let (from, to) = (sent.as_mut_ptr(), received.as_mut_ptr());
        // SAFETY: the vectors are neither moved nor freed before the memory is released, and accessed only between calls.
        let (mut source, mut sink) = unsafe {
            (
                raw::RawMemory::new(&space, from, 50_001, Access::CardReads).unwrap(),
                raw::RawMemory::new(&space, to, 50_001, Access::CardWrites).unwrap(),
            )
        };
        let is_in_place = source.staged_bytes() < 8192 && sink.staged_bytes() < 8192;
        assert_eq!(is_in_place, pinned);
        // SAFETY: as above.
        unsafe { from.write_bytes(2, 50_001) };
        source.synchronize().unwrap();
        let read = pieces(&source, 0..50_001).into_iter().flat_map(|(at, len)| recorder.card_reads(at, len));
        assert!(read.eq([2; 50_001]));
        pieces(&sink, 0..50_001)
            .into_iter()
            .for_each(|(at, len)| recorder.card_writes(at, &vec![3; len as usize]));
        sink.synchronize().unwrap();
        let mut last = [0; 2];
        sink.read(49_999, &mut last).unwrap();
        assert_eq!(last, [3, 3]);

        let mut pins = vec![];
        sink.pieces(0..50_001, &mut |piece| pins.push(piece.handle().pin())).unwrap();
        assert!(matches!(sink.synchronize(), Err(MemoryError::InFlight(_))));
        assert!(matches!(sink.release(), Err(MemoryError::InFlight(_))));
        drop(pins);
        let mapped = recorder.mapped();
        [&source, &sink].into_iter().for_each(|memory| memory.release().unwrap());
        assert_eq!(recorder.mapped(), mapped - if pinned { 2 } else { 0 }, "the owner's pages are unmapped");
        drop((source, sink));
        assert!(sent.iter().all(|byte| *byte == 2) && received.iter().all(|byte| *byte == 3));
    }
}

#[test]
fn raw_memory_that_cannot_be_unmapped_is_not_released() {
    let (recorder, space) = space(true);
    let mut data = vec![0u8; 50_000];
    // SAFETY: the vector is freed after the memory was released.
    let memory =
        unsafe { raw::RawMemory::new(&space, data.as_mut_ptr(), 50_000, Access::CardReads).unwrap() };
    recorder.refuse_unmap.store(true, Ordering::Relaxed);
    assert!(matches!(memory.release(), Err(MemoryError::Map(_))));
    recorder.refuse_unmap.store(false, Ordering::Relaxed);
    memory.release().unwrap();
    memory.release().unwrap();
}

#[test]
fn a_vector_in_flight_is_kept_and_not_returned() {
    let (recorder, space) = space(true);
    let registered = space.register(vec![7u8; 20_000], Access::CardReads).unwrap();
    let mut pins = vec![];
    registered.pieces(0..20_000, &mut |p| pins.push(p.handle().pin())).unwrap();
    let (registered, error) = registered.into_inner().unwrap_err();
    assert!(matches!(error, MemoryError::InFlight(1)));
    let all = pieces(&registered, 0..20_000);
    drop(registered);
    let seen: Vec<u8> = all.iter().flat_map(|&(a, l)| recorder.card_reads(a, l)).collect();
    assert_eq!(seen, [7; 20_000]);
    drop(pins);
    assert_eq!(recorder.mapped(), 1, "only the pool of staged pages is left");
}

#[test]
fn a_revoked_vector_is_unmapped_even_while_handles_to_it_exist() {
    let (recorder, space) = space(true);
    let registered = space.register(vec![7u8; 20_000], Access::CardReads).unwrap();
    let (before, mut held) = (recorder.mapped(), vec![]);
    registered.pieces(0..20_000, &mut |p| held.push(p.handle().clone())).unwrap();
    assert_eq!(registered.into_inner().unwrap(), [7; 20_000]);
    assert_eq!(recorder.mapped(), before - 1, "its pages are unmapped");
    drop(held);
    assert_eq!(recorder.mapped(), before - 1);
}

#[test]
fn lent_slices_are_unmapped_and_then_filled() {
    for pinned in [false, true] {
        let (recorder, space) = space(pinned);
        let (source, mut sink) = (vec![3u8; 30_000], vec![0u8; 30_001]);
        let lent = Borrowed::to_card(&space, &source).unwrap();
        let seen: Vec<u8> =
            pieces(&lent, 0..30_000).iter().flat_map(|&(a, l)| recorder.card_reads(a, l)).collect();
        lent.revoke().unwrap();
        let into = Borrowed::from_card(&space, &mut sink[1..]).unwrap();
        for (address, len) in pieces(&into, 0..30_000) {
            recorder.card_writes(address, &vec![9; len as usize]);
        }
        into.revoke().unwrap();
        into.copy_back().unwrap();
        drop((lent, into));
        assert!(seen == source && sink[0] == 0 && sink[1..] == [9u8; 30_000]);
    }
}

/// A bus without an IOMMU, on which 2 MiB pages are not contiguous.
struct Scattered;

// SAFETY: this card accesses nothing.
unsafe impl Mapper for Scattered {
    fn addressing(&self) -> Addressing {
        Addressing::Physical
    }

    fn caller_memory(&self) -> CallerMemory {
        CallerMemory::Staged("not pinned")
    }

    unsafe fn map(&self, memory: MemoryRef<'_>, _: u64, _: Access) -> Result<Vec<Extent>, MapError> {
        const PAGE: u64 = 2 << 20;
        let page = |offset: u64| Extent {
            offset,
            address: (1 << 40) - 2 * offset,
            len: PAGE.min(memory.len - offset),
        };
        Ok((0..memory.len).step_by(PAGE as usize).map(page).collect())
    }

    fn unmap(&self, _: u64, _: u64) -> Result<(), MapError> {
        Ok(())
    }

    fn isolation(&self) -> Isolation {
        Isolation::None
    }
}

#[test]
fn physical_memory_larger_than_a_page_is_in_pieces() {
    let space = DmaSpace::new(Arc::new(Scattered), HugePages::Prefer, None, None);
    let large = space.allocate(5 << 20, Access::CardReads).unwrap();
    assert!(!large.is_contiguous());
    let top = 1u64 << 40;
    assert_eq!(
        pieces(&large, 0x10_0000..0x48_0000),
        [(top + 0x10_0000, 0x10_0000), (top - 0x40_0000, 0x20_0000), (top - 0x80_0000, 0x8_0000)]
    );
    assert!(space.allocate(1 << 20, Access::CardReads).unwrap().is_contiguous());
    assert_eq!(space.register(vec![0u8; 4096], Access::CardReads).unwrap().staged_bytes(), 4096);
}

#[test]
fn a_list_that_exceeds_a_physical_page_is_refused() {
    use crate::channel::{Program, ProgramError, Ring, Transfers};
    let space = DmaSpace::new(Arc::new(Scattered), HugePages::Require(PageSize::Base), None, None);
    let buffer = space.allocate(64, Access::CardReads).unwrap();
    let mut transfers = Transfers::new(crate::regs::Direction::H2C);
    for _ in 0..(2 << 20) / 32 {
        transfers.add(&buffer, 0..64, 0).unwrap();
    }
    assert!(Program::build(&space, &transfers, Ring::Chain, false).is_ok());
    transfers.add(&buffer, 0..64, 0).unwrap();
    let error = Program::build(&space, &transfers, Ring::Chain, false).unwrap_err();
    assert!(matches!(error, ProgramError::ScatteredList { descriptors: 65_537, .. }));
    assert!(error.to_string().contains("1 GiB pages"), "{error}");
}

proptest::proptest! {
    /// Allocates and frees buffers at random. The card's accesses to a buffer's address reach that buffer and no other.
    #[test]
    fn no_two_buffers_share_a_byte(
        steps in proptest::collection::vec((0u8..3, 1u64..20_000, proptest::bool::ANY), 1..60),
    ) {
        let (recorder, space) = space(false);
        let mut held: Vec<(Buffer, u64, Access, u8)> = vec![];
        for (at, (step, len, writes)) in steps.into_iter().enumerate() {
            if step == 0 && !held.is_empty() {
                held.remove(len as usize % held.len());
                continue;
            }
            let (access, mark) = (if writes { Access::CardWrites } else { Access::CardReads }, at as u8 + 1);
            let mut buffer = space.allocate(len, access).unwrap();
            proptest::prop_assert_eq!(buffer.address() % 64, 0);
            match access {
                Access::CardReads => buffer.write(0, &vec![mark; len as usize]).unwrap(),
                Access::CardWrites => recorder.card_writes(buffer.address(), &vec![mark; len as usize]),
            }
            held.push((buffer, len, access, mark));
        }
        for (buffer, len, access, mark) in &held {
            let mut seen = vec![0; *len as usize];
            match access {
                Access::CardReads => seen = recorder.card_reads(buffer.address(), *len),
                Access::CardWrites => buffer.read(0, &mut seen).unwrap(),
            }
            proptest::prop_assert!(seen.iter().all(|byte| byte == mark));
        }
    }
}

#[test]
fn a_lack_of_hugepages_is_reported_once_a_hugepage_would_be_full() {
    let (_, space) = space(true);
    let due = |len| space.is_warning_due(len);
    assert!(!due(16) && !due((2 << 20) - 17));
    assert!(due(1) && !due(1) && !due(4 << 20));
}
