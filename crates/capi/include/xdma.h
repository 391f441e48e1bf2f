/*
 * xdma.h - a userspace driver for FPGA cards with the Xilinx XDMA core. The manual page libxdma(3) is an overview.
 *
 * Generated from the source of the package xdma-capi. Do not edit.
 *
 * Results. Functions return XDMA_OK (0), those that poll also XDMA_PENDING (1), or a negative status. After an error, xdma_last_error has
 * cause and remedy. Unless stated otherwise, a call that fails has done nothing, and stores no result.
 *
 * Handles. All types whose names start with xdma_ and that have no fields are handles. A handle that is NULL, was closed, is of another
 * type, or was never open is an error. Handles are not addresses: do not read through them. Close handles that were opened from a card
 * before the card; no function closes another handle than the one that it is given.
 *
 * Threads. Any thread may use a card, buffer, program, interrupt, points, scalars or job, several at a time; a call that needs one for
 * itself, such as closing it, returns XDMA_ERROR_BUSY while another thread is in a call with it. A channel, receiver or MSM client belongs
 * to the thread that opened or attached it; other threads get XDMA_ERROR_THREAD. In a child made by fork, all handles are invalid. No
 * function may be called from a signal handler.
 *
 * Pointers. Every pointer must be NULL or valid for the size stated; NULL is an error unless stated otherwise. Strings end with a zero
 * byte. This, and the lifetime of memory that was registered, is what the library cannot check.
 *
 * Units. Sizes and offsets are in bytes, time limits in nanoseconds. Numbers are little-endian in memory.
 */


#ifndef XDMA_H
#define XDMA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Time limits in nanoseconds. */
#define XDMA_MICROSECONDS(count) ((uint64_t)(count) * 1000)
#define XDMA_MILLISECONDS(count) ((uint64_t)(count) * 1000000)
#define XDMA_SECONDS(count) ((uint64_t)(count) * 1000000000)


/**
 * Memory that a card reads or writes. It belongs to the process; any thread may use it, several at a time.
 */
typedef struct xdma_buffer xdma_buffer;

/**
 * An open card. It belongs to the process; any thread may use it, several at a time.
 */
typedef struct xdma_card xdma_card;

/**
 * An open DMA channel, memory-mapped or a stream that sends.
 *
 * It belongs to the thread that opened it: calls from other threads return XDMA_ERROR_THREAD. xdma_channel_detach and
 * xdma_channel_attach pass it on. When a thread other than the main thread ends, its channels are detached.
 */
typedef struct xdma_channel xdma_channel;

/**
 * An enabled interrupt. It belongs to the process; any thread may use it, several at a time.
 */
typedef struct xdma_interrupt xdma_interrupt;

/**
 * A job: points and scalars as one program, prepared once and submitted any number of times. It belongs to the process; any thread may
 * use it.
 */
typedef struct xdma_job xdma_job;

/**
 * The client of a design that computes multi-scalar multiplications on BN254. It belongs to a thread, as an xdma_channel does.
 */
typedef struct xdma_msm xdma_msm;

/**
 * The points of jobs, in memory that the card reads. They belong to the process; any thread may use them, several at a time.
 */
typedef struct xdma_points xdma_points;

/**
 * A prebuilt chain of descriptors, which runs any number of times. It belongs to the process; any thread may use it.
 */
typedef struct xdma_program xdma_program;

/**
 * An open C2H stream channel with its receive buffers. It belongs to a thread, as an xdma_channel does.
 */
typedef struct xdma_receiver xdma_receiver;

/**
 * The scalars of jobs, in memory that the card reads. They belong to the process; any thread may use them, several at a time.
 */
typedef struct xdma_scalars xdma_scalars;

/**
 * The result of a call: 0 or positive for success, negative for an error.
 */
typedef int32_t xdma_status;

/**
 * What to do about an error.
 */
typedef uint32_t xdma_remedy;

/**
 * The details of an error.
 */
typedef struct xdma_error {
  /**
   * The status that the call returned.
   */
  xdma_status status;
  /**
   * What to do about it, for programs that react automatically: one of XDMA_REMEDY_*.
   */
  xdma_remedy remedy;
  /**
   * The cause and the remedy in detail, for people: UTF-8, without a newline at the end.
   */
  const char *message;
  /**
   * The remedy in one sentence.
   */
  const char *advice;
} xdma_error;

/**
 * How much is logged: the messages of a level and of all those before it.
 */
typedef uint32_t xdma_log_level;

/**
 * Page sizes of allocated memory.
 */
typedef uint32_t xdma_pages;

/**
 * How a card on vfio-pci is opened.
 */
typedef uint32_t xdma_mode;

/**
 * Options for opening a card. Initialise them with xdma_card_options_init, then change what differs.
 */
typedef struct xdma_card_options {
  /**
   * Size of this structure in bytes, set by xdma_card_options_init.
   */
  uint32_t size;
  /**
   * Page size of allocated memory: XDMA_PAGES_*.
   */
  xdma_pages pages;
  /**
   * VFIO mode: XDMA_MODE_*.
   */
  xdma_mode mode;
  /**
   * Index of the BAR with the XDMA registers, 0 to 5; -1 to detect it.
   */
  int32_t register_bar;
  /**
   * Index of the BAR with the user logic's registers, 0 to 5; -1 for the first BAR before the register BAR.
   */
  int32_t user_bar;
  /**
   * NUMA node of allocated memory; -1 for the card's own node.
   */
  int32_t numa_node;
  /**
   * Time limit in nanoseconds for an engine to become idle when a channel or the card is opened, stopped or closed.
   */
  uint64_t idle_limit;
  /**
   * If not 0: open the card for inspection only. Engines and interrupts are left as they are, and channels cannot be opened.
   */
  uint32_t inspect_only;
  /**
   * Reserved; 0.
   */
  uint32_t reserved;
} xdma_card_options;

/**
 * How a card delivers interrupts.
 */
typedef uint32_t xdma_interrupts;

/**
 * What a card has, in numbers. xdma_card_describe has the same, and more, as text.
 */
typedef struct xdma_card_info {
  /**
   * PCI vendor ID.
   */
  uint16_t vendor;
  /**
   * PCI device ID.
   */
  uint16_t device;
  /**
   * H2C channels that exist: bit 0 for channel 0, up to bit 3.
   */
  uint32_t h2c_channels;
  /**
   * C2H channels that exist.
   */
  uint32_t c2h_channels;
  /**
   * H2C channels that are AXI-Stream channels.
   */
  uint32_t h2c_streams;
  /**
   * C2H channels that are AXI-Stream channels.
   */
  uint32_t c2h_streams;
  /**
   * Width of the data path in bytes: 8, 16, 32 or 64.
   */
  uint32_t data_width;
  /**
   * Maximum payload of a PCI Express write in bytes.
   */
  uint32_t max_payload;
  /**
   * Maximum PCI Express read request in bytes.
   */
  uint32_t max_read_request;
  /**
   * Interrupts: XDMA_INTERRUPTS_*.
   */
  xdma_interrupts interrupts;
  /**
   * Index of the BAR with the XDMA registers.
   */
  int32_t register_bar;
  /**
   * Index of the BAR with the user logic's registers; -1 if there is none.
   */
  int32_t user_bar;
  /**
   * Offset of the user logic's registers in that BAR, in bytes: 0 unless the BAR also holds the XDMA registers. xdma_user_read and
   * xdma_user_write add it.
   */
  uint64_t user_offset;
  /**
   * Index of the BAR with the interrupt block of an AWS F2 shell, through which all interrupts go; -1 on other cards.
   */
  int32_t interrupt_bar;
  /**
   * NUMA node of the card; -1 if the system reports none.
   */
  int32_t numa_node;
  /**
   * Whether xdma_buffer_register uses memory in place. Otherwise all of it is staged.
   */
  bool registers_in_place;
  /**
   * Whether buffers are in small pages because no hugepages were free.
   */
  bool small_pages;
  /**
   * Whether the function can be reset.
   */
  bool resettable;
} xdma_card_info;

/**
 * A direction: from the host to the card, or back.
 */
typedef uint32_t xdma_direction;

/**
 * What a buffer is.
 */
typedef struct xdma_buffer_info {
  /**
   * Size in bytes.
   */
  uint64_t size;
  /**
   * Number of bytes that are staged, which xdma_buffer_sync copies; 0 for allocated buffers.
   */
  uint64_t staged;
  /**
   * Whether the buffer was registered, not allocated.
   */
  bool registered;
  /**
   * Its direction: XDMA_H2C or XDMA_C2H.
   */
  xdma_direction direction;
} xdma_buffer_info;

