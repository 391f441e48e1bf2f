//! Failures of ranks. Rank 2 fails, mostly while its cards compute and the other ranks wait for it.

use crate::job::{Job, alone, await_rank, can_run, program};
use std::process::Command;
use std::thread;
use std::time::Duration;

const SIZE: &str = "--cards 2 --pairs 2^14 --min-part 2^10";
/// Nothing but the test's own timeout is longer than this.
const SOON: Duration = Duration::from_secs(30);

#[test]
fn a_killed_rank_ends_the_job_and_is_named() {
    if can_run() {
        let ended = Job::new(&format!("{SIZE} --fault 2:kill")).run();
        ended.bad(137, &["process rank 2 ", "exited on signal 9"]);
        assert!(ended.time < SOON);
    }
}

#[test]
fn a_rank_killed_from_outside_at_any_time_ends_the_job() {
    if !can_run() {
        return;
    }
    for milliseconds in [400, 1200] {
        // Enough sums that the job would take minutes.
        let ended = Job::new(&format!("{SIZE} --no-compare --jobs 1000")).run_while(|mark| {
            let process = await_rank(mark, 2);
            thread::sleep(Duration::from_millis(milliseconds));
            assert!(Command::new("kill").args(["-9", &process.to_string()]).status().unwrap().success());
        });
        ended.bad(137, &["process rank 2 ", "exited on signal 9"]);
        assert!(ended.out.is_empty(), "{}", ended.out);
    }
}

#[test]
fn a_rank_that_hangs_is_named_at_the_deadline() {
    if can_run() {
        let ended = Job::new(&format!("{SIZE} --deadline 4 --fault 2:stop")).run();
        ended.bad(75, &["for the parts of the sum: no answer from rank 2 (host ", "without a result"]);
        assert!(!ended.err.contains("rank 1 (") && !ended.err.contains("rank 3 ("), "{}", ended.err);
        assert!(ended.time < SOON);
    }
}

#[test]
fn a_waiting_rank_leaves_the_processor_to_others() {
    if !can_run() {
        return;
    }
    let ended = Job::new(&format!("{SIZE} --deadline 5 --fault 2:stop")).run_while(|mark| {
        let process = await_rank(mark, 0);
        // The root's cards have finished by then, and it waits for the part of rank 2.
        thread::sleep(Duration::from_secs(4));
        let before = processor_time(process);
        thread::sleep(Duration::from_secs(2));
        let used = processor_time(process) - before;
        assert!(used < Duration::from_millis(300), "{used:?} of two seconds");
    });
    ended.bad(75, &["no answer from rank 2"]);
}

/// Returns the processor time that a process has used, in steps of 10 ms.
fn processor_time(process: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    // User and system time are the 14th and 15th field; the second one, in parentheses, can contain spaces.
    let fields = stat.rsplit_once(')').unwrap().1.split_whitespace().skip(11).take(2);
    Duration::from_millis(fields.map(|ticks| 10 * ticks.parse::<u64>().unwrap()).sum())
}

#[test]
fn a_root_that_hangs_is_named_by_a_worker() {
    if can_run() {
        let ended = Job::new(&format!("{SIZE} --deadline 2 --idle-limit 1 --fault 0:stop")).run();
        ended.bad(76, &["no answer from the root, rank 0"]);
        assert!(ended.time < SOON);
    }
}

#[test]
fn ranks_with_different_bases_are_named() {
    if can_run() {
        let own = "--pairs 2^12 --own-bases";
        let other = format!("{own} --seed 7");
        let job = Job::of_programs(&[(2, program(), own), (1, program(), &other), (1, program(), own)]);
        job.run().bad(73, &["rank 2 (host ", "has other bases than the root"]);
    }
}

#[test]
fn a_rank_with_fewer_bases_is_named() {
    if can_run() {
        let job = Job::of_programs(&[
            (1, program(), "--pairs 2^12 --own-bases"),
            (1, program(), "--pairs 2^11 --own-bases"),
        ]);
        job.run().bad(73, &["rank 1 (host ", "has other bases than the root"]);
    }
}

#[test]
fn a_panic_ends_the_job() {
    if !can_run() {
        return;
    }
    for (fault, rank) in [
        ("2:panic", "rank 2 panicked"),
        ("2:thread-panic", "rank 2 panicked"),
        ("0:panic", "rank 0 panicked"),
    ] {
        let ended = Job::new(&format!("{SIZE} --fault {fault}")).run();
        ended.bad(101, &[rank, "without a result"]);
        assert!(ended.time < SOON);
    }
}

#[test]
fn an_early_return_ends_the_job() {
    if can_run() {
        let ended = Job::new(&format!("{SIZE} --fault 2:return")).run();
        ended.bad(71, &["rank 2 (host ", "its program returned before the end of the job"]);
        assert!(ended.time < SOON);
    }
}

#[test]
fn an_early_exit_ends_the_job() {
    if can_run() {
        let ended = Job::new(&format!("{SIZE} --fault 2:exit")).run();
        ended.bad(1, &["process rank 2 "]);
        assert!(ended.time < SOON);
    }
}

#[test]
fn cards_that_do_not_get_the_bases_in_time_end_the_job() {
    if can_run() {
        let arguments = "--pairs 2^15 --check --load-deadline 0.5";
        let ended = Job::of_programs(&[(2, program(), arguments)]).run();
        ended.bad(70, &["(host ", "for its cards to get the bases"]);
    }
}

#[test]
fn a_card_that_cannot_be_opened_ends_the_job() {
    if can_run() {
        let missing = "--pairs 2^10 --card unix:/nonexistent/card";
        let ended = Job::of_programs(&[(1, program(), "--pairs 2^10"), (1, program(), missing)]).run();
        ended.bad(70, &["rank 1 (host ", "unix:/nonexistent/card"]);
    }
}

/// As if a program built with one MPI library were started by the launcher of another: each process is alone.
#[test]
fn processes_that_do_not_see_each_other_are_an_error() {
    if can_run() {
        let ended = alone(program(), "--pairs 2^10", &[("OMPI_COMM_WORLD_SIZE", "4")]);
        ended.bad(72, &["started 4 processes, but MPI sees 1"]);
    }
}
