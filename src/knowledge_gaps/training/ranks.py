"""The processes of a training: the Accelerator of each, and what they send to one another.

Several processes, the ranks, may train one instance together. A batch is drawn whole by every rank,
statelessly, and each takes its own contiguous part; gradients are averaged once an update, running
statistics once a step. So every rank holds the same weights at every step. They are those of one
process on the whole batch, up to rounding, where the architecture has no batch statistics and no
layer that draws by itself (noise inputs, style mixing, dropout: each rank draws its own).

Objects travel over the CPU (gloo), gradients over whatever fits the device.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch import Tensor, nn

from knowledge_gaps.core.devices import count_gpus, find_gpu, read_rank
from knowledge_gaps.core.errors import UserError

# of MPI and SLURM; Accelerate would wait for ranks that nobody starts
_MPI_VARIABLES = {"PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE"}
_RANK_VARIABLES = {"WORLD_SIZE", "RANK", "LOCAL_RANK"}


def build_accelerator(
    worker: int, mixed_precision: str = "no", gradient_accumulation_steps: int = 1
) -> Accelerator:
    """Build the Accelerator of one worker on its own, or of one rank among those of torchrun.

    Worker k takes GPU k modulo their number, a rank the GPU of its index on its host. Variables of
    the environment change nothing: those of Accelerate are removed first.

    Raises:
        UserError: for fp16 without a GPU, where no loss scaling would protect it; for more ranks on
            this host than GPUs.
    """
    num_gpus, rank = count_gpus(), read_rank()
    if mixed_precision == "fp16" and num_gpus == 0:
        raise UserError("mixed_precision: 'fp16' needs a GPU; 'bf16' and 'no' are allowed here")
    ignored = _MPI_VARIABLES | (_RANK_VARIABLES if rank is None else set())
    for name in [name for name in os.environ if name.startswith("ACCELERATE_") or name in ignored]:
        del os.environ[name]
    if num_gpus > 0:
        torch.cuda.set_device(worker % num_gpus if rank is None else find_gpu(rank, num_gpus))
    return Accelerator(
        cpu=num_gpus == 0,
        mixed_precision=mixed_precision,
        gradient_accumulation_steps=gradient_accumulation_steps,
    )


@dataclass(frozen=True)
class Ranks:
    """The processes that train one instance together, from the view of one of them.

    Every method with more than one rank must be called by all of them, in the same order; with one
    nothing is ever sent. Rank 0 writes and reports.
    """

    size: int = 1
    index: int = 0

    @classmethod
    def of(cls, accelerator: Accelerator) -> Ranks:
        """Return the ranks that an Accelerator found."""
        return cls(accelerator.num_processes, accelerator.process_index)

    @property
    def is_main(self) -> bool:
        """Whether this is the rank that writes and reports."""
        return self.index == 0

    def cut(self, num_images: int) -> slice:
        """Return this rank's part of a batch, which all ranks share evenly (`check_shares`)."""
        share = num_images // self.size
        return slice(self.index * share, (self.index + 1) * share)

    @torch.no_grad()
    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors on the training's device by their means over the ranks, in one message.

        They may have any float types and shapes, and travel as the widest of these types.
        """
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([tensor.detach().reshape(-1) for tensor in tensors])
        dist.all_reduce(flat)
        flat /= self.size
        parts = flat.split([tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view_as(tensor))

    def average_scalars(self, scalars: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return scalars of the same names, averaged."""
        if self.size == 1:
            return scalars
        averaged = {name: value.detach().clone() for name, value in scalars.items()}
        self.average(list(averaged.values()))
        return averaged

    def average_buffers(self, modules: Iterable[nn.Module]) -> None:
        """Average the buffers that each rank moved by its part of a batch: running statistics.

        Constants are no part of a network's state, and averaging would round them.
        """
        if self.size == 1:
            return
        values = [value for m in modules for value in m.state_dict(keep_vars=True).values()]
        is_buffer = [not isinstance(v, nn.Parameter) and v.is_floating_point() for v in values]
        self.average([value for value, is_one in zip(values, is_buffer, strict=True) if is_one])

    def agree(self, wish: bool) -> bool:
        """Tell whether any rank has a wish, such as to stop."""
        if self.size == 1:
            return wish
        wishes = torch.tensor(int(wish))
        dist.all_reduce(wishes)
        return bool(wishes.item() > 0)

    def share(self, value: Any) -> Any:
        """Return rank 0's value, whatever the others gave."""
        values = [value]
        if self.size > 1:
            dist.broadcast_object_list(values, 0, device=torch.device("cpu"))
        return values[0]
