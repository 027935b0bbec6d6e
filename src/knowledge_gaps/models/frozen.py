"""Stored instances, loaded as frozen networks: the gradient reaches the images and no weight."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from torch import nn

from knowledge_gaps.core.checkpoint import read_tensors
from knowledge_gaps.core.errors import UserError, describe_first_error
from knowledge_gaps.core.files import read_json
from knowledge_gaps.core.layout import CLASSIFIER_FILE, GENERATOR_FILE, META_FILE
from knowledge_gaps.models.input_spec import GanClassifier, InputSpec
from knowledge_gaps.models.networks import build_generator
from knowledge_gaps.models.registry import Generator, classifier_architectures, parse_settings

FORMAT = 2  # of meta.json and of the files that it lists

_Module = TypeVar("_Module", bound=nn.Module)


def freeze(module: _Module) -> _Module:
    """Put a network into evaluation mode, take its weights out of every gradient, return it."""
    return module.eval().requires_grad_(False)


def read_meta(directory: Path) -> dict[str, Any]:
    """Read an instance's meta.json; raises UserError when it is missing, damaged or outdated."""
    path = directory / META_FILE
    meta = read_json(path)
    if meta.get("format") != FORMAT:
        raise UserError(f"{path}: format is {meta.get('format')!r}, {FORMAT} is needed")
    for key in ("kind", "architecture", "settings", "image_shape", "files"):
        if key not in meta:
            raise UserError(f"{path}: key {key!r} is missing")
    return meta


def load_generator(directory: Path, sha256: str | None = None) -> Generator:
    """Load the frozen generator of an instance's directory; a given sha256 is its weights'.

    Raises UserError when a file is missing, altered or does not fit its architecture.
    """

    def build(meta: dict[str, Any]) -> Generator:
        model, shape = meta["settings"]["model"], tuple(meta["image_shape"])
        return build_generator(meta["architecture"], model, shape)

    return _load(directory, GENERATOR_FILE, build, sha256)


def load_classifier(directory: Path, sha256: str | None = None) -> GanClassifier:
    """Load a frozen GAN-classifier with its InputSpec; arguments and errors as `load_generator`."""

    def build(meta: dict[str, Any]) -> GanClassifier:
        architecture = classifier_architectures.get(meta["architecture"])
        settings = parse_settings(architecture, meta["settings"]["model"])
        spec = InputSpec.model_validate(meta.get("input_spec"))
        return GanClassifier(architecture.build(settings, spec.input_shape), spec)

    return _load(directory, CLASSIFIER_FILE, build, sha256)


def _load(
    directory: Path,
    file_name: str,
    build: Callable[[dict[str, Any]], _Module],
    sha256: str | None,
) -> _Module:
    meta, meta_path, path = read_meta(directory), directory / META_FILE, directory / file_name
    try:
        network = build(meta)
    except UserError as error:
        raise UserError(f"{meta_path}: {error}") from error
    except ValidationError as error:
        described = describe_first_error(error, InputSpec)
        raise UserError(f"{meta_path}: input_spec: {described}") from error
    except (KeyError, TypeError, ValueError) as error:
        said = " ".join(str(error).split())
        raise UserError(f"{meta_path}: {type(error).__name__} {said}") from error
    recorded = meta["files"].get(file_name)
    if recorded is None:
        raise UserError(f"{meta_path}: lists no {file_name}; kind is {meta['kind']!r}")
    if sha256 is not None and sha256 != recorded:
        raise UserError(f"{path}: sha256 is {recorded}, the pool recorded {sha256}: run dvc repro")
    try:
        network.load_state_dict(read_tensors(path, recorded), strict=True)
    except RuntimeError as error:
        reason, name = " ".join(str(error).split())[:200], meta["architecture"]
        raise UserError(f"{path}: does not fit architecture {name!r} ({reason})") from error
    return freeze(network)
