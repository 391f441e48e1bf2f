//! The Debian package.

use std::path::{Path, PathBuf};
use std::process::Command;
use xdma_testkit::command::Ended;

/// What the package must contain.
const FILES: [&str; 14] = [
    "usr/bin/xdma",
    "usr/bin/vfio-setup",
    "usr/lib/xdma/libxdma_preload.so",
    "usr/lib/udev/rules.d/60-xdma.rules",
    "usr/share/man/man1/xdma-bench.1.gz",
    "usr/share/man/man1/vfio-setup-bind.1.gz",
    "usr/share/bash-completion/completions/xdma",
    "usr/share/zsh/vendor-completions/_vfio-setup",
    "usr/share/fish/vendor_completions.d/xdma.fish",
    "usr/share/xdma/schemas/xdma-info.json",
    "usr/share/doc/xdma/examples/xdma-bind@.service",
    "usr/share/doc/xdma/copyright",
    "usr/share/doc/xdma/changelog.gz",
    "usr/share/xdma/schemas/vfio-setup-status.json",
];

/// Builds the package from this build of the programs, and returns its path.
fn build(out: &Path) -> PathBuf {
    let build = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().to_owned();
    let missing = "vfio-setup is not built: cargo build --package vfio-setup";
    assert!(build.join("vfio-setup").is_file(), "{missing}");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/deb.sh");
    Ended::from(Command::new(script).arg(out).arg(build).output().unwrap()).good();
    let mut packages = out.read_dir().unwrap().map(|file| file.unwrap().path());
    packages.next().expect("the script creates one file")
}

fn dpkg_deb(package: &Path, option: &str) -> Command {
    let mut command = Command::new("dpkg-deb");
    command.arg(option).arg(package);
    command
}

#[test]
fn the_programs_of_the_package_run() {
    if Command::new("dpkg-deb").arg("--version").output().is_err() {
        println!("skipped: dpkg-deb is not installed");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let package = build(&folder.path().join("out"));
    let listed = Ended::from(dpkg_deb(&package, "--contents").output().unwrap()).good();
    for file in FILES {
        assert!(listed.lines().any(|line| line.ends_with(&format!("./{file}"))), "{file}: {listed}");
    }
    assert!(listed.lines().all(|line| line.contains(" root/root ")), "{listed}");
    assert!(!listed.lines().any(|line| line.as_bytes()[8] == b'w'), "writable by everyone: {listed}");
    let root = folder.path().join("root");
    Ended::from(dpkg_deb(&package, "--extract").arg(&root).output().unwrap()).good();
    let run = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(root.join("usr/bin").join(program));
        command.args(arguments).env_remove("XDMA_CARD").env_remove("XDMA_PRELOAD").env("RUST_LOG", "off");
        Ended::from(command.output().unwrap()).good()
    };
    assert!(run("xdma", &["info", "--card", "f1"]).starts_with("emulated card"));
    // The preload library is found beside the program.
    assert_eq!(
        run("xdma", &["run", "--card", "f1", "--", "sh", "-c", "test -c /dev/xdma0_user && echo ok"]),
        "ok\n"
    );
    let version = format!("vfio-setup {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(run("vfio-setup", &["--version"]), version);
    let unit = std::fs::read_to_string(root.join("usr/share/doc/xdma/examples/xdma-bind@.service")).unwrap();
    let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/bin/vfio-setup ")).unwrap();
    let words: Vec<_> =
        start.split(' ').map(|word| if word == "%i" { "0000:3b:00.0" } else { word }).collect();
    // The command line is accepted. In an empty system, there is no such card.
    let mut command = Command::new(root.join("usr/bin/vfio-setup"));
    let ended = Ended::from(command.arg("--root").arg(folder.path()).args(words).output().unwrap());
    assert_eq!(ended.code, 3, "{}", ended.err);
}
