"""The Accelerator of a training: its device, its precision, and how many batches make an update."""

from __future__ import annotations

import os

import torch
from accelerate import Accelerator
from accelerate.utils import GradientAccumulationPlugin

from knowledge_gaps.core.devices import count_gpus, find_gpu, read_rank
from knowledge_gaps.core.errors import UserError

# of MPI and SLURM; Accelerate would wait for ranks that nobody starts
_MPI_VARIABLES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
_RANK_VARIABLES = ("WORLD_SIZE", "RANK", "LOCAL_RANK")


def build_accelerator(
    worker: int, mixed_precision: str = "no", gradient_accumulation_steps: int = 1
) -> Accelerator:
    """Build the Accelerator of one worker on its own, or of one rank among those of torchrun.

    Variables of the environment change nothing: those of Accelerate are removed first.

    Args:
        worker: index of the worker; worker k takes GPU k modulo their number. A rank takes the GPU
            of its index on its host instead.
        mixed_precision: "no", "bf16" or "fp16".
        gradient_accumulation_steps: batches whose gradients are averaged for one update.

    Raises:
        UserError: for fp16 without a GPU, where no loss scaling would protect it; for more ranks on
            this host than GPUs; when Accelerate found other settings than these.
    """
    num_gpus, rank = count_gpus(), read_rank()
    if mixed_precision == "fp16" and num_gpus == 0:
        raise UserError("mixed_precision: 'fp16' needs a GPU; 'bf16' and 'no' are allowed here")
    _clear_environment(is_alone=rank is None)
    if num_gpus > 0:
        torch.cuda.set_device(worker % num_gpus if rank is None else find_gpu(rank, num_gpus))
    accelerator = Accelerator(
        cpu=num_gpus == 0,
        mixed_precision=mixed_precision,
        # a variable would win against the argument gradient_accumulation_steps
        gradient_accumulation_plugin=GradientAccumulationPlugin(gradient_accumulation_steps),
    )
    needed = {
        "num_processes": 1 if rank is None else rank.size,
        "mixed_precision": mixed_precision,
        "gradient_accumulation_steps": gradient_accumulation_steps,
    }
    for name, value in needed.items():
        if getattr(accelerator, name) != value:
            raise UserError(
                f"{name}: Accelerate has {getattr(accelerator, name)}, {value} is needed"
            )
    return accelerator


def _clear_environment(is_alone: bool) -> None:
    dropped = {*_MPI_VARIABLES, *(_RANK_VARIABLES if is_alone else ())}
    dropped |= {name for name in os.environ if name.startswith("ACCELERATE_")}
    for name in dropped:
        os.environ.pop(name, None)
