"""Data-parallel training: several processes, the ranks, train one instance together.

A batch is drawn whole by every rank, statelessly, and each takes its own contiguous part; gradients
are averaged once an update, running statistics once a step. So every rank holds the same weights at
every step. They are those of one process on the whole batch, up to rounding, where the architecture
has no batch statistics and no layer that draws by itself (noise inputs, style mixing, dropout: each
rank draws its own). On its own, a process goes through all of this unchanged.

What the ranks say to one another goes over tensors on the CPU (gloo), gradients over whatever fits
the device. How ranks are started is known by `knowledge_gaps.execution.launch`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from knowledge_gaps.core.devices import Rank, count_gpus, find_gpu
from knowledge_gaps.core.errors import UserError

if TYPE_CHECKING:
    from accelerate import Accelerator

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Ranks:
    """The processes that train one instance together, seen from one of them.

    Every method with more than one rank must be called by all of them, in the same order.

    Attributes:
        size: how many there are; with 1 nothing is ever sent.
        index: this process's; 0 writes and reports.
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
        """Return this rank's part of a batch.

        Raises:
            UserError: when the batch cannot be shared evenly.
        """
        if num_images % self.size != 0:
            raise UserError(
                f"batch_size: {num_images} images found, a multiple of the {self.size} processes "
                "is needed"
            )
        share = num_images // self.size
        return slice(self.index * share, (self.index + 1) * share)

    @torch.no_grad()
    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors on the training's device by their means over the ranks, in one message.

        Args:
            tensors: of any float types and shapes; they travel as the widest of these types.
        """
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([tensor.detach().reshape(-1) for tensor in tensors])
        dist.all_reduce(flat)
        flat /= self.size
        parts = flat.split([tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view_as(tensor))

    def average_gradients(self, module: nn.Module) -> None:
        """Average a network's gradients; a weight without one has none on any rank."""
        self.average([value.grad for value in module.parameters() if value.grad is not None])

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
        states = [module.state_dict(keep_vars=True) for module in modules]
        buffers = [
            value
            for state in states
            for value in state.values()
            if not isinstance(value, nn.Parameter) and value.is_floating_point()
        ]
        self.average(buffers)

    def agree(self, wish: bool) -> bool:
        """Tell whether any rank has a wish, such as to stop."""
        if self.size == 1:
            return wish
        wishes = torch.tensor(int(wish))
        dist.all_reduce(wishes)
        return bool(wishes.item() > 0)

    def run_everywhere(self, action: Callable[[], _Result]) -> _Result:
        """Run something without messages on every rank; an error of one is an error of all.

        Raises:
            UserError: of the first rank that had one.
        """
        if self.size == 1:
            return action()
        error: UserError | None = None
        try:
            result = action()
        except UserError as found:
            error = found
        first = torch.tensor(self.size if error is None else self.index)
        dist.all_reduce(first, dist.ReduceOp.MIN)
        failed = int(first.item())
        if failed < self.size:
            raise UserError(self.share_text(str(error), failed)) from error
        return result

    def run_on_main(self, action: Callable[[], object]) -> None:
        """Run something without messages on rank 0 while the others wait; errors as above."""
        self.run_everywhere(action if self.is_main else _do_nothing)

    def share_text(self, text: str, source: int = 0) -> str:
        """Return the text that one rank has, whatever the others gave."""
        if self.size == 1:
            return text
        content = torch.tensor(list(text.encode()), dtype=torch.uint8)
        length = torch.tensor(len(content))
        dist.broadcast(length, source)
        if self.index != source:
            content = torch.empty(int(length.item()), dtype=torch.uint8)
        if len(content) > 0:
            dist.broadcast(content, source)
        return bytes(content.tolist()).decode()

    def share_tensors(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the named tensors on the CPU that rank 0 has."""
        if self.size == 1:
            return tensors
        kinds: list[tuple[str, str, list[int]]] = [
            (name, str(value.dtype).removeprefix("torch."), list(value.shape))
            for name, value in tensors.items()
        ]
        kinds = json.loads(self.share_text(json.dumps(kinds)))
        shared: dict[str, Tensor] = {}
        for name, dtype, shape in kinds:
            empty = torch.empty(shape, dtype=getattr(torch, dtype))
            shared[name] = tensors[name].contiguous() if self.is_main else empty
            if empty.numel() > 0:
                dist.broadcast(shared[name].reshape(-1).view(torch.uint8), 0)
        return shared


@contextmanager
def join_ranks(rank: Rank) -> Iterator[Ranks]:
    """Meet the other ranks, by torchrun's variables; leave them at the end of a good run.

    Raises:
        UserError: when this host has no GPU for this rank.
    """
    num_gpus = count_gpus()
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # Accelerate would share out all cores
    if num_gpus > 0:
        torch.cuda.set_device(find_gpu(rank, num_gpus))
    dist.init_process_group("cpu:gloo,cuda:nccl" if num_gpus > 0 else "gloo")
    yield Ranks(rank.size, rank.index)
    dist.destroy_process_group()  # after an error, the end of the process tells the others


def _do_nothing() -> None:
    pass
