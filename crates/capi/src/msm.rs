//! The client of the MSM design.

use crate::card::{CARDS, xdma_card};
use crate::channel::{ring, xdma_channel_options, xdma_ring};
use crate::children::{Child, Uses};
use crate::error::{Failure, call, run};
use crate::kind::Kind;
use crate::msm_data::{POINTS, SCALARS, xdma_points, xdma_scalars};
use crate::owned::OwnedTable;
use crate::pointers::{self, Options, Out, handle, length};
use crate::shared::SharedTable;
use crate::status::{XDMA_OK, XDMA_PENDING, xdma_status};
use std::ffi::c_char;
use std::ops::Range;
use std::time::Duration;
use xdma::channel::Poll;
use xdma::msm::{Job, JobTicket, Msm, MsmOptions, Output};
use xdma::regs::msm::RESULT_BYTES;

/// The client of a design that computes multi-scalar multiplications on BN254. It belongs to a thread, as an xdma_channel does.
pub struct xdma_msm(());

/// A job: points and scalars as one program, prepared once and submitted any number of times. It belongs to the process; any thread may
/// use it.
pub struct xdma_job(());

pub(crate) struct MsmObject {
    msm: Msm,
    child: Child,
}

pub(crate) struct JobObject {
    job: Job,
    _uses: [Uses; 2],
    _child: Child,
}

pub(crate) static MSMS: OwnedTable<MsmObject, 256> = OwnedTable::new(Kind::Msm);
pub(crate) static JOBS: SharedTable<JobObject, 16384> = SharedTable::new(Kind::Job);

/// Options for opening a client. Initialise them with xdma_msm_options_init, then change what differs.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct xdma_msm_options {
    /// Size of this structure in bytes, set by xdma_msm_options_init.
    pub size: u32,
    /// H2C channel that streams, 0 to 3.
    pub h2c: u32,
    /// C2H channel that fetches results, 0 to 3.
    pub c2h: u32,
    /// Ring of the streaming channel: XDMA_RING_*; XDMA_RING_AUTO selects chains.
    pub ring: xdma_ring,
    /// Number of pairs per chunk, even; 0 for that of the design.
    pub chunk: u32,
    /// Reserved; 0.
    pub reserved: u32,
    /// Other options of the streaming channel; `ring` is not used. Results are waited for in the same way.
    pub channel: xdma_channel_options,
}

impl Options for xdma_msm_options {
    fn new() -> Self {
        let MsmOptions { h2c, c2h, .. } = MsmOptions::default();
        Self {
            size: size_of::<Self>() as u32,
            h2c: h2c as u32,
            c2h: c2h as u32,
            ring: 0,
            chunk: 0,
            reserved: 0,
            channel: xdma_channel_options::new(),
        }
    }
}

impl TryFrom<xdma_msm_options> for MsmOptions {
    type Error = Failure;

    fn try_from(options: xdma_msm_options) -> Result<Self, Failure> {
        Ok(Self {
            h2c: options.h2c as usize,
            c2h: options.c2h as usize,
            ring: ring(options.ring)?,
            chunk: (options.chunk > 0).then_some(options.chunk),
            channel: options.channel.try_into()?,
        })
    }
}

/// The parameters of a design.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct xdma_msm_design {
    /// 1 if the core only consumes pairs and computes nothing.
    pub stub: u32,
    /// Window size in bits.
    pub window_bits: u32,
    /// Depth of the scalar FIFO in scalars.
    pub scalar_depth: u32,
    /// Depth of the point FIFO in points.
    pub point_depth: u32,
    /// Clock of the core in kHz.
    pub clock_khz: u32,
    /// Number of jobs that can be in flight.
    pub tasks: u32,
    /// Maximum number of pairs of a job.
    pub max_pairs: u32,
    /// Number of pairs per chunk that jobs are prepared with.
    pub chunk: u32,
}

/// Identifies a submitted job. It is a plain value: copy it freely, and drop it without a call. Do not change it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct xdma_msm_ticket {
    /// The client.
    pub client: u64,
    /// The number of the submission.
    pub sequence: u64,
}

impl From<JobTicket> for xdma_msm_ticket {
    fn from(ticket: JobTicket) -> Self {
        // SAFETY: both consist of two 64-bit numbers without restrictions. The size is checked at compile time.
        unsafe { std::mem::transmute(ticket) }
    }
}

impl From<xdma_msm_ticket> for JobTicket {
    fn from(ticket: xdma_msm_ticket) -> Self {
        // SAFETY: as above. A ticket with wrong numbers is refused like any ticket of another client.
        unsafe { std::mem::transmute(ticket) }
    }
}

/// The result of a job: one point.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct xdma_msm_result {
    /// X, Y, Z, 32 bytes each, little-endian: homogeneous (x = X/Z, y = Y/Z), in Montgomery form, each below 2p; Z is 0 or p for infinity.
    pub point: [u8; 96],
    /// Label of the job: jobs of a client are numbered from 0 on, or from the label that xdma_msm_set_label has set.
    pub label: u32,
}

