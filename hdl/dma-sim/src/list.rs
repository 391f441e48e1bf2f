//! Lists of descriptors.

/// A descriptor: host address, card address, length in bytes.
pub type Transfer = (u64, u64, u32);

/// Returns a list of descriptors for host address `list`, which must be a multiple of 4 KiB, in adjacent blocks of 64, and the adjacent
/// count for the start register. The last descriptor has Stop and Completed.
pub fn list(to_card: bool, list: u64, transfers: &[Transfer]) -> (Vec<u8>, u32) {
    let count = transfers.len();
    // The k-th descriptor of a block of n has the count n-2-k, and the last one the size of the next block minus one.
    let block = |i: usize| (64 - i % 64).min(count - i) as u32;
    let descriptor = |(i, &(host, card, len)): (usize, &Transfer)| {
        let end = i + 1 == count;
        let adjacent = match block(i) {
            _ if end => 0,
            1 => block(i + 1) - 1,
            n => n - 2,
        };
        let (source, destination) = if to_card { (host, card) } else { (card, host) };
        let control = u64::from(0xad4b_0000 | adjacent << 8 | if end { 3 } else { 0 });
        let next = if end { 0 } else { list + 32 * (i as u64 + 1) };
        [control | u64::from(len) << 32, source, destination, next].map(u64::to_le_bytes).concat()
    };
    (transfers.iter().enumerate().flat_map(descriptor).collect(), block(0) - 1)
}
