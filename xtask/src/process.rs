//! Child processes. Each has a deadline, and is killed with this process.

use anyhow::{Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::process::{Child, ExitStatus, exit};
use std::time::{Duration, Instant};

/// Time limit for a command. The longest is `hdl/check.py --all`: its parts take 24 minutes in the table of `hdl/README.md`.
const DEADLINE: Duration = Duration::from_secs(45 * 60);
/// How often a waiting command reports progress.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(15);

/// Kills all descendants on Ctrl-C, SIGTERM or SIGHUP, since `cargo` does not forward signals to the tests that it runs.
pub fn kill_descendants_when_interrupted() -> Result<()> {
    Ok(ctrlc::set_handler(|| {
        descendants(std::process::id()).into_iter().for_each(kill);
        // A shell's exit status for Ctrl-C.
        exit(130);
    })?)
}

/// Waits for `child` to exit, and kills it at the deadline. Calls `progress` at intervals.
pub fn wait(child: &mut Child, mut progress: impl FnMut()) -> Result<ExitStatus> {
    let start = Instant::now();
    let mut reported = start;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if start.elapsed() > DEADLINE {
            kill_tree(child)?;
            bail!("killed after {}", crate::table::duration(DEADLINE));
        }
        if reported.elapsed() > PROGRESS_INTERVAL {
            reported = Instant::now();
            progress();
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn kill_tree(child: &mut Child) -> Result<()> {
    let descendants = descendants(child.id());
    child.kill()?;
    descendants.into_iter().for_each(kill);
    child.wait()?;
    Ok(())
}

fn kill(process: u32) {
    let pid = Pid::from_raw(process as i32);
    // It may already have exited.
    let _ = pid.map(|pid| kill_process(pid, Signal::KILL));
}

/// Returns all descendants of a process.
fn descendants(process: u32) -> Vec<u32> {
    let mut found = children(process);
    found.extend(found.clone().into_iter().flat_map(descendants));
    found
}

fn children(process: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists.collect::<String>().split_whitespace().filter_map(|process| process.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;
    use std::process::Command;

    #[test]
    fn a_process_is_killed_with_its_children() {
        let mut child = Command::new("sh").args(["-c", "sleep 1000 & wait"]).spawn().unwrap();
        let grandchild = loop {
            if let [grandchild] = descendants(child.id())[..] {
                break PathBuf::from(format!("/proc/{grandchild}"));
            }
        };
        kill_tree(&mut child).unwrap();
        let is_running =
            || fs::read_to_string(grandchild.join("stat")).is_ok_and(|stat| !stat.contains(") Z "));
        let deadline = Instant::now() + Duration::from_secs(10);
        while is_running() {
            assert!(Instant::now() < deadline, "{} outlived its parent", grandchild.display());
        }
    }
}
