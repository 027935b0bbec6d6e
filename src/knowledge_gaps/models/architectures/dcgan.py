"""DCGAN: the small generator and discriminator of the low-parameter setting.

Source: Radford, Metz & Chintala 2016, section 3.

DEVIATION: the paper's DCGAN layers are not published; the sizes are a choice of the recipe.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from torch import Tensor, nn

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.models.registry import (
    GanArchitecture,
    Generator,
    ImageShape,
    ModelSettings,
    gan_architectures,
)

_INIT_STD = 0.02
_LEAK = 0.2
_OVERSHOOT = 1.1  # of a clamped tanh


class DcganSettings(ModelSettings):
    """Sizes of a DCGAN."""

    latent_dim: Annotated[int, Field(ge=1)]
    """Length of a latent vector."""
    channels: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1)]
    """Of the generator, each at twice the resolution of the last."""
    discriminator_channels: list[Annotated[int, Field(ge=1)]] | None = None
    """Of the discriminator, each at half the resolution of the last, as many as the generator's;
    null mirrors these."""
    kernel_px: Annotated[int, Field(ge=2, multiple_of=2)] = 4
    """Side of all convolution kernels; even, so that strides of 2 tile evenly."""
    output: Literal["tanh", "clamped_tanh"] = "tanh"
    """"tanh" never reaches the ends of [-1, 1], where reals of digits have most of their pixels;
    "clamped_tanh" is 1.1 tanh, clamped to the ends."""

    @model_validator(mode="after")
    def _check_depth(self) -> Self:
        others = self.discriminator_channels
        if others is not None and len(others) != len(self.channels):
            raise ValueError(
                f"discriminator_channels has {len(others)} entries, {len(self.channels)} are needed"
            )
        return self


class DcganGenerator(Generator):
    """Generator G; see `DcganSettings`."""

    def __init__(self, settings: DcganSettings, image_shape: ImageShape) -> None:
        super().__init__()
        base_px = _compute_base_px(settings, image_shape)
        widest = settings.channels[0]
        self.latent_dim = settings.latent_dim
        self.project = nn.Linear(settings.latent_dim, widest * base_px[0] * base_px[1], bias=False)
        layers: list[nn.Module] = [nn.Unflatten(1, (widest, *base_px))]
        outputs = [*settings.channels[1:], image_shape[0]]
        padding = settings.kernel_px // 2 - 1
        for depth, sizes in enumerate(zip(settings.channels, outputs, strict=True), start=1):
            is_last = depth == len(outputs)  # batch normalisation brings the others' bias
            layers += [
                nn.BatchNorm2d(sizes[0]),
                nn.ReLU(inplace=True),
                nn.ConvTranspose2d(*sizes, settings.kernel_px, 2, padding, bias=is_last),
            ]
        self.layers = nn.Sequential(*layers, nn.Tanh())
        self._is_clamped = settings.output == "clamped_tanh"
        self.apply(_init_weights)

    def forward(self, latents: Tensor) -> Tensor:
        """Return images float32 [N, C, H, W] in [-1, 1] of latents float32 [N, latent_dim]."""
        images: Tensor = self.layers(self.project(latents))
        return (_OVERSHOOT * images).clamp(-1.0, 1.0) if self._is_clamped else images


class DcganDiscriminator(nn.Module):
    """Discriminator D, the generator's mirror; no batch normalisation in its first layer."""

    def __init__(self, settings: DcganSettings, image_shape: ImageShape) -> None:
        super().__init__()
        base_px = _compute_base_px(settings, image_shape)
        outputs = settings.discriminator_channels or list(reversed(settings.channels))
        inputs = [image_shape[0], *outputs[:-1]]
        padding = settings.kernel_px // 2 - 1
        layers: list[nn.Module] = []
        for depth, sizes in enumerate(zip(inputs, outputs, strict=True)):
            layers.append(nn.Conv2d(*sizes, settings.kernel_px, 2, padding, bias=depth == 0))
            layers += [] if depth == 0 else [nn.BatchNorm2d(sizes[1])]
            layers.append(nn.LeakyReLU(_LEAK, inplace=True))
        self.layers = nn.Sequential(*layers, nn.Flatten())
        self.head = nn.Linear(outputs[-1] * base_px[0] * base_px[1], 1)
        self.apply(_init_weights)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits float32 [N], positive = real, of images float32 [N, C, H, W]."""
        logits: Tensor = self.head(self.layers(images))
        return logits.squeeze(1).float()


def _compute_base_px(settings: DcganSettings, image_shape: ImageShape) -> tuple[int, int]:
    factor = 2 ** len(settings.channels)
    _, height, width = image_shape
    if height % factor or width % factor:
        raise UserError(
            f"model.channels: {len(settings.channels)} entries need images whose sides are a "
            f"multiple of {factor} px, the data has {height}x{width} px"
        )
    return height // factor, width // factor


def _init_weights(module: nn.Module) -> None:
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
        nn.init.normal_(module.weight, 0.0, _INIT_STD)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, _INIT_STD)
        nn.init.zeros_(module.bias)


gan_architectures.register(
    GanArchitecture("dcgan", DcganSettings, DcganGenerator, DcganDiscriminator)
)
