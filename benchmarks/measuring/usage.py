"""What a block of code uses: seconds, CPU seconds and memory, with all processes below this one."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable

import psutil  # type: ignore[import-untyped]

SAMPLE_EVERY_SEC = 0.1  # what a process does after its last sample is not seen
REPEATS = 20


class Usage:
    """Measures the block that it is the context of.

    Attributes:
        wall_sec: duration; on a machine that is busy with something else it says little.
        cpu_sec: user and system time of all processes together.
        peak_bytes: largest sum of the processes' memory; a page that several share counts once
            where the system tells (Linux), otherwise once for each.
    """

    wall_sec = 0.0
    cpu_sec = 0.0
    peak_bytes = 0

    def __enter__(self) -> Usage:
        self._cpu_sec: dict[int, float] = {}  # by process
        self._sample()
        self._before = dict(self._cpu_sec)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        self._start = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.wall_sec = time.perf_counter() - self._start
        self._stopped.set()
        self._thread.join()
        self._sample()
        self.cpu_sec = sum(self._cpu_sec.values()) - sum(self._before.values())

    def _watch(self) -> None:
        while not self._stopped.wait(SAMPLE_EVERY_SEC):
            self._sample()

    def _sample(self) -> None:
        parent = psutil.Process()
        total_bytes = 0
        for process in [parent, *parent.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):  # it has just ended
                memory, times = process.memory_full_info(), process.cpu_times()
                total_bytes += getattr(memory, "pss", memory.rss)
                self._cpu_sec[process.pid] = times.user + times.system
        self.peak_bytes = max(self.peak_bytes, total_bytes)


def time_fastest(function: Callable[[], object]) -> float:
    """Return the CPU seconds of the fastest of some calls in this process."""
    durations = []
    for _ in range(REPEATS):
        start = time.process_time()
        function()
        durations.append(time.process_time() - start)
    return min(durations)
