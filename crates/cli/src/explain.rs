//! `xdma run --explain`: prints the calls that programs made on device files.

use nix::errno::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use xdma_chardev::{Call, CallKey, Counters, Node, REMARKS, ioctl};

/// The titles of the columns. The last is not padded.
const TITLES: [&str; 6] = ["process", "file", "call", "calls", "bytes", "errors"];

/// Identifies a row: process ID and name, the file's minor number, the function, and the number of an ioctl.
type Row = (u64, String, u32, Call, u32);

/// The contents of a row.
#[derive(Default)]
struct Sums {
    calls: u64,
    bytes: u64,
    /// The number of calls that failed with each error.
    errors: BTreeMap<u16, u64>,
}

/// Returns the report on the counters in a directory.
pub fn report(folder: &Path) -> String {
    let mut rows = BTreeMap::<Row, Sums>::new();
    let mut remarks = BTreeSet::new();
    for file in fs::read_dir(folder).into_iter().flatten().flatten() {
        let bytes = fs::read(file.path()).unwrap_or_default();
        if file.file_name() == REMARKS {
            remarks.extend(String::from_utf8_lossy(&bytes).lines().map(String::from));
            continue;
        }
        let (words, _) = bytes.as_chunks::<8>();
        let words: Vec<_> = words.iter().map(|word| AtomicU64::new(u64::from_ne_bytes(*word))).collect();
        if let Some(counters) = Counters::new(&words) {
            add(counters, &mut rows, &mut remarks);
        }
    }
    if rows.is_empty() && remarks.is_empty() {
        return "no program called a function on a device file\n".into();
    }
    let remarks: String = remarks.into_iter().map(|remark| format!("note: {remark}\n")).collect();
    table(&rows) + &remarks
}

fn add(counters: Counters<'_>, rows: &mut BTreeMap<Row, Sums>, remarks: &mut BTreeSet<String>) {
    let (process, name) = counters.process();
    for counted in counters.counted() {
        let CallKey { call, node, errno, detail } = counted.key;
        let sums = rows.entry((process, name.clone(), node.minor(), call, detail)).or_default();
        sums.calls += counted.calls;
        sums.bytes += counted.bytes;
        if errno != 0 {
            *sums.errors.entry(errno).or_default() += counted.calls;
        }
        remarks.extend(remark(counted.key).map(|remark| format!("{name}: {remark}")));
    }
    if counters.uncounted() > 0 {
        remarks.insert(format!("{name} ({process}): {} more calls were not counted", counters.uncounted()));
    }
}

/// Returns why a call is not supported, if it is not.
fn remark(key: CallKey) -> Option<String> {
    let CallKey { call, node, errno, detail } = key;
    let name = call.name();
    match call {
        Call::Ioctl if errno != 0 && command(detail).is_none() => {
            Some(format!("ioctl {detail:#x} on {node} is unknown to the kernel module"))
        }
        Call::Mmap if errno == Errno::ENODEV as u16 && node.is_bar() => {
            Some(format!("mmap of {node} needs vfio-pci; this card is connected over a socket"))
        }
        Call::AioRead | Call::AioWrite | Call::IoSubmit | Call::LioListio => {
            Some(format!("{name} on {node} is not supported: use synchronous calls in several threads"))
        }
        Call::Mmap | Call::EpollCtl | Call::Sendfile | Call::Splice | Call::CopyFileRange if errno != 0 => {
            Some(format!("{name} on {node} fails with the kernel module too"))
        }
        _ => None,
    }
}

/// Returns the name of an ioctl.
fn command(number: u32) -> Option<&'static str> {
    Some(match number {
        ioctl::PERF_START => "PERF_START",
        ioctl::PERF_STOP => "PERF_STOP",
        ioctl::PERF_GET => "PERF_GET",
        ioctl::ADDRMODE_SET => "ADDRMODE_SET",
        ioctl::ADDRMODE_GET => "ADDRMODE_GET",
        ioctl::ALIGN_GET => "ALIGN_GET",
        ioctl::APERTURE_READ => "APERTURE_R",
        ioctl::APERTURE_WRITE => "APERTURE_W",
        ioctl::OFFLINE => "OFFLINE",
        ioctl::ONLINE => "ONLINE",
        ioctl::INFO => "IOCINFO",
        _ => return None,
    })
}

fn table(rows: &BTreeMap<Row, Sums>) -> String {
    let cells = rows.iter().map(|((process, name, minor, call, detail), sums)| {
        let file = Node::from_minor(*minor).map_or_else(String::new, |node| node.to_string());
        let call = match (call, command(*detail)) {
            (Call::Ioctl, Some(command)) => format!("ioctl {command}"),
            (Call::Ioctl, None) => format!("ioctl {detail:#x}"),
            (call, _) if *detail == CallKey::IN_PLACE => format!("{} in place", call.name()),
            (call, _) => call.name().into(),
        };
        let error = |(errno, calls): (&u16, &u64)| format!("{:?} {calls}", Errno::from_raw((*errno).into()));
        let errors = sums.errors.iter().map(error).collect::<Vec<_>>().join(", ");
        let process = format!("{name} ({process})");
        [process, file, call, sums.calls.to_string(), sums.bytes.to_string(), errors]
    });
    let lines: Vec<_> = std::iter::once(TITLES.map(String::from)).chain(cells).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let [process, file, call, calls, bytes] = [0, 1, 2, 3, 4].map(width);
    let line = |[a, b, c, d, e, f]: &[String; 6]| {
        let text = format!("{a:process$}  {b:file$}  {c:call$}  {d:>calls$}  {e:>bytes$}  {f}");
        format!("{}\n", text.trim_end())
    };
    lines.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_of_a_process_are_summed_by_file_and_errors_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let words: Vec<_> = std::iter::repeat_with(AtomicU64::default).take(Counters::WORDS).collect();
        let counters = Counters::new(&words).unwrap();
        counters.identify(12, b"program");
        let key = CallKey { call: Call::Pwrite, node: Node::H2c(0), errno: 0, detail: 0 };
        counters.add(key, 4096);
        counters.add(CallKey { errno: 22, ..key }, 0);
        counters.add(CallKey { detail: CallKey::IN_PLACE, ..key }, 65_536);
        counters.add(CallKey { call: Call::Ioctl, errno: 25, detail: 0x5401, ..key }, 0);
        let bytes: Vec<u8> = words.into_iter().flat_map(|word| word.into_inner().to_ne_bytes()).collect();
        fs::write(folder.path().join("12-1"), bytes).unwrap();
        fs::write(folder.path().join("13-1"), "garbage").unwrap();
        let report = report(folder.path());
        assert_eq!(
            report,
            "process       file   call             calls  bytes  errors\n\
             program (12)  h2c_0  pwrite               2   4096  EINVAL 1\n\
             program (12)  h2c_0  pwrite in place      1  65536\n\
             program (12)  h2c_0  ioctl 0x5401         1      0  ENOTTY 1\n\
             note: program: ioctl 0x5401 on h2c_0 is unknown to the kernel module\n"
        );
    }
}