/**
 * Descriptor rings.
 */
typedef uint32_t xdma_ring;

/**
 * How waits wait.
 */
typedef uint32_t xdma_wait_mode;

/**
 * Options for opening a channel. Initialise them with xdma_channel_options_init, then change what differs.
 */
typedef struct xdma_channel_options {
  /**
   * Size of this structure in bytes, set by xdma_channel_options_init.
   */
  uint32_t size;
  /**
   * Descriptor ring: XDMA_RING_*.
   */
  xdma_ring ring;
  /**
   * How waits wait: XDMA_WAIT_*; initially XDMA_WAIT_HYBRID. On a card without interrupts, waits poll.
   */
  xdma_wait_mode wait;
  /**
   * Number of descriptors for single transfers, rounded up to a power of two, at most 512.
   */
  uint32_t slots;
  /**
   * If not 0: every transfer accesses one fixed card address.
   */
  uint32_t fixed_address;
  /**
   * If not 0: the busy bit is read before a chain is started again.
   */
  uint32_t check_idle;
  /**
   * If not 0: the channel interrupts when it completes work and when it fails, for xdma_interrupt_open_channel. A wait that
   * sleeps takes the interrupt; to leave it to the caller, poll, or wait with XDMA_WAIT_SPIN.
   */
  uint32_t interrupt;
  /**
   * Reserved; 0.
   */
  uint32_t reserved;
} xdma_channel_options;

/**
 * Identifies a submitted transfer, run or packet. It is a plain value: copy it freely, and drop it without a call. Do not change it.
 */
typedef struct xdma_ticket {
  /**
   * The channel.
   */
  uint64_t channel;
  /**
   * The number of the submission.
   */
  uint64_t sequence;
} xdma_ticket;

/**
 * Code of the program that a recovery calls repeatedly while an engine is busy. `context` is what was passed with it.
 *
 * It may call functions of the library with other handles. It must return: no longjmp, exception, or end of the thread.
 */
typedef void (*xdma_help)(void *context);

/**
 * Statistics of a channel since its card was opened.
 */
typedef struct xdma_channel_stats {
  /**
   * Transfers, runs and packets submitted.
   */
  uint64_t submitted;
  /**
   * Those that completed with success.
   */
  uint64_t completed;
  /**
   * Those that ended with an error, or because the channel was stopped.
   */
  uint64_t abandoned;
  /**
   * Those that are in flight.
   */
  uint64_t in_flight;
  /**
   * Bytes of completed transfers.
   */
  uint64_t bytes;
  /**
   * Descriptors posted to the engine.
   */
  uint64_t descriptors;
  /**
   * Writes that started the engine.
   */
  uint64_t doorbells;
  /**
   * Submissions refused because the ring was full.
   */
  uint64_t full;
  /**
   * Waits that reached their time limit.
   */
  uint64_t timeouts;
  /**
   * Errors of the engine and of the link to it.
   */
  uint64_t errors;
  /**
   * Successful recoveries.
   */
  uint64_t recoveries;
} xdma_channel_stats;

/**
 * Counters of the performance monitor of an engine.
 */
typedef struct xdma_performance {
  /**
   * Clock cycles of the core.
   */
  uint64_t cycles;
  /**
   * Beats of the data path, each of xdma_card_info.data_width bytes.
   */
  uint64_t beats;
  /**
   * Whether a counter has reached its maximum, 2^42 - 1, at which it stops.
   */
  bool saturated;
} xdma_performance;

/**
 * How long transfers, runs and packets took, from their submission until the driver saw their completion, in nanoseconds.
 *
 * The driver measures a sample of them. A time is rounded up, by at most a quarter. All fields are 0 if there are no samples.
 */
typedef struct xdma_latencies {
  /**
   * Number of samples since the card was opened.
   */
  uint64_t samples;
  /**
   * The time that half of them took at most.
   */
  uint64_t median;
  /**
   * The time that 90 % took at most.
   */
  uint64_t percent_90;
  /**
   * The time that 99 % took at most.
   */
  uint64_t percent_99;
  /**
   * The time that all of them took at most.
   */
  uint64_t longest;
} xdma_latencies;

/**
 * One transfer of a list: `size` bytes between byte `offset` of `buffer` and the card addresses from `card_address` on.
 */
typedef struct xdma_segment {
  /**
   * The buffer.
   */
  const struct xdma_buffer *buffer;
  /**
   * First byte in the buffer.
   */
  uint64_t offset;
  /**
   * Number of bytes, not 0.
   */
  uint64_t size;
  /**
   * First card address. Ignored on a stream.
   */
  uint64_t card_address;
} xdma_segment;

/**
 * Options for opening a stream to receive. Initialise them with xdma_receiver_options_init, then change what differs.
 */
typedef struct xdma_receiver_options {
  /**
   * Size of this structure in bytes, set by xdma_receiver_options_init.
   */
  uint32_t size;
  /**
   * Number of receive buffers, 1 to 256.
   */
  uint32_t buffers;
  /**
   * Size of each in bytes, a multiple of 64.
   */
  uint32_t buffer_size;
  /**
   * Maximum number of buffers that the engine has at a time. With 0 nothing is received until it is raised.
   */
  uint32_t max_posted;
  /**
   * If not 0: when the stream is opened, discard data until none has arrived for this many nanoseconds.
   */
  uint64_t discard_quiet;
  /**
   * Time limit in nanoseconds for discarding.
   */
  uint64_t discard_limit;
  /**
   * Options of the channel; `slots` is not used.
   */
  struct xdma_channel_options channel;
} xdma_receiver_options;

/**
 * A block of received data: the contents of one receive buffer. It is a plain value. Do not change it.
 */
typedef struct xdma_received {
  /**
   * The receiver.
   */
  uint64_t receiver;
  /**
   * The number of the block.
   */
  uint64_t block;
  /**
   * Number of bytes received.
   */
  uint32_t size;
  /**
   * 1 if a packet ends with this block; 0 if it continues with the next one.
   */
  uint32_t ends_packet;
} xdma_received;

/**
 * Form of scalars in memory.
 */
typedef uint32_t xdma_scalar_form;

/**
 * Options for opening a client. Initialise them with xdma_msm_options_init, then change what differs.
 */
typedef struct xdma_msm_options {
  /**
   * Size of this structure in bytes, set by xdma_msm_options_init.
   */
  uint32_t size;
  /**
   * H2C channel that streams, 0 to 3.
   */
  uint32_t h2c;
  /**
   * C2H channel that fetches results, 0 to 3.
   */
  uint32_t c2h;
  /**
   * Ring of the streaming channel: XDMA_RING_*; XDMA_RING_AUTO selects chains.
   */
  xdma_ring ring;
  /**
   * Number of pairs per chunk, even; 0 for that of the design.
   */
  uint32_t chunk;
  /**
   * Reserved; 0.
   */
  uint32_t reserved;
  /**
   * Other options of the streaming channel; `ring` is not used. Results are waited for in the same way.
   */
  struct xdma_channel_options channel;
} xdma_msm_options;

/**
 * The parameters of a design.
 */
typedef struct xdma_msm_design {
  /**
   * 1 if the core only consumes pairs and computes nothing.
   */
  uint32_t stub;
  /**
   * Window size in bits.
   */
  uint32_t window_bits;
  /**
   * Depth of the scalar FIFO in scalars.
   */
  uint32_t scalar_depth;
  /**
   * Depth of the point FIFO in points.
   */
  uint32_t point_depth;
  /**
   * Clock of the core in kHz.
   */
  uint32_t clock_khz;
  /**
   * Number of jobs that can be in flight.
   */
  uint32_t tasks;
  /**
   * Maximum number of pairs of a job.
   */
  uint32_t max_pairs;
  /**
   * Number of pairs per chunk that jobs are prepared with.
   */
  uint32_t chunk;
} xdma_msm_design;

/**
 * Identifies a submitted job. It is a plain value: copy it freely, and drop it without a call. Do not change it.
 */
typedef struct xdma_msm_ticket {
  /**
   * The client.
   */
  uint64_t client;
  /**
   * The number of the submission.
   */
  uint64_t sequence;
} xdma_msm_ticket;

/**
 * The result of a job: one point.
 */
