//! Two "hosts" on one machine. Instead of ssh, a script starts the second daemon under another host name, and the ranks of different
//! hosts exchange messages over TCP.

use crate::job::{Job, can_run, program};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// Called like ssh: options, the host, and a command.
const AGENT: &str = "#!/bin/sh\n\
    while [ \"${1#-}\" != \"$1\" ]; do shift; done\n\
    host=$1; shift\n\
    exec unshare --uts sh -c \"hostname $host; $*\"\n";

/// Returns a job on two hosts with two ranks each.
fn job(directory: &Path, arguments: &str) -> Job {
    let agent = directory.join("agent");
    fs::write(&agent, AGENT).unwrap();
    fs::set_permissions(&agent, fs::Permissions::from_mode(0o755)).unwrap();
    let mut job = Job::on_hosts("--mca btl self,vader,tcp --host nodea:2,nodeb:2");
    let command = job.command();
    command.env("OMPI_MCA_plm_rsh_agent", agent).env("OMPI_MCA_plm_rsh_no_tree_spawn", "1");
    command.env("OMPI_MCA_oob_tcp_if_include", "lo").env("OMPI_MCA_btl_tcp_if_include", "lo");
    // Four ranks share two processors, which `mpirun` does not notice.
    command.env("OMPI_MCA_mpi_yield_when_idle", "1");
    command.arg(program()).args(arguments.split_whitespace());
    job
}

fn can_name_hosts() -> bool {
    let can_unshare =
        Command::new("unshare").args(["--uts", "true"]).status().is_ok_and(|status| status.success());
    if !can_unshare {
        println!(
            "skipped: `unshare --uts` is not permitted, which gives the second host its name; run as root"
        );
    }
    can_unshare
}

#[test]
fn two_hosts_compute_a_sum() {
    if !can_run() || !can_name_hosts() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let output = job(directory.path(), "--json --cards 2 --pairs 2^16 --min-part 2^12").run().good();
    let ranks = output["sums"][0]["ranks"].as_array().unwrap();
    let hosts: BTreeSet<_> = ranks.iter().map(|rank| rank["host"].as_str().unwrap()).collect();
    assert_eq!(hosts, BTreeSet::from(["nodea", "nodeb"]));
}

#[test]
fn a_failure_on_another_host_names_the_host() {
    if !can_run() || !can_name_hosts() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let arguments = "--pairs 2^12 --deadline 2 --fault 3";
    job(directory.path(), &format!("{arguments}:card-gone"))
        .run()
        .bad(70, &["rank 3 (host nodeb)", "the card is gone"]);
    job(directory.path(), &format!("{arguments}:stop"))
        .run()
        .bad(75, &["no answer from rank 3 (host nodeb)"]);
    job(directory.path(), &format!("{arguments}:kill")).run().bad(137, &["process rank 3 ", "on node nodeb"]);
}
