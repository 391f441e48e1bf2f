"""The exceptions of the package. Each class has a remedy, and some classes are also built-in exceptions."""

from __future__ import annotations

import builtins
import enum


class Remedy(enum.StrEnum):
    """What to do about an error, for programs that react automatically."""

    CORRECT = "correct"
    TRY_AGAIN = "try again"
    WAIT_AGAIN = "wait again"
    RECOVER = "recover"
    RESET = "reset"
    REOPEN = "reopen"
    CLOSE = "close"
    PREPARE_HOST = "prepare host"
    UNSUPPORTED = "unsupported"

    @property
    def advice(self) -> str:
        """The remedy in one sentence."""
        return _ADVICE[self]


_ADVICE = {
    Remedy.CORRECT: "Correct the call; repeating it fails again.",
    Remedy.TRY_AGAIN: "Wait for earlier work, or close what is in use, then try again.",
    Remedy.WAIT_AGAIN: "The work is still in flight: wait again, or stop the channel.",
    Remedy.RECOVER: "The work was lost: recover the channel, receiver or MSM client, then submit the work again.",
    Remedy.RESET: "An engine does not stop: reset the card.",
    Remedy.REOPEN: "Close the card, and open it again once it is available.",
    Remedy.CLOSE: "The kernel is taking the card away: close it.",
    Remedy.PREPARE_HOST: "Prepare the host; `vfio-setup doctor` lists what is missing.",
    Remedy.UNSUPPORTED: "Use other options, or another card.",
}


class Error(Exception):
    """The base class of all exceptions of the package."""

    remedy: Remedy = Remedy.CORRECT
    """What to do about it, for programs."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause
        """The cause, and the remedy in detail, for people."""

    @property
    def advice(self) -> str:
        """The remedy in one sentence."""
        return self.remedy.advice

    def __str__(self) -> str:
        return self.cause


class ArgumentError(Error, ValueError):
    """The request is invalid: a value is out of range, or an object belongs to another card or is for the other direction."""

    remedy = Remedy.CORRECT


class ClosedError(ArgumentError):
    """The object was closed, or its card was."""


class ForkedError(Error, RuntimeError):
    """The object belongs to the process from which this one was forked."""

    remedy = Remedy.REOPEN


class BusyError(Error):
    """Something is in use or full, and nothing was started."""

    remedy = Remedy.TRY_AGAIN


class BufferError(BusyError, builtins.BufferError):
    """The buffer has views, so it cannot be closed."""


class TimeoutError(Error, builtins.TimeoutError):
    """The time limit expired. The work is still in flight."""

    remedy = Remedy.WAIT_AGAIN


class EngineError(Error):
    """The engine failed, or was stopped or reset. Work in flight is lost."""

    remedy = Remedy.RECOVER


class HungError(Error):
    """An engine does not become idle. Memory in flight stays allocated."""

    remedy = Remedy.RESET


class GoneError(Error, ConnectionError):
    """The card cannot be reached."""

    remedy = Remedy.REOPEN


class RecalledError(Error):
    """The kernel is taking the card away."""

    remedy = Remedy.CLOSE


class HostError(Error, OSError):
    """The host is not prepared, for example because the card is bound to another driver."""

    remedy = Remedy.PREPARE_HOST


class NotFoundError(HostError, FileNotFoundError):
    """There is no card of this name."""


class PermissionError(HostError, builtins.PermissionError):
    """This user lacks a permission."""


class MemoryError(HostError, builtins.MemoryError):
    """Memory could not be allocated or mapped."""


class UnsupportedError(Error):
    """The card does not have what was requested."""

    remedy = Remedy.UNSUPPORTED
