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
        .args(["--tool=callgrind", "--dump-instr=yes", "--compress-strings=no", "--compress-pos=no"])
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
    let counted = Counted::parse(&std::fs::read_to_string(out.path()).map_err(|e| e.to_string())?);
    counted.by_file()
}

/// The cost of a case: the library's instructions by source file, and the caller's instructions.
#[derive(Default)]
pub struct Cost {
    pub files: BTreeMap<String, u64>,
    pub caller: u64,
}

impl Cost {
    /// Returns all instructions, with those of the caller.
    pub fn all(&self) -> u64 {
        self.files.values().sum::<u64>() + self.caller
    }
}

/// How often each instruction was executed: the library's by object file and address, and the total of the caller's.
#[derive(Default)]
struct Counted {
    objects: BTreeMap<String, BTreeMap<String, u64>>,
    caller: u64,
}

impl Counted {
    /// Parses callgrind's output. Lines with costs follow the object (`ob=`) and the function (`fn=`) to which they belong.
    fn parse(text: &str) -> Self {
        let (mut counted, mut object, mut in_caller, mut is_call) =
            (Self::default(), String::new(), false, false);
        for line in text.lines() {
            match line.split_once('=') {
                Some(("ob", name)) => object = name.to_owned(),
                Some(("fn", name)) => in_caller = name.contains("measured"),
                // The next line is the cost of the called function, which is counted under that function.
                Some(("calls", _)) => is_call = true,
                _ if !line.starts_with("0x") => {}
                _ if is_call => is_call = false,
                _ => counted.add(&object, line, in_caller),
            }
        }
        counted
    }

    /// Adds a line: address, line in the source, count.
    fn add(&mut self, object: &str, line: &str, in_caller: bool) {
        let mut fields = line.split(' ');
        let (Some(address), Some(count)) = (fields.next(), fields.nth(1)) else { return };
        let count: u64 = count.parse().unwrap_or(0);
        if in_caller {
            self.caller += count;
        } else {
            let addresses = self.objects.entry(object.to_owned()).or_default();
            *addresses.entry(address.to_owned()).or_insert(0) += count;
        }
    }

    fn by_file(&self) -> Result<Cost, String> {
        let mut cost = Cost { caller: self.caller, ..Cost::default() };
        for (object, addresses) in &self.objects {
            let files = files(object, addresses.keys())?;
            for (address, count) in addresses {
                let file = files.get(address).cloned().unwrap_or_else(|| "outside the library".to_owned());
                *cost.files.entry(file).or_insert(0) += count;
            }
        }
        Ok(cost)
    }
}

/// Returns the source file of each address: that of the innermost inlined function which is not of the standard library, so that
/// an atomic operation counts for the file that asked for it.
fn files<'a>(
    object: &str,
    addresses: impl Iterator<Item = &'a String>,
) -> Result<BTreeMap<String, String>, String> {
    let output = Command::new("addr2line")
        .args(["--addresses", "--inlines", "--exe", object])
        .args(addresses)
        .output()
        .map_err(|e| {
            format!("cannot start addr2line: {e}; install it, for example with `apt-get install binutils`")
        })?;
    let (mut files, mut address) = (BTreeMap::new(), String::new());
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        match line.strip_prefix("0x") {
            Some(digits) => address = format!("0x{}", digits.trim_start_matches('0')),
            None if line.starts_with('?') || line.contains("/library/") => {}
            None => {
                let file = short(line.split(':').next().unwrap_or(line));
                files.entry(address.clone()).or_insert(file);
            }
        }
    }
    Ok(files)
}

/// Returns the path of a source file without the parts that differ between machines.
fn short(path: &str) -> String {
    path.rsplit_once("/src/").or(path.rsplit_once("/benches/")).map_or(path, |(_, file)| file).to_owned()
}
