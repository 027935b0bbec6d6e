"""Settings of StyleGAN2, and the resolutions and widths that follow from them and the images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.models.registry import ImageShape, ModelSettings

BASE_PX = 4  # side of the learned constant, and of the discriminator's last feature maps
_MIN_PX, _MAX_PX = 8, 1024
_CLAMP = 256.0  # |activation| of a half-precision block is kept below

_Size = Annotated[int, Field(ge=1)]


class StyleGan2Settings(ModelSettings):
    """Sizes of a StyleGAN2; the defaults are configuration F of Karras et al. 2020."""

    latent_dim: _Size = 512
    """Length of a latent vector z."""
    style_dim: _Size = 512
    """Length of a style vector w, and width of the mapping network."""
    mapping_layers: _Size = 8
    """Of the mapping network."""
    mapping_lr_multiplier: Annotated[float, Field(gt=0, le=1)] = 0.01
    """Learning rate of the mapping network relative to the recipe's (Karras et al. 2019, appendix
    C)."""
    channel_base: _Size = 32768
    """Feature maps at a resolution are channel_base / resolution, ..."""
    max_channels: _Size = 512
    """... but never more than this."""
    style_mixing: Annotated[float, Field(ge=0, le=1)] = 0.9
    """Probability that an image of a training batch takes its fine styles from another latent
    (Karras et al. 2019, section 3.1)."""
    average_decay: Annotated[float, Field(ge=0, lt=1)] = 0.995
    """Of the moving average of w that truncation pulls towards, per batch."""
    mbstd_group: _Size = 4
    """Images that share one minibatch standard deviation; with 1, no image sees another."""
    num_half_blocks: Annotated[int, Field(ge=0)] = 0
    """The highest resolutions of both networks that run in the autocast's half precision, their
    activations clamped; 0 runs everything in float32, autocast or not."""


@dataclass(frozen=True)
class Stage:
    """What both networks do at one resolution, the side of its feature maps."""

    resolution_px: int
    channels: int
    is_half: bool  # runs in half precision under autocast, with clamped activations

    @property
    def clamp(self) -> float | None:
        """Largest magnitude of an activation; None for no bound."""
        return _CLAMP if self.is_half else None


def plan_stages(settings: StyleGan2Settings, image_shape: ImageShape) -> list[Stage]:
    """List the resolutions from 4 px up; raises UserError for images that do not fit."""
    _, height, width = image_shape
    found = f"{height}x{width} px"
    is_power_of_two = width & (width - 1) == 0
    if height != width or not is_power_of_two or not _MIN_PX <= width <= _MAX_PX:
        raise UserError(
            f"architecture 'stylegan2': the data has images of {found}, square ones with a power "
            f"of two from {_MIN_PX} to {_MAX_PX} as their side are needed"
        )
    if settings.channel_base < width:
        raise UserError(
            f"model.channel_base: found {settings.channel_base}, the data has {found} and needs at "
            f"least {width}"
        )
    resolutions = [BASE_PX << doubling for doubling in range((width // BASE_PX).bit_length())]
    first_half = len(resolutions) - settings.num_half_blocks
    if first_half < 1:  # the lowest is always full
        raise UserError(
            f"model.num_half_blocks: found {settings.num_half_blocks}, images of {found} allow at "
            f"most {len(resolutions) - 1}"
        )
    return [
        Stage(px, min(settings.channel_base // px, settings.max_channels), index >= first_half)
        for index, px in enumerate(resolutions)
    ]
