"""Data-parallel training: several processes, the ranks, train one instance together.

A batch is drawn whole by every rank, statelessly, and each takes its own contiguous part; gradients
are averaged once an update, running statistics once a step. So every rank holds the same weights at
every step. They are those of one process on the whole batch, up to rounding, where the architecture
has no batch statistics and no layer that draws by itself (noise inputs, style mixing, dropout: each
rank draws its own). A process on its own goes through all of this unchanged.

Objects travel over the CPU (gloo), gradients over whatever fits the device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from knowledge_gaps.core.errors import UserError

if TYPE_CHECKING:
    from accelerate import Accelerator

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Ranks:
    """The processes that train one instance together, from the view of one of them.

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
        """Return this rank's part of a batch, which all ranks share evenly (`check_shares`)."""
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
        self.average(
            [
                value
                for state in states
                for value in state.values()
                if not isinstance(value, nn.Parameter) and value.is_floating_point()
            ]
        )

    def agree(self, wish: bool) -> bool:
        """Tell whether any rank has a wish, such as to stop."""
        if self.size == 1:
            return wish
        wishes = torch.tensor(int(wish))
        dist.all_reduce(wishes)
        return bool(wishes.item() > 0)

    def share(self, value: Any) -> Any:
        """Return rank 0's value, whatever the others gave."""
        if self.size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, 0, device=torch.device("cpu"))
        return values[0]

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
        texts: list[str | None] = [None] * self.size
        dist.all_gather_object(texts, None if error is None else str(error))
        for text in texts:
            if text is not None:
                raise UserError(text) from error
        return result

    def run_on_main(self, action: Callable[[], object]) -> None:
        """Run something without messages on rank 0 while the others wait; errors as above."""
        self.run_everywhere(action if self.is_main else lambda: None)
