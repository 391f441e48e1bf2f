//! When quarantined memory is freed, for each kind of isolation.

use super::tests::{Recorder, recorded};
use super::*;
use std::sync::Arc;
use std::sync::atomic::Ordering;

const LEN: u64 = 3 << 20;

fn space(isolation: Isolation) -> (Arc<Recorder>, DmaSpace) {
    recorded(Recorder { isolation: Some(isolation), ..Recorder::default() })
}

/// Returns the line of `/proc/self/maps` for the mapping that contains a buffer. The line includes the inode of the memory file,
/// so it differs from that of another test's later mapping at the same address.
fn maps_line(buffer: &mut Buffer) -> String {
    let at = buffer.as_mut_slice::<u8>().unwrap().as_ptr() as usize;
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let start = format!("{at:x}-");
    let line = maps.lines().find(|line| line.starts_with(&start) && line.contains("memfd:xdma"));
    line.unwrap_or_else(|| panic!("{start} is not in {maps}")).to_string()
}

fn is_allocated(maps_line: &str) -> bool {
    std::fs::read_to_string("/proc/self/maps").unwrap().lines().any(|line| line == maps_line)
}

/// Creates a buffer with its own mapping, whose transfer has ended with or without proof.
fn used(space: &DmaSpace, proven: bool) -> (Buffer, String) {
    let mut buffer = space.allocate(LEN, Access::CardReads).unwrap();
    let at = maps_line(&mut buffer);
    let pin = buffer.piece(0..64).unwrap().handle().pin();
    if proven {
        drop(pin)
    } else {
        pin.quarantine()
    }
    (buffer, at)
}

#[test]
fn with_proof_memory_is_freed_immediately() {
    for isolation in [Isolation::Iommu, Isolation::SharedFile, Isolation::None] {
        let (recorder, space) = space(isolation);
        let (buffer, at) = used(&space, true);
        assert!(is_allocated(&at));
        drop(buffer);
        assert!(!is_allocated(&at), "{isolation:?}");
        assert_eq!((recorder.mapped(), space.quarantined_bytes()), (0, 0));
    }
}

#[test]
fn without_proof_memory_stays_mapped_until_the_space_is_dropped() {
    for isolation in [Isolation::Iommu, Isolation::SharedFile] {
        let (recorder, space) = space(isolation);
        let (mut buffer, at) = used(&space, false);
        assert!(matches!(buffer.write(0, &[1u8]), Err(MemoryError::Quarantined)));
        drop(buffer);
        assert!(is_allocated(&at) && recorder.mapped() == 1, "the card may be using it");
        assert_eq!(space.quarantined_bytes(), LEN);
        drop(space);
        assert!(!is_allocated(&at) && recorder.mapped() == 0, "{isolation:?}");
    }
}

#[test]
fn a_failed_unmap_is_not_proof() {
    for proven in [true, false] {
        let (recorder, space) = space(Isolation::Iommu);
        let (buffer, at) = used(&space, proven);
        recorder.refuse_unmap.store(true, Ordering::Relaxed);
        drop((buffer, space));
        assert!(is_allocated(&at), "for the lifetime of the process");
    }
}

/// The file is closed even if the other process refuses to unmap it, and its device addresses are not reused.
#[test]
fn a_shared_file_is_never_reused() {
    let (recorder, space) = space(Isolation::SharedFile);
    let (buffer, at) = used(&space, true);
    let address = buffer.address();
    recorder.refuse_unmap.store(true, Ordering::Relaxed);
    drop(buffer);
    assert!(!is_allocated(&at));
    assert_ne!(space.allocate(LEN, Access::CardReads).unwrap().address(), address);
}

#[test]
fn without_an_iommu_only_a_cut_off_card_is_proof() {
    for cut_off in [true, false] {
        let (recorder, space) = space(Isolation::None);
        let (buffer, at) = used(&space, false);
        drop(buffer);
        recorder.cut_off.store(cut_off, Ordering::Relaxed);
        drop(space);
        assert_eq!(is_allocated(&at), !cut_off, "cut off: {cut_off}");
    }
}

#[test]
fn a_quarantined_part_of_a_shared_mapping_is_not_reused_but_its_neighbours_are() {
    let (recorder, space) = space(Isolation::None);
    let [first, second] = [0, 0].map(|_| space.allocate(5000, Access::CardWrites).unwrap());
    let (quarantined, free) = (first.address(), second.address());
    first.piece(0..1).unwrap().handle().pin().quarantine();
    drop((first, second));
    let later: Vec<_> = (0..100).map(|_| space.allocate(5000, Access::CardWrites).unwrap()).collect();
    assert!(later.iter().all(|buffer| buffer.address().abs_diff(quarantined) >= 5000));
    assert!(later.iter().any(|buffer| buffer.address() == free));
    assert_eq!(recorder.mapped(), 1);
    assert_eq!(space.quarantined_bytes(), 5000);
}

#[test]
fn a_quarantined_vector_is_freed_once_it_is_unmapped() {
    for (refuse, freed) in [(false, true), (true, false)] {
        let (recorder, space) = recorded(Recorder { pinned: true, ..Recorder::default() });
        let vector = space.register(vec![7u8; 4 << 20], Access::CardWrites).unwrap();
        vector.pieces(0..4 << 20, &mut |piece| piece.handle().pin().quarantine()).unwrap();
        let (vector, error) = vector.into_inner().unwrap_err();
        assert!(matches!(error, MemoryError::Quarantined), "{error}");
        let maps = recorder.mapped();
        drop(vector);
        assert_eq!(recorder.mapped(), maps, "the card may be using it");
        recorder.refuse_unmap.store(refuse, Ordering::Relaxed);
        drop(space);
        assert_eq!(recorder.mapped() == 0, freed);
    }
}