typedef struct xdma_msm_result {
  /**
   * X, Y, Z, 32 bytes each, little-endian: homogeneous (x = X/Z, y = Y/Z), in Montgomery form, each below 2p; Z is 0 or p for infinity.
   */
  uint8_t point[96];
  /**
   * Label of the job: jobs of a client are numbered from 0 on, or from the label that xdma_msm_set_label has set.
   */
  uint32_t label;
} xdma_msm_result;

/**
 * The call succeeded.
 */
#define XDMA_OK 0

/**
 * The work is not finished yet. Returned only by functions that poll.
 */
#define XDMA_PENDING 1

/**
 * A pointer or handle that is required is NULL.
 */
#define XDMA_ERROR_NULL (-1)

/**
 * The handle was closed, is of another type, or was never open.
 */
#define XDMA_ERROR_HANDLE (-2)

/**
 * The handle belongs to another thread.
 */
#define XDMA_ERROR_THREAD (-3)

/**
 * Another thread is in a call that excludes this one. Nothing was done.
 */
#define XDMA_ERROR_BUSY (-4)

/**
 * Handles that depend on this one are still open. Nothing was done.
 */
#define XDMA_ERROR_IN_USE (-5)

/**
 * This process was forked from the one that opened the handle.
 */
#define XDMA_ERROR_FORKED (-6)

/**
 * The process has too many handles.
 */
#define XDMA_ERROR_HANDLES (-7)

/**
 * An argument has an invalid value.
 */
#define XDMA_ERROR_ARGUMENT (-8)

/**
 * A range is outside of its buffer or BAR, or an offset is not aligned.
 */
#define XDMA_ERROR_RANGE (-9)

/**
 * A buffer, program, ticket or received block belongs to another card, channel or receiver, or is for the other direction.
 */
#define XDMA_ERROR_FOREIGN (-10)

/**
 * A ring or queue is full. Nothing was started.
 */
#define XDMA_ERROR_FULL (-11)

/**
 * Transfers that use the memory are in flight. Nothing was done.
 */
#define XDMA_ERROR_IN_FLIGHT (-12)

/**
 * The time limit expired. The work is still in flight.
 */
#define XDMA_ERROR_TIMEOUT (-13)

/**
 * The engine failed, or was stopped or reset. Work in flight is lost.
 */
#define XDMA_ERROR_ENGINE (-14)

/**
 * An engine does not become idle. Memory in flight stays allocated.
 */
#define XDMA_ERROR_HUNG (-15)

/**
 * The card cannot be reached.
 */
#define XDMA_ERROR_GONE (-16)

/**
 * The kernel is taking the card away.
 */
#define XDMA_ERROR_RECALLED (-17)

/**
 * Memory could not be allocated or mapped.
 */
#define XDMA_ERROR_MEMORY (-18)

/**
 * The card or channel is in use by another process, or is already open.
 */
#define XDMA_ERROR_TAKEN (-19)

/**
 * There is no card of this name.
 */
#define XDMA_ERROR_NOT_FOUND (-20)

/**
 * This user lacks a permission.
 */
#define XDMA_ERROR_PERMISSION (-21)

/**
 * The host is not prepared, for example because the card is bound to another driver.
 */
#define XDMA_ERROR_HOST (-22)

/**
 * The card does not have what was requested.
 */
#define XDMA_ERROR_UNSUPPORTED (-23)

/**
 * A point is not on the curve, or a scalar is not below r.
 */
#define XDMA_ERROR_DATA (-24)

/**
 * The job or its result is lost, or its result was already returned.
 */
#define XDMA_ERROR_LOST (-25)

/**
 * A bug in this library. The object may be unusable; close it.
 */
#define XDMA_ERROR_INTERNAL (-26)

/**
 * There is no error.
 */
#define XDMA_REMEDY_NONE 0

/**
 * The request is invalid, and repeating it fails again. The message states what to change.
 */
#define XDMA_REMEDY_CORRECT 1

/**
 * Something is in use or full, and nothing was started. Poll or wait for earlier work, or close what holds it, then try again.
 */
#define XDMA_REMEDY_TRY_AGAIN 2

/**
 * The work is still in flight. Wait again, or stop the channel.
 */
#define XDMA_REMEDY_WAIT_AGAIN 3

/**
 * The work was lost. Recover the channel, receiver or MSM client, then submit the work again.
 */
#define XDMA_REMEDY_RECOVER 4

/**
 * An engine does not stop. Reset the card.
 */
#define XDMA_REMEDY_RESET 5

/**
 * The card cannot be reached. Close it, and open it again once it is available.
 */
#define XDMA_REMEDY_REOPEN 6

/**
 * Close the handle.
 */
#define XDMA_REMEDY_CLOSE 7

/**
 * The host needs to be prepared: permissions, limits, hugepages, or the card's driver. `vfio-setup doctor` lists what is missing.
 */
#define XDMA_REMEDY_PREPARE_HOST 8

/**
 * The card does not have what was requested. Use other options, or another card.
 */
#define XDMA_REMEDY_UNSUPPORTED 9

/**
 * Nothing is logged.
 */
#define XDMA_LOG_OFF 0

/**
 * What failed while no call could return it, such as closing a card that is still busy.
 */
#define XDMA_LOG_ERROR 1

/**
 * Fallbacks and risks, such as a card without an IOMMU.
 */
#define XDMA_LOG_WARN 2

/**
 * Recoveries, and data that was discarded.
 */
#define XDMA_LOG_INFO 3

/**
 * Errors of channels with the state of their rings; opening and closing; memory, programs and jobs.
 */
#define XDMA_LOG_DEBUG 4

/**
 * Everything.
 */
#define XDMA_LOG_TRACE 5

/**
 * Host to card.
 */
#define XDMA_H2C 0

/**
 * Card to host.
 */
#define XDMA_C2H 1

/**
 * 1 GiB pages for buffers of at least that size, 2 MiB pages for others, and 4 KiB pages if none of those are free.
 */
#define XDMA_PAGES_PREFER_HUGE 0

/**
 * 4 KiB pages.
 */
#define XDMA_PAGES_4K 1

/**
 * 2 MiB pages; an allocation fails if none are free.
 */
#define XDMA_PAGES_2M 2

/**
 * 1 GiB pages; an allocation fails if none are free.
 */
#define XDMA_PAGES_1G 3

/**
 * As the environment variable XDMA_VFIO says; if it is not set, cdev, then type 1.
 */
#define XDMA_MODE_AUTO 0

/**
 * The character device of the function, with iommufd.
 */
#define XDMA_MODE_CDEV 1

/**
 * The IOMMU group, with a type 1 container.
 */
#define XDMA_MODE_TYPE1 2

/**
 * Without an IOMMU: the card can access all memory of the machine.
 */
#define XDMA_MODE_NOIOMMU 3

/**
 * The card has no interrupts; waits poll.
 */
#define XDMA_INTERRUPTS_NONE 0

/**
 * Each channel and each user line has an MSI-X vector of its own.
 */
#define XDMA_INTERRUPTS_PER_SOURCE 1

/**
 * Channels and user lines share vectors.
 */
#define XDMA_INTERRUPTS_SHARED 2

/**
 * Credits where the channel has them, and chains otherwise.
 */
#define XDMA_RING_AUTO 0

/**
 * Lists that end with Stop; each start is a sequence of register writes.
 */
#define XDMA_RING_CHAIN 1

/**
 * A closed list that continues whenever credits are written.
 */
#define XDMA_RING_CREDITS 2

/**
 * Poll, and yield to other threads after the first 1,024 polls.
 */
#define XDMA_WAIT_SPIN_THEN_YIELD 0

/**
 * Poll without yielding the processor.
 */
#define XDMA_WAIT_SPIN 1

/**
 * Poll for about as long as recent waits took, then sleep until the channel interrupts.
 */
#define XDMA_WAIT_HYBRID 2

/**
 * Sleep at once until the channel interrupts.
 */
#define XDMA_WAIT_INTERRUPT 3

/**
 * The number itself, below r.
 */
#define XDMA_SCALARS_CANONICAL 0

/**
 * The number times 2^256 modulo r.
 */
#define XDMA_SCALARS_MONTGOMERY 1

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Returns the name of a status, such as "XDMA_ERROR_TIMEOUT".
 *
 * The string is static. For a number that is not a status, it is "unknown status". Any thread may call this. It does not fail.
 */
const char *xdma_status_name(xdma_status status);

