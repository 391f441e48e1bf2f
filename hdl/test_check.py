"""Unit tests of `check.py`: parsing of tool output and source files, and process handling."""

import subprocess
import sys
import unittest
from pathlib import Path
from tempfile import TemporaryDirectory

from checks.job import Failed, Job, Processes, session_members
from checks.parts import FLIP_FLOPS, LUTS, cells, is_long, tasks, verdict
from checks.sources import parameters


class Reading(unittest.TestCase):
    def test_tasks_and_verdicts_are_found(self) -> None:
        self.assertEqual(tasks("# x\n[tasks]\na_prove  a prove\nb_bmc b\n\n[options]\n"), ["a_prove", "b_bmc"])
        self.assertEqual(tasks("[options]\n"), [])
        text = "SBY 1 [x/proof_a_prove] DONE (PASS, rc=0)\nSBY 2 [x/proof_b_bmc] DONE (FAIL, rc=2)\n"
        self.assertEqual(verdict(text, "a_prove"), "PASS")
        self.assertEqual(verdict(text, "b_bmc"), "FAIL")
        self.assertIsNone(verdict(text, "c"))

    def test_covers_and_deep_proofs_are_long(self) -> None:
        self.assertEqual([is_long(task) for task in ["a_cover", "a_deep", "a_bmc", "a_prove"]], [True, True, False, False])

    def test_cells_are_counted_over_the_whole_hierarchy(self) -> None:
        old = (
            "Number of cells: 9\n DSP48E2 150\n=== design hierarchy ===\nNumber of cells: 7\n  DSP48E2   3\n"
            "  $dff_8   2\n  $sdffe_1  4\n  $add_8 9\n"
        )
        new = "150 DSP48E2\n=== design hierarchy ===\n  18 cells\n  3   DSP48E2\n 2 $dff_8\n 4 $sdffe_1\n 9 $add_8\n"
        for stat in [old, new]:
            self.assertEqual(cells(stat, "DSP48E2"), 3)
            self.assertEqual(cells(stat, FLIP_FLOPS), 20)
            self.assertEqual(cells(stat, "RAMB18E2"), 0)
        mapped = "=== design hierarchy ===\n 3 LUT6\n 2 INV\n 2 RAM64M8\n 1 SRL16E\n 5 FDRE\n 4 FDSE\n 7 RAMB18E2\n 9 MUXF7\n"
        self.assertEqual([cells(mapped, kind) for kind in [LUTS, FLIP_FLOPS, "RAMB18E2"]], [22, 9, 7])

    def test_localparams_are_not_parameters(self) -> None:
        text = (
            "// module x #(\nmodule a #(\n    parameter  int W = 8,\n    // Even.\n    parameter logic [7:0] M = p::P,\n"
            "    parameter bit S = 1'b0,\n    localparam int L = W\n) (\n    input wire c\n);\n  b #(\n      .W(W)\n  ) u ();\n"
        )
        self.assertEqual(parameters(text), ("a", ["W", "M", "S"]))
        self.assertIsNone(parameters("module a (\n    input wire c\n);\n  b #(\n      .W(1)\n  ) u ();\n"))


class Running(unittest.TestCase):
    def job(self, folder: str, processes: Processes) -> Job:
        return Job(Path(folder), Path(folder), Path(folder) / "log", processes)

    def test_a_missing_tool_is_named(self) -> None:
        with TemporaryDirectory() as folder, self.assertRaisesRegex(Failed, "no-such-tool is missing; see .*README"):
            self.job(folder, Processes()).run(["no-such-tool"])

    def test_run_returns_only_its_own_output(self) -> None:
        with TemporaryDirectory() as folder:
            job = self.job(folder, Processes())
            self.assertEqual(job.run(["echo", "one"]), (0, "one\n"))
            self.assertEqual(job.run(["sh", "-c", "echo two; exit 3"]), (3, "two\n"))

    def test_no_process_is_left_behind(self) -> None:
        # The parent exits and leaves a child in its own process group, as SymbiYosys does when killed.
        child = "import os, time; os.setpgid(0, 0); time.sleep(60)"
        script = f"import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', {child!r}]).pid)"
        with TemporaryDirectory() as folder:
            _, text = self.job(folder, Processes()).run([sys.executable, "-c", script])
            self.assertFalse(Path(f"/proc/{int(text)}/cmdline").exists() and Path(f"/proc/{int(text)}/cmdline").read_bytes())

    def test_a_stopped_run_starts_no_process(self) -> None:
        processes = Processes()
        processes.stop()
        with TemporaryDirectory() as folder, self.assertRaisesRegex(Failed, "interrupted"):
            self.job(folder, processes).run(["true"])

    def test_members_of_a_session_are_found(self) -> None:
        with subprocess.Popen(["sleep", "60"], start_new_session=True) as process:
            self.assertEqual(list(session_members(process.pid)), [process.pid])
            process.kill()


if __name__ == "__main__":
    unittest.main()
