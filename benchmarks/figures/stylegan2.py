"""StyleGAN2's training step in `make bench`: one small case of `stylegan2`, which goes further."""

from __future__ import annotations

import os
import tempfile

from knowledge_gaps.core.determinism import configure_process
from knowledge_gaps.core.devices import keep_freed_memory
from measuring.pairs import compare
from measuring.results import Effort, Figure, Row
from stylegan2 import BASE, TEXTBOOK, Case, measure_case
from stylegan2 import Row as CaseRow

_VARIANTS = (BASE, TEXTBOOK, "bf16", "compiled")
_QUICK_VARIANTS = (BASE, TEXTBOOK)
_CASE = Case(
    size_px=32,
    fools=False,
    batch_size=8,
    channel_base=1024,
    max_channels=64,
    classifier_divisor=8,
    classifier_px=64,
)


def measure_stylegan2(effort: Effort) -> Figure:
    """Measure a step in every variant, to the float32 eager one."""
    configure_process()
    keep_freed_memory()
    variants = _QUICK_VARIANTS if effort.is_quick else _VARIANTS
    with tempfile.TemporaryDirectory() as folder:
        # what other programs of this machine compile is kept apart
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
        rows = measure_case(_CASE, variants, effort.num_turns, with_memory=False)
    found = {row.variant: row for row in rows}
    return Figure(
        "stylegan2",
        "A step of StyleGAN2",
        f"The recipe of settings/ffhq_paper.yaml with narrow networks ({_CASE.max_channels} "
        f"channels at most), {_CASE.size_px} px, batches of {_CASE.batch_size}, both regularisers "
        "at their share; one process of one thread, by its CPU seconds. Images a second of each "
        "variant to the project's own float32 eager step; the textbook's convolves with grouped "
        "weights for every sample; the compiled one's networks went through torch.compile before "
        "the clock started, the regularisers did not. Wider networks and memory: "
        "`python benchmarks/stylegan2.py`.",
        [make_row(found[variant], found[BASE]) for variant in variants if variant != BASE],
        measured={variant: row.seconds for variant, row in found.items()},
    )


def make_row(row: CaseRow, base: CaseRow) -> Row:
    """Compare a variant with the base, or say why there is nothing to compare."""
    name = f"{row.variant} / {BASE}"
    if row.skipped:
        return Row(name, None, note=row.skipped)
    return Row(name, compare(base.seconds, row.seconds))