/**
 * Returns the details of the last error of this thread; with status XDMA_OK if there was none.
 *
 * Successful calls leave them unchanged, so read them only after an error. They are valid until the next error of the same thread, or
 * until it ends; do not free them. Any thread may call this. It does not fail.
 */
const struct xdma_error *xdma_last_error(void);

/**
 * Returns the version of the library, such as "0.1.0".
 *
 * The string is static. Any thread may call this. It does not fail.
 */
const char *xdma_version(void);

/**
 * Writes the driver's log to a file descriptor from now on: one line of UTF-8 for each message up to `level`, XDMA_LOG_*, with its time in
 * UTC. With XDMA_LOG_OFF, the log ends, and `descriptor` is not used. Initially the log is off.
 *
 * The library duplicates the descriptor, so the caller may close it. Messages come from any thread that is in a call, and a line is written
 * with one call of write, which delays that call if it blocks. Lines that cannot be written are lost. As with every write, a pipe without
 * a reader raises SIGPIPE.
 *
 * Any thread may call this. Errors: XDMA_ERROR_ARGUMENT for an invalid level or descriptor; XDMA_ERROR_FORKED in a child of a process that
 * had opened a card.
 */
xdma_status xdma_log(xdma_log_level level,
                     int descriptor);

/**
 * Sets all options to their defaults.
 *
 * Any thread may call this. Errors: XDMA_ERROR_NULL.
 */
xdma_status xdma_card_options_init(struct xdma_card_options *options);

/**
 * Opens a card.
 *
 * `name` is a PCI address such as "0000:3b:00.0", of a function that is bound to vfio-pci; or "unix:PATH" for a vfio-user socket, such
 * as that of an emulated card. `options` may be NULL for the defaults. The handle is stored in `card`; close it with xdma_card_close.
 *
 * Opening stops the card's engines. Each card can be open once. Any thread may call this.
 *
 * Errors: XDMA_ERROR_NULL; XDMA_ERROR_ARGUMENT for a name or an option that is invalid; XDMA_ERROR_NOT_FOUND, XDMA_ERROR_PERMISSION,
 * XDMA_ERROR_TAKEN, XDMA_ERROR_HOST if the card cannot be opened; XDMA_ERROR_UNSUPPORTED if it is not an XDMA card; XDMA_ERROR_HUNG;
 * XDMA_ERROR_GONE; XDMA_ERROR_HANDLES; XDMA_ERROR_FORKED in a child of a process that had opened a card.
 */
xdma_status xdma_card_open(const char *name,
                           const struct xdma_card_options *options,
                           struct xdma_card **card);

/**
 * Closes a card: stops its engines and restores the reset values of its registers, so that another program can use it.
 *
 * All handles that were opened from the card must have been closed: then, after success, the process has no more access to the card,
 * and the card none to the process. Any thread may call this.
 *
 * Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE; XDMA_ERROR_IN_USE while handles that were opened from the card are open, which the message
 * lists; XDMA_ERROR_BUSY while another thread is in a call with the card. The card then stays open.
 */
xdma_status xdma_card_close(struct xdma_card *card);

/**
 * Stores what a card has, read from its registers, in `info`.
 *
 * Any thread may call this. Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_BUSY, XDMA_ERROR_GONE.
 */
xdma_status xdma_card_get_info(struct xdma_card *card, struct xdma_card_info *info);

/**
 * Describes a card in a few lines of text: identity, channels, link, interrupts, memory, and every fallback that is in effect.
 *
 * Stores at most `capacity` bytes in `text`, with a zero byte at the end, and the length of the whole text without that in `length`, as
 * snprintf does. `text` may be NULL if `capacity` is 0, and `length` may be NULL.
 *
 * Any thread may call this. Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_BUSY, XDMA_ERROR_GONE.
 */
xdma_status xdma_card_describe(struct xdma_card *card,
                               char *text,
                               size_t capacity,
                               size_t *length);

/**
 * Recovers a card without closing it, after its link was down, after it was reset by others, or when an engine hangs.
 *
 * Stops every engine, resets the function if an engine stays busy, and gives the card access to host memory again. Transfers in flight
 * are lost: each channel reports XDMA_ERROR_ENGINE until it is recovered. Any thread may call this.
 *
 * Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_BUSY; XDMA_ERROR_GONE while the card is gone; XDMA_ERROR_HUNG if an engine
 * stays busy.
 */
xdma_status xdma_card_recover(struct xdma_card *card);

/**
 * Resets the function of a card, then recovers the card as xdma_card_recover does.
 *
 * Afterwards every channel must be recovered, and the user logic set up. Any thread may call this.
 *
 * Errors: as xdma_card_recover; XDMA_ERROR_UNSUPPORTED or XDMA_ERROR_HOST if the function has no reset.
 */
xdma_status xdma_card_reset(struct xdma_card *card);

/**
 * Stores the number of bytes in quarantine in `bytes`: memory of transfers that ended without proof that the card had finished with it,
 * which is not used again before the card is closed.
 *
 * Any thread may call this. Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_BUSY.
 */
xdma_status xdma_card_get_quarantined(struct xdma_card *card,
                                      uint64_t *bytes);

/**
 * Stores the size in bytes of the BAR with the user logic's registers in `size`.
 *
 * Any thread may call this. Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_BUSY; XDMA_ERROR_UNSUPPORTED if the card has no such
 * BAR.
 */
xdma_status xdma_user_size(struct xdma_card *card,
                           uint64_t *size);

/**
 * Reads a register of the user logic: 32 bits at byte `offset`, a multiple of 4, into `value`.
 *
 * This is a round trip to the card. All ones may mean that the card is gone. Any thread may call this.
 *
 * Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_BUSY; XDMA_ERROR_RANGE for an offset that is not aligned or outside of the BAR;
 * XDMA_ERROR_UNSUPPORTED if the card has no such BAR; XDMA_ERROR_GONE.
 */
xdma_status xdma_user_read(struct xdma_card *card,
                           uint32_t offset,
                           uint32_t *value);

/**
 * Writes a register of the user logic: 32 bits at byte `offset`, a multiple of 4.
 *
 * The write is posted: the call returns before the card has received it. Any thread may call this. Errors: as xdma_user_read.
 */
xdma_status xdma_user_write(struct xdma_card *card,
                            uint32_t offset,
                            uint32_t value);

/**
 * Allocates `size` zeroed bytes for transfers in a direction, aligned to 64 bytes, and stores the handle in `buffer`.
 *
 * A buffer is for transfers of its card and direction only. Close it with xdma_buffer_close. Any thread may call this.
 *
 * Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_BUSY; XDMA_ERROR_ARGUMENT if `size` is 0 or the direction is invalid;
 * XDMA_ERROR_MEMORY; XDMA_ERROR_GONE; XDMA_ERROR_HANDLES.
 */
xdma_status xdma_buffer_allocate(struct xdma_card *card,
                                 uint64_t size,
                                 xdma_direction direction,
                                 struct xdma_buffer **buffer);

/**
 * Makes `size` bytes of the caller's memory at `data` accessible to the card for transfers in a direction, and stores the handle in
 * `buffer`.
 *
 * Whole pages are pinned and used in place if the bus can pin memory; the rest, and on other buses everything, is staged in memory of the
 * driver (xdma_buffer_info.staged). Call xdma_buffer_sync after changing the bytes and before an H2C transfer, and after a C2H transfer
 * before reading them. Any alignment is allowed; aligned to a page is best.
 *
 * The memory stays the caller's. It must stay allocated until xdma_buffer_close has succeeded. Any thread may call this.
 *
 * Errors: as xdma_buffer_allocate.
 */
xdma_status xdma_buffer_register(struct xdma_card *card,
                                 void *data,
                                 uint64_t size,
                                 xdma_direction direction,
                                 struct xdma_buffer **buffer);

/**
 * Stores the size and kind of a buffer in `info`.
 *
 * Any thread may call this. Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_BUSY.
 */
xdma_status xdma_buffer_get_info(const struct xdma_buffer *buffer, struct xdma_buffer_info *info);

/**
 * Stores the address of a buffer's first byte in `data`, to fill or read it in place.
 *
 * An allocated buffer is aligned to 64 bytes; the address is valid until the buffer is closed. For a registered buffer this is the
 * caller's own pointer. Write to the memory of an H2C buffer only while no transfer uses it, and read what a card writes only after the
 * transfer is finished; the library cannot check this.
 *
 * Any thread may call this. Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_BUSY.
 */
xdma_status xdma_buffer_get_data(const struct xdma_buffer *buffer,
                                 void **data);

