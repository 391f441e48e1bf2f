//! When memory without proof is freed, bus by bus.

use super::tests::{Recorder, recorded};
use super::*;
use std::sync::Arc;
use std::sync::atomic::Ordering;

const LEN: u64 = 3 << 20;

fn space(isolation: Isolation) -> (Arc<Recorder>, DmaSpace) {
    recorded(Recorder { isolation: Some(isolation), ..Recorder::default() })
}

/// The kernel's line of the mapping in which a buffer lies. It has the inode of the memory file: another test's, at the same place
/// later, has another.
fn place(buffer: &mut Buffer) -> String {
    let at = buffer.as_mut_slice::<u8>().unwrap().as_ptr() as usize;
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let start = format!("{at:x}-");
    let line = maps.lines().find(|line| line.starts_with(&start) && line.contains("memfd:xdma"));
    line.unwrap_or_else(|| panic!("{start} is not in {maps}")).to_string()
}

fn is_allocated(place: &str) -> bool {
    std::fs::read_to_string("/proc/self/maps").unwrap().lines().any(|line| line == place)
}

/// A buffer with a mapping of its own whose transfer ended, with proof or without.
fn used(space: &DmaSpace, proven: bool) -> (Buffer, String) {
    let mut buffer = space.allocate(LEN, Access::CardReads).unwrap();
    let at = place(&mut buffer);
    let keep = buffer.piece(0..64).unwrap().handle().keep();
    if proven {
        drop(keep)
    } else {
        keep.condemn()
    }
    (buffer, at)
}

#[test]
fn with_proof_memory_is_freed_at_once_on_every_bus() {
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
fn without_proof_memory_stays_mapped_until_the_space_ends() {
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
fn an_iommu_that_does_not_unmap_proves_nothing() {
    for proven in [true, false] {
        let (recorder, space) = space(Isolation::Iommu);
        let (buffer, at) = used(&space, proven);
        recorder.refuse_unmap.store(true, Ordering::Relaxed);
        drop((buffer, space));
        assert!(is_allocated(&at), "for the life of the process");
    }
}

/// The file is closed, whatever its other user says, and its addresses are not given to another.
#[test]
fn a_shared_file_is_never_used_again() {
    let (recorder, space) = space(Isolation::SharedFile);
    let (buffer, at) = used(&space, true);
    let address = buffer.address();
    recorder.refuse_unmap.store(true, Ordering::Relaxed);
    drop(buffer);
    assert!(!is_allocated(&at));
    assert_ne!(space.allocate(LEN, Access::CardReads).unwrap().address(), address);
}

#[test]
fn without_an_iommu_unmapping_is_no_proof_and_being_cut_off_is() {
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
fn part_of_a_shared_mapping_is_not_used_again_and_its_neighbours_are() {
    let (recorder, space) = space(Isolation::None);
    let [first, second] = [0, 0].map(|_| space.allocate(5000, Access::CardWrites).unwrap());
    let (condemned, free) = (first.address(), second.address());
    first.piece(0..1).unwrap().handle().keep().condemn();
    drop((first, second));
    let later: Vec<_> = (0..100).map(|_| space.allocate(5000, Access::CardWrites).unwrap()).collect();
    assert!(later.iter().all(|buffer| buffer.address().abs_diff(condemned) >= 5000));
    assert!(later.iter().any(|buffer| buffer.address() == free));
    assert_eq!(recorder.mapped(), 1);
    assert_eq!(space.quarantined_bytes(), 5000);
}

#[test]
fn a_vector_without_proof_is_freed_once_it_is_unmapped() {
    for (refuse, freed) in [(false, true), (true, false)] {
        let (recorder, space) = recorded(Recorder { pinned: true, ..Recorder::default() });
        let vector = space.register(vec![7u8; 4 << 20], Access::CardWrites).unwrap();
        vector.pieces(0..4 << 20, &mut |piece| piece.handle().keep().condemn()).unwrap();
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
