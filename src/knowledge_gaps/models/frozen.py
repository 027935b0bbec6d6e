"""Stored instances, loaded as frozen networks: the gradient reaches the images and no weight."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
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

FORMAT = 1  # of meta.json and of the files that it lists

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
    meta = read_meta(directory)
    with _name_meta_file(directory):
        model, shape = meta["settings"]["model"], tuple(meta["image_shape"])
        generator = build_generator(meta["architecture"], model, shape)
    return _load_weights(generator, directory / GENERATOR_FILE, meta, sha256)


def load_classifier(directory: Path, sha256: str | None = None) -> GanClassifier:
    """Load a frozen GAN-classifier with its InputSpec; arguments and errors as `load_generator`."""
    meta = read_meta(directory)
    with _name_meta_file(directory):
        architecture = classifier_architectures.get(meta["architecture"])
        settings = parse_settings(architecture, meta["settings"]["model"])
        spec = InputSpec.model_validate(meta.get("input_spec"))
        classifier = GanClassifier(architecture.build(settings, spec.input_shape), spec)
    return _load_weights(classifier, directory / CLASSIFIER_FILE, meta, sha256)


@contextmanager
def _name_meta_file(directory: Path) -> Iterator[None]:
    """Say which meta.json it is whose content no network can be built from."""
    path = directory / META_FILE
    try:
        yield
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except ValidationError as error:
        raise UserError(f"{path}: input_spec: {describe_first_error(error, InputSpec)}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: {type(error).__name__} {' '.join(str(error).split())}") from error


def _load_weights(module: _Module, path: Path, meta: dict[str, Any], sha256: str | None) -> _Module:
    recorded = meta["files"].get(path.name)
    if recorded is None:
        raise UserError(
            f"{path.with_name(META_FILE)}: lists no {path.name}; kind is {meta['kind']!r}"
        )
    if sha256 is not None and sha256 != recorded:
        raise UserError(f"{path}: sha256 is {recorded}, the pool recorded {sha256}: run dvc repro")
    try:
        module.load_state_dict(read_tensors(path, recorded), strict=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{path}: does not fit architecture {meta['architecture']!r} ({reason})"
        ) from error
    return freeze(module)
