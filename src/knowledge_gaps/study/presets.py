"""The studies in settings/: their purposes, and writing one to params.yaml."""

from __future__ import annotations

import subprocess
from itertools import takewhile
from pathlib import Path

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.files import write_text
from knowledge_gaps.study.load import PARAMS_FILE, load_study

_DIRECTORY = "settings"


def list_presets(root: Path) -> list[str]:
    """List the studies in settings/ by name; raises UserError where there is no such folder."""
    if not (root / _DIRECTORY).is_dir():
        raise UserError(f"{_DIRECTORY}/: missing; kgaps runs in the repository's root")
    return sorted(path.stem for path in (root / _DIRECTORY).glob("*.yaml"))


def describe_presets(root: Path) -> list[str]:
    """Describe the studies in settings/, a line each; raises UserError as `list_presets`."""
    names = list_presets(root)
    width = max((len(name) for name in names), default=0)
    return [f"{name:{width}}  {_read_purpose(root, name)}".rstrip() for name in names]


def _read_purpose(root: Path, name: str) -> str:
    """Read the first sentence of the comment that a file begins with; "" where there is none."""
    lines = (root / _DIRECTORY / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    comment = takewhile(lambda line: line.startswith("#"), lines)
    text = " ".join(line.lstrip("# ").rstrip() for line in comment)
    sentence, is_followed, _ = text.partition(". ")
    return sentence + "." if is_followed else sentence


def use_preset(root: Path, name: str, is_forced: bool = False) -> None:
    """Write a study of settings/ to params.yaml, after it was checked.

    Args:
        root: the repository's root.
        name: of the file without its suffix.
        is_forced: also over changes that are nowhere else.

    Raises:
        UserError: when there is none of that name, it is not valid, or params.yaml has changes
            that would be lost.
    """
    if name not in list_presets(root):
        known = ", ".join(list_presets(root))
        raise UserError(f"settings: there is no {name!r} in {_DIRECTORY}/ (known: {known})")
    source = root / _DIRECTORY / f"{name}.yaml"
    load_study(source)
    if not is_forced and _is_edited(root):
        raise UserError(
            f"{PARAMS_FILE}: has changes that are neither committed nor in {_DIRECTORY}/; keep "
            "them there as a file, or write over them with --force"
        )
    write_text(root / PARAMS_FILE, source.read_text(encoding="utf-8"))


def _is_edited(root: Path) -> bool:
    """Tell whether params.yaml is neither a study of settings/ nor as it is committed."""
    file = root / PARAMS_FILE
    content = file.read_bytes() if file.is_file() else b""
    presets = (path.read_bytes() for path in (root / _DIRECTORY).glob("*.yaml"))
    if not content or content in presets:
        return False
    command = ["git", "show", f"HEAD:./{PARAMS_FILE}"]
    try:
        return subprocess.run(command, cwd=root, capture_output=True, check=False).stdout != content
    except OSError:  # no git
        return True
