//! Pools of hugepages, of the whole host or of one NUMA node.

use super::{Host, Refusal, SetupError};
use std::fmt;
use std::str::FromStr;

/// Sizes of hugepages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageSize {
    /// 2 MiB.
    Huge2M,
    /// 1 GiB.
    Huge1G,
}

impl PageSize {
    /// All sizes.
    pub const ALL: [Self; 2] = [Self::Huge2M, Self::Huge1G];

    /// Returns the name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Huge2M => "2M",
            Self::Huge1G => "1G",
        }
    }

    /// Returns the size of a page in bytes.
    pub fn bytes(self) -> u64 {
        match self {
            Self::Huge2M => 2 << 20,
            Self::Huge1G => 1 << 30,
        }
    }

    fn directory(self) -> &'static str {
        match self {
            Self::Huge2M => "hugepages-2048kB",
            Self::Huge1G => "hugepages-1048576kB",
        }
    }
}

/// A request for a minimum number of hugepages, such as `2M=64,1G=2`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted(pub Vec<(PageSize, u64)>);

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<_> = self.0.iter().map(|(size, count)| format!("{}={count}", size.name())).collect();
        f.write_str(&parts.join(","))
    }
}

/// The error for a text that is not a request for hugepages.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseHugepagesError {
    /// The kernel of this architecture has no pages of this size.
    #[error("`{0}` is not a size of hugepages: the sizes are 2M and 1G, as in 2M=64,1G=2")]
    Size(String),
    /// The text is not a list of sizes and numbers, or names a size twice.
    #[error("`{0}` is not a number of hugepages: use 2M=64, 1G=2 or 2M=64,1G=2")]
    Count(String),
}

impl FromStr for Wanted {
    type Err = ParseHugepagesError;

    fn from_str(text: &str) -> Result<Self, ParseHugepagesError> {
        let mut wanted: Vec<(PageSize, u64)> = Vec::new();
        for part in text.split(',') {
            let invalid = || ParseHugepagesError::Count(text.into());
            let (name, count) = part.split_once('=').ok_or_else(invalid)?;
            let size = PageSize::ALL.into_iter().find(|size| size.name() == name);
            let size = size.ok_or_else(|| ParseHugepagesError::Size(name.into()))?;
            let is_repeated = wanted.iter().any(|(other, _)| *other == size);
            if is_repeated || !count.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(invalid());
            }
            wanted.push((size, count.parse().map_err(|_| invalid())?));
        }
        Ok(Self(wanted))
    }
}

/// A pool of hugepages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Size of the pages.
    pub size: PageSize,
    /// NUMA node of the pages; `None` for the pool of the whole host.
    pub node: Option<u32>,
}

impl Pool {
    /// Returns the directory of the pool, without a leading slash.
    pub(super) fn directory(self) -> String {
        match self.node {
            None => format!("sys/kernel/mm/hugepages/{}", self.size.directory()),
            Some(node) => format!("sys/devices/system/node/node{node}/hugepages/{}", self.size.directory()),
        }
    }

    /// Returns the pool whose file this is, with a leading slash.
    pub(super) fn of_file(path: &str) -> Option<Self> {
        let size =
            PageSize::ALL.into_iter().find(|size| path.contains(&format!("/{}/", size.directory())))?;
        let node = path.strip_prefix("/sys/devices/system/node/node").and_then(|rest| rest.split_once('/'));
        let pool = Self { size, node: node.and_then(|(node, _)| node.parse().ok()) };
        (path == format!("/{}", pool.file())).then_some(pool)
    }

    /// Returns the file that sets the number of pages.
    pub(super) fn file(self) -> String {
        format!("{}/nr_hugepages", self.directory())
    }

    /// Returns a text such as ` on node 1`, or an empty text for the pool of the whole host.
    pub(super) fn place(self) -> String {
        self.node.map_or_else(String::new, |node| format!(" on node {node}"))
    }

    /// Returns the number of pages in the pool.
    ///
    /// # Errors
    ///
    /// The kernel has no such pages, or its file cannot be read.
    pub fn total(self, host: &Host) -> Result<u64, SetupError> {
        self.read(host, "nr_hugepages")
    }

    /// Returns the number of free pages.
    ///
    /// # Errors
    ///
    /// The same as for [`total`](Self::total).
    pub fn free(self, host: &Host) -> Result<u64, SetupError> {
        self.read(host, "free_hugepages")
    }

    /// Checks that there is enough memory for `count` more pages. Without this check, the kernel would reclaim memory from all
    /// other programs to reserve as many pages as it can.
    pub(super) fn require_memory(self, host: &Host, count: u64) -> Result<(), SetupError> {
        let text = host.text("proc/meminfo")?.unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        let (size, wanted) = (self.size.name(), count.saturating_mul(self.size.bytes()));
        match kib.map(|kib| kib.saturating_mul(1024)) {
            Some(available) if wanted > available => {
                Err(Refusal::TooManyPages { count, size, wanted, available }.into())
            }
            _ => Ok(()),
        }
    }

    fn read(self, host: &Host, name: &str) -> Result<u64, SetupError> {
        let text = host.text(&format!("{}/{name}", self.directory()))?;
        text.and_then(|text| text.parse().ok()).ok_or_else(|| self.missing().into())
    }

    fn missing(self) -> Refusal {
        let remedy = match self.size {
            PageSize::Huge1G => {
                "the processor must support them (flag `pdpe1gb`), and the NUMA node must exist; otherwise use 2M pages"
            }
            PageSize::Huge2M => "the NUMA node must exist, and the kernel needs hugetlbfs (CONFIG_HUGETLBFS)",
        };
        Refusal::NoSuchPages { size: self.size.name(), place: self.place(), remedy }
    }
}

/// Returns the NUMA nodes of the host in ascending order.
///
/// # Errors
///
/// The directory cannot be read.
pub fn nodes(host: &Host) -> Result<Vec<u32>, SetupError> {
    let names = host.names("sys/devices/system/node")?;
    let mut nodes: Vec<u32> =
        names.iter().filter_map(|name| name.strip_prefix("node")?.parse().ok()).collect();
    nodes.sort_unstable();
    Ok(nodes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests() {
        let both = Wanted(vec![(PageSize::Huge2M, 64), (PageSize::Huge1G, 2)]);
        assert_eq!(both.to_string(), "2M=64,1G=2");
        assert_eq!("2M=64,1G=2".parse(), Ok(both));
        for bad in
            ["", "2M", "2M=", "4K=1", "2M=1,2M=2", "2M=-1", "2M=+1", "2M=99999999999999999999", "2M=1,"]
        {
            let error = bad.parse::<Wanted>().unwrap_err().to_string();
            assert!(error.contains("2M=64"), "{bad}: {error}");
        }
        let size = "2M=1,3M=4".parse::<Wanted>().unwrap_err().to_string();
        assert!(size.starts_with("`3M` is not a size of hugepages"), "{size}");
    }
}
