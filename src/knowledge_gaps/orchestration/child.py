"""`python -m knowledge_gaps.orchestration.child PARENT ARGUMENTS`: DVC, ended with its PARENT.

DVC on its own goes on when the process that started it is killed. This program is DVC in a process
group of its own; once its parent is gone, the group is interrupted as by Ctrl-C: the stage saves
its state and ends, and DVC with it. The parent says who it is, for it may be gone already when
Python has started here.

DVC writes dvc.lock in place and is torn out of it by Ctrl-C, which leaves half a file. Here the
interruption waits until the file is whole.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from types import FrameType

_POLL_SEC = 0.5
_AGAIN_SEC = 0.05
_WRITER = "dvc.utils.serialize"  # the package that reads and writes dvc.lock


def main() -> int:
    """Run DVC with the arguments of the command line after the parent; return its exit code."""
    parent = int(sys.argv[1])
    signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGALRM, _interrupt_again)
    threading.Thread(target=_end_with_parent, args=(parent,), daemon=True).start()
    from dvc.cli import main as run_dvc

    return int(run_dvc(sys.argv[2:]))


def _interrupt(_: int, frame: FrameType | None) -> None:
    """End as Python does at Ctrl-C, but not out of the writer."""
    if _is_writing(frame):
        signal.setitimer(signal.ITIMER_REAL, _AGAIN_SEC)
        return
    raise KeyboardInterrupt


def _interrupt_again(_: int, __: FrameType | None) -> None:
    """Interrupt the whole group, for a stage may have started since."""
    os.killpg(os.getpgrp(), signal.SIGINT)


def _is_writing(frame: FrameType | None) -> bool:
    while frame is not None:
        if str(frame.f_globals.get("__name__")).startswith(_WRITER):
            return True
        frame = frame.f_back
    return False


def _end_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_POLL_SEC)
    os.killpg(os.getpgrp(), signal.SIGINT)


if __name__ == "__main__":
    sys.exit(main())
