//! Cards.

use crate::children::{Child, Children};
use crate::error::{Failure, run};
use crate::kind::{Kind, check_not_forked};
use crate::pointers::{self, Options, Out, handle, invalid};
use crate::shared::SharedTable;
use crate::status::xdma_status;
use crate::tables;
use crate::thread;
use std::ffi::c_char;
use std::sync::Arc;
use std::time::Duration;
use xdma::card::{Card, CardName, CardOptions, Interrupts, Mode, Report};
use xdma::memory::{CallerMemory, HugePages, PageSize};
use xdma::regs::Direction;

/// An open card. It belongs to the process; any thread may use it, several at a time.
pub struct xdma_card(());

pub(crate) struct CardObject {
    pub card: Card,
    children: Arc<Children>,
}

impl CardObject {
    /// Counts a handle that is opened from this card.
    pub fn child(&self, kind: Kind) -> Child {
        self.children.add(kind)
    }
}

pub(crate) static CARDS: SharedTable<CardObject, 256> = SharedTable::new(Kind::Card);

/// Page sizes of allocated memory.
pub type xdma_pages = u32;
/// 1 GiB pages for buffers of at least that size, 2 MiB pages for others, and 4 KiB pages if none of those are free.
pub const XDMA_PAGES_PREFER_HUGE: xdma_pages = 0;
/// 4 KiB pages.
pub const XDMA_PAGES_4K: xdma_pages = 1;
/// 2 MiB pages; an allocation fails if none are free.
pub const XDMA_PAGES_2M: xdma_pages = 2;
/// 1 GiB pages; an allocation fails if none are free.
pub const XDMA_PAGES_1G: xdma_pages = 3;

/// How a card on vfio-pci is opened.
pub type xdma_mode = u32;
/// As the environment variable XDMA_VFIO says; if it is not set, cdev, then type 1.
pub const XDMA_MODE_AUTO: xdma_mode = 0;
/// The character device of the function, with iommufd.
pub const XDMA_MODE_CDEV: xdma_mode = 1;
/// The IOMMU group, with a type 1 container.
pub const XDMA_MODE_TYPE1: xdma_mode = 2;
/// Without an IOMMU: the card can access all memory of the machine.
pub const XDMA_MODE_NOIOMMU: xdma_mode = 3;

/// Options for opening a card. Initialise them with xdma_card_options_init, then change what differs.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct xdma_card_options {
    /// Size of this structure in bytes, set by xdma_card_options_init.
    pub size: u32,
    /// Page size of allocated memory: XDMA_PAGES_*.
    pub pages: xdma_pages,
    /// VFIO mode: XDMA_MODE_*.
    pub mode: xdma_mode,
    /// Index of the BAR with the XDMA registers, 0 to 5; -1 to detect it.
    pub register_bar: i32,
    /// Index of the BAR with the user logic's registers, 0 to 5; -1 for the first BAR before the register BAR.
    pub user_bar: i32,
    /// NUMA node of allocated memory; -1 for the card's own node.
    pub numa_node: i32,
    /// Time limit in nanoseconds for an engine to become idle when a channel or the card is opened, stopped or closed.
    pub idle_limit: u64,
    /// If not 0: open the card for inspection only. Engines and interrupts are left as they are, and channels cannot be opened.
    pub inspect_only: u32,
    /// Reserved; 0.
    pub reserved: u32,
}

impl Options for xdma_card_options {
    fn new() -> Self {
        Self {
            size: size_of::<Self>() as u32,
            pages: XDMA_PAGES_PREFER_HUGE,
            mode: XDMA_MODE_AUTO,
            register_bar: -1,
            user_bar: -1,
            numa_node: -1,
            idle_limit: CardOptions::default().idle_limit.as_nanos() as u64,
            inspect_only: 0,
            reserved: 0,
        }
    }
}

/// Returns the driver's option for a number of which negative values select the default.
fn index(value: i32) -> Option<u32> {
    u32::try_from(value).ok()
}

impl TryFrom<xdma_card_options> for CardOptions {
    type Error = Failure;

