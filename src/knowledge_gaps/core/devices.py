"""The machine: how many workers, which device, which rank this process is, and its environment.

None of it is a parameter of a study; environment variables (KGAPS_...) override what is found.
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from knowledge_gaps.core.errors import UserError

if TYPE_CHECKING:
    import torch

_DEVICE = "KGAPS_DEVICE"

_DRIVER = Path("/dev/nvidiactl")  # of NVIDIA, without which no GPU can be used

# all of them are there in a process that torchrun started
_RANK_VARIABLES = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
_SET = {
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # one of the two that are deterministic
    "MPLBACKEND": "Agg",  # a notebook's own is not installed here
    # one thread a process: more change the last digits of sums, and take cores from other workers
    "MKL_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    # workers keep the memory that a step frees for the next step; giving it back to the system
    # and taking it anew costs about a fifth of a small network's step
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
}
# names that change numbers: accelerate's settings, over its arguments, and its ranks of MPI; the
# choice of kernels and the reduced precision of torch, and of what it computes by
_TAKEN = re.compile(
    "(ACCELERATE|ATEN|CUDNN|DNNL|MKL|MV2_COMM_WORLD|OMPI_COMM_WORLD|ONEDNN|PMI|PYTORCH)_"
    "|CUBLAS|NVIDIA_TF32_OVERRIDE|TORCH"
)
# those among them that change none: memory, caches, messages, folders, and what containers say
_KEPT = re.compile(
    "PYTORCH_(CUDA_)?ALLOC_CONF|TORCH_?ELASTIC_|TORCH_(CUDA_ARCH_LIST|DISTRIBUTED_DEBUG|GLOO_|NCCL_)"
    "|.*(_BUILD_NUMBER|_DIR|_HOME|_VERSION)$"
)


@dataclass(frozen=True)
class Rank:
    """This process among those that torchrun started to train together."""

    index: int  # among all, on all hosts; 0 is the one that writes, reports and holds the lock
    local_index: int  # among those of this host; decides its GPU
    size: int  # at least 2


def clean_environment() -> None:
    """Remove inherited variables that could change a number, and name them in one line.

    To be called before torch or matplotlib is imported. Of torchrun's variables, all stay or none.
    """
    os.environ.update(_SET)
    found = {name for name in os.environ if _TAKEN.match(name) and not _KEPT.match(name)}
    found -= _SET.keys()
    is_whole = all(name in os.environ for name in _RANK_VARIABLES)
    if not is_whole or os.environ["WORLD_SIZE"] == "1":  # Accelerate would set up one rank
        found |= {name for name in _RANK_VARIABLES if name in os.environ}
    for name in found:
        del os.environ[name]
    if found:
        print(f"kgaps: environment: not used: {', '.join(sorted(found))}", file=sys.stderr)


def read_rank() -> Rank | None:
    """Return which rank torchrun made this process; None when it is on its own."""
    if any(name not in os.environ for name in _RANK_VARIABLES):
        return None
    values = [os.environ[name] for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE")]
    if not all(value.isdecimal() for value in values):
        raise UserError(f"RANK, LOCAL_RANK, WORLD_SIZE: {values} found, counts are needed")
    index, local_index, size = (int(value) for value in values)
    return Rank(index, local_index, size) if size > 1 else None


def check_alone(command: str) -> None:
    """Refuse to run a command in several processes of torchrun; each would do all of it."""
    rank = read_rank()
    if rank is not None:
        raise UserError(
            f"WORLD_SIZE: {rank.size} found, but {command!r} runs as one process; gans and "
            "classifiers may be started by torchrun"
        )


def count_processes(option: int | None) -> int:
    """Return how many processes train one instance together: as the option says, else 1.

    Raises UserError when KGAPS_PROCESSES is no count, this machine has fewer GPUs (but some), or
    torchrun started another number.
    """
    key = "--num-processes" if option is not None else "KGAPS_PROCESSES"
    rank, num_gpus = read_rank(), count_gpus()
    count = option or _read_count(key, 1 if rank is None else rank.size)
    if rank is not None and count != rank.size:
        raise UserError(f"{key}: {count} found, but torchrun started {rank.size} processes")
    if rank is None and 0 < num_gpus < count:
        raise UserError(f"{key}: {count} found, this machine has {num_gpus} GPUs")
    return count


def count_workers(num_tasks: int, use_gpus: bool = True) -> int:
    """Return how many processes work side by side, no more than there are tasks.

    One a core without GPUs, or for work that stays on the CPU (`use_gpus` is False).
    """
    num_gpus = count_gpus() if use_gpus else 0
    usual = num_gpus * _read_count("KGAPS_WORKERS_PER_GPU", 1) or count_cores()
    return min(_read_count("KGAPS_WORKERS", usual), num_tasks)


def _read_count(variable: str, default: int) -> int:
    text = os.environ.get(variable, str(default))
    if not text.isdecimal() or int(text) < 1:
        raise UserError(f"{variable}: {text!r} found, a count of at least 1 is needed")
    return int(text)


def count_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def count_gpus() -> int:
    """Return how many CUDA devices are visible; raises UserError for a wrong KGAPS_DEVICE."""
    chosen = os.environ.get(_DEVICE)
    if chosen not in (None, "cpu", "cuda"):
        raise UserError(f"{_DEVICE}: {chosen!r} found, 'cpu' or 'cuda' is needed")
    num_gpus = 0
    if chosen != "cpu" and _DRIVER.exists():  # importing torch takes long: only where it pays
        import torch

        num_gpus = torch.cuda.device_count()
    if chosen == "cuda" and num_gpus == 0:
        raise UserError(
            f"{_DEVICE}: 'cuda' found, there is no GPU here that torch can use: unset it, "
            "or set 'cpu'"
        )
    return num_gpus


def find_device() -> torch.device:
    """Return the device that evaluation runs on: the first GPU, or the CPU where there is none."""
    import torch

    return torch.device("cuda" if count_gpus() > 0 else "cpu")


def find_gpu(rank: Rank, num_gpus: int) -> int:
    """Return the index of a rank's GPU; raises UserError when this host has too few."""
    if rank.local_index >= num_gpus:
        raise UserError(
            f"LOCAL_RANK: {rank.local_index} found, this host has {num_gpus} GPUs: start no more "
            f"processes a host, or set {_DEVICE}=cpu"
        )
    return rank.local_index
