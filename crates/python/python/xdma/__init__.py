"""A userspace driver for Xilinx XDMA cards over VFIO, with an emulated card.

>>> import xdma
>>> with xdma.Card.emulate(logic="memory") as card, card.h2c() as h2c, card.c2h() as c2h:
...     source, sink = card.allocate(4096, xdma.H2C), card.allocate(4096, xdma.C2H)
...     source.write(b"hello")
...     h2c.transfer(source, 0x1000)  # to card address 0x1000
...     c2h.transfer(sink, 0x1000)  # and back
...     print(sink.read(0, 5))
b'hello'

Sizes and offsets are in bytes, times in seconds. Every wait has a time limit, releases the GIL, and ends with KeyboardInterrupt on Ctrl-C.
The package's exceptions derive from xdma.Error; an argument of the wrong type raises TypeError, and a negative or too large number
OverflowError. The package has run on emulated cards only, never on silicon: Card.emulated says whether a card is emulated.
"""

import atexit as _atexit
import os as _os

from ._errors import (
    ArgumentError,
    BufferError,
    BusyError,
    ClosedError,
    EngineError,
    Error,
    ForkedError,
    GoneError,
    HostError,
    HungError,
    MemoryError,
    NotFoundError,
    PermissionError,
    RecalledError,
    Remedy,
    TimeoutError,
    UnsupportedError,
)
from ._xdma import (
    VERSION as __version__,
    Buffer,
    Card,
    CardInfo,
    Channel,
    ChannelStats,
    Direction,
    Interrupt,
    Job,
    JobTicket,
    Msm,
    MsmDesign,
    MsmResult,
    Points,
    Program,
    Receiver,
    Registers,
    RegisterValue,
    Scalars,
    Sender,
    Ticket,
    UserRegisters,
    _after_fork,
    _at_exit,
    log,
)

H2C = Direction.H2C
C2H = Direction.C2H

_os.register_at_fork(after_in_child=_after_fork)
_atexit.register(_at_exit)

# Without the names of built-in exceptions.
__all__ = [
    "__version__",
    "ArgumentError",
    "Buffer",
    "BusyError",
    "C2H",
    "Card",
    "CardInfo",
    "Channel",
    "ChannelStats",
    "ClosedError",
    "Direction",
    "EngineError",
    "Error",
    "ForkedError",
    "GoneError",
    "H2C",
    "HostError",
    "HungError",
    "Interrupt",
    "Job",
    "JobTicket",
    "Msm",
    "MsmDesign",
    "MsmResult",
    "NotFoundError",
    "Points",
    "Program",
    "RecalledError",
    "Receiver",
    "RegisterValue",
    "Registers",
    "Remedy",
    "Scalars",
    "Sender",
    "Ticket",
    "UnsupportedError",
    "UserRegisters",
    "log",
]
