//! The memory that the card writes results to.

use crate::card::Card;
use crate::channel::{Channel, SubmitError, Ticket};
use crate::memory::{Buffer, MemoryError, VolatileWords};
use crate::regs::Direction;
use crate::regs::msm::{RESULT_BYTES, RESULT_WINDOW};

const WORDS: usize = RESULT_BYTES / 4;

#[derive(Debug)]
pub struct ResultBuffer {
    buffer: Buffer,
    /// All of the buffer.
    words: VolatileWords<WORDS>,
}

impl ResultBuffer {
    pub fn allocate(card: &Card) -> Result<Self, MemoryError> {
        let buffer = card.allocate(RESULT_BYTES as u64, Direction::C2H)?;
        let words = buffer.words(0)?;
        Ok(Self { buffer, words })
    }

    /// Starts to fetch a result. The buffer is zeroed first: otherwise, a result that is lost on its way would look like the previous one.
    pub fn fetch(&self, c2h: &mut Channel) -> Result<Ticket, SubmitError> {
        (0..WORDS).for_each(|at| self.words.store(at, 0));
        c2h.submit(&self.buffer, 0..RESULT_BYTES as u64, RESULT_WINDOW)
    }

    /// Returns the result that was fetched.
    pub fn bytes(&self) -> [u8; RESULT_BYTES] {
        let mut bytes = [0; RESULT_BYTES];
        for (at, word) in bytes.chunks_exact_mut(4).enumerate() {
            word.copy_from_slice(&self.words.load(at).to_le_bytes());
        }
        bytes
    }
}
