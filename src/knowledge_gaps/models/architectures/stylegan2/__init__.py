"""StyleGAN2 of the high-parameter setting, registered.

Source: Karras, Laine & Aila 2019 (StyleGAN) and Karras et al. 2020 (StyleGAN2, configuration F).
"""

from __future__ import annotations

from knowledge_gaps.models.architectures.stylegan2.discriminator import StyleGan2Discriminator
from knowledge_gaps.models.architectures.stylegan2.generator import StyleGan2Generator
from knowledge_gaps.models.architectures.stylegan2.settings import StyleGan2Settings
from knowledge_gaps.models.registry import GanArchitecture, gan_architectures

gan_architectures.register(
    GanArchitecture("stylegan2", StyleGan2Settings, StyleGan2Generator, StyleGan2Discriminator)
)
