"""Being told to stop: Ctrl-C, SIGTERM, and the end of the process that started a stage."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_TORCHRUN = "TORCHELASTIC_RUN_ID"
_STARTED_BY = ("DVC_STAGE", _TORCHRUN)  # set by DVC for a stage, by torchrun for a rank


class StopFlag:
    """Whether this process should save its state and stop."""

    def __init__(self) -> None:
        self._signalled = False
        self._parent = os.getppid()
        self._follows_parent = any(name in os.environ for name in _STARTED_BY)

    def set(self) -> None:
        """Ask for the stop."""
        self._signalled = True

    def is_set(self) -> bool:
        """Tell whether a stop was asked for, or the DVC or torchrun that started this has died."""
        return self._signalled or (self._follows_parent and os.getppid() != self._parent)


@contextmanager
def catch_stop_signals() -> Iterator[StopFlag]:
    """Turn SIGINT and SIGTERM into a flag; a second one acts as if it had not been caught.

    Ranks get one from the terminal and one from torchrun, so they catch all.
    """
    flag = StopFlag()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def _note(number: int, frame: FrameType | None) -> None:
        flag.set()
        if _TORCHRUN not in os.environ:
            _restore()

    def _restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    for number in before:
        signal.signal(number, _note)
    try:
        yield flag
    finally:
        _restore()
