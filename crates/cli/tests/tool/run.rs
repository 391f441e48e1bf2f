//! Tests of `xdma run`.

use crate::support::{run, xdma};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use xdma_testkit::command::Ended;

/// Runs a shell script with `xdma run`. The library is in the test's directory, where cargo builds it for the tests of
/// `xdma-preload`.
fn script(options: &str, text: &str) -> Ended {
    let library = std::env::current_exe().unwrap().with_file_name("libxdma_preload.so");
    assert!(library.is_file(), "the preload library is not built: cargo build --package xdma-preload");
    let mut command = xdma(&format!("run {options} --"));
    command.args(["sh", "-c", text]).env("XDMA_PRELOAD", library).output().unwrap().into()
}

#[test]
fn the_program_uses_an_emulated_card_and_its_status_is_returned() {
    let ended = script("", "printf 'some text' >/dev/xdma0_h2c_0 && head -c 9 </dev/xdma0_c2h_0; exit 7");
    assert_eq!((ended.code, ended.out.as_str()), (7, "some text"), "{}", ended.err);
    assert!(ended.err.contains("uses an emulated card"), "{}", ended.err);
    let ended = script("--card alveo", "test -c /dev/xdma0_user; kill -9 $$");
    assert_eq!(ended.code, 128 + 9);
    assert!(!ended.err.contains("emulated"), "{}", ended.err);
}

/// Signals reach the program, which decides what happens, and the card is restored. Ignored signals stay so.
#[test]
fn signals_are_forwarded_unless_they_are_ignored() {
    for signal in ["HUP", "TERM", "USR1", "USR2"] {
        let ended = script(
            "",
            &format!(
                "trap 'echo received; kill $!; exit 5' {signal}; (sleep 0.2; kill -{signal} $PPID) & sleep 20 & wait"
            ),
        );
        assert_eq!((ended.code, ended.out.as_str()), (5, "received\n"), "{signal}: {}", ended.err);
    }
    let inner = "kill -HUP $PPID; sleep 0.3; kill -HUP $$; echo alive";
    let xdma = env!("CARGO_BIN_EXE_xdma");
    let ended = script("", &format!("trap '' HUP; {xdma} run -- sh -c '{inner}'"));
    assert_eq!((ended.code, ended.out.as_str()), (0, "alive\n"), "{}", ended.err);
}

#[test]
fn the_directory_of_a_killed_run_is_removed_by_the_next_one() {
    let parent = tempfile::tempdir().unwrap();
    let script = |text: &str| {
        let library = std::env::current_exe().unwrap().with_file_name("libxdma_preload.so");
        let mut command = xdma("run --");
        command.args(["sh", "-c", text]).env("XDMA_PRELOAD", library).env("TMPDIR", parent.path());
        command.output().unwrap()
    };
    let folders = || parent.path().read_dir().unwrap().count();
    let killed = script("kill -9 $PPID");
    assert_eq!((killed.status.signal(), folders()), (Some(9), 1));
    let inner = format!("{} run -- true; ls \"$TMPDIR\" | wc -l", env!("CARGO_BIN_EXE_xdma"));
    let ended = Ended::from(script(&inner));
    assert_eq!(ended.out.trim(), "1", "only that of the running command: {}", ended.err);
    assert_eq!(folders(), 0);
}

#[test]
fn a_missing_temporary_directory_is_reported() {
    let parent = tempfile::tempdir().unwrap();
    let missing = parent.path().join("missing");
    let library = std::env::current_exe().unwrap().with_file_name("libxdma_preload.so");
    let mut command = xdma("run -- true");
    let ended = Ended::from(command.env("XDMA_PRELOAD", library).env("TMPDIR", &missing).output().unwrap());
    assert_eq!(ended.code, 1, "{}", ended.err);
    let cause = format!("cannot create a temporary directory in {}: No such file", missing.display());
    for expected in [cause.as_str(), "; set TMPDIR to a directory that exists"] {
        assert!(ended.err.contains(expected), "{}", ended.err);
    }
}

#[test]
fn unsupported_programs_are_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |path: &Path| {
        let ended = run(&format!("run -- {}", path.display()));
        assert_eq!(ended.code, 2, "{}", ended.err);
        ended.err
    };
    let program = folder.path().join("program");
    let mut elf = [0; 64];
    elf[..5].copy_from_slice(b"\x7fELF\x02");
    fs::write(&program, elf).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    assert!(refused(&program).contains("statically linked"));
    fs::write(&program, [&elf[..], b"\xff Go buildinf:"].concat()).unwrap();
    assert!(refused(&program).contains("Go program"));
    assert!(refused(Path::new("no-such-program")).contains("it is not in any directory in PATH"));
}

