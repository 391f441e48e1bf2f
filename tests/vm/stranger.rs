//! A user who is not in the group of the card's nodes.

use xdma::card::{BusError, CardError};
use xdma_testkit::process;

#[test]
fn without_permission_the_error_names_the_node() {
    let error = process::open().unwrap_err();
    assert!(matches!(error, CardError::Bus(BusError::Permission { .. })), "{error}");
    let text = error.to_string();
    assert!(text.contains("no permission for /dev/") && text.contains("read and write"), "{text}");
}
