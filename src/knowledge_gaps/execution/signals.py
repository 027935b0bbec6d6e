"""Being told to stop: Ctrl-C, SIGTERM, and the end of the `dvc` process that started a stage."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_STARTED_BY_DVC = "DVC_STAGE"  # set by DVC for the command of a stage


class StopFlag:
    """Whether this process should save its state and stop."""

    def __init__(self) -> None:
        self._signalled = False
        self._parent = os.getppid()

    def set(self) -> None:
        """Ask for the stop."""
        self._signalled = True

    def is_set(self) -> bool:
        """Tell whether a stop was asked for, or DVC died and left this stage an orphan."""
        orphaned = _STARTED_BY_DVC in os.environ and os.getppid() != self._parent
        return self._signalled or orphaned


@contextmanager
def catch_stop_signals() -> Iterator[StopFlag]:
    """Turn SIGINT and SIGTERM into a flag; a second one acts as if it had not been caught."""
    flag = StopFlag()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def _note(number: int, frame: FrameType | None) -> None:
        flag.set()
        for caught, handler in before.items():
            signal.signal(caught, handler)

    for number in before:
        signal.signal(number, _note)
    try:
        yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
