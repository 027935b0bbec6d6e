"""Params that must not change while a stage runs.

DVC records the params of a stage when the stage has ended. If params.yaml was edited meanwhile, its
lock would hold settings by which nothing was trained.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.study.load import PARAMS_FILE, parse_yaml, read_yaml

PIPELINE_FILE = "dvc.yaml"


@contextmanager
def require_unchanged(root: Path, stage: str, name: str | None = None) -> Iterator[None]:
    """Refuse the result of a stage if params that dvc.yaml gives it were edited meanwhile.

    Args:
        root: the repository's root; the study has to be read within the block.
        stage: as in dvc.yaml; others have no params.
        name: of the cohort or pool, where the stage has one.

    Raises:
        UserError: names the first of them.
    """
    file, pipeline = root / PARAMS_FILE, root / PIPELINE_FILE
    before = file.read_bytes() if file.is_file() else b""
    yield
    if not pipeline.is_file() or (file.is_file() and file.read_bytes() == before):
        return
    old, new = parse_yaml(before.decode(), file.name), read_yaml(file)
    for key in list_params(read_yaml(pipeline), stage, name, old):
        if _get(old, key) != _get(new, key):
            command = stage if name is None else f"{stage} {name}"
            raise UserError(
                f"{PARAMS_FILE}: {key} was changed while {command} ran, which began with another "
                "value; run it again"
            )


def list_params(
    pipeline: Mapping[str, Any], stage: str, name: str | None, params: Mapping[str, Any]
) -> list[str]:
    """List the dotted keys of params.yaml that a stage depends on.

    Args:
        pipeline: content of dvc.yaml.
        stage: as in it.
        name: replaces ${key} in a stage that is there for each entry of a section.
        params: content of params.yaml; all sections of a stage that depends on the whole file.
    """
    entry = pipeline["stages"].get(stage, {})
    item = params.get(entry["foreach"].strip("${}"), {}).get(name, {}) if "foreach" in entry else {}
    entry = entry.get("do", entry)
    listed = [*params] if PARAMS_FILE in entry.get("deps", []) else entry.get("params", [])
    keys = [key for key in listed if isinstance(key, str)]  # others are of other files
    for variable, value in {"key": name, **{f"item.{key}": item[key] for key in item}}.items():
        keys = [key.replace(f"${{{variable}}}", str(value)) for key in keys]
    return keys


def _get(content: Any, key: str) -> Any:
    for part in key.split("."):
        content = content.get(part) if isinstance(content, dict) else None
    return content
