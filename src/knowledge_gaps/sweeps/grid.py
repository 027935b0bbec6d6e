"""The experiments of a sweep: the product of lists of values, each checked as a whole study."""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.study import PARAMS_FILE, Study, parse_yaml, validate_study

_NAME_KEY = "study.name"  # every experiment's is its own, by which MLflow tells them apart
_NAME_CHARACTERS = 64


@dataclass(frozen=True)
class Experiment:
    """One point of the grid.

    Attributes:
        name: in DVC and MLflow; ends in a hash of the whole study, so the same experiment has the
            same name again.
        values: what differs from params.yaml, by dotted key.
        overrides: the same and the name, in the form of DVC's --set-param.
    """

    name: str
    values: Mapping[str, Any]
    overrides: Sequence[str]


def make_grid(
    content: Mapping[str, Any], axes: Sequence[str], check: Callable[[Study], None]
) -> list[Experiment]:
    """Make the experiments of a sweep.

    Args:
        content: of params.yaml, the study that is swept.
        axes: each "KEY=VALUE,VALUE,..." with a dotted key of it and values as in YAML.
        check: raises UserError for a study that no stage could run.

    Returns:
        The product of all lists, the last one running fastest.

    Raises:
        UserError: for a key that is given twice, or a key or value that the study cannot take.
    """
    lists: dict[str, list[Any]] = {}
    for key, listed in map(parse_axis, axes):
        if key in lists:
            raise UserError(f"{key}: given twice in the sweep")
        lists[key] = listed
    grid = []
    for point in itertools.product(*lists.values()):
        values = dict(zip(lists, point, strict=True))
        changed, overrides = _apply(content, values)
        try:
            study = validate_study(changed, PARAMS_FILE)
            check(study)
        except UserError as error:
            raise UserError(f"{_describe(values)}: {error}") from error
        name = _make_name(study, values)
        grid.append(Experiment(name, values, [*overrides, _describe({_NAME_KEY: name})]))
    return grid


def parse_axis(axis: str) -> tuple[str, list[Any]]:
    """Read "KEY=VALUE,VALUE,...", values as in YAML; raises UserError for another form."""
    key, _, text = axis.partition("=")
    values = parse_yaml(f"[{text}]", axis)
    if not key or not values:
        raise UserError(f"{axis!r} found, KEY=VALUE,VALUE,... is needed")
    if key == _NAME_KEY:
        raise UserError(f"{key}: cannot be swept, every experiment gets a name of its own")
    return key, values


def _apply(content: Mapping[str, Any], values: Mapping[str, Any]) -> tuple[Any, list[str]]:
    """Return the content with changed values, and these for --set-param."""
    changed, overrides = copy.deepcopy(content), []
    for key, value in values.items():
        *sections, last = key.split(".")
        section: Any = changed
        for part in sections:
            section = section.setdefault(part, {})
            if not isinstance(section, dict):
                raise UserError(f"{key}: {part!r} is no section, it is {section!r}")
        plus = "" if last in section else "+"  # DVC's sign for a key that params.yaml leaves out
        overrides.append(plus + _describe({key: value}))
        section[last] = value
    return changed, overrides


def _describe(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={json.dumps(value, default=str)}" for key, value in values.items())


def _make_name(study: Study, values: Mapping[str, Any]) -> str:
    """Make a study's name that tells as much of the values as fits, and a hash of the study."""
    described = json.dumps(study.model_dump(mode="json"), sort_keys=True)
    digest = hashlib.sha256(described.encode()).hexdigest()[:8]
    words = [f"{key.rpartition('.')[2]}-{value}".replace(".", "p") for key, value in values.items()]
    start = re.sub(r"[^A-Za-z0-9_-]+", "-", "-".join([study.study.name, *words]))
    return f"{start[: _NAME_CHARACTERS - len(digest) - 1].rstrip('-_')}-{digest}"
