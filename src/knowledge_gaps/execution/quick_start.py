"""Processes that start and end faster: the thousands of modules that they import are no garbage.

Python's collector looks through them again and again while they are imported, and once more when
the process ends: together some 40 % of the time that a process takes that only imports torch,
MLflow, pandas and scikit-learn.
"""

from __future__ import annotations

import atexit
import gc
import sys

_USUAL_THRESHOLD = gc.get_threshold()
_RARE_THRESHOLD = (50_000, 50, 100)


def collect_rarely() -> None:
    """Collect garbage rarely from now on, for imports, and not at all when the process ends."""
    gc.set_threshold(*_RARE_THRESHOLD)
    atexit.register(end_quickly)


def collect_as_usual() -> None:
    """Go back to Python's own way, for the work after the imports; what is there now is kept."""
    gc.freeze()
    gc.set_threshold(*_USUAL_THRESHOLD)


def end_quickly() -> None:
    """Leave what is there to the system, which takes all of a process's memory back at once."""
    # triton's bindings print a list of leaks when they are not collected
    if "triton" not in sys.modules:
        gc.freeze()
