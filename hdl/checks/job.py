"""Runs the commands of a check and cleans up all of their processes."""

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Time limit of a command, in seconds.
DEADLINE = 3600


class Failed(Exception):
    """A check did not pass."""


class BugFound(Failed):
    """A check ran to completion and found an error in the design."""


class Processes:
    """Runs each command in its own session, so that all processes started by it can be killed."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.sessions: set[int] = set()
        self.stopped = False

    def run(self, command: list[str], **options: Any) -> int:
        with self.lock:
            if self.stopped:
                raise Failed("interrupted")
            process = subprocess.Popen(command, start_new_session=True, stdin=subprocess.DEVNULL, **options)
            self.sessions.add(process.pid)
        try:
            return process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            raise Failed(f"{command[0]} did not finish within {DEADLINE} s") from None
        finally:
            # Also after a normal exit: a tool that crashed leaves its solver running.
            kill_session(process.pid)
            process.wait()
            with self.lock:
                self.sessions.discard(process.pid)

    def stop(self) -> None:
        with self.lock:
            self.stopped = True
            for session in self.sessions:
                kill_session(session)


def kill_session(session: int) -> None:
    """Kills all processes of a session, in any process group: SymbiYosys starts each solver in its own group."""
    while members := list(session_members(session)):
        for pid in members:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(0.01)


def session_members(session: int) -> Iterator[int]:
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            # After the name, which may contain spaces: state, parent, group, session.
            state, _, _, session_of = stat.read_text().rpartition(")")[2].split()[:4]
        except (OSError, ValueError):
            continue
        if int(session_of) == session and state not in "ZX":
            yield int(stat.parent.name)


@dataclass
class Job:
    """The context of a running check: the design, a scratch folder, the log, and a note with figures to report."""

    hdl: Path
    scratch: Path
    log: Path
    processes: Processes
    note: str = ""

    def run(self, command: list[str]) -> tuple[int, str]:
        """Runs a command in the design's folder and returns its exit status and output."""
        tool = command[0]
        if shutil.which(tool) is None:
            raise Failed(f'{tool} is missing; see "Tools" in hdl/README.md')
        with self.log.open("a+", encoding="utf-8", errors="replace") as log:
            log.write(f"$ {' '.join(command)}\n")
            log.flush()
            start = log.tell()
            status = self.processes.run(command, cwd=self.hdl, stdout=log, stderr=subprocess.STDOUT)
            log.seek(start)
            return status, log.read()

    def succeed(self, command: list[str]) -> str:
        status, text = self.run(command)
        if status != 0:
            raise Failed(f"{command[0]} exited with status {status}")
        return text


# The function that performs a check.
Body = Callable[[Job], None]


def runs(command: list[str]) -> Body:
    """Returns a check that passes if the command succeeds."""

    def body(job: Job) -> None:
        job.succeed(command)

    return body
