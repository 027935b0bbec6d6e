"""How large the networks of a recipe are, counted without allocating them; runs in a process that
has torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from knowledge_gaps.models.input_spec import GanClassifier
from knowledge_gaps.models.registry import (
    Generator,
    ImageShape,
    classifier_architectures,
    gan_architectures,
    parse_settings,
)
from knowledge_gaps.study import Kind


def build_generator(architecture: str, model: Mapping[str, Any], shape: ImageShape) -> Generator:
    """Build a freshly initialised generator; raises UserError for settings that do not fit."""
    entry = gan_architectures.get(architecture)
    return entry.build_generator(parse_settings(entry, model), shape)


def build_discriminator(
    architecture: str, model: Mapping[str, Any], shape: ImageShape
) -> nn.Module:
    """Build a freshly initialised discriminator; raises UserError for settings that do not fit."""
    entry = gan_architectures.get(architecture)
    return entry.build_discriminator(parse_settings(entry, model), shape)


def build_classifier(
    architecture: str, model: Mapping[str, Any], shape: ImageShape
) -> GanClassifier:
    """Build a freshly initialised classifier; raises UserError for settings that do not fit."""
    entry = classifier_architectures.get(architecture)
    settings = parse_settings(entry, model)
    spec = entry.make_input_spec(settings, shape)
    return GanClassifier(entry.build(settings, spec.input_shape), spec)


def count_networks(
    kind: str, architecture: str, model: Mapping[str, Any], shape: ImageShape
) -> dict[str, dict[str, int]]:
    """Count parameters and stored bytes of each network of a recipe.

    Returns:
        By network ("G" and "D", or "C"): "parameters" and "stored_bytes".
    """
    with torch.device("meta"):  # shapes without values
        if kind == Kind.GANS:
            networks = {
                "G": build_generator(architecture, model, shape),
                "D": build_discriminator(architecture, model, shape),
            }
        else:
            networks = {"C": build_classifier(architecture, model, shape)}
    return {name: _count(network) for name, network in networks.items()}


def _count(network: nn.Module) -> dict[str, int]:
    return {
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "stored_bytes": sum(
            value.numel() * value.element_size() for value in network.state_dict().values()
        ),
    }
