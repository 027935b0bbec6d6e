"""What a classifier expects of its input, and the differentiable way from images to it.

Resizing is a product with fixed matrices: its backward pass is deterministic on every device, where
CUDA's bilinear upsampling is not.
"""

from __future__ import annotations

from typing import Self

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, model_validator
from torch import Tensor, nn

from knowledge_gaps.core.errors import UserError


class InputSpec(BaseModel):
    """Size and normalisation of a classifier's input; stored with its weights."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    channels: int  # of the given images; grey ones are repeated for a network of more
    image_px: tuple[int, int]  # their height and width
    input_px: tuple[int, int]  # height and width that the network takes
    mean: tuple[float, ...]  # subtracted, per channel of the network, after [-1, 1] became [0, 1]
    std: tuple[float, ...]  # divided by, likewise

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of what the network sees."""
        return (len(self.mean), *self.input_px)

    @model_validator(mode="after")
    def _check_channels(self) -> Self:
        if len(self.mean) != len(self.std) or self.channels not in (1, len(self.mean)):
            raise ValueError(
                f"images of {self.channels} channels do not fit {len(self.mean)} means and "
                f"{len(self.std)} standard deviations"
            )
        return self


class GanClassifier(nn.Module):
    """A GAN-classifier C: prepares images by its InputSpec and returns one logit each.

    Values beyond [-1, 1] are clamped, as storing an image does. A generator without a bounded last
    layer would otherwise learn to fool by pixels that no image can have (reports/LOG.md).
    """

    _scale: Tensor
    _shift: Tensor
    _rows: Tensor
    _columns: Tensor

    def __init__(self, network: nn.Module, spec: InputSpec) -> None:
        super().__init__()
        self.network = network
        self.spec = spec
        per_channel = (1, len(spec.mean), 1, 1)
        mean, std = (torch.tensor(values).view(per_channel) for values in (spec.mean, spec.std))
        # ((x + 1) / 2 - mean) / std as one multiplication and one addition; not in the state dict,
        # for the spec is stored beside the weights
        self.register_buffer("_scale", 0.5 / std, persistent=False)
        self.register_buffer("_shift", (0.5 - mean) / std, persistent=False)
        for axis, name in enumerate(("_rows", "_columns")):
            matrix = _make_resize_matrix(spec.image_px[axis], spec.input_px[axis])
            self.register_buffer(name, matrix, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits float32 [N], positive = real, of images float32 [N, C, H, W] in [-1, 1]."""
        return self.compute_heads(images)[0]

    def compute_heads(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the logits of all heads: the main one, then in training mode auxiliary ones."""
        outputs = self.network(self._prepare(images))
        heads: tuple[Tensor, ...] = outputs if isinstance(outputs, tuple) else (outputs,)
        return tuple(logits.float() for logits in heads)

    def _prepare(self, images: Tensor) -> Tensor:
        expected = (self.spec.channels, *self.spec.image_px)
        if images.shape[1:] != expected:
            needed, found = ("x".join(map(str, sizes)) for sizes in (expected, images.shape[1:]))
            raise UserError(
                f"input_spec: the classifier takes images of {needed}, it was given images of "
                f"{found} (channels x height x width)"
            )
        # unlike `clamp`, a clone keeps the strides, by which convolutions choose how to sum
        images = images.clone().clamp_(-1, 1)
        if self.spec.image_px != self.spec.input_px:
            # bfloat16 has fewer levels than a stored image
            with torch.autocast(images.device.type, enabled=False):
                images = self._rows @ images @ self._columns.T
        # grey images are repeated by broadcasting
        return torch.addcmul(self._shift, images, self._scale)


def _make_resize_matrix(from_px: int, to_px: int) -> Tensor:
    """Make the matrix [to_px, from_px] of antialiased bilinear resizing along one axis."""
    # one unit impulse a channel; two columns wide, for torch's resize of one column is wrong
    impulses = torch.eye(from_px).view(1, from_px, from_px, 1).repeat(1, 1, 1, 2)
    resized = F.interpolate(
        impulses, size=(to_px, 2), mode="bilinear", align_corners=False, antialias=True
    )
    return resized[0, :, :, 0].T.contiguous()
