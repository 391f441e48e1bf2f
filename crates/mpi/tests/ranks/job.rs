//! A job: its command line, and how it ended.

use serde_json::Value;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Makes the marks of jobs unique.
static JOBS: AtomicU32 = AtomicU32::new(0);
/// Ends a job that hangs, and so fails its test. Far above what any job takes, since the processors can be busy with other builds.
const TIMEOUT: &str = "90";
/// Identifies the processes of a job.
const MARK: &str = "XDMA_TEST_JOB";

const PROGRAM: &str = env!("CARGO_BIN_EXE_xdma-msm-mpi");

/// Returns the program's path.
pub fn program() -> &'static Path {
    Path::new(PROGRAM)
}

/// Returns the path of the example.
pub fn example() -> PathBuf {
    let path = program().with_file_name("examples").join("sum");
    assert!(
        path.is_file(),
        "run the tests of the whole package, or `cargo build -p xdma-mpi --features mpi --examples`"
    );
    path
}

/// Returns whether `mpirun` is installed. If it is not, prints that the test skips.
pub fn can_run() -> bool {
    let found = Command::new("mpirun").arg("--version").output().is_ok_and(|output| output.status.success());
    if !found {
        println!("skipped: mpirun is not installed; run: sudo apt-get install -y openmpi-bin");
    }
    found
}

/// A job that `mpirun` starts.
pub struct Job {
    command: Command,
}

impl Job {
    /// A job of four ranks of the program, with these arguments, separated by spaces.
    pub fn new(arguments: &str) -> Self {
        Self::of_programs(&[(4, program(), arguments)])
    }

    /// A job of several programs, each with its number of ranks and its arguments.
    pub fn of_programs(programs: &[(usize, &Path, &str)]) -> Self {
        let mut job = Self::on_hosts("--oversubscribe --mca btl self,vader");
        for (index, (ranks, program, arguments)) in programs.iter().enumerate() {
            job.command.args((index > 0).then_some(":"));
            job.command.args(["-n", &ranks.to_string()]).arg(program).args(arguments.split_whitespace());
        }
        job
    }

    /// A job without its programs, with these options of `mpirun`.
    pub fn on_hosts(options: &str) -> Self {
        let mut command = Command::new("timeout");
        command.args([
            "-k",
            "5",
            TIMEOUT,
            "mpirun",
            "--allow-run-as-root",
            "--bind-to",
            "none",
            "--mca",
            "pml",
            "ob1",
        ]);
        command.args(options.split_whitespace()).env_remove("RUST_BACKTRACE");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { command }
    }

    pub fn command(&mut self) -> &mut Command {
        &mut self.command
    }

    /// Runs the job to its end.
    pub fn run(self) -> Ended {
        self.run_while(|_| ())
    }

    /// Starts the job, calls `meanwhile` with its mark, and waits for its end.
    pub fn run_while(mut self, meanwhile: impl FnOnce(&str)) -> Ended {
        let job = format!("{}.{}", std::process::id(), JOBS.fetch_add(1, Ordering::Relaxed));
        let (begin, mark) = (Instant::now(), format!("{MARK}={job}"));
        let mut child = self.command.env(MARK, job).spawn().unwrap();
        let (out, err) = (read(child.stdout.take()), read(child.stderr.take()));
        meanwhile(&mark);
        let status = child.wait().unwrap();
        let ended = Ended {
            code: status.code().expect("timeout exits by itself"),
            out: out.join().unwrap(),
            err: err.join().unwrap(),
            time: begin.elapsed(),
        };
        println!("exit code {} after {:.1?}\n{}\n{}", ended.code, ended.time, ended.out, ended.err);
        assert!(processes(&mark, None).is_empty(), "a rank is left");
        ended
    }
}

fn read(from: Option<impl Read + Send + 'static>) -> thread::JoinHandle<String> {
    let mut from = from.expect("a pipe");
    thread::spawn(move || {
        let mut bytes = vec![];
        from.read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Waits until a rank of a job has started, and returns its process.
pub fn await_rank(mark: &str, rank: usize) -> u32 {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        match processes(mark, Some(rank))[..] {
            [process, ..] => return process,
            [] => assert!(Instant::now() < end, "rank {rank} did not start"),
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Returns the processes of a job's ranks, or of one of them.
fn processes(mark: &str, rank: Option<usize>) -> Vec<u32> {
    let rank = rank.map(|rank| format!("OMPI_COMM_WORLD_RANK={rank}"));
    let is_rank = |variable: &[u8]| match &rank {
        Some(rank) => variable == rank.as_bytes(),
        None => variable.starts_with(b"OMPI_COMM_WORLD_RANK="),
    };
    let belongs = |process: &u32| {
        let environment = std::fs::read(format!("/proc/{process}/environ")).unwrap_or_default();
        let mut variables = environment.split(|byte| *byte == 0);
        variables.clone().any(|variable| variable == mark.as_bytes()) && variables.any(is_rank)
    };
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(belongs).collect()
}

/// Runs the program alone, without a launcher.
pub fn alone(program: &Path, arguments: &str, variables: &[(&str, &str)]) -> Ended {
    let mut command = Command::new("timeout");
    // `env` sets the variables, so that `timeout` is found even with an empty search path.
    command
        .args(["-k", "5", TIMEOUT, "env"])
        .args(variables.iter().map(|(name, value)| format!("{name}={value}")));
    command.arg(program).args(arguments.split_whitespace()).stdin(Stdio::null());
    let begin = Instant::now();
    let child: Child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let code = output.status.code().expect("timeout exits by itself");
    Ended { code, out: text(output.stdout), err: text(output.stderr), time: begin.elapsed() }
}

/// How a job ended.
pub struct Ended {
    pub code: i32,
    pub out: String,
    pub err: String,
    pub time: Duration,
}

impl Ended {
    /// Checks that the job succeeded, and that all sums are right. Returns the JSON object that it printed.
    #[track_caller]
    pub fn good(&self) -> Value {
        assert_eq!(self.code, 0, "{}{}", self.out, self.err);
        let output: Value = serde_json::from_str(&self.out).unwrap();
        let sums = output["sums"].as_array().unwrap();
        assert!(!sums.is_empty() && sums.iter().all(|sum| sum["verified"] == true), "{output}");
        output
    }

    /// Checks that the job failed with this exit code, printed all of `parts`, and no result.
    #[track_caller]
    pub fn bad(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, code, "{}{}", self.out, self.err);
        for part in parts {
            assert!(self.err.contains(part), "{part:?} is missing: {}", self.err);
        }
        assert!(!self.out.contains("verified"), "{}", self.out);
    }
}
