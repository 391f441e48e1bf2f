//! Keeps the thread of a card on the processors of its NUMA node.

use rustix::thread::{CpuSet, sched_setaffinity};
use std::path::Path;
use std::{fs, io};

const NODES: &str = "/sys/devices/system/node";

/// Restricts the calling thread to the processors of a NUMA node. Returns false, and does nothing, on a host with one node.
pub(crate) fn pin_to_node(node: u32) -> io::Result<bool> {
    let nodes = Path::new(NODES);
    match fs::read_to_string(nodes.join("online")) {
        Ok(online) if parse_list(&online).len() > 1 => {}
        // A kernel without NUMA has no such directory.
        _ => return Ok(false),
    }
    let list = fs::read_to_string(nodes.join(format!("node{node}/cpulist")))?;
    let mut set = CpuSet::new();
    for cpu in parse_list(&list).into_iter().filter(|cpu| *cpu < CpuSet::MAX_CPU) {
        set.set(cpu);
    }
    if set.count() == 0 {
        // A node with memory but without processors.
        return Ok(false);
    }
    sched_setaffinity(None, &set)?;
    Ok(true)
}

/// Parses a list such as `0-3,8`. Ignores what is not a number or a range.
fn parse_list(text: &str) -> Vec<usize> {
    let mut numbers = vec![];
    for range in text.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        if let (Ok(first), Ok(last)) = (first.parse::<usize>(), last.parse::<usize>()) {
            numbers.extend(first..=last.min(first.saturating_add(CpuSet::MAX_CPU)));
        }
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_processors_are_parsed() {
        assert_eq!(parse_list("0-3,8\n"), [0, 1, 2, 3, 8]);
        assert_eq!(parse_list("0\n"), [0]);
        assert_eq!(parse_list(""), [0usize; 0]);
        assert_eq!(parse_list("3-1,x,2-y"), [0usize; 0]);
        assert!(parse_list("0-18446744073709551615").len() <= CpuSet::MAX_CPU + 1);
    }

    #[test]
    fn a_host_with_one_node_needs_no_pinning() {
        let online = fs::read_to_string(Path::new(NODES).join("online")).unwrap_or_default();
        let several = parse_list(&online).len() > 1;
        // On its own thread, because a pinned thread stays pinned.
        let pinned = std::thread::spawn(|| pin_to_node(0)).join().unwrap().unwrap();
        assert_eq!(pinned, several);
    }
}
