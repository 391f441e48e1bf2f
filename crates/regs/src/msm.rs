//! The MSM design: its AXI-Lite registers (BAR0 on F1, the user BAR elsewhere) and its windows on the AXI side.
//!
//! Offsets 0x000 to 0x144 have the same meaning as in the MSM images that current provers use (ingonyama-zk/blaze,
//! `msm_hw_code.rs`); offsets from 0x200 are this project's extension. All registers are 32 bits, little-endian. A 64-bit value
//! is a LO and HI pair: reading LO latches HI. Registers not listed here read as zero and ignore writes.
//!
//! A *task* is one MSM. [`PUSH_TASK`] queues a task of [`N_ELEMENTS`] pairs with the form in [`MODE`] and the label in [`LABEL`].
//! The core consumes pairs from the FIFOs only for the oldest unfinished task, so data may be sent before or after its task is
//! pushed. Results are queued in the order of the tasks until [`POP_RESULT`].
//!
//! Each task's scalars and points start on a 64-byte beat. With an odd number of pairs, the last beat of scalars carries one
//! scalar in its lower half and padding in its upper half, which the core drops.

use bitflags::bitflags;

/// A constant of this module, for programs that translate the map, such as `cargo xtask registers`.
#[derive(Clone, Copy, Debug)]
pub struct Constant {
    /// The name of the constant.
    pub name: &'static str,
    /// The type: `u32` for offsets and register values, `u64` for addresses, `usize` for sizes.
    pub kind: &'static str,
    /// The value.
    pub value: u64,
}