const _: () = assert!(RESULT_BYTES == 96);

impl From<Output> for xdma_msm_result {
    fn from(output: Output) -> Self {
        Self { point: output.bytes, label: output.label }
    }
}

/// Sets all options to their defaults.
///
/// Any thread may call this. Errors: XDMA_ERROR_NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_msm_options_init(options: *mut xdma_msm_options) -> xdma_status {
    // SAFETY: the caller passes NULL or a valid pointer.
    run(|| unsafe { Out::new(options)?.put(xdma_msm_options::new()) })
}

/// Opens the design on a card: resets it, opens one channel of each direction, and stores the handle in `msm`.
///
/// `options` may be NULL for the defaults. The client belongs to the calling thread. Close it with xdma_msm_close.
///
/// Errors: as xdma_channel_open; XDMA_ERROR_UNSUPPORTED if the card's logic is not this design.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_msm_open(
    card: *mut xdma_card,
    options: *const xdma_msm_options,
    msm: *mut *mut xdma_msm,
) -> xdma_status {
    run(|| {
        let (out, card) = (Out::new(msm)?, CARDS.get(card)?);
        // SAFETY: the caller passes NULL or valid pointers.
        let options = unsafe { pointers::options(options)? };
        let msm = Msm::open(&card.card, options.try_into()?)?;
        let object = MsmObject { msm, child: card.child(Kind::Msm) };
        // SAFETY: as above.
        unsafe { out.put(handle(MSMS.insert(object)?)) }
    })
}

/// Stores the parameters of the design in `design`.
///
/// Only the client's thread may call this. Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_THREAD.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_msm_get_design(
    msm: *mut xdma_msm,
    design: *mut xdma_msm_design,
) -> xdma_status {
    run(|| {
        let (out, msm) = (Out::new(design)?, &MSMS.get(msm)?.msm);
        let design = msm.design();
        let value = xdma_msm_design {
            stub: design.stub.into(),
            window_bits: design.window_bits,
            scalar_depth: design.scalar_depth,
            point_depth: design.point_depth,
            clock_khz: design.clock_khz,
            tasks: design.tasks,
            max_pairs: design.max_pairs,
            chunk: msm.chunk(),
        };
        // SAFETY: the caller passes NULL or a valid pointer.
        unsafe { out.put(value) }
    })
}

/// Describes the state of the design in a sentence: the levels of its FIFOs, its errors, and whether it is in a deadlock. The text is
/// stored as by xdma_card_describe.
///
/// Only the client's thread may call this. Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_THREAD, XDMA_ERROR_GONE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_msm_describe(
    msm: *mut xdma_msm,
    text: *mut c_char,
    capacity: usize,
    length: *mut usize,
) -> xdma_status {
    run(|| {
        let state = MSMS.get(msm)?.msm.state()?;
        // SAFETY: the caller passes NULL or valid pointers.
        unsafe { pointers::store_text(&state, text, capacity, length) }
    })
}

/// Sets the label of the next job, which is returned with its result. Each job after it has the next number, modulo 2^32.
///
/// Only the client's thread may call this. Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_THREAD.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_msm_set_label(msm: *mut xdma_msm, label: u32) -> xdma_status {
    run(|| {
        MSMS.get(msm)?.msm.set_label(label);
        Ok(())
    })
}

/// Prepares a job of `count` pairs: points from number `first_point` on, scalars from number `first_scalar` on. Stores the handle in `job`.
///
/// Points and scalars cannot be closed while the job is open; scalars may be written again when no job that uses them is in flight. Close
/// the job with xdma_job_close. Only the client's thread may call this.
///
/// Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_THREAD, XDMA_ERROR_BUSY, XDMA_ERROR_RANGE; XDMA_ERROR_ARGUMENT if the design
/// accepts fewer pairs; XDMA_ERROR_FOREIGN if points or scalars belong to another card; XDMA_ERROR_MEMORY, XDMA_ERROR_HANDLES.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_msm_prepare(
    msm: *mut xdma_msm,
    points: *const xdma_points,
    first_point: u64,
    scalars: *const xdma_scalars,
    first_scalar: u64,
    count: u64,
    job: *mut *mut xdma_job,
) -> xdma_status {
    run(|| {
        let (out, msm) = (Out::new(job)?, MSMS.get(msm)?);
        let (points, scalars) = (POINTS.get(points)?, SCALARS.get(scalars)?);
        let [point_range, scalar_range] = [elements(first_point, count)?, elements(first_scalar, count)?];
        let job = msm.msm.prepare_range(&points.points, point_range, &scalars.scalars, scalar_range)?;
        let uses = [points.uses.clone(), scalars.uses.clone()];
        let object = JobObject { job, _uses: uses, _child: msm.child.sibling(Kind::Job) };
        // SAFETY: the caller passes NULL or a valid pointer.
        unsafe { out.put(handle(JOBS.insert(object)?)) }
    })
}

