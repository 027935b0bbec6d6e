"""Who keeps off whom: one command above the stages at a time, and DVC while files are looked at."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from knowledge_gaps.runtime.errors import StoppedError, UserError
from knowledge_gaps.runtime.layout import get_state_directory
from knowledge_gaps.runtime.signals import StopFlag, catch_stop_signals

_LOCK_SEC = 5.0


@contextmanager
def run_alone(root: Path) -> Iterator[StopFlag]:
    """Keep other `kgaps repro` and `kgaps sweep` out of a repository; give what tells to stop.

    Raises:
        UserError: when one is there.
    """
    lock_file = get_state_directory(root) / "orchestration.lock"
    lock_file.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(lock_file)
    try:
        lock.acquire(timeout=_LOCK_SEC)
    except Timeout as error:
        raise UserError(f"{lock_file}: another kgaps repro or sweep is running here") from error
    try:
        with catch_stop_signals() as stop:
            yield stop
    finally:
        lock.release()


@contextmanager
def hold_dvc(root: Path, stop: StopFlag) -> Iterator[None]:
    """Hold DVC's lock of a repository, under which it writes dvc.lock and .gitignore files.

    Where another DVC has it, this says so and waits.

    Args:
        root: the repository's root.
        stop: once it is set, nobody waits for another DVC.

    Raises:
        StoppedError: when another DVC still has it then.
    """
    from dvc.config import Config
    from dvc.lock import LockError, make_lock

    folder = root / ".dvc"
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    is_hardlink = bool(Config(str(folder))["core"].get("hardlink_lock", False))
    lock = make_lock(str(temporary / "lock"), tmp_dir=str(temporary), hardlink_lock=is_hardlink)
    is_told = False
    while True:
        try:
            lock.lock()  # which tries for some seconds
            break
        except LockError as error:
            if stop.is_set():
                raise StoppedError("DVC was busy; the same command goes on") from error
            if not is_told:
                print("kgaps: waits for another command of DVC to end", file=sys.stderr, flush=True)
                is_told = True
    try:
        yield
    finally:
        lock.unlock()
