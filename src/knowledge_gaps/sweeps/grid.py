"""The experiments of a sweep: the product of lists of values, each checked as a whole study."""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.study import Study
from knowledge_gaps.study.load import read_yaml, validate_study

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
        study: all of it, under the name that it has in params.yaml.
    """

    name: str
    values: Mapping[str, Any]
    overrides: Sequence[str]
    study: Study


def make_grid(
    params_file: Path, axes: Sequence[str], check: Callable[[Study], None]
) -> list[Experiment]:
    """Make the experiments of a sweep.

    Args:
        params_file: the study that is swept.
        axes: each "KEY=VALUE,VALUE,..." with a dotted key of it and values as in YAML.
        check: raises UserError for a study that no stage could run.

    Returns:
        The product of all lists, the last one running fastest.

    Raises:
        UserError: for an unknown key, one that is given twice, a value that the study cannot take,
            or two ways to write the same study.
    """
    content = read_yaml(params_file)
    defaults = validate_study(content, "params.yaml as it is").model_dump(mode="json")
    lists: dict[str, list[Any]] = {}
    for key, values in map(parse_axis, axes):
        _check_key(defaults, key)
        if key in lists:
            raise UserError(f"{key}: given twice in the sweep")
        lists[key] = values
    grid: dict[str, Experiment] = {}
    for point in itertools.product(*lists.values()):
        experiment = _make_experiment(content, dict(zip(lists, point, strict=True)))
        other = grid.setdefault(_hash_study(experiment.study), experiment)
        if other is not experiment:
            same = f"the same study as {describe(other.values)}"
            raise UserError(f"{describe(experiment.values)}: {same}, given as well")
        try:
            check(experiment.study)
        except UserError as error:
            raise UserError(f"{describe(experiment.values)}: {error}") from error
    return list(grid.values())


def parse_axis(axis: str) -> tuple[str, list[Any]]:
    """Read "KEY=VALUE,VALUE,...", values as in YAML; raises UserError for another form."""
    key, _, text = axis.partition("=")
    try:
        values = YAML(typ="safe", pure=True).load(f"[{text}]")
    except YAMLError as error:
        raise UserError(f"{key}: {text!r} is no list of values") from error
    if not key or not values:
        raise UserError(f"{axis!r} found, KEY=VALUE,VALUE,... is needed")
    return key, values


def describe(values: Mapping[str, Any]) -> str:
    """Write the values of an experiment in one line."""
    return ", ".join(f"{key}={json.dumps(value, default=str)}" for key, value in values.items())


def _check_key(content: Any, key: str) -> None:
    """Refuse a key that the study does not have, defaults included, or that is no value."""
    entry = content
    for part in key.split("."):
        if not isinstance(entry, dict) or part not in entry:
            known = ", ".join(entry) if isinstance(entry, dict) else "none"
            raise UserError(f"{key}: unknown key {part!r} (allowed: {known})")
        entry = entry[part]
    if isinstance(entry, dict):
        raise UserError(f"{key}: a section, one of its keys is needed: {', '.join(entry)}")
    if key == _NAME_KEY:
        raise UserError(f"{key}: cannot be swept, every experiment gets a name of its own")


def _make_experiment(content: Any, values: Mapping[str, Any]) -> Experiment:
    changed, overrides = copy.deepcopy(content), []
    for key, value in values.items():
        *sections, last = key.split(".")
        section = changed
        for part in sections:
            section = section.setdefault(part, {})
        plus = "" if last in section else "+"  # DVC's sign for a key that params.yaml leaves out
        overrides.append(plus + describe({key: value}))
        section[last] = value
    study = validate_study(changed, describe(values))
    name = _make_name(study, values)
    return Experiment(name, values, [*overrides, describe({_NAME_KEY: name})], study)


def _make_name(study: Study, values: Mapping[str, Any]) -> str:
    """Make a study's name that tells as much of the values as fits, and a hash of the study."""
    digest = _hash_study(study)[:8]
    words = [f"{key.rpartition('.')[2]}-{value}".replace(".", "p") for key, value in values.items()]
    start = re.sub(r"[^A-Za-z0-9_-]+", "-", "-".join([study.study.name, *words]))
    return f"{start[: _NAME_CHARACTERS - len(digest) - 1].rstrip('-_')}-{digest}"


def _hash_study(study: Study) -> str:
    described = json.dumps(study.model_dump(mode="json"), sort_keys=True)
    return hashlib.sha256(described.encode()).hexdigest()
