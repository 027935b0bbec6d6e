"""The machine in words, and how busy it is with other things."""

from __future__ import annotations

import platform
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import torch

from knowledge_gaps.core.devices import count_cores, count_gpus

_LOOK_SEC = 2.0
_CPU_FILE = Path("/proc/cpuinfo")


def describe_machine() -> str:
    """Say what the figures were measured on."""
    gpus = f"{count_gpus()} GPUs" if count_gpus() > 0 else "no GPU"
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{count_cores()} cores of {_read_cpu_model()}, {memory:.0f} GiB of memory, {gpus}; "
        f"{platform.system()}, Python {platform.python_version()}, torch {torch.__version__}"
    )


def _read_cpu_model() -> str:
    if _CPU_FILE.exists():
        for line in _CPU_FILE.read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def describe_load() -> str:
    """Say how busy the machine is with other things, before a figure is measured."""
    share = psutil.cpu_percent(_LOOK_SEC)
    return f"before, other programs used {share:.0f} % of the cores"
