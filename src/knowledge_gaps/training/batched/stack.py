"""Networks, averages and optimiser states of several instances as one, instances in front.

The trainers of the instances stay what they are: their tensors become views of the stacked ones,
so that a state is saved, and a result written, as for an instance that trains alone.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.optim import Optimizer

from knowledge_gaps.models.hand_written import use_torch_layers
from knowledge_gaps.study import GanRecipe, OptimizerSettings
from knowledge_gaps.training.average import WeightAverage, compute_average_decay
from knowledge_gaps.training.gan import GanTrainer
from knowledge_gaps.training.optimizers import compute_decay, group_rates
from knowledge_gaps.training.phases import DISCRIMINATOR, GENERATOR

_AVERAGE = "average"
_STEP = "step"  # the count among Adam's states, one for all; the others are a number each weight
_PRODUCTS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
_TensorDict = dict[str, Tensor]
_Compute = Callable[[Tensor], Tensor]


class StackedNetwork:
    """Networks of one architecture as one, whose inputs and outputs have instances in front.

    Autocast does not reach below vmap, so what it does (products in half precision, statistics in
    float32) is done here, where it is on.

    Args:
        networks: of equal shapes; their tensors become views of the stacked ones.
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        parameters, self.buffers = stack_module_state(list(networks))
        self.parameters: _TensorDict = {
            name: nn.Parameter(value) for name, value in parameters.items()
        }
        # a copy without numbers: it computes with those that it is given
        self._template = copy.deepcopy(networks[0]).to("meta")
        self._halved = _set_precisions(self._template)
        for index, network in enumerate(networks):
            for name, parameter in network.named_parameters():
                parameter.data = self.parameters[name].data[index]
            for name, buffer in network.named_buffers():
                buffer.data = self.buffers[name][index]

    def __call__(self, inputs: Tensor) -> Tensor:
        """Return outputs [K, N, ...] of inputs [K, N, ...], each instance's by its own weights."""
        parameters, device_type = self.parameters, inputs.device.type
        if torch.is_autocast_enabled(device_type):
            dtype = torch.get_autocast_dtype(device_type)
            halved = {name: parameters[name].to(dtype) for name in self._halved}
            parameters = {**parameters, **halved}
        with torch.autocast(device_type, enabled=False), use_torch_layers():
            outputs: Tensor = vmap(self._call)(parameters, self.buffers, inputs)
        return outputs

    def train(self) -> None:
        """Put all networks into training mode: batch statistics, each instance's own."""
        self._template.train()

    def _call(self, parameters: _TensorDict, buffers: _TensorDict, inputs: Tensor) -> Tensor:
        outputs: Tensor = functional_call(self._template, (parameters, buffers), (inputs,))
        return outputs


def _set_precisions(network: nn.Module) -> list[str]:
    """Let layers compute in their weights' precision, and batch normalisation in float32.

    Returns:
        Names of the weights that autocast would halve.
    """
    halved = []
    for name, module in network.named_modules():
        compute: Callable[[_Compute, Tensor], Tensor] | None = None
        if isinstance(module, _PRODUCTS):
            compute = partial(_compute_as_weights, module)
            halved += [f"{name}.{key}" for key, _ in module.named_parameters(recurse=False)]
        elif isinstance(module, nn.modules.batchnorm._BatchNorm):
            compute = _compute_in_float32
        if compute is not None:
            setattr(module, "forward", partial(compute, module.forward))  # noqa: B010
    return halved


def _compute_as_weights(module: nn.Module, compute: _Compute, values: Tensor) -> Tensor:
    weight = module.weight
    assert isinstance(weight, Tensor)
    return compute(values.to(weight.dtype))


def _compute_in_float32(compute: _Compute, values: Tensor) -> Tensor:
    return compute(values.float()).to(values.dtype)


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


class GanStack:
    """The GANs of several trainers, all after as many steps.

    Args:
        trainers: of one cohort; their tensors become views of the stacked ones.
        recipe: how they are trained.

    Attributes:
        generator: of all instances.
        discriminator: of all instances.
        optimizers: by the names of `knowledge_gaps.training.phases`.
    """

    def __init__(self, trainers: Sequence[GanTrainer], recipe: GanRecipe) -> None:
        self._trainers, self._recipe = trainers, recipe
        networks = {
            name: StackedNetwork([trainer.modules[name] for trainer in trainers])
            for name in (GENERATOR, DISCRIMINATOR)
        }
        self.generator, self.discriminator = networks[GENERATOR], networks[DISCRIMINATOR]
        self.optimizers = {
            name: StackedOptimizer(
                network,
                [trainer.optimizers[name][0] for trainer in trainers],
                trainers[0].optimizers[name][1],
            )
            for name, network in networks.items()
        }
        self._averages = [trainer.modules.get(_AVERAGE) for trainer in trainers]
        self._average: StackedNetwork | None = None
        if recipe.ema_decay is not None:
            self._average = StackedNetwork([_get_averaged(average) for average in self._averages])
        for network in networks.values():
            network.train()

    def set_rates(self, step: int) -> None:
        """Set the learning rates of a step."""
        for optimizer in self.optimizers.values():
            optimizer.set_rate(step, self._recipe.steps)

    @torch.no_grad()
    def move_average(self, step: int) -> None:
        """Move the averages as `average.WeightAverage` does, after a step that `step` preceded."""
        decay = self._recipe.ema_decay
        if self._average is None or decay is None:
            return
        averages = list(self._average.parameters.values())
        weights = list(self.generator.parameters.values())
        if step == 0:
            torch._foreach_copy_(averages, weights)
        else:
            decay = compute_average_decay(decay, self._recipe.ema_ramp_up, step)
            torch._foreach_lerp_(averages, weights, 1 - decay)
        if self._average.buffers:
            buffers = list(self._average.buffers.values())
            torch._foreach_copy_(buffers, list(self.generator.buffers.values()))

    def hand_back(self, step: int) -> None:
        """Let the trainers have the present state, after `step` steps."""
        if step == 0:
            return  # optimisers have no state before their first update
        for optimizer in self.optimizers.values():
            optimizer.hand_back()
        for average in self._averages:
            if isinstance(average, WeightAverage):
                average.n_averaged.fill_(step)


def _get_averaged(average: nn.Module | None) -> nn.Module:
    assert isinstance(average, WeightAverage)
    module: nn.Module = average.module
    return module
