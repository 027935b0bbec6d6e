"""Networks of several instances as one, with an axis of instances in front."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from knowledge_gaps.models.hand_written import use_torch_layers

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
