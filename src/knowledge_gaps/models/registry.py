"""Architectures by name: a new one is a file in `architectures`, of its name, that registers it."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor, nn

from knowledge_gaps.core.errors import UserError, describe_first_error
from knowledge_gaps.core.fingerprint import ARCHITECTURES, SOURCE
from knowledge_gaps.models.input_spec import InputSpec

ImageShape = tuple[int, int, int]  # channels, height, width


class ModelSettings(BaseModel):
    """Base of an architecture's settings."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True
    )


class Generator(nn.Module):
    """Base of every generator; `latent_dim` is the length of a latent vector."""

    latent_dim: int

    def sample(self, latents: Tensor, truncation: float = 1.0) -> Tensor:
        """Generate images float32 [N, C, H, W] of standard normal latents [N, latent_dim].

        Truncation in (0, 1] is the latents' standard deviation; 1 is `forward`.
        """
        images: Tensor = self(latents * truncation)
        return images


class StyleGenerator(Generator, ABC):
    """A generator that turns latents into styles, and those into images.

    It mixes styles and tracks their average in training mode alone; see `Stream.seed_layers`.
    """

    style_average: Tensor  # float32 [W], moving average; a buffer, stored with the weights

    @abstractmethod
    def map_latents(self, latents: Tensor) -> Tensor:
        """Return styles [N, L, W], one for each of L layers, of latents [N, latent_dim]."""

    @abstractmethod
    def synthesize(self, styles: Tensor) -> Tensor:
        """Return images float32 [N, C, H, W] of styles [N, L, W]."""

    def forward(self, latents: Tensor) -> Tensor:
        """Return images float32 [N, C, H, W] of latents [N, latent_dim]."""
        return self.synthesize(self.map_latents(latents))

    def sample(self, latents: Tensor, truncation: float = 1.0) -> Tensor:
        """Generate images; truncation pulls all styles towards their average."""
        # psi of Karras et al. 2019, appendix B
        styles = self.map_latents(latents)
        if truncation != 1:
            styles = self.style_average.lerp(styles, truncation)
        return self.synthesize(styles)


@dataclass(frozen=True)
class GanArchitecture:
    """A generator and its discriminator, built of settings and image shape."""

    name: str  # the value of `architecture` in a recipe
    settings: type[ModelSettings]  # of the recipe's `model` section
    # latents [N, latent_dim] -> images float32 [N, C, H, W], nominally in [-1, 1]
    build_generator: Callable[[Any, ImageShape], Generator]
    # images -> logits float32 [N], positive = real
    build_discriminator: Callable[[Any, ImageShape], nn.Module]


@dataclass(frozen=True)
class ImagenetWeights:
    """Published weights of a classifier's network."""

    file_name: str  # torchvision's, which ends in the first digits of the file's sha256
    load: Callable[[nn.Module, Mapping[str, Tensor]], None]  # leaves a network's heads as they are
    settings: Mapping[str, int | bool]  # of the `model` section for which the weights were made

    @property
    def sha256_start(self) -> str:
        """First digits of the file's sha256."""
        return self.file_name.rpartition("-")[2].partition(".")[0]


@dataclass(frozen=True)
class ClassifierArchitecture:
    """A GAN-classifier, built of settings and input shape."""

    name: str  # the value of `architecture` in a recipe
    settings: type[ModelSettings]  # of the recipe's `model` section
    # prepared images -> logits float32 [N], positive = real; in training mode, with auxiliary
    # heads, a tuple, the main head's first
    build: Callable[[Any, ImageShape], nn.Module]
    make_input_spec: Callable[[Any, ImageShape], InputSpec]  # of the dataset's image shape
    blocks: tuple[str, ...] = ()  # types by name; none where gradient checkpointing is not offered
    imagenet: ImagenetWeights | None = None


_Architecture = TypeVar("_Architecture", GanArchitecture, ClassifierArchitecture)


class Registry(Generic[_Architecture]):
    """Architectures of one kind by name, each registered by the file of its name."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._entries: dict[str, _Architecture] = {}

    def register(self, architecture: _Architecture) -> None:
        """Add an architecture; raises ValueError when the name is taken."""
        if architecture.name in self._entries:
            raise ValueError(f"{architecture.name!r} is registered twice")
        self._entries[architecture.name] = architecture

    def list_names(self) -> list[str]:
        """List what is registered, in alphabetical order."""
        return [name for name in list_architectures() if self._find(name) is not None]

    def get(self, name: str) -> _Architecture:
        """Look an architecture up; raises UserError when no file of that name registers it."""
        architecture = self._find(name) if name in list_architectures() else None
        if architecture is None:
            known = ", ".join(self.list_names())
            raise UserError(
                f"architecture: unknown {self._kind} {name!r} (known: {known}; each is registered "
                "by a file of its name)"
            )
        return architecture

    def _find(self, name: str) -> _Architecture | None:
        try:
            importlib.import_module(f"knowledge_gaps.models.architectures.{name}")
        except Exception as error:  # whatever a file that is being written may raise
            said = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise UserError(f"{ARCHITECTURES}/{name}: cannot be imported: {said}") from error
        return self._entries.get(name)


gan_architectures: Registry[GanArchitecture] = Registry("GAN")
classifier_architectures: Registry[ClassifierArchitecture] = Registry("classifier")


def parse_settings(
    architecture: GanArchitecture | ClassifierArchitecture, model: Mapping[str, Any]
) -> ModelSettings:
    """Check a recipe's `model` section; raises UserError that names architecture and key."""
    try:
        return architecture.settings.model_validate(dict(model))
    except ValidationError as error:
        message = describe_first_error(error, architecture.settings)
        raise UserError(f"model settings of {architecture.name!r}: {message}") from error


def list_settings() -> dict[str, type[ModelSettings]]:
    """List the types of recipes' `model` sections, by the architectures that take them."""
    names: dict[type[ModelSettings], list[str]] = {}
    for registry in (gan_architectures, classifier_architectures):
        for name in registry.list_names():
            names.setdefault(registry.get(name).settings, []).append(name)
    return {", ".join(known): settings for settings, known in names.items()}


def list_architectures() -> list[str]:
    """List the architectures that have a file or folder of their name."""
    paths = (SOURCE / ARCHITECTURES).iterdir()
    return sorted(path.stem for path in paths if not path.name.startswith(("_", ".")))