/**
 * Copies `size` bytes at `data` to byte `offset` of an H2C buffer, with any alignment.
 *
 * Any thread may call this. Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE; XDMA_ERROR_ARGUMENT for a C2H buffer, or if `data` is in the
 * buffer itself; XDMA_ERROR_RANGE; XDMA_ERROR_IN_FLIGHT while a transfer uses the buffer; XDMA_ERROR_BUSY while another thread is in a
 * call with the buffer. Nothing is copied then.
 */
xdma_status xdma_buffer_write(struct xdma_buffer *buffer,
                              uint64_t offset,
                              const void *data,
                              uint64_t size);

/**
 * Copies `size` bytes from byte `offset` of a buffer to `data`, with any alignment.
 *
 * What a card writes is complete once its transfer is finished. Any thread may call this. Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE,
 * XDMA_ERROR_BUSY, XDMA_ERROR_RANGE; XDMA_ERROR_ARGUMENT if `data` is in the buffer itself. Nothing is copied then.
 */
xdma_status xdma_buffer_read(const struct xdma_buffer *buffer,
                             uint64_t offset,
                             void *data,
                             uint64_t size);

/**
 * Copies between the caller's memory and the staged parts of a registered buffer: to the card's side for H2C, from it for C2H.
 *
 * Without staged parts, and for allocated buffers, this copies nothing. Any thread may call this; meanwhile nothing else may access the
 * memory.
 *
 * Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE; XDMA_ERROR_IN_FLIGHT while a transfer uses the buffer; XDMA_ERROR_BUSY while another thread
 * is in a call with the buffer.
 */
xdma_status xdma_buffer_sync(struct xdma_buffer *buffer);

/**
 * Closes a buffer. After success the card has no access to registered memory, which the caller may free, and the address of an allocated
 * buffer is not valid any more.
 *
 * Close programs that use the buffer first. Any thread may call this.
 *
 * Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE; XDMA_ERROR_IN_USE while a program that uses the buffer is open; XDMA_ERROR_IN_FLIGHT while
 * a transfer uses the buffer; XDMA_ERROR_BUSY while another thread
 * is in a call with the buffer; XDMA_ERROR_MEMORY if registered memory cannot be unmapped. The buffer then stays open, and registered
 * memory must stay allocated.
 */
xdma_status xdma_buffer_close(struct xdma_buffer *buffer);

/**
 * Reads a register of the XDMA core, or of the MSM design, by its name, into `value`.
 *
 * `block` is one of h2c0 to h2c3, c2h0 to c2h3, irq, config, h2c0_sgdma to c2h3_sgdma, sgdma_common and msm; `name` is the name of the
 * register in that block, such as `status`, or `channel_vectors[1]` for an element of an array. xdma_registers_describe lists them; the
 * case of letters does not matter. The call reads the whole block. Numbers of 64 bits are read as one register.
 *
 * Any thread may call this, also while channels are in use.
 *
 * Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_BUSY; XDMA_ERROR_ARGUMENT if there is no such block or register, or if reading the
 * register would clear it; XDMA_ERROR_UNSUPPORTED for msm if the card's logic is not that design; XDMA_ERROR_GONE.
 */
xdma_status xdma_register_read(struct xdma_card *card,
                               const char *block,
                               const char *name,
                               uint64_t *value);

/**
 * Describes all registers of a block, with their fields, as text, stored as by xdma_card_describe. `block` is as for xdma_register_read.
 *
 * Registers that are cleared by reading are not read. Any thread may call this, also while channels are in use. Errors: as
 * xdma_register_read.
 */
xdma_status xdma_registers_describe(struct xdma_card *card,
                                    const char *block,
                                    char *text,
                                    size_t capacity,
                                    size_t *length);

/**
 * Sets all options to their defaults.
 *
 * Any thread may call this. Errors: XDMA_ERROR_NULL.
 */
xdma_status xdma_channel_options_init(struct xdma_channel_options *options);

/**
 * Opens a memory-mapped channel, 0 to 3, of a direction, and stores the handle in `channel`.
 *
 * `options` may be NULL for the defaults. The channel belongs to the calling thread. Close it with xdma_channel_close.
 *
 * Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_BUSY; XDMA_ERROR_ARGUMENT for an invalid direction, number or option;
 * XDMA_ERROR_TAKEN if the channel is already open; XDMA_ERROR_UNSUPPORTED if the card does not have it, it is a stream, or it does not
 * support the options; XDMA_ERROR_HUNG, XDMA_ERROR_MEMORY, XDMA_ERROR_GONE, XDMA_ERROR_HANDLES.
 */
xdma_status xdma_channel_open(struct xdma_card *card,
                              xdma_direction direction,
                              uint32_t number,
                              const struct xdma_channel_options *options,
                              struct xdma_channel **channel);

/**
 * Opens H2C stream channel `number`, 0 to 3, to send packets with xdma_send, and stores the handle in `channel`.
 *
 * Everything else is as with xdma_channel_open; XDMA_ERROR_UNSUPPORTED if the channel is not a stream.
 */
xdma_status xdma_sender_open(struct xdma_card *card,
                             uint32_t number,
                             const struct xdma_channel_options *options,
                             struct xdma_channel **channel);

/**
 * Starts a transfer of `size` bytes between byte `offset` of `buffer` and the card addresses from `card_address` on, and stores its
 * ticket in `ticket`.
 *
 * The call does not block. The card uses the buffer until the transfer is finished; the buffer cannot be closed before. Only the
 * channel's thread may call this.
 *
 * Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_THREAD, XDMA_ERROR_BUSY; XDMA_ERROR_FULL: poll or wait for earlier transfers;
 * XDMA_ERROR_ARGUMENT if `size` is 0 or too large for one transfer; XDMA_ERROR_RANGE; XDMA_ERROR_FOREIGN if the buffer belongs to another
 * card, or is for the other direction; XDMA_ERROR_ENGINE if the channel has failed; XDMA_ERROR_GONE, XDMA_ERROR_RECALLED. Nothing was
 * started then.
 */
xdma_status xdma_submit(struct xdma_channel *channel,
                        const struct xdma_buffer *buffer,
                        uint64_t offset,
                        uint64_t size,
                        uint64_t card_address,
                        struct xdma_ticket *ticket);

/**
 * Returns XDMA_OK if a transfer, run or packet is finished, and XDMA_PENDING if not.
 *
 * The call does not block. Errors that the engine does not report in memory are found by xdma_wait and xdma_channel_check. Only the
 * channel's thread may call this.
 *
 * Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_THREAD; XDMA_ERROR_FOREIGN for a ticket of another channel; XDMA_ERROR_ARGUMENT
 * for a ticket that is too old; XDMA_ERROR_ENGINE if the engine failed or was stopped before the transfer finished; XDMA_ERROR_GONE,
 * XDMA_ERROR_RECALLED.
 */
xdma_status xdma_poll(struct xdma_channel *channel,
                      struct xdma_ticket ticket);

/**
 * Waits until a transfer, run or packet is finished, for at most `timeout` nanoseconds.
 *
 * Only the channel's thread may call this. Signals do not end the wait.
 *
 * Errors: as xdma_poll; XDMA_ERROR_TIMEOUT if the transfer is not finished in time: it is then still in flight.
 */
xdma_status xdma_wait(struct xdma_channel *channel,
                      struct xdma_ticket ticket,
                      uint64_t timeout);

/**
 * Moves `size` bytes between byte `offset` of `buffer` and the card addresses from `card_address` on, and waits for at most `timeout`
 * nanoseconds.
 *
 * Only the channel's thread may call this. Errors: as xdma_submit and xdma_wait.
 */
xdma_status xdma_transfer(struct xdma_channel *channel,
                          const struct xdma_buffer *buffer,
                          uint64_t offset,
                          uint64_t size,
                          uint64_t card_address,
                          uint64_t timeout);

/**
 * Sends `size` bytes from byte `offset` of `buffer` on, and stores a ticket for xdma_poll and xdma_wait in `ticket`.
 *
 * If `ends_packet` is not 0, a packet ends with the last byte. Otherwise it continues with the next call; the size should then be a
 * multiple of 64 bytes. Only the channel's thread may call this.
 *
 * Errors: as xdma_submit; XDMA_ERROR_UNSUPPORTED if the channel was not opened with xdma_sender_open.
 */
xdma_status xdma_send(struct xdma_channel *channel,
                      const struct xdma_buffer *buffer,
                      uint64_t offset,
                      uint64_t size,
                      uint32_t ends_packet,
                      struct xdma_ticket *ticket);

