"""How much memory a process takes, and how much there is: the GPU's where there is one."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

from knowledge_gaps.core.devices import count_gpus

_STATUS_FILE = Path("/proc/self/status")
_CLEAR_FILE = Path("/proc/self/clear_refs")
_MACHINE_FILE = Path("/proc/meminfo")
_GROUP_LIMIT_FILE = Path("/sys/fs/cgroup/memory.max")
_GROUP_USE_FILE = Path("/sys/fs/cgroup/memory.current")


class MemoryMeter:
    """Peak of this process' memory beyond what it held when it was first asked."""

    def __init__(self) -> None:
        self._uses_gpu = count_gpus() > 0
        self._base_bytes = 0 if self._uses_gpu else read_resident_bytes()

    def start(self) -> int | None:
        """Forget the peak so far; return how much memory there is for a training, if known."""
        if self._uses_gpu:
            import torch

            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            free_bytes, _ = torch.cuda.mem_get_info()
            return free_bytes + torch.cuda.memory_allocated()
        if os.access(_CLEAR_FILE, os.W_OK):
            _CLEAR_FILE.write_text("5", encoding="ascii")  # see proc(5)
        free = find_free_bytes()
        return None if free is None else free + read_resident_bytes() - self._base_bytes

    def read_peak(self) -> int:
        """Return the peak, bytes: of tensors on the GPU, of resident memory on the CPU."""
        if self._uses_gpu:
            import torch

            return torch.cuda.max_memory_allocated()
        return max(0, read_peak_bytes() - self._base_bytes)


def read_resident_bytes() -> int:
    """Return the resident memory of this process, bytes; its peak where that alone is known."""
    found = _read_entry(_STATUS_FILE, "VmRSS")
    return read_peak_bytes() if found is None else found


def read_peak_bytes() -> int:
    """Return the largest resident memory of this process, bytes."""
    found = _read_entry(_STATUS_FILE, "VmHWM")
    if found is not None:
        return found
    # elsewhere; on Linux it would count what the process held before it became this program
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def find_free_bytes() -> int | None:
    """Find how much more memory processes of this machine, or of this container, may take."""
    free = _read_entry(_MACHINE_FILE, "MemAvailable")
    try:
        limit = _GROUP_LIMIT_FILE.read_text(encoding="ascii").strip()
        used = int(_GROUP_USE_FILE.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return free
    if not limit.isdecimal():  # "max"
        return free
    in_group = max(0, int(limit) - used)
    return in_group if free is None else min(free, in_group)


def _read_entry(path: Path, key: str) -> int | None:
    """Read a line "key:   123 kB"; return bytes, None where there is none."""
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    for line in lines:
        name, _, value = line.partition(":")
        if name == key:
            return int(value.split()[0]) * 1024
    return None
