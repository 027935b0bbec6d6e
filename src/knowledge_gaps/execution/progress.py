"""Progress of trainings, from the processes that train to the one that shows it.

It is written to a file for each instance, so that it crosses processes and hosts alike, and a
killed process cannot hold up others.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

_REPORT_SEC = 0.5

Row = dict[str, float]
# gets an instance, its steps so far, and a row of its curves if one was finished
Callback = Callable[[int, int, Row | None], None]


class Reporter:
    """A `training.loop.Session` that calls callbacks and appends to the file, if there is one."""

    def __init__(
        self,
        instance: int,
        file: Path | None,
        is_stopping: Callable[[], bool],
        callbacks: Sequence[Callback] = (),
    ) -> None:
        self._instance, self._file = instance, file
        self.is_stopping, self._callbacks = is_stopping, callbacks
        self._reported_at = -_REPORT_SEC
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)

    def report(self, step: int, row: Row | None) -> None:
        """Report how many steps are done, and the newest row of the curves if there is one."""
        now = time.monotonic()
        if row is None and now - self._reported_at < _REPORT_SEC:
            return
        self._reported_at = now
        for callback in self._callbacks:
            callback(self._instance, step, row)
        if self._file is not None:
            with suppress(OSError), self._file.open("a") as file:  # a full disk stops no training
                file.write(f"{json.dumps([step, row])}\n")


class ProgressReader:
    """Passes on what is appended, from now on, to the progress files of instances."""

    def __init__(self, files: Mapping[int, Path], callbacks: Sequence[Callback]) -> None:
        self._files, self._callbacks = files, callbacks
        self._offsets = {instance: _get_size(path) for instance, path in files.items()}

    def poll(self) -> None:
        """Read what is new, and call the callbacks."""
        for instance, path in self._files.items():
            if _get_size(path) <= self._offsets[instance]:
                continue
            with path.open("rb") as file:
                file.seek(self._offsets[instance])
                whole, end, _ = file.read().rpartition(b"\n")  # the last line may be half written
            self._offsets[instance] += len(whole + end)
            for line in whole.splitlines():
                with suppress(ValueError):  # a line that a full disk cut
                    step, row = json.loads(line)
                    for callback in self._callbacks:
                        callback(instance, step, row)


def _get_size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
