//! Counts the instructions of a case: the program runs itself under `valgrind --tool=callgrind`.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::process::{Command, Stdio};
use tempfile::NamedTempFile;

/// Environment variable with the name of the case that a program under callgrind runs.
const CASE: &str = "XDMA_BENCH_CASE";

/// Marks the code to count: callgrind counts the calls made by this function.
#[inline(never)]
pub fn measured<R>(what: impl FnOnce() -> R) -> R {
    black_box(what())
}

/// Returns the name of the case to run, if this program was started by [`count`].
pub fn wanted() -> Option<String> {
    std::env::var(CASE).ok()
}

/// Runs this program under callgrind, where [`wanted`] returns the name of the case.
///
/// # Errors
///
/// If valgrind is missing or the program fails.
pub fn count(name: &str) -> Result<Cost, String> {
    let mut program = Command::new(std::env::current_exe().map_err(|e| e.to_string())?);
    count_program(program.env(CASE, name), "*callgrind::measured*")
}

/// Runs a program under callgrind, and counts the calls made by the functions whose names match `functions`, and by those themselves.
///
/// # Errors
///
/// If valgrind is missing or the program fails.
pub fn count_program(program: &Command, functions: &str) -> Result<Cost, String> {
    let out = NamedTempFile::new().map_err(|e| e.to_string())?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--compress-strings=no", "--compress-pos=no"])
        .arg(format!("--toggle-collect={functions}"))
        .arg(format!("--callgrind-out-file={}", out.path().display()))
        .arg(program.get_program())
        .args(program.get_args())
        .envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .stdin(Stdio::null())
        .output()
        .map_err(|e| {
            format!("cannot start valgrind: {e}; install it, for example with `apt-get install valgrind`")
        })?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(Cost::parse(&std::fs::read_to_string(out.path()).map_err(|e| e.to_string())?))
}

/// The cost of a case: the library's instructions by source file, and the caller's instructions.
#[derive(Default)]
pub struct Cost {
    pub files: BTreeMap<String, u64>,
    pub caller: u64,
}

impl Cost {
    /// Parses callgrind's output. Lines with costs follow the function (`fn=`) and the file to which they belong (`fl=`, or `fi=`
    /// and `fe=` for an inlined function of another file).
    fn parse(text: &str) -> Self {
        let (mut cost, mut file, mut in_caller, mut is_call) = (Self::default(), String::new(), false, false);
        for line in text.lines() {
            match line.split_once('=') {
                Some(("fl" | "fi" | "fe", name)) => file = short(name),
                Some(("fn", name)) => in_caller = name.contains("measured"),
                // The next line is the cost of the called function, which is counted under that function.
                Some(("calls", _)) => is_call = true,
                _ if !line.starts_with(|c: char| c.is_ascii_digit()) => {}
                _ if is_call => is_call = false,
                _ => {
                    let count = line.split(' ').nth(1).and_then(|count| count.parse().ok()).unwrap_or(0);
                    let to = if in_caller {
                        &mut cost.caller
                    } else {
                        cost.files.entry(file.clone()).or_insert(0)
                    };
                    *to += count;
                }
            }
        }
        cost
    }

    /// Returns all instructions, with those of the caller.
    pub fn all(&self) -> u64 {
        self.files.values().sum::<u64>() + self.caller
    }
}

/// Returns the path of a source file without the parts that differ between machines.
fn short(path: &str) -> String {
    match path.rsplit_once("/library/") {
        Some((_, file)) => file.replace("/src", ""),
        None => path
            .rsplit_once("/src/")
            .or(path.rsplit_once("/benches/"))
            .map_or(path, |(_, file)| file)
            .to_owned(),
    }
}
