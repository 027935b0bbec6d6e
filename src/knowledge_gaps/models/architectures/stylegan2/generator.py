"""StyleGAN2's generator: mapping network, style mixing, the average of w, synthesis network."""

from __future__ import annotations

import torch
from torch import Tensor

from knowledge_gaps.models.architectures.stylegan2.mapping import MappingNetwork
from knowledge_gaps.models.architectures.stylegan2.precision import disable_autocast, to_full
from knowledge_gaps.models.architectures.stylegan2.settings import StyleGan2Settings
from knowledge_gaps.models.architectures.stylegan2.synthesis import SynthesisNetwork
from knowledge_gaps.models.registry import ImageShape, StyleGenerator


class StyleGan2Generator(StyleGenerator):
    """Generator G; see `StyleGan2Settings`.

    Its images lie in [-1, 1] nominally: there is no tanh at the end, and single pixels may leave
    the range. Noise inputs are drawn anew by every call, in evaluation too, from the device's
    global random numbers.
    """

    def __init__(self, settings: StyleGan2Settings, image_shape: ImageShape) -> None:
        super().__init__()
        self.latent_dim = settings.latent_dim
        self.synthesis = SynthesisNetwork(settings, image_shape)
        self.mapping = MappingNetwork(settings)
        self.register_buffer("style_average", torch.zeros(settings.style_dim))
        self._mixing, self._decay = settings.style_mixing, settings.average_decay

    def map_latents(self, latents: Tensor) -> Tensor:
        """Return styles [N, L, style_dim]; in training mode mixed, and their average tracked."""
        with disable_autocast(latents.device):
            latents = to_full(latents)
            if not self.training:
                return self._repeat(self.mapping(latents))
            if self._mixing == 0:
                styles = self.mapping(latents)
                self._track(styles)
                return self._repeat(styles)
            both = self.mapping(torch.cat([latents, torch.randn_like(latents)]))
            coarse, fine = both.chunk(2)
            self._track(coarse)
            return self._mix(self._repeat(coarse), self._repeat(fine))

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
        """Give some images the fine styles of another latent, from a random layer on.

        Source: Karras et al. 2019, section 3.1.
        """
        num_images, num_styles, _ = coarse.shape
        device = coarse.device
        crossover = torch.randint(1, num_styles, (num_images, 1), device=device)
        is_kept = torch.rand(num_images, 1, device=device) >= self._mixing
        is_coarse = (torch.arange(num_styles, device=device) < crossover) | is_kept  # [N, L]
        return torch.where(is_coarse[:, :, None], coarse, fine)
