"""Claims and answers as the content of verdicts.json, which the page shows as well."""

from __future__ import annotations

import json
import math
from functools import partial
from typing import Any

import numpy as np

from knowledge_gaps.core.layout import DETECTIONS_FILE, JUDGES_FILE, QUALITY_FILE
from knowledge_gaps.core.tables import IN_LOSS, IN_TRAINING
from knowledge_gaps.findings.anchors import Mark, mark_anchors
from knowledge_gaps.findings.judge import Answer, ask_all
from knowledge_gaps.findings.paper_sources import list_paper_cells
from knowledge_gaps.findings.schema import (
    ARCHITECTURES,
    ITERATIONS,
    MUTUAL_FOOLING,
    Claim,
    Findings,
    Selection,
)
from knowledge_gaps.findings.sources import list_study_cells
from knowledge_gaps.readings.reading import Results
from knowledge_gaps.readings.tables import PairSet
from knowledge_gaps.readings.transfers import TRANSFER
from knowledge_gaps.statistics.chains import ALPHA, CONFIDENCE, Over, Statistic
from knowledge_gaps.statistics.measures import JUDGE_BEST_AUC, LOSS_DISCRIMINATOR

_DIGITS = 6
_ROWS = {
    PairSet.HELD_OUT: f"rows with {IN_LOSS} and {IN_TRAINING} false",
    PairSet.IN_LOSS: f"rows with {IN_LOSS} true",
    PairSet.IN_TRAINING: f"rows with {IN_TRAINING} true",
}
_SOURCES = {  # of measures that are no column of a table of pairs
    TRANSFER: f"{DETECTIONS_FILE}: shifts of median_score, held out over in the loss",
    JUDGE_BEST_AUC: f"{JUDGES_FILE}: the largest auc in each chain",
    LOSS_DISCRIMINATOR: "curves.csv of the trainings",
}
_OVER = {Over.MEAN: "mean", Over.MIN: "smallest", Over.MAX: "largest"}
_TABLES = {ARCHITECTURES: "A", MUTUAL_FOOLING: "B", ITERATIONS: "C"}


def make_verdicts(results: Results, findings: Findings) -> dict[str, Any]:
    """Judge every claim by the tables of a study, and of the paper, in the order of findings.yaml.

    Returns:
        Content of verdicts.json: no NaN, floats rounded to 6 digits.
    """
    setting = results.study.data.name, results.study.evaluation.extractor
    source = partial(list_study_cells, results)
    marks = mark_anchors(findings, source, setting)
    study = ask_all(findings, source, setting, marks)
    paper = ask_all(findings, partial(list_paper_cells, findings.seed))
    return {
        "confidence": CONFIDENCE,
        "num_chains": results.study.study.chains,
        "fooled": findings.fooled.model_dump(),
        "anchors": [_list_mark(mark) for mark in marks],
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
        "study": _list_answer(study) | {"protocol": _describe_protocol(study, claim)},
        "paper": _list_answer(paper) | {"protocol": _describe_paper(claim, findings)},
    }
    content["study"]["effect_words"] = _describe_effect(claim, study)
    content["paper"]["words"] = claim.paper
    return _round(content)


def _list_mark(mark: Mark) -> dict[str, Any]:
    """List an anchor: its bounds, and its effect in the study."""
    copied = {"id", "text", "measure", "at_least", "at_most"}
    effect = {"effect": mark.effect.point, **vars(mark.effect)}
    del effect["point"]
    return _round(mark.anchor.model_dump(include=copied) | effect | {"is_reached": mark.is_reached})


def _list_answer(answer: Answer) -> dict[str, Any]:
    content = vars(answer) | vars(answer.effect) | {"effect": answer.effect.point}
    content["in_loss"] = answer.in_loss and answer.in_loss._asdict()
    del content["measure"], content["point"]  # the words of the effect have the measure
    return content


def _round(content: dict[str, Any]) -> dict[str, Any]:
    """Round all floats, by way of JSON; those that are not finite become None."""

    def parse(digits: str) -> float:
        return round(float(digits), _DIGITS)

    text = json.dumps(content, default=np.ndarray.tolist)
    rounded: dict[str, Any] = json.loads(text, parse_float=parse, parse_constant=lambda _: None)
    return rounded


def _describe_protocol(answer: Answer, claim: Claim) -> str | None:
    if math.isnan(answer.effect.low):
        return None
    effect, level = answer.effect, CONFIDENCE if claim.direction != "equals" else 1 - 2 * ALPHA
    words = f"{level:.0%} interval over {effect.num_chains} chains, Student's t"
    missing = f"; {effect.num_missing} chains without a number" if effect.num_missing else ""
    return f"{words} with {effect.degrees:g} degrees of freedom{missing}"


def _describe_side(side: Selection, num_cells: int, is_one: bool = False) -> str:
    """Describe a side of a claim; `is_one` where the effect is that of one of its cells."""
    of = "instances" if side.pairs is None else f"{side.pairs.replace('_', '-')} pairs"
    statistic = "standard deviation" if side.statistic is Statistic.STD else "mean"
    cells = "1 cell" if num_cells == 1 else f"{num_cells} cells"
    if is_one and num_cells > 1:
        return f"of {cells} the one that differs most, the {statistic} over {of}"
    return f"{_OVER[side.over]} over {cells} of the {statistic} over {of}"


def _describe_threshold(claim: Claim, findings: Findings) -> str:
    value, threshold = findings.get_threshold(claim), claim.threshold
    side = {"differs": "differs from 0 by more than", "equals": "differs from 0 by less than"}
    words = f"{side.get(claim.direction, claim.direction)} {value:.3f}"
    if threshold.margins == 0:
        return words
    sign = "-" if threshold.margins < 0 else "+"
    margin = findings.margins[claim.measure]
    return f"{words} ({threshold.at:g} {sign} {abs(threshold.margins):g} x margin {margin:.3f})"


def _describe_effect(claim: Claim, answer: Answer) -> str | None:
    if not answer.left:
        return None
    words = _describe_side(claim.left, len(answer.left), claim.direction == "equals")
    if claim.right is not None:
        words += f", less the {_describe_side(claim.right, len(answer.right))}"
    return f"{answer.measure}: {words}"


def _describe_source(claim: Claim, answer: Answer) -> str:
    if claim.measure in _SOURCES:
        return _SOURCES[claim.measure]
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
        return "table B: single values, no interval"
    num = findings.paper_spread.instances
    spread = "the standard error" if num is None else f"the spread of {num} instances"
    return f"table {letter}: cells are taken for independent, ± for {spread}"
