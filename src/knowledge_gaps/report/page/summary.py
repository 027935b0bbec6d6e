"""The page's answer to its own title: a few sentences of the readings of iterations 0 and 1."""

from __future__ import annotations

from collections.abc import Mapping

from knowledge_gaps.readings.cells import CellKey, CohortCell
from knowledge_gaps.readings.formats import format_interval
from knowledge_gaps.readings.pairs import PairSet
from knowledge_gaps.statistics.measures import AUC, DETECTION_RATE
from knowledge_gaps.study import Study


def summarise_study(study: Study, cells: Mapping[CellKey, CohortCell]) -> str:
    """Say who detects the first generators that fool a classifier; empty without such iterations.

    Args:
        study: its report names the iterations.
        cells: of its detections; rates stand with their 95 % intervals.
    """
    chain = study.report.iterations
    if len(chain) < 2 or chain[0].classifiers is None:
        return ""
    first, gans = chain[0].classifiers, chain[1].gans

    def read(pairs: PairSet, classifiers: str, cohort: str, measure: str = DETECTION_RATE) -> str:
        cell = cells.get((pairs, classifiers, cohort))
        return "" if cell is None else format_interval(cell.measures[measure])

    baseline = read(PairSet.HELD_OUT, first, chain[0].gans)
    fooled, held_out = read(PairSet.IN_LOSS, first, gans), read(PairSet.HELD_OUT, first, gans)
    auc = read(PairSet.HELD_OUT, first, gans, AUC)
    if not (baseline and fooled and held_out):
        return ""
    text = (
        f"Classifiers of iteration 0 detect {baseline} of the images of held-out baselines. Of the "
        f"images of generators that were trained to fool one of them, that one detects {fooled}, "
        f"its held-out siblings detect {held_out}; ranked by score instead of judged at one "
        f"threshold, those images still differ from reals by an AUC of {auc} (0.5: no difference)."
    )
    if chain[1].classifiers is not None:
        anew = read(PairSet.HELD_OUT, chain[1].classifiers, gans)
        text += f" Classifiers trained anew, on these generators, detect {anew}." if anew else ""
    return f"{text} Rates are means over pairs with 95 % intervals."