#[test]
fn the_calls_of_all_processes_are_explained() {
    let ended = script(
        "--explain",
        "printf text >/dev/xdma0_h2c_1; head -c 4 /dev/xdma0_c2h_1
         dd if=/dev/zero of=/dev/xdma0_h2c_0 bs=4096 count=3 conv=notrunc
         dd if=/dev/xdma0_user bs=2 count=1
         (echo more >/dev/xdma0_h2c_2; kill -9 $$)",
    );
    assert_eq!((ended.code, ended.out.as_str()), (128 + 9, "text"), "{}", ended.err);
    let has = |words: &[&str]| {
        ended.err.lines().any(|line| {
            let found: Vec<_> = line.split_whitespace().collect();
            // The second word is the process ID.
            found.len() > 2 && [&found[..1], &found[2..]].concat() == words
        })
    };
    for row in [
        &["sh", "h2c_1", "open", "1", "0"][..],
        &["sh", "h2c_1", "write", "1", "4"],
        &["head", "c2h_1", "read", "1", "4"],
        &["dd", "h2c_0", "write", "3", "12288"],
        &["dd", "user", "read", "1", "0", "EINVAL", "1"],
        // The process was killed.
        &["sh", "h2c_2", "write", "1", "5"],
    ] {
        assert!(has(row), "{row:?}\n{}", ended.err);
    }
    let ended = script("--explain --exclusive", "head -c 4 /dev/xdma0_c2h_1 | wc -c");
    assert!(ended.err.contains("head (") && ended.out == "4\n", "{}", ended.err);
    let ended = script("--explain", "true");
    assert!(ended.err.contains("no program called a function on a device file"), "{}", ended.err);
}

#[test]
fn what_is_not_supported_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("static");
    let mut elf = [0; 64];
    elf[..5].copy_from_slice(b"\x7fELF\x02");
    fs::write(&program, elf).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    for copy in ["execl", "execlp", "execle", "fexecve"] {
        fs::copy(&program, folder.path().join(copy)).unwrap();
    }
    let python = "import ctypes, fcntl, mmap, os
f = os.open('/dev/xdma0_h2c_0', os.O_RDWR)
u = os.open('/dev/xdma0_user', os.O_RDWR)
for call in (lambda: fcntl.ioctl(f, 0x7177), lambda: mmap.mmap(u, 4096), lambda: os.sendfile(f, u, None, 4)):
    try: call()
    except OSError: pass
    else: raise SystemExit(1)
library = ctypes.CDLL(None)
library.syscall(425, 1, 0)
request = ctypes.create_string_buffer(f.to_bytes(4, 'little'), 256)
assert library.lio_listio(0, (ctypes.c_void_p * 2)(None, ctypes.addressof(request)), 2, None) == -1
library.fopen.restype = library.freopen.restype = ctypes.c_void_p
stream = ctypes.c_void_p(library.fopen(b'/dev/null', b'w'))
assert not library.freopen(b'/dev/xdma0_h2c_0', b'w', stream)
text, end = (lambda name: ctypes.c_char_p(name.encode())), ctypes.c_void_p(None)
arguments = [text(str(number)) for number in range(9)]
# None of these programs can be started. `execlp` then starts a shell.
assert library.execl(text('./execl'), *arguments, end) == -1
if os.fork() == 0: os._exit(library.execlp(text('./execlp'), text('execlp'), end))
os.wait()
empty = (ctypes.c_void_p * 1)(None)
assert library.execle(text('./execle'), *arguments, end, empty) == -1
assert library.fexecve(os.open('fexecve', os.O_RDONLY), empty, empty) == -1
";
    let file = folder.path().join("program.py");
    fs::write(&file, python).unwrap();
    let ended = script(
        "--explain",
        &format!(
            "test -e /dev/xdma0_xvc; {} 2>/dev/null; env -i true; cd {}; python3 {}",
            program.display(),
            folder.path().display(),
            file.display()
        ),
    );
    assert_eq!(ended.code, 0, "{}", ended.err);
    for text in [
        "/dev/xdma0_xvc is not a device file",
        "static, which is statically linked",
        "started ./execl, which is statically linked",
        "started ./execlp, which is statically linked",
        "started ./execle in an environment whose LD_PRELOAD lacks",
        "/fexecve in an environment whose LD_PRELOAD lacks",
        "ioctl 0x7177 on h2c_0 is unknown",
        "mmap of user needs vfio-pci",
        "sendfile on ",
        "uses io_uring",
        "lio_listio on h2c_0 is not supported",
        "freopen of h2c_0 supports only standard streams",
        "env started true in an environment whose LD_PRELOAD lacks this library",
    ] {
        assert!(ended.err.contains(text), "{text}\n{}", ended.err);
    }
}
