"""StyleGAN2's discriminator: residual blocks, and the minibatch standard deviation.

Source: Karras et al. 2020, section 4.1 (residual networks); Karras et al. 2018 (progressive
growing), section 3 (minibatch standard deviation).
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from knowledge_gaps.models.architectures.stylegan2 import layers
from knowledge_gaps.models.architectures.stylegan2.settings import (
    BASE_PX,
    Stage,
    StyleGan2Settings,
    plan_stages,
)
from knowledge_gaps.models.registry import ImageShape

_RESIDUAL_GAIN = math.sqrt(0.5)  # of each branch, so that their sum keeps its variance


class ResidualBlock(nn.Module):
    """From one resolution to the next below: two convolutions beside a filtered 1x1 convolution."""

    def __init__(self, stage: Stage, channels_out: int) -> None:
        super().__init__()
        self.is_half, self._clamp = stage.is_half, stage.clamp
        self.conv = layers.EqualizedConv(stage.channels, stage.channels, kernel_px=3)
        self.conv_down = layers.EqualizedConv(stage.channels, channels_out, kernel_px=3)
        self.skip = layers.EqualizedConv(stage.channels, channels_out, kernel_px=1, has_bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        """Return feature maps [N, channels_out, H / 2, W / 2] of maps [N, C, H, W]."""
        skipped: Tensor = self.skip(layers.filter_maps(maps, padding=1, stride=2), _RESIDUAL_GAIN)
        maps = layers.activate(self.conv(maps, layers.ACTIVATION_GAIN), self._clamp)
        blurred = layers.filter_maps(maps, padding=2)  # H + 1 px
        maps = self.conv_down(blurred, layers.ACTIVATION_GAIN * _RESIDUAL_GAIN, stride=2)
        clamp = None if self._clamp is None else self._clamp * _RESIDUAL_GAIN
        return skipped + layers.activate(maps, clamp)


class StyleGan2Discriminator(nn.Module):
    """Discriminator D; see `StyleGan2Settings`."""

    def __init__(self, settings: StyleGan2Settings, image_shape: ImageShape) -> None:
        super().__init__()
        stages = plan_stages(settings, image_shape)[::-1]
        base = stages[-1].channels
        self._group_size, self._clamp = settings.mbstd_group, stages[0].clamp
        self.from_image = layers.EqualizedConv(image_shape[0], stages[0].channels, kernel_px=1)
        self.blocks = nn.ModuleList(
            ResidualBlock(stage, below.channels) for stage, below in pairwise(stages)
        )
        self.conv = layers.EqualizedConv(base + 1, base, kernel_px=3)
        self.hidden = layers.EqualizedLinear(base * BASE_PX**2, base)
        self.head = layers.EqualizedLinear(base, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits float32 [N], positive = real, of images float32 [N, C, H, W]."""
        half_dtype = layers.find_half_dtype(images.device)
        with torch.autocast(images.device.type, enabled=False):
            maps = images
            for index, block in enumerate(self.blocks):
                maps = layers.to_block(maps, half_dtype if block.is_half else None)
                if index == 0:
                    maps = layers.activate(
                        self.from_image(maps, layers.ACTIVATION_GAIN), self._clamp
                    )
                maps = block(maps)
            return self._judge(layers.to_block(maps, None))

    def _judge(self, maps: Tensor) -> Tensor:
        maps = append_deviation(maps, self._group_size)
        maps = layers.activate(self.conv(maps, layers.ACTIVATION_GAIN))
        features = layers.activate(self.hidden(maps.flatten(1), layers.ACTIVATION_GAIN))
        logits: Tensor = self.head(features)
        return layers.to_full(logits.squeeze(1))


def append_deviation(maps: Tensor, group_size: int) -> Tensor:
    """Append each group's mean standard deviation as a channel, [N, C, H, W] -> [N, C + 1, H, W].

    Groups are contiguous. A batch that is no multiple of the size is cut into as few groups as the
    size allows, of sizes that differ by at most 1, the larger first.
    """
    num_groups = -(-len(maps) // group_size)
    if len(maps) % num_groups == 0:
        groups = [maps.unflatten(0, (num_groups, -1))]
    else:
        groups = [group[None] for group in maps.tensor_split(num_groups)]
    deviations = [_compute_deviations(group) for group in groups]
    channel = torch.cat(deviations)[:, None, None, None].expand(-1, 1, *maps.shape[2:])
    return torch.cat([maps, channel], dim=1)


def _compute_deviations(groups: Tensor) -> Tensor:
    """Return one number for each image, [M * G], of groups [M, G, C, H, W]."""
    variance = (groups - groups.mean(dim=1, keepdim=True)).square().mean(dim=1)
    deviations = (variance + layers.EPSILON).sqrt().mean(dim=(1, 2, 3))
    return deviations[:, None].expand(-1, groups.shape[1]).flatten()
