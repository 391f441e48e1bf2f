//! What memory may hold: for each byte a value, and others that it may have instead since a transfer failed half-way.

use std::collections::BTreeMap;
use std::ops::Range;

#[derive(Clone, Debug)]
pub struct Shadow {
    bytes: Vec<u8>,
    /// Bytes that may also have one of these values.
    others: BTreeMap<usize, Vec<u8>>,
}

impl Shadow {
    pub fn new(len: usize) -> Self {
        Self { bytes: vec![0; len], others: BTreeMap::new() }
    }

    /// It holds this from `at` on.
    pub fn set(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        let known: Vec<_> = self.others.range(at..at + bytes.len()).map(|(&at, _)| at).collect();
        known.iter().for_each(|at| drop(self.others.remove(at)));
    }

    /// It may hold this, or any part of it, from `at` on.
    pub fn may_be(&mut self, at: usize, bytes: &[u8]) {
        for (at, &byte) in (at..).zip(bytes) {
            if self.bytes[at] != byte {
                let others = self.others.entry(at).or_default();
                if !others.contains(&byte) {
                    others.push(byte);
                }
            }
        }
    }

    /// It may hold any part of what `from` may hold there.
    pub fn may_be_part_of(&mut self, at: usize, from: &Self, range: Range<usize>) {
        self.may_be(at, &from.bytes[range.clone()]);
        for (&place, others) in from.others.range(range.clone()) {
            others.iter().for_each(|&byte| self.may_be(at + place - range.start, &[byte]));
        }
    }

    /// The bytes of a range, where nothing else is possible.
    pub fn known(&self, range: Range<usize>) -> Vec<u8> {
        assert!(self.others.range(range.clone()).next().is_none(), "host memory is always known");
        self.bytes[range].to_vec()
    }

    /// Compares with what was seen from `at` on, which is known from then on.
    pub fn see(&mut self, at: usize, seen: &[u8]) -> Result<(), String> {
        for (at, &byte) in (at..).zip(seen) {
            let (expected, others) = (self.bytes[at], self.others.get(&at));
            if byte != expected && !others.is_some_and(|others| others.contains(&byte)) {
                return Err(format!("byte {at:#x} is {byte:#x}, not {expected:#x} (nor any of {others:x?})"));
            }
        }
        self.set(at, seen);
        Ok(())
    }
}

/// Bytes of a card that one pair of channels uses.
#[derive(Clone, Debug)]
pub struct Region {
    shadow: Shadow,
    /// What an engine may write here after its channel ended, since it was not seen idle then.
    ghosts: Vec<Ghost>,
}

#[derive(Clone, Debug)]
struct Ghost {
    at: usize,
    bytes: Vec<u8>,
    /// The engine was seen idle since. What was read before that may still be compared after it.
    over: bool,
}

impl Region {
    pub fn new(len: usize) -> Self {
        Self { shadow: Shadow::new(len), ghosts: vec![] }
    }

    pub fn shadow(&self) -> &Shadow {
        &self.shadow
    }

    /// A transfer to the card is done.
    pub fn set(&mut self, at: usize, bytes: &[u8]) {
        self.shadow.set(at, bytes);
    }

    /// A transfer to the card was lost: it may have happened in part.
    pub fn may_be(&mut self, at: usize, bytes: &[u8]) {
        self.shadow.may_be(at, bytes);
    }

    /// A transfer to the card was lost, and may still go on.
    pub fn may_become(&mut self, at: usize, bytes: &[u8]) {
        self.shadow.may_be(at, bytes);
        self.ghosts.push(Ghost { at, bytes: bytes.to_vec(), over: false });
    }

    /// The engine was seen idle: nothing goes on.
    pub fn settle(&mut self) {
        self.ghosts.iter_mut().for_each(|ghost| ghost.over = true);
    }

    /// Compares with what is there now; nothing that was read earlier is compared any more.
    pub fn see_now(&mut self, seen: &[u8]) -> Result<(), String> {
        self.ghosts.retain(|ghost| !ghost.over);
        self.see(0, seen)
    }

    /// Compares with what was seen from `at` on. What may have been written since stays possible.
    pub fn see(&mut self, at: usize, seen: &[u8]) -> Result<(), String> {
        self.shadow.see(at, seen)?;
        for Ghost { at: from, bytes, .. } in &self.ghosts {
            let (start, end) = (at.max(*from), (at + seen.len()).min(from + bytes.len()));
            if start < end {
                self.shadow.may_be(start, &bytes[start - from..end - from]);
            }
        }
        Ok(())
    }
}
