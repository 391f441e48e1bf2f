//! Points and scalars of multi-scalar multiplications.

use crate::card::{CARDS, xdma_card};
use crate::children::{Child, Uses};
use crate::error::{Failure, run};
use crate::kind::Kind;
use crate::pointers::{self, Out, handle, invalid, length};
use crate::shared::SharedTable;
use crate::status::{XDMA_ERROR_RANGE, XDMA_REMEDY_CORRECT, xdma_status};
use std::ffi::c_void;
use xdma::msm::{Points, ScalarForm, Scalars};
use xdma::regs::msm::{POINT_BYTES, SCALAR_BYTES};
use xdma::unstable::msm as unstable;

/// The points of jobs, in memory that the card reads. They belong to the process; any thread may use them, several at a time.
pub struct xdma_points(());

/// The scalars of jobs, in memory that the card reads. They belong to the process; any thread may use them, several at a time.
pub struct xdma_scalars(());

pub(crate) struct PointsObject {
    pub points: Points,
    pub uses: Uses,
    _child: Child,
}

pub(crate) struct ScalarsObject {
    pub scalars: Scalars,
    pub uses: Uses,
    _child: Child,
}

pub(crate) static POINTS: SharedTable<PointsObject, 16384> = SharedTable::new(Kind::Points);
pub(crate) static SCALARS: SharedTable<ScalarsObject, 16384> = SharedTable::new(Kind::Scalars);

/// Form of scalars in memory.
pub type xdma_scalar_form = u32;
/// The number itself, below r.
pub const XDMA_SCALARS_CANONICAL: xdma_scalar_form = 0;
/// The number times 2^256 modulo r.
pub const XDMA_SCALARS_MONTGOMERY: xdma_scalar_form = 1;

/// Returns the offset in bytes of an element, and checks that `count` elements from there on exist.
fn place(what: &str, first: u64, count: u64, len: usize, size: usize) -> Result<usize, Failure> {
    match first.checked_add(count) {
        Some(end) if end <= len as u64 => Ok(first as usize * size),
        _ => {
            let text = format!("{count} {what} from number {first} on are outside of the {len} {what}");
            Err(Failure::new(XDMA_ERROR_RANGE, XDMA_REMEDY_CORRECT, text))
        }
    }
}

/// Returns the caller's elements as bytes.
///
/// # Safety
///
/// As for [`pointers::bytes`], with `count` elements of `size` bytes.
unsafe fn elements<'a>(data: *const c_void, count: u64, size: usize) -> Result<&'a [u8], Failure> {
    // SAFETY: as required of the caller.
    unsafe { pointers::bytes(data, count.saturating_mul(size as u64)) }
}

/// Allocates memory for `count` points, all at infinity, and stores the handle in `points`.
///
/// Points are written once and used by any number of jobs. Close them with xdma_points_close. Any thread may call this.
///
/// Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_BUSY, XDMA_ERROR_ARGUMENT, XDMA_ERROR_MEMORY, XDMA_ERROR_HANDLES.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_points_allocate(
    card: *mut xdma_card,
    count: u64,
    points: *mut *mut xdma_points,
) -> xdma_status {
    run(|| {
        let (out, card) = (Out::new(points)?, CARDS.get(card)?);
        let points = Points::allocate(&card.card, length(count)?)?;
        let object = PointsObject { points, uses: Uses::default(), _child: card.child(Kind::Points) };
        // SAFETY: the caller passes NULL or a valid pointer.
        unsafe { out.put(handle(POINTS.insert(object)?)) }
    })
}

/// Uses `count` points of the caller at `data` in place, as far as the bus can pin memory, and stores the handle in `points`.
///
/// The points have the form of xdma_points_write. The memory stays the caller's: it must stay allocated, and its contents must not change,
/// until xdma_points_close has succeeded. Any thread may call this.
///
/// Errors: as xdma_points_allocate; XDMA_ERROR_ARGUMENT if `count` is 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_points_register(
    card: *mut xdma_card,
    data: *const c_void,
    count: u64,
    points: *mut *mut xdma_points,
) -> xdma_status {
    run(|| {
        let (out, card) = (Out::new(points)?, CARDS.get(card)?);
        // SAFETY: the caller passes NULL or a valid pointer. This checks both and the size.
        unsafe { elements(data, count, POINT_BYTES)? };
        // SAFETY: the caller keeps the points allocated and does not change them until they are closed, which releases them. The object is
        // dropped only there.
        let points = unsafe { unstable::register_points(&card.card, data.cast(), length(count)?)? };
        let object = PointsObject { points, uses: Uses::default(), _child: card.child(Kind::Points) };
        let inserted = POINTS.insert_or(object, |object| {
            if unstable::release_points(&object.points).is_err() {
                // The card keeps the memory, so the object must not be dropped.
                std::mem::forget(object);
            }
        });
        // SAFETY: as above.
        unsafe { out.put(handle(inserted?)) }
    })
}

/// Writes `count` points from number `first` on: 64 bytes each, x then y, little-endian, in Montgomery form modulo p; zeros for infinity.
///
/// Any thread may call this. Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_RANGE; XDMA_ERROR_ARGUMENT for registered points, which
/// are the caller's; XDMA_ERROR_IN_FLIGHT while a job uses the points; XDMA_ERROR_BUSY while another thread is in a call with the points.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_points_write(
    points: *mut xdma_points,
    first: u64,
    data: *const c_void,
    count: u64,
) -> xdma_status {
    run(|| {
        let mut points = POINTS.exclusive(points)?;
        let at = place("points", first, count, points.points.len(), POINT_BYTES)?;
        // SAFETY: the caller passes NULL or a valid pointer.
        let data = unsafe { elements(data, count, POINT_BYTES)? };
        Ok(points.points.fill(|to| to[at..at + data.len()].copy_from_slice(data))?)
    })
}

