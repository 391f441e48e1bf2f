//! Two "hosts" on one machine. Instead of ssh, a script starts the second daemon under another host name, and the ranks of different
//! hosts exchange messages over TCP.

use crate::job::{Job, can_run, program};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// Returns a script that is called like ssh: with options, the host, and a command. `unshare` gives that host its name.
fn agent(unshare: &str) -> String {
    format!(
        "#!/bin/sh\n\
         while [ \"${{1#-}}\" != \"$1\" ]; do shift; done\n\
         host=$1; shift\n\
         exec unshare {unshare} sh -c \"hostname $host; $*\"\n"
    )
}

/// Returns a job on two hosts with two ranks each.
fn job(unshare: &str, directory: &Path, arguments: &str) -> Job {
    let script = agent(unshare);
    let agent = directory.join("agent");
    fs::write(&agent, script).unwrap();
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

/// Returns the options with which this user may start a process under another host name. Without any, prints that the test skips.
fn naming_options() -> Option<&'static str> {
    if !can_run() {
        return None;
    }
    let is_permitted = |options: &&str| {
        let status =
            Command::new("unshare").args(options.split(' ')).arg("true").stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    };
    let found = ["--uts", "--user --map-root-user --uts"].into_iter().find(is_permitted);
    if found.is_none() {
        println!(
            "skipped: `unshare --user --uts` is not permitted, which gives the second host its name; run as root"
        );
    }
    found
}

#[test]
fn two_hosts_compute_a_sum() {
    let Some(unshare) = naming_options() else { return };
    let directory = tempfile::tempdir().unwrap();
    let output = job(unshare, directory.path(), "--json --cards 2 --pairs 2^16 --min-part 2^12").run().good();
    let ranks = output["sums"][0]["ranks"].as_array().unwrap();
    let hosts: BTreeSet<_> = ranks.iter().map(|rank| rank["host"].as_str().unwrap()).collect();
    assert_eq!(hosts, BTreeSet::from(["nodea", "nodeb"]));
}

#[test]
fn a_failure_on_another_host_names_the_host() {
    let Some(unshare) = naming_options() else { return };
    let directory = tempfile::tempdir().unwrap();
    let arguments = "--pairs 2^12 --deadline 2 --fault 3";
    job(unshare, directory.path(), &format!("{arguments}:card-gone"))
        .run()
        .bad(70, &["rank 3 (host nodeb)", "the card is gone"]);
    job(unshare, directory.path(), &format!("{arguments}:stop"))
        .run()
        .bad(75, &["no answer from rank 3 (host nodeb)"]);
    job(unshare, directory.path(), &format!("{arguments}:kill"))
        .run()
        .bad(137, &["process rank 3 ", "on node nodeb"]);
}