    fn try_from(options: xdma_card_options) -> Result<Self, Failure> {
        let pages = match options.pages {
            XDMA_PAGES_PREFER_HUGE => HugePages::Prefer,
            XDMA_PAGES_4K => HugePages::Require(PageSize::Base),
            XDMA_PAGES_2M => HugePages::Require(PageSize::Huge2M),
            XDMA_PAGES_1G => HugePages::Require(PageSize::Huge1G),
            other => return Err(invalid(format_args!("`pages` is {other}; use one of XDMA_PAGES_*"))),
        };
        let mode = match options.mode {
            XDMA_MODE_AUTO => None,
            XDMA_MODE_CDEV => Some(Mode::Cdev),
            XDMA_MODE_TYPE1 => Some(Mode::Type1),
            XDMA_MODE_NOIOMMU => Some(Mode::NoIommu),
            other => return Err(invalid(format_args!("`mode` is {other}; use one of XDMA_MODE_*"))),
        };
        Ok(Self {
            register_bar: index(options.register_bar).map(|bar| bar as usize),
            user_bar: index(options.user_bar).map(|bar| bar as usize),
            pages,
            node: index(options.numa_node),
            mode,
            address_seed: None,
            idle_limit: Duration::from_nanos(options.idle_limit),
            as_found: options.inspect_only != 0,
        })
    }
}

/// How a card delivers interrupts.
pub type xdma_interrupts = u32;
/// The card has no interrupts; waits poll.
pub const XDMA_INTERRUPTS_NONE: xdma_interrupts = 0;
/// Each channel and each user line has an MSI-X vector of its own.
pub const XDMA_INTERRUPTS_PER_SOURCE: xdma_interrupts = 1;
/// Channels and user lines share vectors.
pub const XDMA_INTERRUPTS_SHARED: xdma_interrupts = 2;

/// What a card has, in numbers. xdma_card_describe has the same, and more, as text.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct xdma_card_info {
    /// PCI vendor ID.
    pub vendor: u16,
    /// PCI device ID.
    pub device: u16,
    /// H2C channels that exist: bit 0 for channel 0, up to bit 3.
    pub h2c_channels: u32,
    /// C2H channels that exist.
    pub c2h_channels: u32,
    /// H2C channels that are AXI-Stream channels.
    pub h2c_streams: u32,
    /// C2H channels that are AXI-Stream channels.
    pub c2h_streams: u32,
    /// Width of the data path in bytes: 8, 16, 32 or 64.
    pub data_width: u32,
    /// Maximum payload of a PCI Express write in bytes.
    pub max_payload: u32,
    /// Maximum PCI Express read request in bytes.
    pub max_read_request: u32,
    /// Interrupts: XDMA_INTERRUPTS_*.
    pub interrupts: xdma_interrupts,
    /// Index of the BAR with the XDMA registers.
    pub register_bar: i32,
    /// Index of the BAR with the user logic's registers; -1 if there is none.
    pub user_bar: i32,
    /// Offset of the user logic's registers in that BAR, in bytes: 0 unless the BAR also holds the XDMA registers. xdma_user_read and
    /// xdma_user_write add it.
    pub user_offset: u64,
    /// Index of the BAR with the interrupt block of an AWS F2 shell, through which all interrupts go; -1 on other cards.
    pub interrupt_bar: i32,
    /// NUMA node of the card; -1 if the system reports none.
    pub numa_node: i32,
    /// Whether xdma_buffer_register uses memory in place. Otherwise all of it is staged.
    pub registers_in_place: bool,
    /// Whether buffers are in small pages because no hugepages were free.
    pub small_pages: bool,
    /// Whether the function can be reset.
    pub resettable: bool,
}

impl From<&Report> for xdma_card_info {
    fn from(report: &Report) -> Self {
        let mask = |direction: Direction, only_streams: bool| {
            let channels = report.channels.iter().filter(|channel| channel.direction == direction);
            let wanted = channels.filter(|channel| !only_streams || channel.identifier.is_stream());
            wanted.fold(0, |mask, channel| mask | 1 << channel.index)
        };
        let number = |value: Option<u32>| value.and_then(|value| i32::try_from(value).ok()).unwrap_or(-1);
        Self {
            vendor: report.vendor,
            device: report.device,
            h2c_channels: mask(Direction::H2C, false),
            c2h_channels: mask(Direction::C2H, false),
            h2c_streams: mask(Direction::H2C, true),
            c2h_streams: mask(Direction::C2H, true),
            data_width: report.data_width,
            max_payload: report.max_payload,
            max_read_request: report.max_read_request,
            interrupts: match report.interrupts {
                Interrupts::None => XDMA_INTERRUPTS_NONE,
                Interrupts::PerSource => XDMA_INTERRUPTS_PER_SOURCE,
                Interrupts::Shared { .. } => XDMA_INTERRUPTS_SHARED,
            },
            register_bar: report.register_bar as i32,
            user_bar: number(report.user_bar.map(|bar| bar as u32)),
            user_offset: report.user_offset,
            interrupt_bar: number(report.interrupt_bar.map(|bar| bar as u32)),
            numa_node: number(report.bus.node),
            registers_in_place: report.caller_memory == CallerMemory::Pinned,
            small_pages: report.small_pages,
            resettable: report.bus.resettable,
        }
    }
}

