"""`python -m knowledge_gaps.orchestration.child PARENT ARGUMENTS`: DVC, ended with its PARENT.

DVC on its own goes on when the process that started it is killed. This program is DVC in a process
group of its own; once its parent is gone, the group is interrupted as by Ctrl-C: the stage saves
its state and ends, and DVC with it. The parent says who it is, for it may be gone already when
Python has started here.

Ctrl-C tears DVC out of whatever it writes, in place: dvc.lock, git's index. Here it reaches the
stage's command, or a DVC that waits to begin; what DVC itself has begun, it finishes.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from types import FrameType

_POLL_SEC = 0.5
_AGAIN_SEC = 0.1
_DVC = "dvc."
_WAITING = "dvc.lock"  # the module that waits for another DVC
_STAGE_RUN = "dvc.stage.run"  # waits too, after the command: a stage that has run is recorded


def main() -> int:
    """Run DVC with the arguments of the command line after the parent; return its exit code."""
    parent = int(sys.argv[1])
    signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGALRM, _interrupt_again)
    threading.Thread(target=_end_with_parent, args=(parent,), daemon=True).start()
    from dvc.cli import main as run_dvc

    try:
        return int(run_dvc(sys.argv[2:]))
    finally:  # nothing is left to be interrupted, and Python's own end knows no handlers
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.setitimer(signal.ITIMER_REAL, 0)


def _interrupt(_: int, frame: FrameType | None) -> None:
    """End as Python does at Ctrl-C where nothing is written; else see later what DVC does then."""
    modules = _list_modules(frame)
    is_waiting = _WAITING in modules and _STAGE_RUN not in modules
    if is_waiting or not any(module.startswith(_DVC) for module in modules):
        raise KeyboardInterrupt
    signal.setitimer(signal.ITIMER_REAL, _AGAIN_SEC)


def _interrupt_again(number: int, frame: FrameType | None) -> None:
    # DVC ignores Ctrl-C while a command runs; this one has begun since and is still to be told
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        os.killpg(os.getpgrp(), signal.SIGINT)
    else:
        _interrupt(number, frame)


def _list_modules(frame: FrameType | None) -> set[str]:
    modules = set()
    while frame is not None:
        modules.add(str(frame.f_globals.get("__name__")))
        frame = frame.f_back
    return modules


def _end_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_POLL_SEC)
    os.killpg(os.getpgrp(), signal.SIGINT)


if __name__ == "__main__":
    sys.exit(main())