fn elements(first: u64, count: u64) -> Result<Range<usize>, Failure> {
    Ok(length(first)?..length(first.saturating_add(count))?)
}

/// Starts a job, and stores its ticket in `ticket`.
///
/// The call does not block. Up to xdma_msm_design.tasks jobs can be in flight. Only the client's thread may call this.
///
/// Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_THREAD, XDMA_ERROR_BUSY; XDMA_ERROR_FULL: poll earlier jobs; XDMA_ERROR_FOREIGN
/// if the job was prepared for another card; XDMA_ERROR_ENGINE, XDMA_ERROR_GONE. Nothing was started then.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_msm_submit(
    msm: *mut xdma_msm,
    job: *const xdma_job,
    ticket: *mut xdma_msm_ticket,
) -> xdma_status {
    run(|| {
        let (out, msm) = (Out::new(ticket)?, &mut MSMS.get(msm)?.msm);
        let submitted = msm.submit(&JOBS.get(job)?.job)?;
        // SAFETY: the caller passes NULL or a valid pointer.
        unsafe { out.put(submitted.into()) }
    })
}

/// Returns XDMA_OK if the card has accepted all data of a job, so that its scalars may be written again, and XDMA_PENDING if not.
///
/// Only the client's thread may call this. Errors: as xdma_msm_poll.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_msm_poll_accepted(msm: *mut xdma_msm, ticket: xdma_msm_ticket) -> xdma_status {
    call(|| match MSMS.get(msm)?.msm.poll_accepted(ticket.into())? {
        Poll::Ready => Ok(XDMA_OK),
        Poll::Pending => Ok(XDMA_PENDING),
    })
}

/// Returns XDMA_OK and stores the result of a job in `result`, if it is available; returns XDMA_PENDING if not. Each result is returned
/// once.
///
/// Only the client's thread may call this.
///
/// Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_THREAD; XDMA_ERROR_FOREIGN for a ticket of another client; XDMA_ERROR_LOST if the
/// result was returned before, or the job was interrupted or in flight when the client recovered: submit it again; XDMA_ERROR_ENGINE:
/// recover the client; XDMA_ERROR_GONE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_msm_poll(
    msm: *mut xdma_msm,
    ticket: xdma_msm_ticket,
    result: *mut xdma_msm_result,
) -> xdma_status {
    call(|| {
        let (out, msm) = (Out::new(result)?, &mut MSMS.get(msm)?.msm);
        let Some(output) = msm.poll(ticket.into())? else { return Ok(XDMA_PENDING) };
        // SAFETY: the caller passes NULL or a valid pointer.
        unsafe { out.set(output.into()) };
        Ok(XDMA_OK)
    })
}

/// Waits for the result of a job for at most `timeout` nanoseconds, and stores it in `result`.
///
/// Only the client's thread may call this. Errors: as xdma_msm_poll; XDMA_ERROR_TIMEOUT if the job is not finished in time: it is then
/// still in flight.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_msm_wait(
    msm: *mut xdma_msm,
    ticket: xdma_msm_ticket,
    timeout: u64,
    result: *mut xdma_msm_result,
) -> xdma_status {
    run(|| {
        let (out, msm) = (Out::new(result)?, &mut MSMS.get(msm)?.msm);
        let output = msm.wait(ticket.into(), Duration::from_nanos(timeout))?;
        // SAFETY: the caller passes NULL or a valid pointer.
        unsafe { out.put(output.into()) }
    })
}

/// Recovers a client after an error: drops all jobs in flight, empties the design, and makes its channels usable again.
///
/// Only the client's thread may call this. Errors: as xdma_channel_recover.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_msm_recover(msm: *mut xdma_msm) -> xdma_status {
    run(|| Ok(MSMS.get(msm)?.msm.recover()?))
}

/// Makes a client belong to no thread, so that another one can attach it.
///
/// Only the client's thread may call this. Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_THREAD.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_msm_detach(msm: *mut xdma_msm) -> xdma_status {
    run(|| MSMS.detach(msm))
}

/// Makes a client that belongs to no thread belong to the calling one.
///
/// Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE; XDMA_ERROR_THREAD if it belongs to a thread, which may be this one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_msm_attach(msm: *mut xdma_msm) -> xdma_status {
    run(|| MSMS.attach(msm))
}

/// Closes a client and its channels. Jobs in flight are lost.
///
/// Only the client's thread may call this. Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_THREAD.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_msm_close(msm: *mut xdma_msm) -> xdma_status {
    run(|| {
        drop(MSMS.close(msm)?);
        Ok(())
    })
}

/// Closes a job. If it is in flight, it continues.
///
/// Any thread may call this. Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE; XDMA_ERROR_BUSY while another thread is submitting the job.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_job_close(job: *mut xdma_job) -> xdma_status {
    run(|| {
        drop(JOBS.exclusive(job)?.close());
        Ok(())
    })
}
