//! The test bench: an installation of the library, and emulated cards at sockets.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use xdma_emulated_card::emulator::logic::{Design, Logic, Loopback, Memory, MsmModelOptions};
use xdma_emulated_card::emulator::{CardFile, EmulatedCard, EmulatorOptions};

/// Directories with C programs.
pub const SOURCES: [&str; 2] = ["examples", "tests/programs"];
/// Deadline of a program. Under valgrind, the programs take a few seconds.
const DEADLINE: Duration = Duration::from_secs(180);

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// Returns whether a program is installed.
pub fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

#[derive(Clone, Copy)]
pub enum Compiler {
    Gcc,
    Clang,
    Cpp,
}

impl Compiler {
    pub fn name(self) -> &'static str {
        match self {
            Self::Gcc => "gcc",
            Self::Clang => "clang",
            Self::Cpp => "g++",
        }
    }
}

#[derive(Clone, Copy)]
pub enum Linking {
    Shared,
    Static,
}

/// An installation that the tests share, and cards of its own for each test.
pub struct Bench {
    folder: TempDir,
    cards: Vec<EmulatedCard>,
}

impl Bench {
    /// Two cards with memory, and a function reset.
    pub fn memory() -> Self {
        let options = || EmulatorOptions::default().with_function_reset(true);
        Self::with_cards([
            (options(), Arc::new(Memory::new()) as Arc<dyn Logic>),
            (options(), Arc::new(Memory::new())),
        ])
    }

    /// A card whose streams are looped back.
    pub fn streams() -> Self {
        Self::with_cards([(
            EmulatorOptions::default().with_streams(),
            Arc::new(Loopback::new()) as Arc<dyn Logic>,
        )])
    }

    /// A card with the MSM design, and one with memory.
    pub fn msm() -> Self {
        // Without the watchdog of the design, an engine that it stalls stays busy.
        let logic = Design::Msm(MsmModelOptions { watchdog: 0, ..MsmModelOptions::default() }).build();
        Self::with_cards([
            (EmulatorOptions::like(CardFile::f1()), logic),
            (EmulatorOptions::default(), Arc::new(Memory::new())),
        ])
    }

    fn with_cards<const N: usize>(cards: [(EmulatorOptions, Arc<dyn Logic>); N]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let start = |(at, (options, logic))| {
            let socket = folder.path().join(["a", "b"][at]);
            EmulatedCard::start_at(options, logic, &socket).unwrap()
        };
        let cards = cards.into_iter().enumerate().map(start).collect();
        Self { folder, cards }
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Compiles a program against the installed library, with the flags that pkg-config returns. Warnings are errors.
    pub fn compile(&self, compiler: Compiler, linking: Linking, options: &[&str], source: &str) -> PathBuf {
        let source = root().join(source);
        let program = self.folder().join(format!("program-{}", compiler.name()));
        let mut command = Command::new(compiler.name());
        match compiler {
            Compiler::Cpp => command.args(["-std=c++11"]),
            _ => command.args(["-std=c11", "-D_DEFAULT_SOURCE"]),
        };
        command
            .args(["-Wall", "-Wextra", "-Werror", "-pedantic", "-pthread"])
            .args(options)
            .arg("-o")
            .arg(&program);
        command.arg(source);
        let flags = pkg_config(linking);
        match linking {
            Linking::Shared => command.args(flags.split_whitespace()),
            // The linker prefers the shared library, so the archive is named.
            Linking::Static => command.args(flags.split_whitespace().map(|flag| match flag {
                "-lxdma" => "-l:libxdma.a",
                other => other,
            })),
        };
        check(&mut command);
        program
    }

    /// Runs a program on the cards at these sockets, and checks that it and the driver made no mistake. Returns its output.
    pub fn run(&self, program: &Path, sockets: &[&str]) -> String {
        let output = self.finish(Command::new(program).args(self.names(sockets)));
        self.check_cards();
        output
    }

    pub fn run_under_valgrind(&self, program: &Path, sockets: &[&str]) {
        let mut command = Command::new("valgrind");
        command.args([
            "--quiet",
            "--error-exitcode=99",
            "--leak-check=full",
            "--errors-for-leak-kinds=definite",
        ]);
        command
            .args(["--fair-sched=yes", "--child-silent-after-fork=yes"])
            .arg(program)
            .args(self.names(sockets));
        // Calls of each thread of `random.c`: a fifth of its default.
        self.finish(command.env("CALLS", "1000"));
        self.check_cards();
    }

    fn names(&self, sockets: &[&str]) -> Vec<String> {
        sockets.iter().map(|socket| format!("unix:{}", self.folder().join(socket).display())).collect()
    }

    fn check_cards(&self) {
        self.cards.iter().for_each(|card| assert_eq!(card.violations(), []));
    }

    fn finish(&self, command: &mut Command) -> String {
        command.env("LD_LIBRARY_PATH", prefix().join("lib"));
        let begin = Instant::now();
        let output = check(command);
        assert!(begin.elapsed() < DEADLINE, "{command:?} took {:?}", begin.elapsed());
        output
    }

    /// Runs a program in the installation directory, which must succeed. Returns its output.
    pub fn output(&self, program: &str, arguments: &[&str]) -> String {
        check(Command::new(program).args(arguments).current_dir(prefix()))
    }

    /// Runs a program in the installation directory, and returns what it printed as errors.
    pub fn errors(&self, program: &str, arguments: &[&str]) -> String {
        let output = Command::new(program).args(arguments).current_dir(prefix()).output().unwrap();
        String::from_utf8_lossy(&output.stderr).into_owned()
    }
}

fn pkg_config(linking: Linking) -> String {
    let mut command = Command::new("pkg-config");
    command.env("PKG_CONFIG_PATH", prefix().join("lib/pkgconfig")).args(["--cflags", "--libs"]);
    if matches!(linking, Linking::Static) {
        command.arg("--static");
    }
    check(command.arg("xdma"))
}

/// Installs the library, which cargo builds together with this test, and returns where.
fn prefix() -> &'static Path {
    static PREFIX: OnceLock<PathBuf> = OnceLock::new();
    PREFIX.get_or_init(|| {
        let prefix = Path::new(env!("CARGO_TARGET_TMPDIR")).join("libxdma");
        let _ = fs::remove_dir_all(&prefix);
        check(Command::new(root().join("install.sh")).arg(&prefix).arg(archive()));
        prefix
    })
}

/// Returns the newest build of the archive in the directory of this test.
fn archive() -> PathBuf {
    let directory = std::env::current_exe().unwrap().parent().unwrap().to_owned();
    let files = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let archives = files.filter(|path| {
        path.extension().is_some_and(|extension| extension == "a")
            && path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("libxdma_capi-"))
    });
    archives
        .max_by_key(|path| fs::metadata(path).unwrap().modified().unwrap())
        .expect("cargo built the archive")
}

/// Runs a command, which must succeed. Returns its output.
fn check(command: &mut Command) -> String {
    let Output { status, stdout, stderr } =
        command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{command:?}: {status}\n{stdout}{stderr}");
    stdout.into_owned()
}
