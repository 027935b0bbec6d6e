"""How wide the interval of every claim will be with so many chains, by the tables of a pilot."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.printing import draw_table, make_table
from knowledge_gaps.findings.effects import measure_effects
from knowledge_gaps.findings.schema import FINDINGS_FILE, load_findings
from knowledge_gaps.findings.sources import NotAskedError, list_study_cells
from knowledge_gaps.readings.reading import Results
from knowledge_gaps.readings.tables import read_tables
from knowledge_gaps.statistics.chains import ALPHA, CONFIDENCE
from knowledge_gaps.statistics.components import estimate_components, predict_half_width
from knowledge_gaps.study import Study


def run(root: Path, study: Study, pilot_chains: int) -> None:
    """Print half-widths by the tables of the study's own report, made with so many chains.

    Raises UserError when the tables are missing or have fewer chains.
    """
    if pilot_chains < 2:
        raise UserError(f"--pilot-chains: {pilot_chains} found, a spread needs at least 2")
    section = study.study.model_copy(update={"chains": pilot_chains})
    pilot = study.model_copy(update={"study": section})
    findings = load_findings(root / FINDINGS_FILE)
    results = Results(root, pilot, *read_tables(root, pilot), findings.seed)
    table = make_table("claim", "effect", "half-width", "threshold", "")
    for claim in findings.claims:
        try:
            effects = measure_effects(claim, lambda *asked: list_study_cells(results, *asked))
        except NotAskedError:
            continue
        components = estimate_components(effects[:, None, None])  # [S, 1, 1]: all is the chain's
        level = 1 - 2 * ALPHA if claim.direction == "equals" else CONFIDENCE
        half_width = predict_half_width(components, study.study.chains, 1, 1, level)
        effect, threshold = float(np.nanmean(effects)), findings.get_threshold(claim)
        is_two_sided = claim.direction in ("differs", "equals")
        distance = abs((abs(effect) if is_two_sided else effect) - threshold)
        words = "decides" if distance > half_width else ""
        numbers = (f"{x:.3f}" for x in (effect, half_width, threshold))
        table.add_row(claim.id, *numbers, words)
    words = f"95 % intervals of {study.study.chains} chains (90 % of claims on equality)"
    print(f"{words}, by {pilot_chains} of a pilot\n")
    print(draw_table(table))
