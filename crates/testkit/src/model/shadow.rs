//! Shadow memory: the expected value of each byte, and the alternatives that a partly executed transfer may have left.

use std::collections::BTreeMap;
use std::ops::Range;

#[derive(Clone, Debug)]
pub struct Shadow {
    bytes: Vec<u8>,
    /// Other values that a byte may have.
    alternatives: BTreeMap<usize, Vec<u8>>,
}

impl Shadow {
    pub fn new(len: usize) -> Self {
        Self { bytes: vec![0; len], alternatives: BTreeMap::new() }
    }

    /// Sets the only possible values of a range.
    pub fn set(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        let known: Vec<_> = self.alternatives.range(at..at + bytes.len()).map(|(&at, _)| at).collect();
        known.iter().for_each(|at| drop(self.alternatives.remove(at)));
    }

    /// Adds alternatives: each byte may have the value given here.
    pub fn allow(&mut self, at: usize, bytes: &[u8]) {
        for (at, &byte) in (at..).zip(bytes) {
            if self.bytes[at] != byte {
                let alternatives = self.alternatives.entry(at).or_default();
                if !alternatives.contains(&byte) {
                    alternatives.push(byte);
                }
            }
        }
    }

    /// Adds alternatives: each byte may have any value that the corresponding byte of another memory may have.
    pub fn allow_from(&mut self, at: usize, from: &Self, range: Range<usize>) {
        self.allow(at, &from.bytes[range.clone()]);
        for (&offset, alternatives) in from.alternatives.range(range.clone()) {
            alternatives.iter().for_each(|&byte| self.allow(at + offset - range.start, &[byte]));
        }
    }

    /// Returns the bytes of a range that has no alternatives.
    pub fn known(&self, range: Range<usize>) -> Vec<u8> {
        assert!(
            self.alternatives.range(range.clone()).next().is_none(),
            "memory that the card reads has one possible value"
        );
        self.bytes[range].to_vec()
    }

    /// Compares bytes read from the memory with the expected values. They are the only possible ones afterwards.
    pub fn compare(&mut self, at: usize, seen: &[u8]) -> Result<(), String> {
        for (at, &byte) in (at..).zip(seen) {
            let (expected, alternatives) = (self.bytes[at], self.alternatives.get(&at));
            if byte != expected && !alternatives.is_some_and(|values| values.contains(&byte)) {
                return Err(format!(
                    "byte {at:#x} is {byte:#x}, not {expected:#x} (alternatives: {alternatives:x?})"
                ));
            }
        }
        self.set(at, seen);
        Ok(())
    }
}

/// Shadow of the card memory that one pair of channels uses.
#[derive(Clone, Debug)]
pub struct Region {
    shadow: Shadow,
    /// Writes that an engine may still perform after the end of its channel, because it was not seen idle.
    late_writes: Vec<LateWrite>,
}

#[derive(Clone, Debug)]
struct LateWrite {
    at: usize,
    bytes: Vec<u8>,
    /// The engine has been seen idle since. The entry is kept, because data that was read earlier may still be compared.
    settled: bool,
}

impl Region {
    pub fn new(len: usize) -> Self {
        Self { shadow: Shadow::new(len), late_writes: vec![] }
    }

    pub fn shadow(&self) -> &Shadow {
        &self.shadow
    }

    /// Records a completed transfer to the card.
    pub fn set(&mut self, at: usize, bytes: &[u8]) {
        self.shadow.set(at, bytes);
    }

    /// Records a transfer to the card that may have been executed partly.
    pub fn allow(&mut self, at: usize, bytes: &[u8]) {
        self.shadow.allow(at, bytes);
    }

    /// Records a transfer to the card that may have been executed partly and may still continue.
    pub fn allow_late(&mut self, at: usize, bytes: &[u8]) {
        self.shadow.allow(at, bytes);
        self.late_writes.push(LateWrite { at, bytes: bytes.to_vec(), settled: false });
    }

    /// Records that the engine was seen idle, so no transfer continues.
    pub fn settle(&mut self) {
        self.late_writes.iter_mut().for_each(|write| write.settled = true);
    }

    /// Compares the current content of the whole region. Data that was read earlier must not be compared afterwards.
    pub fn compare_now(&mut self, seen: &[u8]) -> Result<(), String> {
        self.late_writes.retain(|write| !write.settled);
        self.compare(0, seen)
    }

    /// Compares bytes that were read at some time in the past. Late writes remain possible afterwards.
    pub fn compare(&mut self, at: usize, seen: &[u8]) -> Result<(), String> {
        self.shadow.compare(at, seen)?;
        for LateWrite { at: from, bytes, .. } in &self.late_writes {
            let (start, end) = (at.max(*from), (at + seen.len()).min(from + bytes.len()));
            if start < end {
                self.shadow.allow(start, &bytes[start - from..end - from]);
            }
        }
        Ok(())
    }
}