/// Sets all options to their defaults.
///
/// Any thread may call this. Errors: XDMA_ERROR_NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_card_options_init(options: *mut xdma_card_options) -> xdma_status {
    // SAFETY: the caller passes NULL or a valid pointer.
    run(|| unsafe { Out::new(options)?.put(xdma_card_options::new()) })
}

/// Opens a card.
///
/// `name` is a PCI address such as "0000:3b:00.0", of a function that is bound to vfio-pci; or "unix:PATH" for a vfio-user socket, such
/// as that of an emulated card. `options` may be NULL for the defaults. The handle is stored in `card`; close it with xdma_card_close.
///
/// Opening stops the card's engines. Each card can be open once. Any thread may call this.
///
/// Errors: XDMA_ERROR_NULL; XDMA_ERROR_ARGUMENT for a name or an option that is invalid; XDMA_ERROR_NOT_FOUND, XDMA_ERROR_PERMISSION,
/// XDMA_ERROR_TAKEN, XDMA_ERROR_HOST if the card cannot be opened; XDMA_ERROR_UNSUPPORTED if it is not an XDMA card; XDMA_ERROR_HUNG;
/// XDMA_ERROR_GONE; XDMA_ERROR_HANDLES; XDMA_ERROR_FORKED in a child of a process that had opened a card.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_card_open(
    name: *const c_char,
    options: *const xdma_card_options,
    card: *mut *mut xdma_card,
) -> xdma_status {
    run(|| {
        let card = Out::new(card)?;
        // SAFETY: the caller passes NULL or valid pointers.
        let (name, options) =
            unsafe { (pointers::text(name, "the card's name")?, pointers::options(options)?) };
        // Opening a card stops its engines, so a process that cannot use it must not open it.
        check_not_forked()?;
        thread::watch_forks();
        tables::mark_null();
        let opened = name.parse::<CardName>()?.open(options.try_into()?)?;
        let object = CardObject { card: opened, children: Arc::default() };
        // SAFETY: as above.
        unsafe { card.put(handle(CARDS.insert(object)?)) }
    })
}

/// Closes a card: stops its engines and restores the reset values of its registers, so that another program can use it.
///
/// All handles that were opened from the card must have been closed: then, after success, the process has no more access to the card,
/// and the card none to the process. Any thread may call this.
///
/// Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE; XDMA_ERROR_IN_USE while handles that were opened from the card are open, which the message
/// lists; XDMA_ERROR_BUSY while another thread is in a call with the card. The card then stays open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_card_close(card: *mut xdma_card) -> xdma_status {
    run(|| {
        let card = CARDS.exclusive(card)?;
        card.children.check_none()?;
        drop(card.close());
        Ok(())
    })
}

/// Stores what a card has, read from its registers, in `info`.
///
/// Any thread may call this. Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_BUSY, XDMA_ERROR_GONE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_card_get_info(card: *mut xdma_card, info: *mut xdma_card_info) -> xdma_status {
    run(|| {
        let (info, card) = (Out::new(info)?, CARDS.get(card)?);
        // SAFETY: the caller passes NULL or a valid pointer.
        unsafe { info.put((&card.card.report()?).into()) }
    })
}

