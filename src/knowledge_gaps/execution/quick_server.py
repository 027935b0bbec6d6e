"""The first module that the server imports from which workers are forked: it quickens the others.

A server is told which modules to import and nothing else, so this one acts when it is imported.
Workers go back to Python's own way (`quick_start.collect_as_usual`).
"""

from __future__ import annotations

from knowledge_gaps.execution.quick_start import collect_rarely

collect_rarely()