/**
 * Stops the engine and abandons all work in flight. Work that finished before stays finished.
 *
 * Recover the channel before the next submission. Only the channel's thread may call this.
 *
 * Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_THREAD; XDMA_ERROR_HUNG if the engine does not become idle: the card then keeps
 * the memory in flight; XDMA_ERROR_GONE.
 */
xdma_status xdma_channel_stop(struct xdma_channel *channel);

/**
 * Makes a channel that failed, was stopped, or whose card was reset usable again. Work in flight is lost.
 *
 * Only the channel's thread may call this. Errors: as xdma_channel_stop; XDMA_ERROR_ENGINE if an error remains; XDMA_ERROR_RECALLED.
 */
xdma_status xdma_channel_recover(struct xdma_channel *channel);

/**
 * Recovers a channel as xdma_channel_recover does, and calls `help` with `context` repeatedly while the engine is busy.
 *
 * This is for user logic that stalls the engine, and that must be told by a register, for example with xdma_user_write, to accept or drop
 * data. Calls with this channel return XDMA_ERROR_BUSY while `help` runs.
 *
 * Only the channel's thread may call this. Errors: as xdma_channel_recover; XDMA_ERROR_NULL also if `help` is NULL.
 */
xdma_status xdma_channel_recover_with(struct xdma_channel *channel,
                                      xdma_help help,
                                      void *context);

/**
 * Waits until all work is finished and the registers of the engine agree, for at most `timeout` nanoseconds.
 *
 * This is for programs that do not trust the completion in memory alone. It reads registers. Only the channel's thread may call this.
 *
 * Errors: as xdma_wait; XDMA_ERROR_TIMEOUT also if the registers do not agree in time.
 */
xdma_status xdma_channel_settle(struct xdma_channel *channel,
                                uint64_t timeout);

/**
 * Reads the status register, and fails the channel if it shows an error. xdma_wait does this too; programs that only poll call this
 * about every millisecond.
 *
 * Only the channel's thread may call this. Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_THREAD, XDMA_ERROR_ENGINE,
 * XDMA_ERROR_GONE.
 */
xdma_status xdma_channel_check(struct xdma_channel *channel);

/**
 * Enables the interrupt of a channel again. Poll after this call and before sleeping on the descriptor of the interrupt: work that
 * finished before the call does not interrupt.
 *
 * Sleep at most a few milliseconds at a time while several transfers are in flight on a chain ring: the engine may still be busy when it
 * reports a transfer, and no interrupt reports when it is idle and a poll can start the next one.
 *
 * Only the channel's thread may call this. Errors: as xdma_channel_check.
 */
xdma_status xdma_channel_rearm_interrupt(struct xdma_channel *channel);

/**
 * Stores the statistics of a channel in `stats`.
 *
 * Only the channel's thread may call this. Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_THREAD.
 */
xdma_status xdma_channel_get_stats(struct xdma_channel *channel, struct xdma_channel_stats *stats);

/**
 * Describes the registers of a channel and the state of its ring as text, stored as by xdma_card_describe.
 *
 * Only the channel's thread may call this. Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_THREAD, XDMA_ERROR_GONE.
 */
xdma_status xdma_channel_describe(struct xdma_channel *channel,
                                  char *text,
                                  size_t capacity,
                                  size_t *length);

/**
 * Makes a channel belong to no thread, so that another one can attach it.
 *
 * Only the channel's thread may call this. Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_THREAD.
 */
xdma_status xdma_channel_detach(struct xdma_channel *channel);

/**
 * Makes a channel that belongs to no thread belong to the calling one.
 *
 * Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE; XDMA_ERROR_THREAD if it belongs to a thread, which may be this one.
 */
xdma_status xdma_channel_attach(struct xdma_channel *channel);

/**
 * Closes a channel: stops its engine, and abandons work in flight. The handle is not valid any more, whatever the result.
 *
 * Only the channel's thread may call this.
 *
 * Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_THREAD, with which the channel stays open. XDMA_ERROR_HUNG or XDMA_ERROR_GONE if
 * the engine was not seen idle: the channel is closed, but the memory of its transfers stays allocated until the card is closed.
 */
xdma_status xdma_channel_close(struct xdma_channel *channel);

/**
 * Clears and starts the performance monitor of a channel.
 *
 * It counts from the next start of the engine, or at once if the engine is running. On the chain ring, it stops with the next transfer or
 * run; on the credits ring, it counts until it is started again. Only the channel's thread may call this.
 *
 * Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_THREAD, XDMA_ERROR_GONE.
 */
xdma_status xdma_channel_start_monitor(struct xdma_channel *channel);

/**
 * Stores the counters of the performance monitor of a channel in `performance`. It reads at least five registers.
 *
 * Only the channel's thread may call this. Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_THREAD, XDMA_ERROR_GONE.
 */
xdma_status xdma_channel_get_performance(struct xdma_channel *channel,
                                         struct xdma_performance *performance);

/**
 * Stores the latencies of a channel in `latencies`. It reads no register.
 *
 * Only the channel's thread may call this. Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_THREAD.
 */
xdma_status xdma_channel_get_latencies(struct xdma_channel *channel, struct xdma_latencies *latencies);

/**
 * Starts `count` transfers as one, and stores the ticket for all of them in `ticket`.
 *
 * All descriptors must be free in the ring at once; build a program for more. Only the channel's thread may call this.
 *
 * Errors: as xdma_submit; XDMA_ERROR_ARGUMENT if `count` is 0, if the ring is smaller than the list, or if two C2H transfers write the
 * same memory.
 */
xdma_status xdma_submit_list(struct xdma_channel *channel,
                             const struct xdma_segment *segments,
                             size_t count,
                             struct xdma_ticket *ticket);

/**
 * Builds a program of `count` transfers for a channel, and stores the handle in `program`.
 *
 * The program runs on channels of the same card, direction and ring. On a stream that sends, it is one packet. The list is not used after
 * the call. The buffers cannot be closed while the program is open. Close it with xdma_program_close.
 *
 * Only the channel's thread may call this. Errors: as xdma_submit_list; XDMA_ERROR_MEMORY, XDMA_ERROR_HANDLES.
 */
xdma_status xdma_program_build(struct xdma_channel *channel,
                               const struct xdma_segment *segments,
                               size_t count,
                               struct xdma_program **program);

/**
 * Starts a program, and stores the ticket of the run in `ticket`.
 *
 * The call does not block, and touches no descriptor. Only the channel's thread may call this.
 *
 * Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_THREAD, XDMA_ERROR_BUSY; XDMA_ERROR_FULL; XDMA_ERROR_FOREIGN if the program was
 * built for another card, direction or ring; XDMA_ERROR_ENGINE, XDMA_ERROR_GONE, XDMA_ERROR_RECALLED. Nothing was started then.
 */
xdma_status xdma_program_run(struct xdma_channel *channel,
                             const struct xdma_program *program,
                             struct xdma_ticket *ticket);

/**
 * Closes a program. Runs in flight continue.
 *
 * Any thread may call this. Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE; XDMA_ERROR_BUSY while another thread is starting the program.
 */
xdma_status xdma_program_close(struct xdma_program *program);

/**
 * Sets all options to their defaults.
 *
 * Any thread may call this. Errors: XDMA_ERROR_NULL.
 */
xdma_status xdma_receiver_options_init(struct xdma_receiver_options *options);

/**
 * Opens C2H stream channel `number`, 0 to 3, to receive packets, and stores the handle in `receiver`.
 *
 * `options` may be NULL for the defaults. The receiver belongs to the calling thread. Close it with xdma_receiver_close.
 *
 * Errors: as xdma_channel_open; XDMA_ERROR_UNSUPPORTED if the channel is not a stream.
 */
xdma_status xdma_receiver_open(struct xdma_card *card,
                               uint32_t number,
                               const struct xdma_receiver_options *options,
                               struct xdma_receiver **receiver);

/**
 * Returns XDMA_OK and stores the next block in `received`, if one has arrived; returns XDMA_PENDING if not.
 *
 * Read the block with xdma_received_read, then give its buffer back to the engine with xdma_received_recycle. While the program holds all
 * buffers, the stream is held back, and nothing is lost. The call does not block. Only the receiver's thread may call this.
 *
 * Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_THREAD, XDMA_ERROR_ENGINE, XDMA_ERROR_GONE, XDMA_ERROR_RECALLED, after all data
 * that arrived before the error.
 */
