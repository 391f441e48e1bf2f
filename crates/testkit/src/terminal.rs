//! Programs on a terminal.

use std::fs::File;
use std::io::{Error, ErrorKind, Read};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::ptr::{null, null_mut};

/// The widths at which [`check_help`] shows help.
const WIDTHS: [u16; 3] = [50, 80, 200];
/// The maximum width of help. Longer lines are hard to read.
const MAX_HELP_WIDTH: usize = 100;

/// Runs a program on a new pseudoterminal of this width. Returns the master side.
pub fn spawn(command: &mut Command, columns: u16) -> (Child, File) {
    let (mut master, mut slave) = (-1, -1);
    let size = libc::winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the pointers to the descriptors and the size are valid, and the optional name and mode are null.
    let opened = unsafe { libc::openpty(&mut master, &mut slave, null_mut(), null(), &size) };
    assert_eq!(opened, 0, "{}", Error::last_os_error());
    // SAFETY: the descriptors were just created, and have no other owner.
    let (master, slave) = unsafe { (File::from_raw_fd(master), File::from_raw_fd(slave)) };
    let stdio = || Stdio::from(slave.try_clone().unwrap());
    command.stdin(stdio()).stdout(stdio()).stderr(stdio()).env("TERM", "xterm");
    let master_fd = master.as_raw_fd();
    // SAFETY: the calls are async-signal-safe, so they are permitted between fork and exec.
    unsafe {
        command.pre_exec(move || {
            let done = libc::setsid() >= 0 && libc::ioctl(0, libc::TIOCSCTTY, 0) == 0;
            libc::close(master_fd);
            if done { Ok(()) } else { Err(Error::last_os_error()) }
        });
    }
    let child = command.spawn().unwrap();
    // Drop our copies of the slave side, so that the program sees a hangup when the master side is closed.
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    (child, master)
}

/// Runs a program on a terminal of this width until it ends. Returns what it writes.
fn output(command: &mut Command, columns: u16) -> String {
    let (mut child, mut terminal) = spawn(command, columns);
    let mut text = vec![];
    let read = terminal.read_to_end(&mut text).map_err(|error| (error.raw_os_error(), error.kind()));
    // When the program ends, a read of the master side fails with EIO.
    assert!(
        matches!(read, Err((Some(libc::EIO), _)) | Err((_, ErrorKind::UnexpectedEof)) | Ok(_)),
        "{read:?}"
    );
    assert!(child.wait().unwrap().success());
    String::from_utf8(text).unwrap().replace("\r\n", "\n")
}

/// Checks that the help of a program fits on a terminal of any width, and that its lines are whole in a pipe.
#[track_caller]
pub fn check_help(program: &str, arguments: &[&str]) {
    let command = || {
        let mut command = Command::new(program);
        command.args(arguments).env("NO_COLOR", "1").env_remove("XDMA_CARD");
        command
    };
    // The width of the terminal from which a program is started has no effect on the text in a pipe.
    let piped = command().env("COLUMNS", "50").output().unwrap();
    let piped = String::from_utf8(piped.stdout).unwrap();
    let words = |text: &str| text.split_whitespace().map(String::from).collect::<Vec<_>>();
    for columns in WIDTHS {
        let shown = output(&mut command(), columns);
        assert_eq!(words(&shown), words(&piped), "{program} {arguments:?}");
        // clap does not wrap the line with the usage.
        let wrapped = shown.lines().filter(|line| !line.starts_with("Usage: "));
        let width = wrapped.map(|line| line.chars().count()).max().unwrap_or(0);
        assert!(width <= MAX_HELP_WIDTH.min(columns.into()), "{columns}: {width}\n{shown}");
        // A paragraph that is too long for the terminal is wrapped there, but not in the pipe.
        let longest = piped.lines().map(|line| line.chars().count()).max().unwrap_or(0);
        assert!(
            width == longest || longest > width && shown.lines().count() > piped.lines().count(),
            "{shown}"
        );
    }
}
