"""Running the commands of a check, and leaving none behind."""

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

# No command takes longer than this, in seconds.
DEADLINE = 3600


class Failed(Exception):
    """A check did not pass."""


class Caught(Failed):
    """A check ran to its end and found an error in the design."""


class Processes:
    """Runs commands, each in a session of its own, so that all that it started can be killed."""

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
            raise Failed(f"{command[0]} did not end within {DEADLINE} s") from None
        finally:
            # Also after the end: a tool that crashed leaves its solver behind.
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
    """Kills all processes of a session, whatever their group: SymbiYosys gives each solver a group of its own."""
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
            # After the name, which may hold blanks: state, parent, group, session.
            state, _, _, of = stat.read_text().rpartition(")")[2].split()[:4]
        except (OSError, ValueError):
            continue
        if int(of) == session and state not in "ZX":
            yield int(stat.parent.name)


@dataclass
class Job:
    """What a running check has: the design, a folder of its own, its log, and the figures that it reports."""

    hdl: Path
    scratch: Path
    log: Path
    processes: Processes
    note: str = ""

    def run(self, command: list[str]) -> tuple[int, str]:
        """Exit status and output of a command in the design's folder."""
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
            raise Failed(f"{command[0]} ended with status {status}")
        return text


# What a check does with its job.
Body = Callable[[Job], None]


def runs(command: list[str]) -> Body:
    """A check that passes if a command does."""

    def body(job: Job) -> None:
        job.succeed(command)

    return body
