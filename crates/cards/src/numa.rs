//! Keeps the thread of a card on the processors of its NUMA node.

use rustix::thread::{CpuSet, sched_setaffinity};
use std::path::Path;
use std::{fs, io};

const NODES: &str = "/sys/devices/system/node";

/// Restricts the calling thread to the processors of a NUMA node. Returns false, and does nothing, on a host with one node.
pub(crate) fn pin_to_node(node: u32) -> io::Result<bool> {
    match processors(Path::new(NODES), node)? {
        Some(set) => Ok(sched_setaffinity(None, &set).map(|()| true)?),
        None => Ok(false),
    }
}

/// Returns the processors of a node, if the host has several nodes and this one has processors.
fn processors(nodes: &Path, node: u32) -> io::Result<Option<CpuSet>> {
    match fs::read_to_string(nodes.join("online")) {
        Ok(online) if parse_list(&online).len() > 1 => {}
        // A kernel without NUMA has no such directory.
        _ => return Ok(None),
    }
    let list = fs::read_to_string(nodes.join(format!("node{node}/cpulist")))?;
    let mut set = CpuSet::new();
    for cpu in parse_list(&list).into_iter().filter(|cpu| *cpu < CpuSet::MAX_CPU) {
        set.set(cpu);
    }
    Ok((set.count() > 0).then_some(set))
}

/// Parses a list such as `0-3,8`. Ignores items that are not numbers or ranges.
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
    fn the_processors_of_the_node_are_found_on_a_host_with_several() {
        let nodes = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = nodes.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let found = |node| {
            let set = processors(nodes.path(), node).unwrap()?;
            Some((0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect::<Vec<_>>())
        };
        assert_eq!(found(0), None, "no NUMA");
        write("node0/cpulist", "0-1\n");
        write("online", "0\n");
        assert_eq!(found(0), None, "one node");
        write("online", "0-2\n");
        write("node1/cpulist", "2,5-6\n");
        write("node2/cpulist", "\n");
        assert_eq!((found(0), found(1)), (Some(vec![0, 1]), Some(vec![2, 5, 6])));
        assert_eq!(found(2), None, "memory only");
        assert!(processors(nodes.path(), 3).is_err());
    }

    #[test]
    fn a_thread_is_pinned_only_on_a_host_with_several_nodes() {
        let online = fs::read_to_string(Path::new(NODES).join("online")).unwrap_or_default();
        let several = parse_list(&online).len() > 1;
        // On its own thread, because a pinned thread stays pinned.
        let pinned = std::thread::spawn(|| pin_to_node(0)).join().unwrap().unwrap();
        assert_eq!(pinned, several);
    }
}
