"""Params that must not change while a stage runs.

DVC notes the params of a stage when the stage has ended. Whoever edits params.yaml meanwhile would
get a lock file, and a report, that speak of settings by which nothing was trained.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.study.load import PARAMS_FILE, parse_yaml, read_yaml

PIPELINE_FILE = "dvc.yaml"
_MISSING = object()
_SAVING_SEC = 1.0


@contextmanager
def require_unchanged(root: Path, stage: str, name: str | None = None) -> Iterator[None]:
    """Refuse the result of a stage if params that dvc.yaml gives it were edited meanwhile.

    The study has to be read within, and not before.

    Args:
        root: the repository's root.
        stage: as in dvc.yaml; others have no params.
        name: of the cohort or pool, where the stage has one.

    Raises:
        UserError: names the first of them.
    """
    file = root / PARAMS_FILE
    before = _read(file)
    yield
    if _read(file) == before:
        return
    old = parse_yaml(before, file.name)
    keys = list_params(root / PIPELINE_FILE, stage, name, old)
    new = _read_saved(file) if keys else old
    for key in keys:
        if _get(old, key) != _get(new, key):
            raise UserError(
                f"{PARAMS_FILE}: {key} was changed while {' '.join(filter(None, (stage, name)))} "
                "ran, which began with another value; run it again"
            )


def list_params(
    pipeline: Path, stage: str, name: str | None, content: Mapping[str, Any]
) -> list[str]:
    """List the dotted keys of params.yaml that a stage has in dvc.yaml.

    Args:
        pipeline: the dvc.yaml; none are listed where there is none.
        stage: as in it.
        name: what takes the place of ${key} in a stage that is there for each of a section.
        content: of params.yaml, for ${item.KEY}.
    """
    if not pipeline.is_file():
        return []
    entry = read_yaml(pipeline)["stages"].get(stage, {})
    if "foreach" not in entry:
        return list(entry.get("params", []))
    item = content[entry["foreach"].strip("${}")].get(name, {})
    values = {"${key}": name, **{f"${{item.{key}}}": value for key, value in item.items()}}
    keys = []
    for key in entry["do"].get("params", []):
        for sign, value in values.items():
            key = key.replace(sign, str(value))
        keys.append(key)
    return keys


def _read(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""


def _read_saved(file: Path) -> Any:
    """Read a file that somebody is editing: an editor may be in the middle of saving it."""
    try:
        return read_yaml(file)
    except UserError:
        time.sleep(_SAVING_SEC)
        return read_yaml(file)


def _get(content: Any, key: str) -> Any:
    for part in key.split("."):
        if not isinstance(content, dict) or part not in content:
            return _MISSING
        content = content[part]
    return content
