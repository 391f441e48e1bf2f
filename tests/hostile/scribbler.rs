//! Writes random values to memory that the card may write, as long as it is mapped.

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use std::sync::{Mutex, MutexGuard, PoisonError};
use xdma::memory::Access;
use xdma::unstable::memory::MemoryRef;

#[derive(Debug)]
pub struct Scribbler(Mutex<State>);

#[derive(Debug)]
struct State {
    rng: StdRng,
    /// Device address, pointer and number of words of each mapping.
    maps: Vec<(u64, usize, usize)>,
}

impl Scribbler {
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(State { rng: StdRng::seed_from_u64(seed), maps: vec![] }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn mapped(&self, memory: MemoryRef<'_>, iova: u64, access: Access) {
        if access == Access::CardWrites {
            self.lock().maps.push((iova, memory.ptr as usize, memory.len as usize / 4));
        }
    }

    /// After this call, the mapping is no longer written to.
    pub fn unmapped(&self, iova: u64) {
        self.lock().maps.retain(|(start, ..)| *start != iova);
    }

    /// Writes to a few words of each mapping. Most are at its start, where small objects such as write-back words are.
    pub fn scribble(&self) {
        let State { rng, maps } = &mut *self.lock();
        for &mut (_, start, words) in maps {
            for _ in 0..16 {
                let at = if rng.random_bool(0.8) {
                    rng.random_range(0..words.min(512))
                } else {
                    rng.random_range(0..words)
                };
                let value = match rng.random_range(0..4) {
                    0 => rng.random_range(0..64),
                    1 => 1 << rng.random_range(0..32),
                    2 => !0,
                    _ => rng.next_u32(),
                };
                // SAFETY: the word is mapped until `unmapped`, which waits for this lock. There are no references to memory that
                // the card may write (`Mapper::map`).
                unsafe { (start as *mut u32).add(at).write_volatile(value) };
            }
        }
    }
}
