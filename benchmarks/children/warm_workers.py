"""A fork server that has imported all that workers need, and says so.

After that a worker costs a tenth of a second, so what is timed next is work and no import.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence

from knowledge_gaps.training.workers import PRELOAD

TRAINING = PRELOAD
SAMPLES = ("knowledge_gaps.stages.samples", "knowledge_gaps.stages.sampling")
DETECTIONS = ("knowledge_gaps.stages.detections",)
QUALITY = ("knowledge_gaps.stages.quality", "torch_fidelity")
ALL = (
    *TRAINING,
    *SAMPLES,
    *DETECTIONS,
    *QUALITY,
    "knowledge_gaps.stages.agreement",
    "knowledge_gaps.stages.attributions",
    "knowledge_gaps.stages.audit",
    "knowledge_gaps.stages.spectra",
)


def warm_workers(modules: Sequence[str]) -> None:
    """Start the server and wait until it has imported; before this process starts another one."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(modules))
    first = context.Process(target=_do_nothing)
    first.start()
    first.join()


def _do_nothing() -> None:
    """Be the first worker, which begins when the imports are made."""
