"""dvc.lock, read whole though DVC rewrites it in place while stages run side by side.

Who imports DVC anyway holds DVC's own lock and uses `parse_stages`. A stage uses `read_stages`,
which keeps off that lock's file by the system's lock on it, and works without DVC.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from knowledge_gaps.core.errors import UserError

LOCK_FILE = "dvc.lock"
_GUARD = Path(".dvc", "tmp", "lock")  # what DVC locks while it writes
_PATIENCE_SEC = 10.0
_POLL_SEC = 0.05
_WAY_OUT = (
    "`git checkout HEAD -- dvc.lock` brings the committed one back, and what was trained since "
    "comes out of DVC's cache"
)


def read_stages(root: Path) -> Mapping[str, Any]:
    """Read the stages of dvc.lock; {} where there is none.

    Args:
        root: the repository's root.

    Returns:
        What dvc.lock records, by the name of the stage.

    Raises:
        UserError: when the file is not whole and does not become so either.
    """
    until = time.monotonic() + _PATIENCE_SEC
    while True:
        is_last = time.monotonic() > until
        try:
            # a DVC that only transfers data holds the lock for longer, and writes nothing
            return parse_stages(_read_text(root, wait=not is_last))
        except (UserError, BlockingIOError):
            if is_last:
                raise
            time.sleep(_POLL_SEC)


def parse_stages(text: str) -> Mapping[str, Any]:
    """Find the stages in what dvc.lock says.

    Raises:
        UserError: when that is not the whole of a dvc.lock; a text without a line has no stages.
    """
    if not text:
        return {}
    try:
        content = YAML(typ="safe").load(text)
    except (YAMLError, ValueError) as error:
        said = " ".join(str(error).split())
        raise UserError(f"{LOCK_FILE}: not valid YAML: {said}; {_WAY_OUT}") from error
    stages = (content.get("stages") or {}) if isinstance(content, dict) else None
    if not isinstance(stages, dict) or not all(isinstance(stages[name], dict) for name in stages):
        raise UserError(f"{LOCK_FILE}: not a lock file of DVC; {_WAY_OUT}")
    if not text.endswith("\n"):
        raise UserError(f"{LOCK_FILE}: ends in the middle of a line; {_WAY_OUT}")
    return stages


def _read_text(root: Path, *, wait: bool) -> str:
    """Read the file; BlockingIOError when a DVC holds its lock and the caller wants to wait."""
    path, guard = root / LOCK_FILE, root / _GUARD
    if not path.is_file():
        return ""
    if not wait or not guard.is_file():
        return read_lock_text(path)
    with guard.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return read_lock_text(path)


def read_lock_text(path: Path) -> str:
    """Read a dvc.lock as text; raises UserError when it is empty, which DVC never leaves."""
    text = path.read_text(encoding="utf-8")
    if not text:
        raise UserError(f"{LOCK_FILE}: empty; {_WAY_OUT}")
    return text