/// Defines constants, and [`CONSTANTS`] with all of them in order.
macro_rules! constants {
    ($($(#[$doc:meta])* pub const $name:ident: $kind:ty = $value:expr;)*) => {
        $($(#[$doc])* pub const $name: $kind = $value;)*

        /// All constants of the map.
        pub const CONSTANTS: &[Constant] =
            &[$(Constant { name: stringify!($name), kind: stringify!($kind), value: $name as u64 }),*];
    };
}

constants! {
    /// The window for scalars on the AXI side: 32-byte scalars, two per beat. Address bits inside the window are ignored.
    pub const SCALAR_WINDOW: u64 = 0x1000_0000;
    /// The window for points on the AXI side: 64-byte affine points, x then y, one per beat. Address bits inside the window are
    /// ignored.
    pub const POINT_WINDOW: u64 = 0x2000_0000;
    /// Read window: the oldest result, 96 bytes (X, Y, Z, each 32 bytes little-endian); zeros without a result.
    pub const RESULT_WINDOW: u64 = 0x4000_0000;
    /// Scratch memory of [`SCRATCH_SIZE`] bytes, for bring-up and loopback tests.
    pub const SCRATCH_WINDOW: u64 = 0x5000_0000;
    /// The size of the scratch memory in bytes. Addresses in its window wrap at this size.
    pub const SCRATCH_SIZE: u64 = 1 << 20;
    /// The size of each window in bytes. Outside of the windows the AXI side answers DECERR.
    pub const WINDOW_SIZE: u64 = 256 << 20;
    /// The size of an AXI beat in bytes. Writes to the scalar and point windows must be whole, aligned beats; others get SLVERR.
    pub const BEAT: usize = 64;
    /// Bytes of a scalar.
    pub const SCALAR_BYTES: usize = 32;
    /// Bytes of an affine point.
    pub const POINT_BYTES: usize = 64;
    /// Bytes of a result.
    pub const RESULT_BYTES: usize = 96;

    /// RO: identifies the image; [`IMAGE_ID_VALUE`] for this design.
    pub const IMAGE_ID: u32 = 0x000;
    /// The value of [`IMAGE_ID`]: "MSM" and the major version.
    pub const IMAGE_ID_VALUE: u32 = 0x4d53_4d01;
    /// RO: 31:28 stub core (1 = the core does not compute an MSM), 27:20 curve (1 = BN254), 19:16 adders, 15:8 bucket address
    /// bits, 7:4 segments.
    pub const IMAGE_PARAMETERS: u32 = 0x004;
    /// RO: bit 0, the core accepts tasks.
    pub const ENGINE_READY: u32 = 0x008;
    /// RO: label that will be assigned to the next task pushed.
    pub const TASK_LABEL: u32 = 0x00c;
    /// RW: number of pairs of the next task, 1 to [`MAX_ELEMENTS`].
    pub const N_ELEMENTS: u32 = 0x028;
    /// WO: any write queues a task. If the queue is full or [`N_ELEMENTS`] is out of range, the task is dropped with
    /// [`Errors::OVERRUN`].
    pub const PUSH_TASK: u32 = 0x02c;
    /// RO: bit 0, a result is available.
    pub const RESULT_VALID: u32 = 0x030;
    /// RO: label of the oldest result.
    pub const RESULT_LABEL: u32 = 0x034;
    /// RO: the oldest result, 24 words starting here: X, Y, Z, least significant word first.
    pub const RESULT: u32 = 0x038;
    /// WO: any write removes the oldest result. If there is no result: [`Errors::UNDERRUN`].
    pub const POP_RESULT: u32 = 0x0c8;
    /// RO: unfinished tasks, including the running one.
    pub const PENDING_TASKS: u32 = 0x0cc;
    /// RO: results in the queue.
    pub const PENDING_RESULTS: u32 = 0x0d0;
    /// RO: bit 0, the running task has all its pairs and is being reduced.
    pub const FINAL_ACCUMULATION: u32 = 0x0d8;
    /// RO: pairs that the running task has not consumed yet.
    pub const ELEMENTS_LEFT: u32 = 0x0dc;
    /// RO: scalars in the FIFO.
    pub const SCALARS_IN_FIFO: u32 = 0x0e0;
    /// RO: points in the FIFO.
    pub const POINTS_IN_FIFO: u32 = 0x0e4;
    /// RO pair: clocks of the first phase (consuming pairs) of the last task; further phase counters follow up to 0x144.
    pub const PHASE1_CLOCKS: u32 = 0x0f8;

    /// RO: [`EXTENSION_ID_VALUE`] if the registers from 0x200 exist.
    pub const EXTENSION_ID: u32 = 0x200;
    /// The value of [`EXTENSION_ID`]: "XMSM".
    pub const EXTENSION_ID_VALUE: u32 = 0x584d_534d;
    /// RO: version of the extension, major in 31:16, minor in 15:0.
    pub const EXTENSION_VERSION: u32 = 0x204;
    /// RO: 7:0 window bits C, 15:8 number of windows, 23:16 initiation interval of the adder.
    pub const BUILD: u32 = 0x208;
    /// RO: depth of the scalar FIFO, in scalars.
    pub const SCALAR_DEPTH: u32 = 0x20c;
    /// RO: depth of the point FIFO, in points.
    pub const POINT_DEPTH: u32 = 0x210;
    /// RO: the core's clock in kHz.
    pub const CLOCK_KHZ: u32 = 0x214;
    /// RO: 7:0 capacity of the task queue, 15:8 capacity of the result queue.
    pub const QUEUE_DEPTH: u32 = 0x218;
    /// RO: maximum number of pairs of a task.
    pub const MAX_ELEMENTS: u32 = 0x21c;
    /// WO: [`Ctrl`]; writing 1 to a bit triggers its action once.
    pub const CTRL: u32 = 0x220;
    /// RO: [`Status`].
    pub const STATUS: u32 = 0x224;
    /// RW1C: [`Errors`], sticky.
    pub const ERRORS: u32 = 0x228;
    /// RW: [`Mode`], copied into a task when it is pushed.
    pub const MODE: u32 = 0x22c;
    /// RW: label of the next task; each push increments it.
    pub const LABEL: u32 = 0x230;
    /// RW: [`Irq`] bits that raise user interrupt 0.
    pub const IRQ_ENABLE: u32 = 0x234;
    /// RW1C: [`Irq`].
    pub const IRQ_STATUS: u32 = 0x238;
    /// RW: clocks for which one window may stall the write channel while the other FIFO is empty. After that, and until a flush,
    /// the design drops writes, answers SLVERR, and sets [`Errors::WATCHDOG`]; 0 disables the watchdog.
    pub const WATCHDOG: u32 = 0x23c;
    /// RO: scalars that fit into the FIFO now.
    pub const FREE_SCALARS: u32 = 0x240;
    /// RO: points that fit into the FIFO now.
    pub const FREE_POINTS: u32 = 0x244;
    /// RO pair: scalars pushed into the FIFO since reset (padding is not counted once it is known).
    pub const PUSHED_SCALARS: u32 = 0x248;
    /// RO pair: points pushed into the FIFO since reset.
    pub const PUSHED_POINTS: u32 = 0x250;
    /// RO pair: scalars consumed by the core since reset.
    pub const CONSUMED_SCALARS: u32 = 0x258;
    /// RO pair: points consumed by the core since reset.
    pub const CONSUMED_POINTS: u32 = 0x260;
    /// RO pair: clocks since reset.
    pub const CYCLES: u32 = 0x268;
    /// RO pair: clocks in which the core consumed a pair or reduced.
    pub const CORE_BUSY: u32 = 0x270;
    /// RO pair: clocks in which the core lacked a scalar while a point waited.
    pub const STARVE_SCALAR: u32 = 0x278;
    /// RO pair: clocks in which the core lacked a point while a scalar waited.
    pub const STARVE_POINT: u32 = 0x280;
    /// RO pair: clocks in which a running task lacked both.
    pub const STARVE_BOTH: u32 = 0x288;
    /// RO pair: clocks in which the scalar window stalled the write channel.
    pub const STALL_SCALAR: u32 = 0x290;
    /// RO pair: clocks in which the point window stalled the write channel.
    pub const STALL_POINT: u32 = 0x298;
    /// RO: write bursts answered with SLVERR or DECERR since reset.
    pub const REFUSED_WRITES: u32 = 0x2a0;
    /// RO: maximum number of scalars in the FIFO since reset.
    pub const HIGH_WATER_SCALARS: u32 = 0x2d8;
    /// RO: maximum number of points in the FIFO since reset.
    pub const HIGH_WATER_POINTS: u32 = 0x2dc;
}

bitflags! {
    /// Bits of [`CTRL`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Ctrl: u32 {
        /// Drops the running and all queued tasks; finished results are kept.
        const ABORT = 1 << 0;
        /// Empties both FIFOs and ends the watchdog's drop state.
        const FLUSH = 1 << 1;
        /// Restores the power-up state: no tasks, no results, empty FIFOs, registers and counters at their reset values.
        const SOFT_RESET = 1 << 2;
    }

    /// Bits of [`STATUS`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Status: u32 {
        /// A task is running.
        const BUSY = 1 << 0;
        /// The task queue is full.
        const TASKS_FULL = 1 << 1;
        /// A write to the scalar window waits for space.
        const SCALAR_STALLED = 1 << 2;
        /// A write to the point window waits for space.
        const POINT_STALLED = 1 << 3;
        /// The watchdog fired: writes are dropped and answered with SLVERR until a flush.
        const DROPPING = 1 << 4;
    }

    /// Bits of [`ERRORS`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Errors: u32 {
        /// An access outside all windows.
        const DECODE = 1 << 0;
        /// A write to a FIFO window that was not whole aligned beats, or a write to a read-only window.
        const STROBE = 1 << 1;
        /// WLAST did not match the length of the burst.
        const WLAST = 1 << 2;
        /// The watchdog ended a deadlock of the two FIFOs.
        const WATCHDOG = 1 << 3;
        /// A task was pushed but could not be queued.
        const OVERRUN = 1 << 4;
        /// A result was popped but none was available.
        const UNDERRUN = 1 << 5;
    }

    /// Bits of [`MODE`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Mode: u32 {
        /// Scalars are in Montgomery form (times 2^256 modulo r); otherwise canonical.
        const MONTGOMERY = 1 << 0;
    }

    /// Bits of [`IRQ_ENABLE`] and [`IRQ_STATUS`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Irq: u32 {
        /// A result became available.
        const RESULT = 1 << 0;
        /// A bit of [`ERRORS`] was set.
        const ERROR = 1 << 1;
    }
}