xdma_status xdma_receiver_poll(struct xdma_receiver *receiver,
                               struct xdma_received *received);

/**
 * Waits for the next block, for at most `timeout` nanoseconds, and stores it in `received`.
 *
 * Everything else is as with xdma_receiver_poll. Errors also: XDMA_ERROR_TIMEOUT if nothing arrived in time, in which case nothing is
 * lost; XDMA_ERROR_ARGUMENT if the engine has no buffer, so that nothing can arrive.
 */
xdma_status xdma_receiver_wait(struct xdma_receiver *receiver,
                               struct xdma_received *received,
                               uint64_t timeout);

/**
 * Copies `size` bytes of a block from byte `offset` on to `data`.
 *
 * Only the receiver's thread may call this. Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_THREAD; XDMA_ERROR_FOREIGN if the block
 * belongs to another receiver, or was recycled; XDMA_ERROR_RANGE beyond the data of the block.
 */
xdma_status xdma_received_read(struct xdma_receiver *receiver,
                               struct xdma_received received,
                               uint64_t offset,
                               void *data,
                               uint64_t size);

/**
 * Gives the buffer of a block back to the engine. The block is not valid any more.
 *
 * Only the receiver's thread may call this. Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_THREAD; XDMA_ERROR_FOREIGN if the block
 * belongs to another receiver, or was recycled already; XDMA_ERROR_ENGINE, XDMA_ERROR_GONE if the channel failed: the buffer is free
 * nevertheless.
 */
xdma_status xdma_received_recycle(struct xdma_receiver *receiver,
                                  struct xdma_received received);

/**
 * Sets the maximum number of buffers that the engine has at a time.
 *
 * With fewer, the stream is held back sooner; with 0, the engine becomes idle once it has filled those that it has, which makes closing
 * quick. Only the receiver's thread may call this.
 *
 * Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_THREAD, XDMA_ERROR_ENGINE, XDMA_ERROR_GONE.
 */
xdma_status xdma_receiver_set_max_posted(struct xdma_receiver *receiver,
                                         uint32_t buffers);

/**
 * Stops the engine. Data in completed buffers can still be received; a packet that arrived in part is lost.
 *
 * Only the receiver's thread may call this. Errors: as xdma_channel_stop.
 */
xdma_status xdma_receiver_stop(struct xdma_receiver *receiver);

/**
 * Makes a receiver that failed or was stopped receive again.
 *
 * Only the receiver's thread may call this. Errors: as xdma_channel_recover.
 */
xdma_status xdma_receiver_recover(struct xdma_receiver *receiver);

/**
 * Recovers a receiver as xdma_receiver_recover does, and calls `help` with `context` repeatedly while the engine is busy.
 *
 * Everything else is as with xdma_channel_recover_with.
 */
xdma_status xdma_receiver_recover_with(struct xdma_receiver *receiver,
                                       xdma_help help,
                                       void *context);

/**
 * Makes a receiver belong to no thread, so that another one can attach it.
 *
 * Only the receiver's thread may call this. Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_THREAD.
 */
xdma_status xdma_receiver_detach(struct xdma_receiver *receiver);

/**
 * Makes a receiver that belongs to no thread belong to the calling one.
 *
 * Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE; XDMA_ERROR_THREAD if it belongs to a thread, which may be this one.
 */
xdma_status xdma_receiver_attach(struct xdma_receiver *receiver);

/**
 * Closes a receiver. Data that was not read is lost. The handle and all blocks are not valid any more, whatever the result.
 *
 * Only the receiver's thread may call this. Errors: as xdma_channel_close. If the engine waits for data, set the maximum number of
 * buffers to 0 before the last packet, or closing takes the idle limit of the card.
 */
xdma_status xdma_receiver_close(struct xdma_receiver *receiver);

/**
 * Enables the interrupt of line `line`, 0 to 15, of the user logic, and stores the handle in `interrupt`.
 *
 * The logic holds its line until the interrupt is acknowledged in a way that the logic defines: acknowledge first, then look for work.
 * Close it with xdma_interrupt_close. Any thread may call this.
 *
 * Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_BUSY; XDMA_ERROR_ARGUMENT for a line above 15; XDMA_ERROR_UNSUPPORTED if the card
 * has no interrupts; XDMA_ERROR_GONE, XDMA_ERROR_HANDLES.
 */
xdma_status xdma_interrupt_open_user(struct xdma_card *card,
                                     uint32_t line,
                                     struct xdma_interrupt **interrupt);

/**
 * Enables the interrupt of a channel that was opened with xdma_channel_options.interrupt, and stores the handle in `interrupt`.
 *
 * Everything else is as with xdma_interrupt_open_user.
 */
xdma_status xdma_interrupt_open_channel(struct xdma_card *card,
                                        xdma_direction direction,
                                        uint32_t number,
                                        struct xdma_interrupt **interrupt);

/**
 * Stores the file descriptor of an interrupt in `descriptor`. It becomes readable when the interrupt fires, for poll, select and epoll.
 *
 * Do not read from it: xdma_interrupt_take does, and enables the interrupt again. Do not close it: it is valid until xdma_interrupt_close.
 * Any thread may call this. Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_BUSY.
 */
xdma_status xdma_interrupt_get_fd(const struct xdma_interrupt *interrupt,
                                  int *descriptor);

/**
 * Stores in `count` how often the interrupt has fired since the last call, which may be 0, and enables it again. Does not block.
 *
 * Any thread may call this. Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_BUSY.
 */
xdma_status xdma_interrupt_take(const struct xdma_interrupt *interrupt,
                                uint64_t *count);

/**
 * Sleeps until the interrupt fires, for at most `timeout` nanoseconds. Stores in `count` how often it has fired since the last call; 0 if
 * the time limit expired, which is not an error.
 *
 * Signals do not end the wait. Any thread may call this. Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_BUSY, XDMA_ERROR_HOST.
 */
xdma_status xdma_interrupt_wait(const struct xdma_interrupt *interrupt,
                                uint64_t timeout,
                                uint64_t *count);

/**
 * Disables an interrupt and closes its file descriptor, after the last handle for it.
 *
 * Any thread may call this. Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE; XDMA_ERROR_BUSY while another thread waits for the interrupt.
 */
xdma_status xdma_interrupt_close(struct xdma_interrupt *interrupt);

/**
 * Allocates memory for `count` points, all at infinity, and stores the handle in `points`.
 *
 * Points are written once and used by any number of jobs. Close them with xdma_points_close. Any thread may call this.
 *
 * Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_BUSY, XDMA_ERROR_ARGUMENT, XDMA_ERROR_MEMORY, XDMA_ERROR_HANDLES.
 */
xdma_status xdma_points_allocate(struct xdma_card *card,
                                 uint64_t count,
                                 struct xdma_points **points);

/**
 * Uses `count` points of the caller at `data` in place, as far as the bus can pin memory, and stores the handle in `points`.
 *
 * The points have the form of xdma_points_write. The memory stays the caller's: it must stay allocated, and its contents must not change,
 * until xdma_points_close has succeeded. Any thread may call this.
 *
 * Errors: as xdma_points_allocate; XDMA_ERROR_ARGUMENT if `count` is 0.
 */
xdma_status xdma_points_register(struct xdma_card *card,
                                 const void *data,
                                 uint64_t count,
                                 struct xdma_points **points);

/**
 * Writes `count` points from number `first` on: 64 bytes each, x then y, little-endian, in Montgomery form modulo p; zeros for infinity.
 *
 * Any thread may call this. Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_RANGE; XDMA_ERROR_ARGUMENT for registered points, which
 * are the caller's; XDMA_ERROR_IN_FLIGHT while a job uses the points; XDMA_ERROR_BUSY while another thread is in a call with the points.
 */
xdma_status xdma_points_write(struct xdma_points *points,
                              uint64_t first,
                              const void *data,
                              uint64_t count);

/**
 * Checks that every point is on the curve or at infinity. The card does not check this.
 *
 * Any thread may call this. Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE; XDMA_ERROR_DATA with the number of the first point that is not;
 * XDMA_ERROR_IN_FLIGHT while a job uses the points; XDMA_ERROR_BUSY while another thread is in a call with the points.
 */
xdma_status xdma_points_check(struct xdma_points *points);

