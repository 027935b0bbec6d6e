"""The processes of a training: the Accelerator of each, and what they send to one another.

Every rank draws a batch whole, statelessly, and takes its own contiguous part; gradients are
averaged once an update, running statistics once a step. So all ranks hold the same weights, those
of one process up to rounding, where no layer uses batch statistics or draws by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from knowledge_gaps.core.devices import clean_environment, count_gpus, find_gpu, read_rank
from knowledge_gaps.study import TrainingSettings


def build_accelerator(recipe: TrainingSettings, worker: int = 0) -> Accelerator:
    """Build the Accelerator of worker k, on GPU k modulo their number, or of a rank of torchrun.

    Nothing but the recipe sets it: no inherited variable, no earlier training of this process.
    """
    clean_environment()
    AcceleratorState._reset_state(reset_partial_state=True)  # it keeps one precision a process
    num_gpus, rank = count_gpus(), read_rank()
    if num_gpus > 0:
        torch.cuda.set_device(worker % num_gpus if rank is None else find_gpu(rank, num_gpus))
    return Accelerator(
        cpu=num_gpus == 0,
        mixed_precision=recipe.mixed_precision,
        gradient_accumulation_steps=recipe.gradient_accumulation_steps,
    )


@dataclass(frozen=True)
class Ranks:
    """The processes that train one instance together; with one, nothing is ever sent.

    With more, every method must be called by all of them, in the same order.
    """

    size: int = 1
    index: int = 0

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
        """Replace float tensors of any types by their means over the ranks, in one message."""
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
        """Average the buffers that each rank moved by its part of a batch: running statistics."""
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
