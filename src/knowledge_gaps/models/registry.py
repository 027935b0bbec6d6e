"""Architectures by name: a new one is a file in this folder that registers itself.

Tests walk over everything that is registered here, so a new architecture is tested by itself.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor, nn

from knowledge_gaps.models.input_spec import InputSpec
from knowledge_gaps.runtime.errors import UserError, describe_first_error

ImageShape = tuple[int, int, int]  # channels, height, width


class ModelSettings(BaseModel):
    """Base of an architecture's settings: frozen, unknown keys refused, nothing converted."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Generator(nn.Module):
    """What every generator offers beside `forward`.

    Attributes:
        latent_dim: length of a latent vector.
    """

    latent_dim: int

    def truncate(self, latents: Tensor, truncation: float) -> Tensor:
        """Lower the diversity of latents (paper's finding 11).

        Args:
            latents: float32 [N, latent_dim], standard normal.
            truncation: in (0, 1]; 1 changes nothing.

        Returns:
            Latents of the same shape, here scaled to that standard deviation.
        """
        return latents * truncation


@dataclass(frozen=True)
class GanArchitecture:
    """A generator and its discriminator.

    Attributes:
        name: the value of `architecture` in a recipe.
        settings: type of the recipe's `model` section.
        build_generator: from settings and image shape to a freshly initialised generator that maps
            latents [N, latent_dim] to images float32 [N, C, H, W] in [-1, 1].
        build_discriminator: likewise, mapping images to logits float32 [N], positive = real.
    """

    name: str
    settings: type[ModelSettings]
    build_generator: Callable[[Any, ImageShape], Generator]
    build_discriminator: Callable[[Any, ImageShape], nn.Module]


@dataclass(frozen=True)
class ClassifierArchitecture:
    """A GAN-classifier.

    Attributes:
        name: the value of `architecture` in a recipe.
        settings: type of the recipe's `model` section.
        build: from settings and input shape to a freshly initialised network that maps images as
            the InputSpec prepares them to logits float32 [N], positive = real.
        make_input_spec: from settings and the dataset's image shape to what the network expects.
    """

    name: str
    settings: type[ModelSettings]
    build: Callable[[Any, ImageShape], nn.Module]
    make_input_spec: Callable[[Any, ImageShape], InputSpec]


_Architecture = TypeVar("_Architecture", GanArchitecture, ClassifierArchitecture)


class Registry(Generic[_Architecture]):
    """Architectures of one kind by name."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._entries: dict[str, _Architecture] = {}

    def register(self, architecture: _Architecture) -> None:
        """Add an architecture.

        Raises:
            ValueError: when the name is taken.
        """
        if architecture.name in self._entries:
            raise ValueError(f"{self._kind} architecture {architecture.name!r} is registered twice")
        self._entries[architecture.name] = architecture

    def list_names(self) -> list[str]:
        """List what is registered, in alphabetical order."""
        _import_architectures()
        return sorted(self._entries)

    def get(self, name: str) -> _Architecture:
        """Look an architecture up.

        Raises:
            UserError: when there is none of that name.
        """
        _import_architectures()
        if name not in self._entries:
            known = ", ".join(sorted(self._entries))
            raise UserError(f"architecture: unknown {self._kind} {name!r} (known: {known})")
        return self._entries[name]


gan_architectures: Registry[GanArchitecture] = Registry("GAN")
classifier_architectures: Registry[ClassifierArchitecture] = Registry("classifier")


def parse_settings(
    architecture: GanArchitecture | ClassifierArchitecture, model: Mapping[str, Any]
) -> ModelSettings:
    """Check a recipe's `model` section against its architecture.

    Raises:
        UserError: names the architecture, the key, what was found and what is allowed.
    """
    try:
        return architecture.settings.model_validate(dict(model))
    except ValidationError as error:
        message = describe_first_error(error, architecture.settings)
        raise UserError(f"model settings of {architecture.name!r}: {message}") from error


@cache
def _import_architectures() -> None:
    package = importlib.import_module("knowledge_gaps.models")
    for module in sorted(pkgutil.iter_modules(package.__path__), key=lambda module: module.name):
        importlib.import_module(f"{package.__name__}.{module.name}")
