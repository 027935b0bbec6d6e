"""What a classifier expects of its input, and the differentiable way from images to it.

Resizing is a product with fixed matrices: its backward pass is deterministic on every device, where
CUDA's bilinear upsampling is not.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn


class InputSpec(BaseModel):
    """Size and normalisation of a classifier's input; stored with its weights.

    Attributes:
        channels: of the images that it is given, and of its input.
        image_px: height and width of the images that it is given.
        input_px: height and width that the network sees.
        mean: subtracted, per channel, after [-1, 1] was mapped to [0, 1].
        std: divided by, per channel.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    channels: int
    image_px: tuple[int, int]
    input_px: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of what the network sees."""
        return (self.channels, *self.input_px)


class GanClassifier(nn.Module):
    """A GAN-classifier C: prepares images by its InputSpec and returns one logit each.

    Args:
        network: maps prepared images to logits.
        spec: how images are prepared.
    """

    _scale: Tensor
    _shift: Tensor
    _rows: Tensor
    _columns: Tensor

    def __init__(self, network: nn.Module, spec: InputSpec) -> None:
        super().__init__()
        self.network = network
        self.spec = spec
        per_channel = (1, spec.channels, 1, 1)
        # not in the state dict: the spec is stored beside the weights, and rebuilds them
        # ((x + 1) / 2 - mean) / std as one multiplication and one addition
        mean, std = (
            torch.tensor(spec.mean).view(per_channel),
            torch.tensor(spec.std).view(per_channel),
        )
        self.register_buffer("_scale", 0.5 / std, persistent=False)
        self.register_buffer("_shift", (0.5 - mean) / std, persistent=False)
        for axis, name in enumerate(("_rows", "_columns")):
            matrix = make_resize_matrix(spec.image_px[axis], spec.input_px[axis])
            self.register_buffer(name, matrix, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits float32 [N], positive = real, of images float32 [N, C, H, W] in [-1, 1]."""
        assert images.shape[1:] == (self.spec.channels, *self.spec.image_px), images.shape
        prepared = images
        if self.spec.image_px != self.spec.input_px:
            prepared = self._rows @ prepared @ self._columns.T
        logits: Tensor = self.network(torch.addcmul(self._shift, prepared, self._scale))
        return logits.float()


def make_resize_matrix(from_px: int, to_px: int) -> Tensor:
    """Make the matrix of antialiased bilinear resizing along one axis.

    Returns:
        float32 [to_px, from_px]; rows sum to 1.
    """
    # one unit impulse a channel; two columns wide, for torch's resize of one column is wrong
    impulses = torch.eye(from_px).view(1, from_px, from_px, 1).repeat(1, 1, 1, 2)
    resized = F.interpolate(
        impulses, size=(to_px, 2), mode="bilinear", align_corners=False, antialias=True
    )
    return resized[0, :, :, 0].T.contiguous()
