//! Programs that open the card themselves.

use crate::support::{Bench, NO_PYTHON, check, python};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

/// A second process, and a child of the first one, receive EBUSY. The message names the process that uses the card.
#[test]
fn later_openers_are_refused_with_the_name_of_the_holder() {
    let Some(python) = python() else { return println!("{NO_PYTHON}") };
    let bench = Bench::exclusive_memory();
    let program = "
import errno, os
def refused(call):
    try: call()
    except OSError as error: return error.errno == errno.EBUSY
h = os.open('/dev/xdma0_h2c_0', os.O_WRONLY)
child = os.fork()
if child == 0:
    inherited = refused(lambda: os.pwrite(h, b'x', 0))
    os._exit(0 if inherited and refused(lambda: os.open('/dev/xdma0_c2h_0', os.O_RDONLY)) else 1)
assert os.waitpid(child, 0)[1] == 0
print('open', flush=True)
input()
assert os.pwrite(h, b'x', 0) == 1
";
    let mut first = bench.command(python);
    first.args(["-c", program]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut first = first.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(first.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "open\n");
    // The files can be looked for while the card is in use.
    let second =
        bench.command("sh").args(["-c", "test -c /dev/xdma0_user && cat /dev/xdma0_h2c_0"]).output().unwrap();
    let text = String::from_utf8_lossy(&second.stderr);
    assert!(text.contains("the card is in use by python") && text.contains("busy"), "{text}");
    drop(first.stdin.take());
    // `input` fails at the end of its input, so the program ends with an error: a clean end needs a line.
    assert!(!first.wait().unwrap().success());
    bench.shell("dd if=/dev/zero of=/dev/xdma0_h2c_0 bs=4096 count=1");
    bench.check_closed();
}

/// The message does not name a process that has used the card before.
#[test]
fn an_earlier_holder_is_not_named() {
    let bench = Bench::exclusive_memory();
    let path = bench.folder.path().join("lock");
    fs::write(&path, "dd (process 1)").unwrap();
    // A process that has just locked the card.
    let lock = File::open(path).unwrap();
    lock.lock().unwrap();
    let output = bench.command("cat").arg("/dev/xdma0_h2c_0").output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("the card is in use by another process"), "{text}");
}

/// A program that is killed leaves a card that the next one can use.
#[test]
fn a_killed_program_does_not_lock_the_card() {
    let bench = Bench::exclusive_memory();
    let killed =
        bench.command("bash").args(["-c", "exec 3>/dev/xdma0_h2c_0; echo text >&3; kill -9 $$"]).output();
    assert_eq!(killed.unwrap().status.signal(), Some(9));
    let text = check(bench.command("head").args(["-c", "4", "/dev/xdma0_c2h_0"]).output().unwrap());
    assert_eq!(text, "text");
}

/// `exec` closes the card. The new program opens it again when it inherits a device file, as in a redirection of a shell.
#[test]
fn a_program_can_inherit_a_file_through_exec() {
    let bench = Bench::exclusive_memory();
    let text = "printf inherited | cat >/dev/xdma0_h2c_0; head -c 9 </dev/xdma0_c2h_0";
    assert_eq!(check(bench.command("bash").args(["-c", text]).output().unwrap()), "inherited");
    bench.check_closed();
}

/// A child that outlives the program does not keep the card, whether the program exits or crashes.
#[test]
fn a_child_that_outlives_the_program_does_not_keep_the_card() {
    let Some(python) = python() else { return println!("{NO_PYTHON}") };
    for end in ["raise SystemExit(0)", "os._exit(0)", "os.kill(os.getpid(), 11)", "os.kill(os.getpid(), 9)"] {
        let bench = Bench::exclusive_memory();
        let program = format!(
            "
import os, sys
h = os.open('/dev/xdma0_h2c_0', os.O_RDWR)
os.pwrite(h, b'text', 0)
started = os.pipe()
if os.fork() == 0:
    os.write(started[1], b'x')
    sys.stdin.read()
    os._exit(0)
os.read(started[0], 1) # until then, the child may not have closed its copies of the driver's descriptors
{end}
"
        );
        let mut first = bench.command(&python);
        let mut first = first.args(["-c", &program]).stdin(Stdio::piped()).spawn().unwrap();
        // The child lives until the end of its input.
        let input = first.stdin.take();
        first.wait().unwrap();
        let text = check(bench.command("head").args(["-c", "4", "/dev/xdma0_c2h_0"]).output().unwrap());
        assert_eq!(text, "text", "{end}");
        drop(input);
    }
}

/// If processes open the card at the same time, one of them gets it. The errors of the others name it.
#[test]
fn one_of_many_openers_gets_the_card() {
    let Some(python) = python() else { return println!("{NO_PYTHON}") };
    let bench = Bench::exclusive_memory();
    let program = "
import os, time
start = os.pipe()
for number in range(8):
    if os.fork() == 0:
        os.read(start[0], 1)
        try: os.open('/dev/xdma0_h2c_0', os.O_RDWR)
        except OSError as error: assert error.errno == 16
        else: print('opened', flush=True)
        time.sleep(3)
        os._exit(0)
os.write(start[1], bytes(8))
for number in range(8): os.wait()
";
    let output = bench.command(python).args(["-c", program]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "opened\n");
    assert_eq!(text.matches("xdma: the card is in use by python").count(), 7, "{text}");
}

/// A program that inherits a file of a card in use prints nothing unless it uses the file. The error then names the owner of the card.
#[test]
fn an_inherited_file_of_another_process_is_busy() {
    let bench = Bench::exclusive_memory();
    let script = |end: &str| {
        let text = format!("exec 3>/dev/xdma0_h2c_0; echo text >&3; {end}");
        let output = bench.command("bash").args(["-c", &text]).output().unwrap();
        String::from_utf8(output.stderr).unwrap()
    };
    assert_eq!(script("ls / | cat >/dev/null"), "");
    let text = script("ls / >&3");
    assert_eq!(text.matches("the card is in use by bash").count(), 1, "{text}");
    assert!(text.contains("busy"), "{text}");
}
