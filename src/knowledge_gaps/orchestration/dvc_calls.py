"""DVC's command line as functions: its options and JSON are stable where its Python API is not."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from knowledge_gaps.runtime.errors import UserError

DVC = (sys.executable, "-m", "dvc")


def start_dvc(root: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start a command of DVC whose outputs are read by `finish_dvc`."""
    pipe = subprocess.PIPE
    return subprocess.Popen([*DVC, *arguments], cwd=root, stdout=pipe, stderr=pipe, text=True)


def finish_dvc(process: subprocess.Popen[str], timeout_sec: float | None = None) -> str:
    """Wait for a command of DVC and return what it wrote to stdout.

    Args:
        process: of `start_dvc`.
        timeout_sec: how long it may take; it is ended after that.

    Raises:
        UserError: when it failed, with a message of DVC's own, or took too long.
    """
    try:
        out, errors = process.communicate(timeout=timeout_sec)
    except subprocess.TimeoutExpired as error:
        process.kill()
        process.communicate()
        raise UserError(f"dvc: no answer within {timeout_sec:.0f} s; try again") from error
    if process.returncode != 0:
        lines = [line for line in errors.splitlines() if line.startswith("ERROR: ")]
        said = lines[0] if lines else f"exit code {process.returncode}"
        command = list(process.args)[len(DVC) :] if isinstance(process.args, list) else []
        raise UserError(f"dvc {' '.join(map(str, command))}: {said.removeprefix('ERROR: ')}")
    return out


def ask_dvc(root: Path, *arguments: str, timeout_sec: float | None = None) -> str:
    """Run a command of DVC to its end; returns and raises as `finish_dvc`."""
    return finish_dvc(start_dvc(root, *arguments), timeout_sec)


def parse_json(text: str) -> Any:
    """Read the JSON that a command of DVC printed, after whatever else it said.

    Raises:
        UserError: when there is none.
    """
    for line_start in _find_starts(text):
        try:
            return json.loads(text[line_start:])
        except ValueError:
            continue
    raise UserError(f"dvc: JSON was expected, found {text[:80]!r}")


def _find_starts(text: str) -> Sequence[int]:
    return [
        at for at, sign in enumerate(text) if sign in "{[" and (at == 0 or text[at - 1] == "\n")
    ]
