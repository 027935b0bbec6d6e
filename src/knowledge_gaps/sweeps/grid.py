"""The experiments of a sweep: the product of the lists of values, each checked as a whole study."""

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

STUDY_NAME_KEY = "study.name"  # tells the experiments apart in MLflow, so it is no key of a sweep
_NAME_CHARACTERS = 64
_HASH_DIGITS = 8


@dataclass(frozen=True)
class Experiment:
    """One point of the grid.

    Attributes:
        name: in DVC, in MLflow, and as the name of its study; made of everything that params.yaml
            says then, so the same experiment has the same name again.
        values: what differs from params.yaml, by dotted key.
        new_keys: those of them that params.yaml leaves to their default.
        digest: sha256 of the whole study, under the name that it has in params.yaml.
        study: all of it, under that name.
    """

    name: str
    values: Mapping[str, Any]
    new_keys: frozenset[str]
    digest: str
    study: Study

    def describe(self) -> list[str]:
        """List the overrides in the form of DVC's --set-param."""
        overrides = []
        for key, value in {**self.values, STUDY_NAME_KEY: self.name}.items():
            plus = "+" if key in self.new_keys else ""
            overrides.append(f"{plus}{key}={json.dumps(value)}")
        return overrides


def make_grid(
    params_file: Path, axes: Sequence[str], check: Callable[[Study], None]
) -> list[Experiment]:
    """Make the experiments of a sweep.

    Args:
        params_file: the study that is swept.
        axes: each "KEY=VALUE,VALUE,..." with a dotted key of it and values as in YAML.
        check: refuses a study that no stage could run, by a UserError.

    Returns:
        The product of all lists, the last one running fastest.

    Raises:
        UserError: for an unknown key, one that is there twice, a value that the study cannot take,
            or two ways to write the same study; nothing has been done then.
    """
    content = read_yaml(params_file)
    study = validate_study(content, "params.yaml as it is")
    lists: dict[str, list[Any]] = {}
    for axis in axes:
        key, values = parse_axis(axis)
        if key in lists:
            raise UserError(f"{key}: stands twice in the sweep")
        _check_key(study.model_dump(mode="json"), key)
        lists[key] = values
    points = itertools.product(*lists.values())
    grid = [_make_experiment(content, dict(zip(lists, point, strict=True))) for point in points]
    _check_differences(grid)
    for experiment in grid:
        try:
            check(experiment.study)
        except UserError as error:
            raise UserError(f"{_describe(experiment.values)}: {error}") from error
    return grid


def parse_axis(axis: str) -> tuple[str, list[Any]]:
    """Read "KEY=VALUE,VALUE,...", values as in YAML: numbers, words, null, [1, 2].

    Raises:
        UserError: when it has another form, or names a value twice.
    """
    key, sign, text = axis.partition("=")
    try:
        values = YAML(typ="safe", pure=True).load(f"[{text}]") if sign and text.strip() else []
    except YAMLError as error:
        raise UserError(f"{key}: {text!r} is no list of values") from error
    if not key or not values:
        raise UserError(f"{axis!r} found, KEY=VALUE,VALUE,... is needed")
    texts = [json.dumps(value, default=str) for value in values]
    for one in texts:
        if texts.count(one) > 1:
            raise UserError(f"{key}: {one} stands twice in the sweep")
    return key, values


def _check_key(content: Mapping[str, Any], key: str) -> None:
    """Refuse a key that the study does not have, defaults included, or that is a whole section."""
    if key == STUDY_NAME_KEY:
        raise UserError(f"{key}: cannot be swept, every experiment gets a name of its own")
    entry: Any = content
    parts = key.split(".")
    for place, part in enumerate(parts):
        if not isinstance(entry, dict) or part not in entry:
            known = ", ".join(entry) if isinstance(entry, dict) else "none"
            raise UserError(f"{'.'.join(parts[: place + 1])}: unknown key (allowed: {known})")
        entry = entry[part]
    if isinstance(entry, dict):
        raise UserError(f"{key}: a section, one of its keys is needed: {', '.join(entry)}")


def _check_differences(grid: Sequence[Experiment]) -> None:
    """Refuse values such as 1 and 1.0, which would train the same study twice."""
    seen: dict[str, Experiment] = {}
    for point in grid:
        other = seen.setdefault(point.digest, point)
        if other is not point:
            one, two = _describe(other.values), _describe(point.values)
            raise UserError(f"{two}: the same study as {one}, which the sweep has already")


def _make_experiment(content: Any, values: Mapping[str, Any]) -> Experiment:
    changed = copy.deepcopy(content)
    new_keys = {key for key, value in values.items() if _set(changed, key, value)}
    study = validate_study(changed, _describe(values))
    described = json.dumps(study.model_dump(mode="json"), sort_keys=True)
    digest = hashlib.sha256(described.encode()).hexdigest()
    name = _make_name(study.study.name, values, digest[:_HASH_DIGITS])
    return Experiment(name, values, frozenset(new_keys), digest, study)


def _describe(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={json.dumps(value, default=str)}" for key, value in values.items())


def _set(content: dict[str, Any], key: str, value: Any) -> bool:
    """Set a key; tell whether it was not there."""
    *sections, last = key.split(".")
    for section in sections:
        content = content.setdefault(section, {})
    is_new = last not in content
    content[last] = value
    return is_new


def _make_name(study: str, values: Mapping[str, Any], digest: str) -> str:
    """Make a name that says the values and is a study's name too: as much of them as it can."""
    words = [f"{key.rpartition('.')[2]}-{_spell(value)}" for key, value in values.items()]
    start = re.sub(r"[^A-Za-z0-9_-]+", "-", "-".join([study, *words]))
    return f"{start[: _NAME_CHARACTERS - len(digest) - 1].rstrip('-_')}-{digest}"


def _spell(value: Any) -> str:
    return str(value).replace(".", "p")
