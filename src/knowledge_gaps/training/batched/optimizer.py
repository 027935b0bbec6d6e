"""Optimisers of several instances as one, and what each instance's gradients are clipped to."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.optim import Optimizer

from knowledge_gaps.study import OptimizerSettings
from knowledge_gaps.training.batched.network import StackedNetwork
from knowledge_gaps.training.optimizers import compute_decay, group_rates

_STEP = "step"  # the count among Adam's states, one for all; the others are a number each weight


class StackedOptimizer:
    """The optimisers of one network of all instances as one: Adam works element by element.

    Args:
        network: whose weights are updated.
        optimizers: of the instances, all after as many steps.
        settings: of the learning rate's schedule.
    """

    def __init__(
        self,
        network: StackedNetwork,
        optimizers: Sequence[Optimizer],
        settings: OptimizerSettings,
    ) -> None:
        self._parameters = list(network.parameters.values())
        self._lone, self._settings = optimizers, settings
        (self._base_rate,) = group_rates(optimizers[0])
        device = self._parameters[0].device
        # a tensor: a captured step reads its present value; CUDA's kernels read float32
        dtype = torch.float32 if device.type == "cuda" else torch.float64
        self._rate = torch.tensor(self._base_rate, dtype=dtype, device=device)
        inner = getattr(optimizers[0], "optimizer", optimizers[0])  # of Accelerate's wrapper
        kind: Callable[[list[Tensor]], Optimizer] = type(inner)
        self._optimizer = kind(self._parameters)
        (own,), (lone,) = self._optimizer.param_groups, inner.param_groups
        own.update({key: value for key, value in lone.items() if key != "params"})
        own.update(lr=self._rate, capturable=device.type == "cuda")
        self._stack_states()

    def set_rate(self, step: int, steps: int) -> None:
        """Set the learning rate of a step, without waiting for the device."""
        self._rate.fill_(self._base_rate * compute_decay(self._settings, step, steps))

    def update(self, losses: Tensor, max_norm: float | None) -> None:
        """Update the weights once.

        Args:
            losses: [K], each instance's own.
            max_norm: 2-norm that each instance's gradients are clipped to; None for no clipping.
        """
        # a weight that a loss does not depend on (of R1, the last bias) is left as it is
        gradients = torch.autograd.grad(losses.sum(), self._parameters, allow_unused=True)
        if max_norm is not None:
            clip_instances([g for g in gradients if g is not None], max_norm)
        for parameter, gradient in zip(self._parameters, gradients, strict=True):
            # fused kernels take both for one row of numbers, in the weights' order
            parameter.grad = None if gradient is None else gradient.contiguous()
        self._optimizer.step()
        self._optimizer.zero_grad()

    def hand_back(self) -> None:
        """Let the instances' optimisers have the present state; moments are views of it."""
        for index, optimizer in enumerate(self._lone):
            (group,) = optimizer.param_groups
            for parameter, stacked in zip(group["params"], self._parameters, strict=True):
                optimizer.state[parameter] = {
                    key: value.clone() if key == _STEP else value[index]
                    for key, value in self._optimizer.state[stacked].items()
                }

    def _stack_states(self) -> None:
        """Take over the instances' moments; their counts of steps are equal."""
        owned = [optimizer.param_groups[0]["params"] for optimizer in self._lone]
        for stacked, *parameters in zip(self._parameters, *owned, strict=True):
            entries = [
                optimizer.state.get(parameter, {})
                for optimizer, parameter in zip(self._lone, parameters, strict=True)
            ]
            for key, value in entries[0].items():
                values = value.clone()
                if key != _STEP:
                    values = torch.stack([entry[key] for entry in entries])
                self._optimizer.state[stacked][key] = values


def clip_instances(gradients: Sequence[Tensor], max_norm: float) -> None:
    """Clip each instance's gradients in place, as torch.nn.utils.clip_grad_norm_ does for one.

    Args:
        gradients: [K, ...] of all weights of a network.
        max_norm: 2-norm of one instance's gradients that they are clipped to.
    """
    per_tensor = [torch.linalg.vector_norm(g.reshape(len(g), -1), dim=1) for g in gradients]
    norms = torch.linalg.vector_norm(torch.stack(per_tensor), dim=0)  # [K]
    factors = (max_norm / (norms + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(factors.view(-1, *[1] * (gradient.dim() - 1)))