/// Describes a card in a few lines of text: identity, channels, link, interrupts, memory, and every fallback that is in effect.
///
/// Stores at most `capacity` bytes in `text`, with a zero byte at the end, and the length of the whole text without that in `length`, as
/// snprintf does. `text` may be NULL if `capacity` is 0, and `length` may be NULL.
///
/// Any thread may call this. Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_BUSY, XDMA_ERROR_GONE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_card_describe(
    card: *mut xdma_card,
    text: *mut c_char,
    capacity: usize,
    length: *mut usize,
) -> xdma_status {
    run(|| {
        let report = CARDS.get(card)?.card.report()?;
        // SAFETY: the caller passes NULL or valid pointers.
        unsafe { pointers::store_text(&report, text, capacity, length) }
    })
}

/// Recovers a card without closing it, after its link was down, after it was reset by others, or when an engine hangs.
///
/// Stops every engine, resets the function if an engine stays busy, and gives the card access to host memory again. Transfers in flight
/// are lost: each channel reports XDMA_ERROR_ENGINE until it is recovered. Any thread may call this.
///
/// Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_BUSY; XDMA_ERROR_GONE while the card is gone; XDMA_ERROR_HUNG if an engine
/// stays busy.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_card_recover(card: *mut xdma_card) -> xdma_status {
    run(|| Ok(CARDS.get(card)?.card.recover()?))
}

/// Resets the function of a card, then recovers the card as xdma_card_recover does.
///
/// Afterwards every channel must be recovered, and the user logic set up. Any thread may call this.
///
/// Errors: as xdma_card_recover; XDMA_ERROR_UNSUPPORTED or XDMA_ERROR_HOST if the function has no reset.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_card_reset(card: *mut xdma_card) -> xdma_status {
    run(|| Ok(CARDS.get(card)?.card.reset()?))
}

/// Stores the number of bytes in quarantine in `bytes`: memory of transfers that ended without proof that the card had finished with it,
/// which is not used again before the card is closed.
///
/// Any thread may call this. Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_BUSY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_card_get_quarantined(card: *mut xdma_card, bytes: *mut u64) -> xdma_status {
    run(|| {
        let (bytes, card) = (Out::new(bytes)?, CARDS.get(card)?);
        // SAFETY: the caller passes NULL or a valid pointer.
        unsafe { bytes.put(card.card.quarantined_bytes()) }
    })
}

/// Stores the size in bytes of the BAR with the user logic's registers in `size`.
///
/// Any thread may call this. Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_BUSY; XDMA_ERROR_UNSUPPORTED if the card has no such
/// BAR.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_user_size(card: *mut xdma_card, size: *mut u64) -> xdma_status {
    run(|| {
        let (size, card) = (Out::new(size)?, CARDS.get(card)?);
        // SAFETY: the caller passes NULL or a valid pointer.
        unsafe { size.put(card.card.user()?.size()) }
    })
}

/// Reads a register of the user logic: 32 bits at byte `offset`, a multiple of 4, into `value`.
///
/// This is a round trip to the card. All ones may mean that the card is gone. Any thread may call this.
///
/// Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_BUSY; XDMA_ERROR_RANGE for an offset that is not aligned or outside of the BAR;
/// XDMA_ERROR_UNSUPPORTED if the card has no such BAR; XDMA_ERROR_GONE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_user_read(card: *mut xdma_card, offset: u32, value: *mut u32) -> xdma_status {
    run(|| {
        let (value, card) = (Out::new(value)?, CARDS.get(card)?);
        // SAFETY: the caller passes NULL or a valid pointer.
        unsafe { value.put(card.card.user()?.read(offset)?) }
    })
}

/// Writes a register of the user logic: 32 bits at byte `offset`, a multiple of 4.
///
/// The write is posted: the call returns before the card has received it. Any thread may call this. Errors: as xdma_user_read.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_user_write(card: *mut xdma_card, offset: u32, value: u32) -> xdma_status {
    run(|| Ok(CARDS.get(card)?.card.user()?.write(offset, value)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use xdma::card::CardOptions;
    use xdma_emulated_card::{emulator::CardFile, start_like};

    fn info(card: CardFile) -> xdma_card_info {
        (&start_like(card, CardOptions::default()).unwrap().report().unwrap()).into()
    }

    #[test]
    fn the_registers_of_the_user_logic_are_where_the_card_has_them() {
        let place =
            |info: xdma_card_info| (info.register_bar, info.user_bar, info.user_offset, info.interrupt_bar);
        assert_eq!(place(info(CardFile::f1())), (2, 0, 0, -1));
        assert_eq!(place(info(CardFile::f2())), (0, 0, 65536, 2));
    }
}
