//! The open files of a card, and the calls on them.

use crate::caller::Caller;
use crate::device::Device;
use crate::file::File;
use crate::node::Node;
use crate::wire::{FileHeader, Request, WINDOW};
use parking_lot::{Mutex, MutexGuard};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::net::{AddressFamily, SendFlags, Shutdown, SocketFlags, SocketType, send, shutdown, socketpair};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use xdma::regs::Direction;
use xdma::unstable::card::allocate_shared;
use xdma::unstable::memory::SharedMemory;

/// Maximum number of open files.
const MAX_FILES: usize = 4096;
/// Number of files that a caller finds without a lock. Most callers use two, one for each direction.
const RECENT: usize = 4;
/// Lowest file descriptor for this side's end of an open file. In a process that uses the card itself, the program uses lower
/// ones.
const LOWEST: i32 = 500;

/// A card's device files and its open files.
#[derive(Debug)]
pub struct Files {
    device: Device,
    open: Mutex<Open>,
}

/// The open files. A file's number consists of its index and the number of files opened before it, so that no number is used
/// twice.
#[derive(Debug, Default)]
struct Open {
    places: Vec<Option<(u64, Arc<File>)>>,
    opened: u64,
}

impl Open {
    fn insert(&mut self, file: impl FnOnce(u64) -> Result<File, Errno>) -> Result<(), Errno> {
        let place = match self.places.iter().position(Option::is_none) {
            Some(place) => place,
            None if self.places.len() < MAX_FILES => {
                self.places.push(None);
                self.places.len() - 1
            }
            None => return Err(Errno::NFILE),
        };
        self.opened += 1;
        let number = self.opened << 32 | place as u64;
        self.places[place] = Some((number, Arc::new(file(number)?)));
        Ok(())
    }

    fn get(&self, number: u64) -> Option<&Arc<File>> {
        let (own, file) = self.places.get(number as u32 as usize)?.as_ref()?;
        (*own == number).then_some(file)
    }

    fn iter(&self) -> impl Iterator<Item = &File> {
        self.places.iter().flatten().map(|(_, file)| &**file)
    }

    /// Removes files whose last file descriptor has been closed.
    fn sweep(&mut self) {
        for place in &mut self.places {
            if let Some((_, file)) = place.take_if(|(_, file)| has_hung_up(&file.end)) {
                file.mark_removed();
            }
        }
    }
}

/// The files that a caller has used recently, with their numbers. File `number` is at index `number % RECENT`.
#[derive(Debug, Default)]
pub(crate) struct Recent([Option<(u64, Arc<File>)>; RECENT]);

impl Recent {
    #[inline(always)]
    fn get(&self, number: u64) -> Option<&File> {
        let (own, file) = self.0[number as usize % RECENT].as_ref()?;
        (*own == number && !file.is_removed()).then_some(file)
    }

    #[cold]
    fn insert(&mut self, number: u64, file: Arc<File>) -> &File {
        &self.0[number as usize % RECENT].insert((number, file)).1
    }
}

impl Files {
    /// Creates the device files of a card. No file is open.
    pub fn new(device: Device) -> Self {
        Self { device, open: Mutex::default() }
    }

    /// Returns the file with the minor number in a request.
    ///
    /// # Errors
    ///
    /// `ENOENT` if the card does not have it, or if the request is for a card with another PCI address.
    pub fn check(&self, request: &Request) -> Result<Node, Errno> {
        let node = u32::try_from(request.value).ok().and_then(Node::from_minor).ok_or(Errno::NOENT)?;
        let is_of_card = request.position == 0 || self.device.pci_number() == Some(request.position);
        if is_of_card && self.device.has(node) { Ok(node) } else { Err(Errno::NOENT) }
    }

    /// Returns the size of the file of a BAR in sysfs, or 0 for a device file.
    pub fn size(&self, node: Node) -> u64 {
        self.device.size(node)
    }

    /// Opens the file that a request names. Returns the program's file descriptor, whose first message is a [`FileHeader`]. For
    /// an event file, this is the read end of a pipe.
    ///
    /// # Errors
    ///
    /// `ENOENT` if the card does not have the file, `EBUSY` if it is a C2H stream that is already open, `ENFILE` if too many
    /// files are open, or an error of the system.
    pub fn open(&self, request: &Request) -> Result<OwnedFd, Errno> {
        let (node, flags) = (self.check(request)?, request.flags);
        if let Node::Events(line) = node {
            return self.device.events.descriptor(line).ok_or(Errno::NOENT);
        }
        let mut open = self.lock();
        open.sweep();
        let is_exclusive = matches!(node, Node::C2h(_))
            && self.device.channel(node).is_some_and(|channel| channel.is_stream());
        if is_exclusive && open.iter().any(|file| file.node == node) {
            return Err(Errno::BUSY);
        }
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        // This fails if the limit of the process does not allow such a high file descriptor.
        let ours = fcntl_dupfd_cloexec(&ours, LOWEST).unwrap_or(ours);
        open.insert(|number| {
            let header = FileHeader { minor: node.minor(), flags, file: number };
            send(&ours, &header.to_bytes(), SendFlags::NOSIGNAL)?;
            // A write that the preload library does not intercept must fail instead of being lost.
            shutdown(&theirs, Shutdown::Write)?;
            Ok(File::new(node, flags, ours))
        })?;
        Ok(theirs)
    }

