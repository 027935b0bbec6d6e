"""How judged claims are written: in words for a reader, and as JSON for reports/verdicts.json.

The verdicts are made in `knowledge_gaps.findings.judge`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from knowledge_gaps.core.columns import IN_LOSS, IN_TRAINING
from knowledge_gaps.core.layout import DETECTIONS_FILE, QUALITY_FILE
from knowledge_gaps.findings.judge import Answer, Judged
from knowledge_gaps.findings.paper_cells import TABLE_LETTERS
from knowledge_gaps.findings.schema import Claim, Findings
from knowledge_gaps.findings.selection import Selection
from knowledge_gaps.readings.pairs import PairSet
from knowledge_gaps.statistics.bootstrap import CONFIDENCE, Statistic
from knowledge_gaps.statistics.clusters import Clusters
from knowledge_gaps.statistics.extremes import Over

_DIGITS = 6
_ROWS = {
    PairSet.HELD_OUT: f"rows with {IN_LOSS} and {IN_TRAINING} false",
    PairSet.IN_LOSS: f"rows with {IN_LOSS} true",
    PairSet.IN_TRAINING: f"rows with {IN_TRAINING} true",
}
_OVER = {Over.MEAN: "mean", Over.MIN: "smallest", Over.MAX: "largest"}


def describe_threshold(claim: Claim, findings: Findings) -> str:
    """Say what the interval is held against, and what that is made of."""
    value, threshold = findings.get_threshold(claim), claim.threshold
    words = f"{claim.direction} {value:.3f}"
    if claim.direction == "differs":
        words = f"differs from 0 by more than {value:.3f}"
    if threshold.margins == 0:
        return words
    sign = "-" if threshold.margins < 0 else "+"
    margin = findings.margins[claim.measure]
    return f"{words} ({threshold.at:g} {sign} {abs(threshold.margins):g} x margin {margin:.3f})"


def describe_effect(claim: Claim, answer: Answer) -> str | None:
    """Say how the effect is made of cells; None when the claim was not asked."""
    if not answer.left:
        return None
    words = _describe_side(claim.left, len(answer.left))
    if claim.right is not None:
        words += f", less the {_describe_side(claim.right, len(answer.right))}"
    return f"{answer.measure}: {words}"


def describe_protocol(answer: Answer, findings: Findings) -> str | None:
    """Say how the interval was made; None when there is none."""
    if math.isnan(answer.low):
        return None
    kind = f"{CONFIDENCE:.0%} interval of the two-way bootstrap over instances"
    words = [f"{kind}, {findings.num_resamples:,} resamples, Student's t"]
    if answer.num_dropped > 0:
        words.append(f"{answer.num_dropped:,} resamples without a pair left out")
    if answer.fixed:
        words.append(f"it does not cover other instances of {', '.join(answer.fixed)}")
    return "; ".join(words)


def describe_source(claim: Claim, answer: Answer) -> str:
    """Say which column and rows of which table the numbers are."""
    sides = [claim.left, *([] if claim.right is None else [claim.right])]
    if claim.left.pairs is None:
        measure = answer.measure or claim.measure
        return f"{QUALITY_FILE}: column {measure}_..., a row per generator instance"
    rows = dict.fromkeys(_ROWS[side.pairs] for side in sides if side.pairs is not None)
    return f"{DETECTIONS_FILE}: column {claim.measure}, {'; less '.join(rows)}"


def describe_paper(claim: Claim, findings: Findings) -> str | None:
    """Say how the paper's own table was read; None when the claim has no table."""
    letter = TABLE_LETTERS.get(claim.left.reading)
    if letter is None:
        return None
    if letter == "B":
        return "table B: single values, rows and columns drawn as instances"
    num = findings.paper_spread.instances
    spread = "the standard error" if num is None else f"the spread of {num} instances"
    return f"table {letter}: normal draws within [0, 1], ± taken for {spread}"


def to_json(findings: Findings, judged: Sequence[Judged]) -> dict[str, Any]:
    """Make the content of reports/verdicts.json: no NaN, floats rounded to 6 digits."""
    return {
        "confidence": CONFIDENCE,
        "num_resamples": findings.num_resamples,
        "seed": findings.seed,
        "margins": dict(findings.margins),
        "pilot": findings.pilot.model_dump(exclude={"setting"}),  # the page has it
        "paper_spread": findings.paper_spread.model_dump(),
        "claims": [_list_claim(findings, entry) for entry in judged],
    }


def _list_claim(findings: Findings, judged: Judged) -> dict[str, Any]:
    claim = judged.claim
    return {
        "id": claim.id,
        "finding": claim.finding,
        "text": claim.text,
        "setting": claim.setting,
        "measure": claim.measure,
        "direction": claim.direction,
        "threshold": round(judged.threshold, _DIGITS),
        "threshold_words": describe_threshold(claim, findings),
        "why": claim.why,
        "source": describe_source(claim, judged.study),
        "study": _list_answer(judged.study)
        | {
            "effect_words": describe_effect(claim, judged.study),
            "protocol": describe_protocol(judged.study, findings),
        },
        "paper": _list_answer(judged.paper)
        | {"words": claim.paper, "protocol": describe_paper(claim, findings)},
    }


def _list_answer(answer: Answer) -> dict[str, Any]:
    return {
        "verdict": answer.verdict.value,
        "reason": answer.reason,
        "effect": _round(answer.effect),
        "low": _round(answer.low),
        "high": _round(answer.high),
        "left": list(answer.left),
        "right": list(answer.right),
        "num_pairs": answer.num_pairs,
        "num_instances": dict(answer.num_instances),
        "num_dropped": answer.num_dropped,
        "fixed": list(answer.fixed),
        "clusters": None if answer.clusters is None else list_clusters(answer.clusters),
    }


def list_clusters(clusters: Clusters) -> dict[str, Any]:
    """List clusters as JSON."""
    return {
        "members": [list(members) for members in clusters.members],
        "between": list(clusters.between),
        "silhouettes": [_round(float(value)) for value in clusters.silhouettes],
        "score": _round(clusters.score),
        "p_value": _round(clusters.p_value),
        "directed": [[_round(float(value)) for value in row] for row in clusters.directed],
    }


def _describe_side(side: Selection, num_cells: int) -> str:
    of = "instances" if side.pairs is None else f"{side.pairs.replace('_', '-')} pairs"
    statistic = "standard deviation" if side.statistic is Statistic.STD else "mean"
    cells = "1 cell" if num_cells == 1 else f"{num_cells} cells"
    return f"{_OVER[side.over]} over {cells} of the {statistic} over {of}"


def _round(value: float) -> float | None:
    return round(value, _DIGITS) if math.isfinite(value) else None
