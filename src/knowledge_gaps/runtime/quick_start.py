"""Importing this makes a process start and end faster: its thousands of modules are no garbage.

Python's collector looks through them again and again while they are imported, and once more when
the process ends: together some 40 % of the time that a process takes that only imports torch,
MLflow, pandas and scikit-learn. So it looks rarely from here on, and not at all at the end.
"""

from __future__ import annotations

import atexit
import gc
import sys

_USUAL_THRESHOLD = gc.get_threshold()


def _end_quickly() -> None:
    # triton's bindings print a list of leaks when they are not collected
    if "triton" not in sys.modules:
        gc.freeze()


gc.set_threshold(50_000, 50, 100)
atexit.register(_end_quickly)


def collect_as_usual() -> None:
    """Go back to Python's own way, for the long work of a worker; what is there now is kept."""
    gc.freeze()
    gc.set_threshold(*_USUAL_THRESHOLD)