    /// Returns this side's end of an open file. In a process that uses the card itself, the caller must protect it from the
    /// program.
    pub fn end(&self, number: u64) -> Option<RawFd> {
        self.get(number).ok().map(|file| file.end.as_raw_fd())
    }

    /// Executes a request of `caller` on an open file. Returns the result of the call.
    ///
    /// # Errors
    ///
    /// The errno of the call; `EBADF` if the file is not open.
    #[inline]
    pub fn call(&self, caller: &impl Caller, request: &Request) -> Result<u64, Errno> {
        self.get(request.file)?.call(&self.device, caller, request)
    }

    /// Executes a read or write, as [`call`](Self::call) does. Finds a file that the caller has used recently without a lock.
    #[inline(always)]
    pub(crate) fn transfer_again(
        &self,
        recent: &mut Recent,
        caller: &impl Caller,
        request: &Request,
    ) -> Result<u64, Errno> {
        let file = match recent.get(request.file) {
            Some(file) => file,
            None => recent.insert(request.file, self.get(request.file)?),
        };
        file.transfer(&self.device, caller, request)
    }

    /// Returns the file that a caller of `mmap` maps, and the offset in it.
    ///
    /// # Errors
    ///
    /// The errno of the call; `ENODEV` if the card's registers cannot be mapped.
    pub fn map(&self, request: &Request) -> Result<(OwnedFd, u64), Errno> {
        self.get(request.file)?.map(&self.device, request)
    }

    /// Returns the number of open files.
    pub fn count(&self) -> usize {
        let mut open = self.lock();
        open.sweep();
        open.iter().count()
    }

    /// Ends transfers in progress. Later calls fail with `EINTR` as soon as they have to wait.
    pub fn cancel_all(&self) {
        self.device.closing.store(true, Ordering::Relaxed);
    }

    /// Allocates windows for data to the card and from it, which the broker shares with a client.
    pub(crate) fn windows(&self) -> Result<[SharedMemory; 2], Errno> {
        let window =
            |direction| allocate_shared(self.device.card(), WINDOW, direction).map_err(|_| Errno::OPNOTSUPP);
        Ok([window(Direction::H2C)?, window(Direction::C2H)?])
    }

    /// Removes files that have been closed.
    pub(crate) fn sweep(&self) {
        self.lock().sweep();
    }

    #[inline]
    fn get(&self, number: u64) -> Result<Arc<File>, Errno> {
        self.lock().get(number).cloned().ok_or(Errno::BADF)
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock()
    }
}

pub(crate) fn has_hung_up(end: &OwnedFd) -> bool {
    let mut ready = [PollFd::new(end, PollFlags::empty())];
    poll(&mut ready, Some(&Timespec::default())).is_ok() && ready[0].revents().contains(PollFlags::HUP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_is_used_twice() {
        let (end, _other) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let mut open = Open::default();
        let mut numbers = vec![];
        for _ in 0..3 {
            open.insert(|number| {
                numbers.push(number);
                Ok(File::new(Node::User, 0, end.try_clone().unwrap()))
            })
            .unwrap();
            open.places[0] = None;
        }
        numbers.dedup();
        assert_eq!(numbers.len(), 3);
        assert!(numbers.iter().all(|number| open.get(*number).is_none()));
    }

    #[test]
    fn a_recent_file_is_found_until_it_is_removed() {
        let pair =
            || socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let (mut open, mut recent, mut others) = (Open::default(), Recent::default(), vec![]);
        for _ in 0..=RECENT {
            let (end, other) = pair();
            open.insert(|_| Ok(File::new(Node::User, 0, end))).unwrap();
            others.push(other);
        }
        let numbers: Vec<u64> = open.places.iter().flatten().map(|(number, _)| *number).collect();
        for number in &numbers {
            assert!(recent.get(*number).is_none());
            recent.insert(*number, open.get(*number).unwrap().clone());
        }
        let found =
            |recent: &Recent| numbers.iter().map(|number| recent.get(*number).is_some()).collect::<Vec<_>>();
        // The last file has replaced the first one.
        assert_eq!(found(&recent), [false, true, true, true, true]);
        others.remove(2);
        open.sweep();
        assert_eq!(found(&recent), [false, true, false, true, true]);
    }
}
