"""`python -m knowledge_gaps.orchestration.child PARENT ARGUMENTS`: DVC, ended with its PARENT.

DVC on its own goes on when the process that started it is killed. This program is DVC in a process
group of its own; once its parent is gone, the group is interrupted as by Ctrl-C: the stage saves
its state and ends, and DVC with it. The parent says who it is, for it may be gone already when
Python has started here.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

_POLL_SEC = 0.5


def main() -> int:
    """Run DVC with the arguments of the command line after the parent; return its exit code."""
    parent = int(sys.argv[1])
    threading.Thread(target=_end_with_parent, args=(parent,), daemon=True).start()
    from dvc.cli import main as run_dvc

    return int(run_dvc(sys.argv[2:]))


def _end_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_POLL_SEC)
    os.killpg(os.getpgrp(), signal.SIGINT)


if __name__ == "__main__":
    sys.exit(main())
