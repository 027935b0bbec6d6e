"""One stage, run by DVC in a process group of its own; what it says goes to a file.

Every process of the stage inherits the open file, and with it a lock on it. So the lock tells when
the last of them has ended, also those of a `kgaps repro` that was killed.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from knowledge_gaps.orchestration.machine import Share
from knowledge_gaps.runtime.errors import StoppedError, UserError
from knowledge_gaps.runtime.layout import get_state_directory
from knowledge_gaps.runtime.signals import StopFlag

_LINGER_SEC = 60.0  # how long processes may take to save their states after DVC has ended
_POLL_SEC = 0.2
_SAID = ("kgaps: ", "ERROR: ")  # how the lines begin that say why a stage failed


class StageJob:
    """A running stage.

    Args:
        root: the repository's root.
        stage: its name in dvc.yaml.
        share: of the machine.
    """

    def __init__(self, root: Path, stage: str, share: Share) -> None:
        self._log = get_log_file(root, stage)
        self._log.parent.mkdir(parents=True, exist_ok=True)
        arguments = ["--wait-for-lock", "repro", "--single-item", stage]
        parent = str(os.getpid())
        with self._log.open("wb") as log:
            fcntl.flock(log, fcntl.LOCK_EX)
            self._process = subprocess.Popen(
                [sys.executable, "-m", "knowledge_gaps.orchestration.child", parent, *arguments],
                cwd=root,
                env={**os.environ, **share.describe()},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches this command alone, which passes it on
            )
        self._ended_at: float | None = None

    def poll(self) -> bool:
        """Tell whether DVC has ended, and every process of the stage with it."""
        if self._process.poll() is None:
            return False
        self._ended_at = self._ended_at or time.monotonic()
        return not is_held(self._log) or time.monotonic() - self._ended_at > _LINGER_SEC

    def explain(self) -> str | None:
        """Say in one line why the stage failed; None when it did not."""
        code = self._process.returncode
        if code == 0:
            return None
        lines = [line.strip() for line in read_lines(self._log)]
        for start in _SAID:
            said = [line.removeprefix(start) for line in lines if line.startswith(start)]
            if said:
                return said[0]
        return f"its process ended by itself (exit code {code}); the same command goes on"

    def stop(self) -> None:
        """Interrupt all processes of the stage, as Ctrl-C does."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGINT)


def get_log_file(root: Path, stage: str) -> Path:
    """Where the output of a stage's last run is."""
    return get_repro_directory(root) / f"{stage}.log"


def get_repro_directory(root: Path) -> Path:
    """What `kgaps repro` keeps: the outputs of stages, and the order of before."""
    return get_state_directory(root) / "repro"


def read_lines(log: Path) -> list[str]:
    """Read what a stage has said so far, without empty lines."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    return [line for line in text.splitlines() if line.strip()]


def is_held(log: Path) -> bool:
    """Tell whether a process that writes to the file is still there."""
    try:
        with log.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


def wait_for_others(root: Path, stop: StopFlag) -> None:
    """Wait until the stages of a run that was killed have saved their states.

    Raises:
        StoppedError: when the process was told to stop.
        UserError: when one of them does not end.
    """
    until = time.monotonic() + _LINGER_SEC
    for log in sorted(get_repro_directory(root).glob("*.log")):
        while is_held(log):
            if stop.is_set():
                raise StoppedError(
                    "stages of an earlier command ran still; the same command goes on"
                )
            if time.monotonic() > until:
                raise UserError(f"{log.stem}: still run by an earlier command; it has to end first")
            time.sleep(_POLL_SEC)
