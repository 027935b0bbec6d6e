"""The studies in settings/: listing them, and writing one to params.yaml."""

from __future__ import annotations

from pathlib import Path

from knowledge_gaps.runtime.errors import UserError
from knowledge_gaps.runtime.files import write_text
from knowledge_gaps.study.load import PARAMS_FILE, load_study

_DIRECTORY = "settings"


def list_presets(root: Path) -> list[str]:
    """List the studies in settings/ by name."""
    return sorted(path.stem for path in (root / _DIRECTORY).glob("*.yaml"))


def use_preset(root: Path, name: str) -> None:
    """Write a study of settings/ to params.yaml, after it was checked.

    Raises:
        UserError: when there is none of that name, or it is not valid.
    """
    if name not in list_presets(root):
        known = ", ".join(list_presets(root))
        raise UserError(f"settings: there is no {name!r} in {_DIRECTORY}/ (known: {known})")
    source = root / _DIRECTORY / f"{name}.yaml"
    load_study(source)
    write_text(root / PARAMS_FILE, source.read_text(encoding="utf-8"))
