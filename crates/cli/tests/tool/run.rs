//! Tests of `xdma run`.

use crate::support::{run, xdma};
use std::fs;
use std::os::unix::fs::PermissionsExt;
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
    assert!(refused(Path::new("no-such-program")).contains("not in the search path"));
}