/// Checks that every point is on the curve or at infinity. The card does not check this.
///
/// Any thread may call this. Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE; XDMA_ERROR_DATA with the number of the first point that is not;
/// XDMA_ERROR_IN_FLIGHT while a job uses the points; XDMA_ERROR_BUSY while another thread is in a call with the points.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_points_check(points: *mut xdma_points) -> xdma_status {
    run(|| Ok(POINTS.exclusive(points)?.points.check()?))
}

/// Closes points. Close jobs that use them first. After success the card has no access to registered points, which the caller may free.
///
/// Any thread may call this. Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE; XDMA_ERROR_IN_USE while a job that uses them is open;
/// XDMA_ERROR_BUSY while another thread is in a call with the points; for registered points also XDMA_ERROR_IN_FLIGHT while a job is in
/// flight, and XDMA_ERROR_MEMORY if they cannot be unmapped. The points then stay open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_points_close(points: *mut xdma_points) -> xdma_status {
    run(|| {
        let points = POINTS.exclusive(points)?;
        points.uses.check_none("job", "points")?;
        unstable::release_points(&points.points)?;
        drop(points.close());
        Ok(())
    })
}

/// Allocates memory for `count` scalars of a form, all zero, and stores the handle in `scalars`.
///
/// Scalars are written again between jobs. Close them with xdma_scalars_close. Any thread may call this.
///
/// Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_BUSY; XDMA_ERROR_ARGUMENT for a form that is not one of XDMA_SCALARS_*;
/// XDMA_ERROR_MEMORY, XDMA_ERROR_HANDLES.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_scalars_allocate(
    card: *mut xdma_card,
    count: u64,
    form: xdma_scalar_form,
    scalars: *mut *mut xdma_scalars,
) -> xdma_status {
    run(|| {
        let (out, card) = (Out::new(scalars)?, CARDS.get(card)?);
        let form = match form {
            XDMA_SCALARS_CANONICAL => ScalarForm::Canonical,
            XDMA_SCALARS_MONTGOMERY => ScalarForm::Montgomery,
            _ => return Err(invalid(format_args!("`form` is {form}; use one of XDMA_SCALARS_*"))),
        };
        let scalars = Scalars::allocate(&card.card, length(count)?, form)?;
        let object = ScalarsObject { scalars, uses: Uses::default(), _child: card.child(Kind::Scalars) };
        // SAFETY: the caller passes NULL or a valid pointer.
        unsafe { out.put(handle(SCALARS.insert(object)?)) }
    })
}

/// Writes `count` scalars from number `first` on: 32 bytes each, little-endian, in the form of the scalars.
///
/// Any thread may call this. Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE, XDMA_ERROR_RANGE; XDMA_ERROR_ARGUMENT if `data` is in the memory
/// of the scalars itself; XDMA_ERROR_IN_FLIGHT while a job uses the scalars; XDMA_ERROR_BUSY while another thread is in a call with the scalars.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_scalars_write(
    scalars: *mut xdma_scalars,
    first: u64,
    data: *const c_void,
    count: u64,
) -> xdma_status {
    run(|| {
        let mut scalars = SCALARS.exclusive(scalars)?;
        let at = place("scalars", first, count, scalars.scalars.len(), SCALAR_BYTES)?;
        // SAFETY: the caller passes NULL or a valid pointer.
        let data = unsafe { elements(data, count, SCALAR_BYTES)? };
        scalars.scalars.fill(|to| {
            pointers::check_apart(data.as_ptr(), data.len(), to.as_ptr(), to.len())?;
            to[at..at + data.len()].copy_from_slice(data);
            Ok(())
        })?
    })
}

/// Stores the address of the first scalar in `data`, to write scalars in place: 32 bytes each, little-endian.
///
/// The address is valid until the scalars are closed. Write only while no job uses the scalars; the library cannot check this. Any thread
/// may call this.
///
/// Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE; XDMA_ERROR_IN_FLIGHT while a job uses the scalars; XDMA_ERROR_BUSY while another thread is
/// in a call with the scalars.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_scalars_get_data(
    scalars: *mut xdma_scalars,
    data: *mut *mut c_void,
) -> xdma_status {
    run(|| {
        let (out, mut scalars) = (Out::new(data)?, SCALARS.exclusive(scalars)?);
        let first = scalars.scalars.fill(|bytes| bytes.as_mut_ptr())?;
        // SAFETY: the caller passes NULL or a valid pointer.
        unsafe { out.put(first.cast()) }
    })
}

/// Checks that every scalar is below r. The card does not check this.
///
/// Any thread may call this. Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE; XDMA_ERROR_DATA with the number of the first scalar that is not;
/// XDMA_ERROR_IN_FLIGHT while a job uses the scalars; XDMA_ERROR_BUSY while another thread is in a call with the scalars.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_scalars_check(scalars: *mut xdma_scalars) -> xdma_status {
    run(|| Ok(SCALARS.exclusive(scalars)?.scalars.check()?))
}

/// Closes scalars. Close jobs that use them first.
///
/// Any thread may call this. Errors: XDMA_ERROR_NULL, XDMA_ERROR_HANDLE; XDMA_ERROR_IN_USE while a job that uses them is open;
/// XDMA_ERROR_BUSY while another thread is in a call with the scalars.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xdma_scalars_close(scalars: *mut xdma_scalars) -> xdma_status {
    run(|| {
        let scalars = SCALARS.exclusive(scalars)?;
        scalars.uses.check_none("job", "scalars")?;
        drop(scalars.close());
        Ok(())
    })
}
