"""Claims and answers as the content of reports/verdicts.json, which the page shows as well."""

from __future__ import annotations

import json
import math
from functools import partial
from typing import Any

import numpy as np

from knowledge_gaps.core.layout import DETECTIONS_FILE, QUALITY_FILE
from knowledge_gaps.core.tables import IN_LOSS, IN_TRAINING
from knowledge_gaps.findings.judge import Answer, ask_all
from knowledge_gaps.findings.schema import (
    ARCHITECTURES,
    ITERATIONS,
    MUTUAL_FOOLING,
    Claim,
    Findings,
    Selection,
)
from knowledge_gaps.findings.sources import list_paper_cells, list_study_cells
from knowledge_gaps.readings.reading import Results
from knowledge_gaps.readings.tables import PairSet
from knowledge_gaps.statistics.bootstrap import CONFIDENCE, Statistic
from knowledge_gaps.statistics.effects import Over

_DIGITS = 6
_CLUSTERS = ("members", "between", "silhouettes", "score", "p_value", "directed")
_ROWS = {
    PairSet.HELD_OUT: f"rows with {IN_LOSS} and {IN_TRAINING} false",
    PairSet.IN_LOSS: f"rows with {IN_LOSS} true",
    PairSet.IN_TRAINING: f"rows with {IN_TRAINING} true",
}
_OVER = {Over.MEAN: "mean", Over.MIN: "smallest", Over.MAX: "largest"}
_TABLES = {ARCHITECTURES: "A", MUTUAL_FOOLING: "B", ITERATIONS: "C"}


def make_verdicts(results: Results, findings: Findings) -> dict[str, Any]:
    """Judge every claim by the tables of a study, and of the paper, in the order of findings.yaml.

    Returns:
        Content of reports/verdicts.json: no NaN, floats rounded to 6 digits.
    """
    extractor = results.study.evaluation.extractor
    study = ask_all(findings, partial(list_study_cells, results), extractor)
    paper = ask_all(findings, partial(list_paper_cells, findings.seed))
    return {
        "confidence": CONFIDENCE,
        "num_resamples": findings.num_resamples,
        "seed": findings.seed,
        "margins": findings.margins,
        "pilot": findings.pilot.model_dump(exclude={"setting"}),  # the page has it
        "paper_spread": findings.paper_spread.model_dump(),
        "claims": [
            _list_claim(findings, claim, study[claim.id], paper[claim.id])
            for claim in findings.claims
        ],
    }


def _list_claim(findings: Findings, claim: Claim, study: Answer, paper: Answer) -> dict[str, Any]:
    copied = {"id", "finding", "text", "setting", "measure", "direction", "why"}
    content = claim.model_dump(include=copied) | {
        "threshold": findings.get_threshold(claim),
        "threshold_words": _describe_threshold(claim, findings),
        "source": _describe_source(claim, study),
        "study": _list_answer(study) | {"protocol": _describe_protocol(study, findings)},
        "paper": _list_answer(paper) | {"protocol": _describe_paper(claim, findings)},
    }
    content["study"]["effect_words"] = _describe_effect(claim, study)
    content["paper"]["words"] = claim.paper
    return _round(content)


def _list_answer(answer: Answer) -> dict[str, Any]:
    content = vars(answer) | vars(answer.effect) | {"effect": answer.effect.point}
    if answer.clusters is not None:
        content["clusters"] = {name: getattr(answer.clusters, name) for name in _CLUSTERS}
    del content["measure"], content["point"]  # the words of the effect have the measure
    return content


def _round(content: dict[str, Any]) -> dict[str, Any]:
    """Round all floats, by way of JSON; those that are not finite become None."""

    def parse(digits: str) -> float:
        return round(float(digits), _DIGITS)

    text = json.dumps(content, default=np.ndarray.tolist)
    rounded: dict[str, Any] = json.loads(text, parse_float=parse, parse_constant=lambda _: None)
    return rounded


def _describe_protocol(answer: Answer, findings: Findings) -> str | None:
    if math.isnan(answer.effect.low):
        return None
    kind = f"{CONFIDENCE:.0%} interval of the two-way bootstrap over instances"
    words = [f"{kind}, {findings.num_resamples:,} resamples, Student's t"]
    if answer.effect.num_dropped > 0:
        words.append(f"{answer.effect.num_dropped:,} resamples without a pair left out")
    if fixed := answer.effect.fixed:
        words.append(f"it does not cover other instances of {', '.join(fixed)}")
    return "; ".join(words)


def _describe_side(side: Selection, num_cells: int) -> str:
    of = "instances" if side.pairs is None else f"{side.pairs.replace('_', '-')} pairs"
    statistic = "standard deviation" if side.statistic is Statistic.STD else "mean"
    cells = "1 cell" if num_cells == 1 else f"{num_cells} cells"
    return f"{_OVER[side.over]} over {cells} of the {statistic} over {of}"


def _describe_threshold(claim: Claim, findings: Findings) -> str:
    value, threshold = findings.get_threshold(claim), claim.threshold
    side = "differs from 0 by more than" if claim.direction == "differs" else claim.direction
    words = f"{side} {value:.3f}"
    if threshold.margins == 0:
        return words
    sign = "-" if threshold.margins < 0 else "+"
    margin = findings.margins[claim.measure]
    return f"{words} ({threshold.at:g} {sign} {abs(threshold.margins):g} x margin {margin:.3f})"


def _describe_effect(claim: Claim, answer: Answer) -> str | None:
    if not answer.left:
        return None
    words = _describe_side(claim.left, len(answer.left))
    if claim.right is not None:
        words += f", less the {_describe_side(claim.right, len(answer.right))}"
    return f"{answer.measure}: {words}"


def _describe_source(claim: Claim, answer: Answer) -> str:
    if claim.left.pairs is None:
        measure = answer.measure or claim.measure
        return f"{QUALITY_FILE}: column {measure}_..., a row per generator instance"
    rows = dict.fromkeys(_ROWS[side.pairs] for side in claim.sides if side.pairs is not None)
    return f"{DETECTIONS_FILE}: column {claim.measure}, {'; less '.join(rows)}"


def _describe_paper(claim: Claim, findings: Findings) -> str | None:
    letter = _TABLES.get(claim.left.reading)
    if letter is None:
        return None
    if letter == "B":
        return "table B: single values, rows and columns drawn as instances"
    num = findings.paper_spread.instances
    spread = "the standard error" if num is None else f"the spread of {num} instances"
    return f"table {letter}: normal draws within [0, 1], ± taken for {spread}"
