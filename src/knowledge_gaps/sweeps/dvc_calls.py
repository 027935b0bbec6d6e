"""DVC's command line as functions: its options and JSON are stable where its Python API is not.

Every DVC gets a process group of its own: Ctrl-C reaches `kgaps` alone, which decides what ends.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from knowledge_gaps.core.errors import StoppedError, UserError
from knowledge_gaps.execution.signals import StopFlag

DVC = (sys.executable, "-m", "dvc")
_POLL_SEC = 0.1
_END_SEC = 10.0  # how long an interrupted DVC may take to end


def start_dvc(root: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start a command of DVC whose outputs are read by `finish_dvc`."""
    return subprocess.Popen(
        [*DVC, *arguments],
        cwd=root,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish_dvc(
    process: subprocess.Popen[str],
    stop: StopFlag | None = None,
    timeout_sec: float | None = None,
) -> str:
    """Wait for a command of DVC and return what it wrote to stdout.

    Args:
        process: the command.
        stop: once it is set, the command is interrupted; None for one that has to come to its end.
        timeout_sec: how long it may take; it is ended after that.

    Raises:
        StoppedError: when it was interrupted, or the stop came just before its end.
        UserError: when it failed, with a message of DVC's own, or took too long.
    """
    try:
        out, errors = _communicate(process, stop, timeout_sec)
    except BaseException:
        _interrupt(process)
        raise
    if process.returncode != 0:
        lines = [line for line in errors.splitlines() if line.startswith("ERROR: ")]
        said = lines[0] if lines else f"exit code {process.returncode}"
        command = list(process.args)[len(DVC) :] if isinstance(process.args, list) else []
        raise UserError(f"dvc {' '.join(map(str, command))}: {said.removeprefix('ERROR: ')}")
    return out


def ask_dvc(
    root: Path,
    *arguments: str,
    stop: StopFlag | None = None,
    timeout_sec: float | None = None,
) -> str:
    """Run a command of DVC to its end; returns and raises as `finish_dvc`."""
    return finish_dvc(start_dvc(root, *arguments), stop, timeout_sec)


def run_dvc(root: Path, *arguments: str, changes: Mapping[str, str] | None = None) -> int:
    """Run a command of DVC whose words nobody reads; return its exit code.

    Args:
        root: the repository's root.
        arguments: of the command.
        changes: of the environment.
    """
    null = subprocess.DEVNULL  # a pipe would stay open in processes that DVC leaves behind
    done = subprocess.run(
        [*DVC, *arguments],
        cwd=root,
        env={**os.environ, **(changes or {})},
        stdin=null,
        stdout=null,
        stderr=null,
        check=False,
        start_new_session=True,
    )
    return done.returncode


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


def _communicate(
    process: subprocess.Popen[str], stop: StopFlag | None, timeout_sec: float | None
) -> tuple[str, str]:
    found: tuple[str, str] | None = None
    start = time.monotonic()
    while found is None:
        with suppress(subprocess.TimeoutExpired):
            found = process.communicate(timeout=_POLL_SEC)
        if stop is not None and stop.is_set():
            raise StoppedError("DVC had not answered yet; the same command goes on")
        if found is None and timeout_sec is not None and time.monotonic() - start > timeout_sec:
            raise UserError(f"dvc: no answer within {timeout_sec:g} s; try again")
    return found


def _interrupt(process: subprocess.Popen[str]) -> None:
    """End a command as Ctrl-C does, so that DVC cleans up."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=_END_SEC)
    process.kill()


def _find_starts(text: str) -> Sequence[int]:
    return [
        at for at, sign in enumerate(text) if sign in "{[" and (at == 0 or text[at - 1] == "\n")
    ]
