//! Executes requests: in this process if it uses the card exclusively, otherwise through the broker.

use crate::{broker, cancel, exclusive};
use libc::c_int;
use xdma_chardev::Request;

/// Executes a request. Returns the result or a negative errno, and the file descriptor in the reply, if any.
pub fn call_for_descriptor(request: &Request) -> (i64, Option<c_int>) {
    let result = cancel::disabled(|| match exclusive::settings() {
        Some(settings) => exclusive::call_for_descriptor(settings, request),
        None => broker::call_for_descriptor(request),
    });
    result.unwrap_or_else(|errno| (-i64::from(errno), None))
}

/// Executes a request whose reply has no file descriptor. Returns the result or a negative errno.
///
/// The shortest path is inlined. Only the other paths take the address of the request, and each of a copy, so that the shortest one
/// stores the request nowhere but in the slot.
#[inline(always)]
pub fn call(request: Request) -> i64 {
    if exclusive::settings().is_some() {
        let copy = request;
        return call_exclusively(&copy);
    }
    broker::call(request).unwrap_or_else(|errno| -i64::from(errno))
}

#[inline(never)]
fn call_exclusively(request: &Request) -> i64 {
    cancel::disabled(|| exclusive::call(request))
}
