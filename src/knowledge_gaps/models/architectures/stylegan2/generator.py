"""StyleGAN2's generator: from latents to mixed styles, and to an image, a sum over resolutions.

Source: Karras et al. 2020, figure 2 (layers) and section 4.1 (output skips).
"""

from __future__ import annotations

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
from knowledge_gaps.models.registry import ImageShape, StyleGenerator


class MappingNetwork(nn.Module):
    """A multilayer perceptron over normalised latents (Karras et al. 2019, appendix C)."""

    def __init__(self, settings: StyleGan2Settings) -> None:
        super().__init__()
        widths = [settings.latent_dim, *[settings.style_dim] * settings.mapping_layers]
        self.layers = nn.ModuleList(
            layers.EqualizedLinear(num_inputs, num_outputs, rate=settings.mapping_lr_multiplier)
            for num_inputs, num_outputs in pairwise(widths)
        )

    def forward(self, latents: Tensor) -> Tensor:
        """Return styles [N, style_dim] of latents [N, latent_dim]."""
        # each latent has a mean square of 1
        values = latents * torch.rsqrt(latents.square().mean(dim=1, keepdim=True) + layers.EPSILON)
        for layer in self.layers:
            values = layers.activate(layer(values, layers.ACTIVATION_GAIN))
        return values


class SynthesisBlock(nn.Module):
    """The layers of one resolution, `channels_in` below (None at 4 px), and the way to an image."""

    def __init__(
        self, channels_in: int | None, stage: Stage, settings: StyleGan2Settings, colours: int
    ) -> None:
        super().__init__()
        self.is_half = stage.is_half
        convs = [layers.StyledConv(stage.channels, stage, settings.style_dim)]
        if channels_in is not None:
            convs.insert(0, layers.StyledConv(channels_in, stage, settings.style_dim, is_up=True))
        self.convs = nn.ModuleList(convs)
        self.to_image = layers.ToImage(stage, colours, settings.style_dim)

    def forward(self, maps: Tensor, styles: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Return feature maps, and the image's part of this resolution, by styles [N, W]."""
        for conv, style in zip(self.convs, styles, strict=False):
            maps = conv(maps, style)
        return maps, self.to_image(maps, styles[-1])


class SynthesisNetwork(nn.Module):
    """From styles to images; an image takes `num_styles` style vectors, two a resolution."""

    def __init__(self, settings: StyleGan2Settings, image_shape: ImageShape) -> None:
        super().__init__()
        stages = plan_stages(settings, image_shape)
        self.num_styles = 2 * len(stages)
        self.constant = nn.Parameter(torch.randn(stages[0].channels, BASE_PX, BASE_PX))
        channels_in = [None, *(stage.channels for stage in stages)]
        self.blocks = nn.ModuleList(
            SynthesisBlock(channels, stage, settings, image_shape[0])
            for channels, stage in zip(channels_in, stages, strict=False)
        )

    def forward(self, styles: Tensor) -> Tensor:
        """Return full-precision images [N, C, H, W] of styles [N, num_styles, style_dim]."""
        half_dtype = layers.find_half_dtype(styles.device)
        by_layer = list(styles.unbind(dim=1))
        maps = self.constant.expand(len(styles), -1, -1, -1)
        image: Tensor | None = None
        with torch.autocast(styles.device.type, enabled=False):
            for index, block in enumerate(self.blocks):
                # the way to the image shares its style with the next resolution's first convolution
                first = max(2 * index - 1, 0)
                maps = layers.to_block(maps, half_dtype if block.is_half else None)
                maps, part = block(maps, by_layer[first : 2 * index + 2])
                image = part if image is None else layers.upsample(image) + part
        assert image is not None
        return image.contiguous()


class StyleGan2Generator(StyleGenerator):
    """Generator G; see `StyleGan2Settings`. Pixels may leave [-1, 1]; noise is drawn anew."""

    def __init__(self, settings: StyleGan2Settings, image_shape: ImageShape) -> None:
        super().__init__()
        self.latent_dim = settings.latent_dim
        self.synthesis = SynthesisNetwork(settings, image_shape)
        self.mapping = MappingNetwork(settings)
        self.register_buffer("style_average", torch.zeros(settings.style_dim))
        self._mixing, self._decay = settings.style_mixing, settings.average_decay

    def map_latents(self, latents: Tensor) -> Tensor:
        """Return styles [N, L, style_dim]; in training mode mixed, and their average tracked."""
        with torch.autocast(latents.device.type, enabled=False):
            drawn = [layers.to_full(latents)]
            if self.training and self._mixing > 0:
                drawn.append(torch.randn_like(drawn[0]))
            coarse, *fine = self.mapping(torch.cat(drawn)).chunk(len(drawn))
            if self.training:
                self._track(coarse)
            styles = self._repeat(coarse)
            return self._mix(styles, self._repeat(*fine)) if fine else styles

    def synthesize(self, styles: Tensor) -> Tensor:
        """Return images float32 [N, C, H, W] of styles [N, L, style_dim]."""
        images: Tensor = self.synthesis(styles)
        return images

    def _repeat(self, styles: Tensor) -> Tensor:
        return styles[:, None].expand(-1, self.synthesis.num_styles, -1)

    @torch.no_grad()
    def _track(self, styles: Tensor) -> None:
        self.style_average.lerp_(styles.mean(dim=0), 1 - self._decay)

    def _mix(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """Give some images the fine styles of another latent, from a random layer on."""
        num_images, num_styles, _ = coarse.shape
        device = coarse.device
        crossover = torch.randint(1, num_styles, (num_images, 1), device=device)
        is_kept = torch.rand(num_images, 1, device=device) >= self._mixing
        is_coarse = (torch.arange(num_styles, device=device) < crossover) | is_kept  # [N, L]
        return torch.where(is_coarse[:, :, None], coarse, fine)