/**
 * Closes points. Close jobs that use them first. After success the card has no access to registered points, which the caller may free.
 *
 * Any thread may call this. Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE; XDMA_ERROR_IN_USE while a job that uses them is open;
 * XDMA_ERROR_BUSY while another thread is in a call with the points; for registered points also XDMA_ERROR_IN_FLIGHT while a job is in
 * flight, and XDMA_ERROR_MEMORY if they cannot be unmapped. The points then stay open.
 */
xdma_status xdma_points_close(struct xdma_points *points);

/**
 * Allocates memory for `count` scalars of a form, all zero, and stores the handle in `scalars`.
 *
 * Scalars are written again between jobs. Close them with xdma_scalars_close. Any thread may call this.
 *
 * Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_BUSY; XDMA_ERROR_ARGUMENT for a form that is not one of XDMA_SCALARS_*;
 * XDMA_ERROR_MEMORY, XDMA_ERROR_HANDLES.
 */
xdma_status xdma_scalars_allocate(struct xdma_card *card,
                                  uint64_t count,
                                  xdma_scalar_form form,
                                  struct xdma_scalars **scalars);

/**
 * Writes `count` scalars from number `first` on: 32 bytes each, little-endian, in the form of the scalars.
 *
 * Any thread may call this. Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_RANGE; XDMA_ERROR_ARGUMENT if `data` is in the memory
 * of the scalars itself; XDMA_ERROR_IN_FLIGHT while a job uses the scalars; XDMA_ERROR_BUSY while another thread is in a call with the scalars.
 */
xdma_status xdma_scalars_write(struct xdma_scalars *scalars,
                               uint64_t first,
                               const void *data,
                               uint64_t count);

/**
 * Stores the address of the first scalar in `data`, to write scalars in place: 32 bytes each, little-endian.
 *
 * The address is valid until the scalars are closed. Write only while no job uses the scalars; the library cannot check this. Any thread
 * may call this.
 *
 * Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE; XDMA_ERROR_IN_FLIGHT while a job uses the scalars; XDMA_ERROR_BUSY while another thread is
 * in a call with the scalars.
 */
xdma_status xdma_scalars_get_data(struct xdma_scalars *scalars,
                                  void **data);

/**
 * Checks that every scalar is below r. The card does not check this.
 *
 * Any thread may call this. Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE; XDMA_ERROR_DATA with the number of the first scalar that is not;
 * XDMA_ERROR_IN_FLIGHT while a job uses the scalars; XDMA_ERROR_BUSY while another thread is in a call with the scalars.
 */
xdma_status xdma_scalars_check(struct xdma_scalars *scalars);

/**
 * Closes scalars. Close jobs that use them first.
 *
 * Any thread may call this. Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE; XDMA_ERROR_IN_USE while a job that uses them is open;
 * XDMA_ERROR_BUSY while another thread is in a call with the scalars.
 */
xdma_status xdma_scalars_close(struct xdma_scalars *scalars);

/**
 * Sets all options to their defaults.
 *
 * Any thread may call this. Errors: XDMA_ERROR_NULL.
 */
xdma_status xdma_msm_options_init(struct xdma_msm_options *options);

/**
 * Opens the design on a card: resets it, opens one channel of each direction, and stores the handle in `msm`.
 *
 * `options` may be NULL for the defaults. The client belongs to the calling thread. Close it with xdma_msm_close.
 *
 * Errors: as xdma_channel_open; XDMA_ERROR_UNSUPPORTED if the card's logic is not this design.
 */
xdma_status xdma_msm_open(struct xdma_card *card,
                          const struct xdma_msm_options *options,
                          struct xdma_msm **msm);

/**
 * Stores the parameters of the design in `design`.
 *
 * Only the client's thread may call this. Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_THREAD.
 */
xdma_status xdma_msm_get_design(struct xdma_msm *msm, struct xdma_msm_design *design);

/**
 * Describes the state of the design in a sentence: the levels of its FIFOs, its errors, and whether it is in a deadlock. The text is
 * stored as by xdma_card_describe.
 *
 * Only the client's thread may call this. Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_THREAD, XDMA_ERROR_GONE.
 */
xdma_status xdma_msm_describe(struct xdma_msm *msm,
                              char *text,
                              size_t capacity,
                              size_t *length);

/**
 * Sets the label of the next job, which is returned with its result. Each job after it has the next number, modulo 2^32.
 *
 * Only the client's thread may call this. Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_THREAD.
 */
xdma_status xdma_msm_set_label(struct xdma_msm *msm,
                               uint32_t label);

/**
 * Prepares a job of `count` pairs: points from number `first_point` on, scalars from number `first_scalar` on. Stores the handle in `job`.
 *
 * Points and scalars cannot be closed while the job is open; scalars may be written again when no job that uses them is in flight. Close
 * the job with xdma_job_close. Only the client's thread may call this.
 *
 * Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_THREAD, XDMA_ERROR_BUSY, XDMA_ERROR_RANGE; XDMA_ERROR_ARGUMENT if the design
 * accepts fewer pairs; XDMA_ERROR_FOREIGN if points or scalars belong to another card; XDMA_ERROR_MEMORY, XDMA_ERROR_HANDLES.
 */
xdma_status xdma_msm_prepare(struct xdma_msm *msm,
                             const struct xdma_points *points,
                             uint64_t first_point,
                             const struct xdma_scalars *scalars,
                             uint64_t first_scalar,
                             uint64_t count,
                             struct xdma_job **job);

/**
 * Starts a job, and stores its ticket in `ticket`.
 *
 * The call does not block. Up to xdma_msm_design.tasks jobs can be in flight. Only the client's thread may call this.
 *
 * Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_THREAD, XDMA_ERROR_BUSY; XDMA_ERROR_FULL: poll earlier jobs; XDMA_ERROR_FOREIGN
 * if the job was prepared for another card; XDMA_ERROR_ENGINE, XDMA_ERROR_GONE. Nothing was started then.
 */
xdma_status xdma_msm_submit(struct xdma_msm *msm,
                            const struct xdma_job *job,
                            struct xdma_msm_ticket *ticket);

/**
 * Returns XDMA_OK if the card has accepted all data of a job, so that its scalars may be written again, and XDMA_PENDING if not.
 *
 * Only the client's thread may call this. Errors: as xdma_msm_poll.
 */
xdma_status xdma_msm_poll_accepted(struct xdma_msm *msm,
                                   struct xdma_msm_ticket ticket);

/**
 * Returns XDMA_OK and stores the result of a job in `result`, if it is available; returns XDMA_PENDING if not. Each result is returned
 * once.
 *
 * Only the client's thread may call this.
 *
 * Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_THREAD; XDMA_ERROR_FOREIGN for a ticket of another client; XDMA_ERROR_LOST if the
 * result was returned before, or the job was interrupted or in flight when the client recovered: submit it again; XDMA_ERROR_ENGINE:
 * recover the client; XDMA_ERROR_GONE.
 */
xdma_status xdma_msm_poll(struct xdma_msm *msm,
                          struct xdma_msm_ticket ticket,
                          struct xdma_msm_result *result);

/**
 * Waits for the result of a job for at most `timeout` nanoseconds, and stores it in `result`.
 *
 * Only the client's thread may call this. Errors: as xdma_msm_poll; XDMA_ERROR_TIMEOUT if the job is not finished in time: it is then
 * still in flight.
 */
xdma_status xdma_msm_wait(struct xdma_msm *msm,
                          struct xdma_msm_ticket ticket,
                          uint64_t timeout,
                          struct xdma_msm_result *result);

/**
 * Recovers a client after an error: drops all jobs in flight, empties the design, and makes its channels usable again.
 *
 * Only the client's thread may call this. Errors: as xdma_channel_recover.
 */
xdma_status xdma_msm_recover(struct xdma_msm *msm);

/**
 * Makes a client belong to no thread, so that another one can attach it.
 *
 * Only the client's thread may call this. Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_THREAD.
 */
xdma_status xdma_msm_detach(struct xdma_msm *msm);

/**
 * Makes a client that belongs to no thread belong to the calling one.
 *
 * Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE; XDMA_ERROR_THREAD if it belongs to a thread, which may be this one.
 */
xdma_status xdma_msm_attach(struct xdma_msm *msm);

/**
 * Closes a client and its channels. Jobs in flight are lost.
 *
 * Only the client's thread may call this. Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_THREAD.
 */
xdma_status xdma_msm_close(struct xdma_msm *msm);

/**
 * Closes a job. If it is in flight, it continues.
 *
 * Any thread may call this. Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE; XDMA_ERROR_BUSY while another thread is submitting the job.
 */
xdma_status xdma_job_close(struct xdma_job *job);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* XDMA_H */
