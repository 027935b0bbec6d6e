"""Importing this makes a process start and end faster: its thousands of modules are no garbage.

Python's collector looks through them again and again while they are imported, and once more when
the process ends: together some 40 % of the time that a process takes that only imports torch,
MLflow, pandas and scikit-learn. So it looks rarely from here on, and not at all at the end.
"""

from __future__ import annotations

import atexit
import gc

_USUAL_THRESHOLD = gc.get_threshold()

gc.set_threshold(50_000, 50, 100)
atexit.register(gc.freeze)


def collect_as_usual() -> None:
    """Go back to Python's own way, for the long work of a worker; what is there now is kept."""
    gc.freeze()
    gc.set_threshold(*_USUAL_THRESHOLD)
