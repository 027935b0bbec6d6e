"""Published ImageNet weights as the start of a classifier's training.

Nothing is downloaded; the file's sha256 must begin as torchvision's name of it says.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import nn

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.files import hash_file
from knowledge_gaps.models.registry import ImagenetWeights, classifier_architectures, parse_settings
from knowledge_gaps.study import ClassifierRecipe


def find_initial_weights(recipe: ClassifierRecipe, root: Path) -> tuple[Path, str]:
    """Find the file of the initial weights that a recipe asks for, and its sha256.

    Raises UserError when it is missing, of another sha256, or of another network.
    """
    published, cache = _find_published(recipe), Path(torch.hub.get_dir()) / "checkpoints"
    path = cache / published.file_name
    if recipe.initial_weights is not None:
        path = root / recipe.initial_weights
    if not path.is_file():
        raise UserError(
            f"initial_weights: {path} is missing; torchvision's {published.file_name} is needed "
            f"there or in its cache ({cache}), and nothing is downloaded"
        )
    sha256 = hash_file(path)
    if not sha256.startswith(published.sha256_start):
        raise UserError(
            f"initial_weights: sha256 of {path} is {sha256}, torchvision's {published.file_name} "
            f"begins with {published.sha256_start}; nothing is downloaded"
        )
    return path, sha256


def load_initial_weights(network: nn.Module, recipe: ClassifierRecipe, root: Path) -> str | None:
    """Put initial weights into a network, whose heads keep theirs; return the file's sha256."""
    if recipe.initialisation == "random":
        return None
    path, sha256 = find_initial_weights(recipe, root)
    state = torch.load(path, map_location="cpu", weights_only=True)
    _find_published(recipe).load(network, state)
    return sha256


def _find_published(recipe: ClassifierRecipe) -> ImagenetWeights:
    architecture = classifier_architectures.get(recipe.architecture)
    if architecture.imagenet is None:
        known = ", ".join(
            name
            for name in classifier_architectures.list_names()
            if classifier_architectures.get(name).imagenet is not None
        )
        raise UserError(
            f"initialisation: 'imagenet' found, {architecture.name!r} has no published weights "
            f"(known: {known}); 'random' is allowed"
        )
    settings = parse_settings(architecture, recipe.model)
    for key, needed in architecture.imagenet.settings.items():
        found = getattr(settings, key)
        if found != needed:
            raise UserError(
                f"initialisation: 'imagenet' needs model.{key} {json.dumps(needed)}, found "
                f"{json.dumps(found)}: published weights are of the published network"
            )
    return architecture.imagenet
