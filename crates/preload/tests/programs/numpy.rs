//! Programs that use numpy arrays as buffers.

use crate::support::{Bench, check};
use std::process::Command;

/// The distribution's Python, which can use the package below.
const PYTHON: &str = "/usr/bin/python3";
const NO_NUMPY: &str = "skipped: numpy is not installed; run: sudo apt-get install -y python3-numpy";

fn has_numpy() -> bool {
    Command::new(PYTHON).args(["-c", "import numpy"]).output().is_ok_and(|output| output.status.success())
}

/// Runs a program, which must succeed.
fn python(bench: &Bench, program: &str) {
    check(bench.command(PYTHON).args(["-c", program]).output().unwrap());
}

#[test]
fn arrays_are_buffers() {
    if !has_numpy() {
        return println!("{NO_NUMPY}");
    }
    let program = "
import os, numpy as np
w, r = os.open('/dev/xdma0_h2c_0', os.O_RDWR), os.open('/dev/xdma0_c2h_1', os.O_RDWR)
data = np.random.default_rng(1).integers(0, 1 << 32, (513, 1021), dtype=np.uint32)
back = np.zeros_like(data)
assert os.pwrite(w, data, 0x1003) == data.nbytes
assert os.preadv(r, [back], 0x1003) == data.nbytes and (back == data).all()
# Rows of two arrays alternate on the card.
odd = np.zeros((2, 1021), dtype=np.uint32)
assert os.pwritev(w, [data[0], data[7], data[3]], 1 << 20) == 3 * 4 * 1021
assert os.preadv(r, [odd[0], back[5], odd[1]], 1 << 20) == 3 * 4 * 1021
assert (odd[0] == data[0]).all() and (back[5] == data[7]).all() and (odd[1] == data[3]).all()
# A part of the array, and unbuffered file objects.
with open('/dev/xdma0_h2c_0', 'r+b', buffering=0) as f, open('/dev/xdma0_c2h_0', 'rb', buffering=0) as g:
    f.seek(1 << 24); g.seek(1 << 24)
    assert f.write(data[100:200]) == 4 * 100 * 1021
    part = np.empty((100, 1021), dtype=np.uint32)
    assert g.readinto(part) == part.nbytes and (part == data[100:200]).all()
";
    Bench::all_with_memory().iter().for_each(|bench| python(bench, program));
}

/// `tofile` and `fromfile` use C library streams on a duplicate of the descriptor. Streams transfer whole blocks of 4096 bytes in
/// one call. The rest, in a second call, would go to the same card address, as with the kernel module.
#[test]
fn arrays_are_stored_and_loaded() {
    if !has_numpy() {
        return println!("{NO_NUMPY}");
    }
    let program = "
import os, numpy as np
data = np.random.default_rng(2).standard_normal((64, 4096))
data.tofile('/dev/xdma0_h2c_0')
assert (np.fromfile('/dev/xdma0_c2h_0', count=data.size).reshape(data.shape) == data).all()
with open('/dev/xdma0_h2c_1', 'r+b') as f:
    f.seek(1 << 30)
    data.tofile(f)
    # numpy moves the position to the end of the data.
    assert f.tell() == (1 << 30) + data.nbytes
    np.ascontiguousarray(data[::-1]).tofile(f)
with open('/dev/xdma0_c2h_1', 'rb', buffering=0) as f:
    f.seek(1 << 30)
    both = np.fromfile(f, count=2 * data.size).reshape(2, *data.shape)
    assert (both[0] == data).all() and (both[1] == data[::-1]).all()
part = np.fromfile('/dev/xdma0_c2h_2', dtype='<f8', count=4096, offset=(1 << 30) + 3 * 8 * 4096)
assert (part == data[3]).all()
";
    Bench::all_with_memory().iter().for_each(|bench| python(bench, program));
}

/// Registers cannot be mapped over a socket. The files of registers cannot seek, so `numpy.memmap` rejects them on every bus, as
/// with the kernel module.
#[test]
fn mappings_of_registers_fail_over_a_socket() {
    if !has_numpy() {
        return println!("{NO_NUMPY}");
    }
    python(
        &Bench::memory(),
        "
import errno, io, mmap, os, numpy as np
for name in ['user', 'control']:
    f = os.open(f'/dev/xdma0_{name}', os.O_RDWR)
    try:
        mmap.mmap(f, 4096)
        assert False
    except OSError as error:
        assert error.errno == errno.ENODEV, error
    try:
        np.memmap(f'/dev/xdma0_{name}', dtype='<u4', mode='r+', shape=(4,))
        assert False
    except io.UnsupportedOperation as error:
        assert 'seek' in str(error), error
# The files of BARs in sysfs can seek, so only the mapping itself fails.
try:
    np.memmap('/sys/class/xdma/xdma0_user/device/resource2', dtype='<u4', mode='r+')
    assert False
except OSError as error:
    assert error.errno == errno.ENODEV, error
register = np.zeros(1, dtype='<u4')
assert os.preadv(f, [register], 0) == 4 and register[0] >> 16 == 0x1fc0
",
    );
}
