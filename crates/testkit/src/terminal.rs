//! Programs on a terminal.

use std::fs::File;
use std::io::{BufRead, BufReader, Error, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::ptr::{null, null_mut};

/// The widths at which [`check_help`] shows help.
const WIDTHS: [u16; 3] = [50, 80, 200];
/// The maximum width of help. Longer lines are hard to read.
const MAX_HELP_WIDTH: usize = 100;
/// Marks the end of the output, which does not contain this byte.
const END: u8 = 0;

/// Opens a pseudoterminal of this width. Returns the master side and the slave side.
fn open(columns: u16) -> (File, File) {
    let (mut master, mut slave) = (-1, -1);
    let size = libc::winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the pointers to the descriptors and the size are valid, and the optional name and mode are null.
    let opened = unsafe { libc::openpty(&mut master, &mut slave, null_mut(), null(), &size) };
    assert_eq!(opened, 0, "{}", Error::last_os_error());
    // SAFETY: the descriptors were just created, and have no other owner.
    unsafe { (File::from_raw_fd(master), File::from_raw_fd(slave)) }
}

/// Starts a program on a terminal.
fn start(command: &mut Command, terminal: File) -> Child {
    let stdio = || Stdio::from(terminal.try_clone().unwrap());
    let child = command.stdin(stdio()).stdout(stdio()).stderr(stdio()).env("TERM", "xterm").spawn().unwrap();
    // Drop our copies of the slave side, so that the program sees a hangup when the master side is closed.
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    child
}

/// Runs a program on a new terminal of this width, which becomes its controlling terminal. Returns the master side.
pub fn spawn(command: &mut Command, columns: u16) -> (Child, File) {
    let (master, slave) = open(columns);
    let master_fd = master.as_raw_fd();
    // SAFETY: the calls are async-signal-safe, so they are permitted between fork and exec.
    unsafe {
        command.pre_exec(move || {
            let done = libc::setsid() >= 0 && libc::ioctl(0, libc::TIOCSCTTY, 0) == 0;
            libc::close(master_fd);
            if done { Ok(()) } else { Err(Error::last_os_error()) }
        });
    }
    (start(command, slave), master)
}

/// Runs a program on a terminal of this width until it ends. Returns what it writes.
fn output(command: &mut Command, columns: u16) -> String {
    let (master, mut slave) = open(columns);
    let mut child = start(command, slave.try_clone().unwrap());
    let mut text = vec![];
    std::thread::scope(|scope| {
        // Linux may discard unread output when the slave side is closed, so it stays open here, and a mark ends the output.
        scope.spawn(|| {
            let status = child.wait();
            slave.write_all(&[END]).unwrap();
            assert!(status.unwrap().success());
        });
        BufReader::new(master).read_until(END, &mut text).unwrap();
    });
    assert_eq!(text.pop(), Some(END));
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
