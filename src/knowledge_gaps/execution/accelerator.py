"""The Accelerator of a training: its device, its precision, and how many batches make an update."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from knowledge_gaps.core.devices import count_gpus, find_gpu, read_rank
from knowledge_gaps.core.errors import UserError

if TYPE_CHECKING:
    from accelerate import Accelerator

# of MPI, SLURM and half a torchrun; Accelerate would wait for other ranks that nobody starts
_MPI_VARIABLES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
_DISTRIBUTED_VARIABLES = ("WORLD_SIZE", "RANK", "LOCAL_RANK", *_MPI_VARIABLES)


def build_accelerator(
    worker: int, mixed_precision: str = "no", gradient_accumulation_steps: int = 1
) -> Accelerator:
    """Build the Accelerator of one worker on its own, or of one rank among those of torchrun.

    Args:
        worker: index of the worker; worker k takes GPU k modulo their number. A rank takes the GPU
            of its index on its host instead.
        mixed_precision: "no", "bf16" or "fp16".
        gradient_accumulation_steps: batches whose gradients are averaged for one update.

    Raises:
        UserError: for fp16 without a GPU, where no loss scaling would protect it; for more ranks on
            this host than GPUs.
    """
    num_gpus = count_gpus()
    if mixed_precision == "fp16" and num_gpus == 0:
        raise UserError("mixed_precision: 'fp16' needs a GPU; 'bf16' and 'no' are allowed here")
    rank = read_rank()
    for variable in _DISTRIBUTED_VARIABLES if rank is None else _MPI_VARIABLES:
        os.environ.pop(variable, None)
    if num_gpus > 0:
        import torch

        torch.cuda.set_device(worker % num_gpus if rank is None else find_gpu(rank, num_gpus))
    from accelerate import Accelerator  # it takes a second, and wants the variables as they are

    accelerator = Accelerator(
        cpu=num_gpus == 0,
        mixed_precision=mixed_precision,
        gradient_accumulation_steps=gradient_accumulation_steps,
    )
    size = 1 if rank is None else rank.size
    if accelerator.num_processes != size:
        raise UserError(
            f"WORLD_SIZE: {size} processes were asked for, Accelerate has "
            f"{accelerator.num_processes}"
        )
    return accelerator
