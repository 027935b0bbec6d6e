"""A fork server that has imported all that any stage's workers need.

After that a worker costs a tenth of a second, so what is timed next is work and no import.
"""

from __future__ import annotations

import multiprocessing

_PRELOADED = (
    "accelerate",
    "knowledge_gaps.training.instance",
    "knowledge_gaps.stages.agreement",
    "knowledge_gaps.stages.attributions",
    "knowledge_gaps.stages.audit",
    "knowledge_gaps.stages.detections",
    "knowledge_gaps.stages.quality",
    "knowledge_gaps.stages.spectra",
)


def warm_workers() -> None:
    """Start the server and wait until it has imported; before this process starts another one."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(_PRELOADED))
    first = context.Process(target=_do_nothing)
    first.start()
    first.join()


def _do_nothing() -> None:
    """Be the first worker, which begins when the imports are made."""
