"""Verdicts: every claim is asked of a study's tables and, by the same code, of the paper's tables.

A claim is supported when the whole 95 % interval of its effect lies beyond the threshold in the
claimed direction, contradicted when all of it lies on the other side, and undecided otherwise. The
thresholds are in findings.yaml and were fixed before the study that they judge.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
import pandas as pd

from knowledge_gaps.findings.paper import PaperSource, resample_printed
from knowledge_gaps.findings.schema import (
    MUTUAL_FOOLING,
    AskedOf,
    Claim,
    Findings,
    Range,
    Selection,
)
from knowledge_gaps.findings.sources import Cell, NotAskedError, Printed, StudySource
from knowledge_gaps.readings.cells import MEASURES
from knowledge_gaps.readings.formats import format_title
from knowledge_gaps.statistics.bootstrap import Interval, PairMatrix, Resampled, resample_cells
from knowledge_gaps.statistics.clusters import Clusters
from knowledge_gaps.statistics.effects import bound_effect
from knowledge_gaps.statistics.measures import COVERAGE, MEMORISED, PRECISION, RECALL
from knowledge_gaps.study.schema import Study

_SHARES = frozenset({*MEASURES, PRECISION, RECALL, COVERAGE, MEMORISED})  # measures in [0, 1]


class Verdict(StrEnum):
    """The outcome of a claim."""

    SUPPORTED = "supported"
    CONTRADICTED = "contradicted"
    UNDECIDED = "undecided"
    NOT_ASKED = "not asked here"


Source = StudySource | PaperSource


@dataclass(frozen=True)
class Answer:
    """The verdict of one source on a claim, with the effect and its interval as of `Interval`."""

    verdict: Verdict
    reason: str | None = None  # why there is none, or why it is not what the interval alone says
    measure: str = ""  # as the source calls it
    effect: float = math.nan  # left, or left less right
    low: float = math.nan
    high: float = math.nan
    left: tuple[str, ...] = ()  # names of the cells
    right: tuple[str, ...] = ()  # of those that were subtracted
    num_pairs: int = 0  # of all cells, or generator instances where the measure is theirs
    num_instances: tuple[tuple[str, int], ...] = ()  # that take part, by cohort of a study
    num_dropped: int = 0
    fixed: tuple[str, ...] = ()
    clusters: Clusters | None = None  # of the matrix of mutual fooling, where it is divided


@dataclass(frozen=True)
class Judged:
    """A claim with the answers of a study and of the paper's own table."""

    claim: Claim
    study: Answer
    paper: Answer


def judge(
    study: Study, detections: pd.DataFrame, quality: pd.DataFrame, findings: Findings
) -> tuple[Judged, ...]:
    """Judge every claim by the two tables of a study, in the order of findings.yaml."""
    ours = ask_all(findings, StudySource(study, detections, quality, findings.seed))
    theirs = ask_all(findings, PaperSource(findings.seed))
    return tuple(Judged(claim, ours[claim.id], theirs[claim.id]) for claim in findings.claims)


def ask_all(findings: Findings, source: Source) -> dict[str, Answer]:
    """Ask one source all claims, each after those that it needs."""
    answers: dict[str, Answer] = {}
    pilot = findings.pilot.setting.extractor
    for claim in findings.claims:
        answer = _ask(claim, findings, source)
        needs_units = claim.threshold.margins != 0 and claim.measure not in _SHARES
        is_decided = answer.verdict in (Verdict.SUPPORTED, Verdict.CONTRADICTED)
        if needs_units and source.units not in (None, pilot) and is_decided:
            units = f"{pilot} features, the effect in those of {source.units}"
            answer = _leave_undecided(answer, f"the margin is in units of {units}")
        lacking = [name for name in claim.needs if answers[name].verdict != Verdict.SUPPORTED]
        if lacking and answer.verdict is Verdict.SUPPORTED:
            answer = _leave_undecided(answer, f"{', '.join(lacking)} is not supported")
        answers[claim.id] = answer
    return answers


def _ask(claim: Claim, findings: Findings, source: Source) -> Answer:
    """Ask one source one claim, whatever other claims it needs."""
    try:
        left, *rest = _choose_sides(claim, source)
    except NotAskedError as reason:
        return Answer(Verdict.NOT_ASKED, str(reason))
    right = rest[0] if rest else []
    cells = [*left, *right]
    positions = range(len(left)), range(len(left), len(cells))
    over = claim.left.over, claim.sides[-1].over
    matrices = [cell.numbers for cell in cells if isinstance(cell.numbers, PairMatrix)]
    resampled = _resample(cells, matrices, claim, findings)
    interval = bound_effect(resampled, *positions, over)
    if claim.measure in _SHARES:
        interval = interval.clip(0.0 if claim.right is None else -1.0, 1.0)
    has_clusters = claim.left.reading == MUTUAL_FOOLING and claim.left.same is not None
    answer = Answer(
        verdict=decide(interval, claim.direction, findings.get_threshold(claim)),
        measure=cells[0].measure,
        effect=interval.point,
        low=interval.low,
        high=interval.high,
        left=tuple(cell.name for cell in left),
        right=tuple(cell.name for cell in right),
        num_pairs=sum(int((~np.isnan(matrix.values)).sum()) for matrix in matrices),
        num_instances=_count_instances(resampled) if matrices else (),
        num_dropped=interval.num_dropped,
        fixed=interval.fixed,
        clusters=source.mutual.clusters if has_clusters else None,
    )
    return _qualify(answer, claim)


def decide(interval: Interval, direction: str, threshold: float) -> Verdict:
    """Compare an interval with a threshold; "differs" is beyond it on either side of 0."""
    low, high = interval.low, interval.high
    if direction == "below":
        low, high, threshold = -high, -low, -threshold
    if low > threshold or (direction == "differs" and high < -threshold):
        return Verdict.SUPPORTED
    is_inside = high <= threshold and (direction != "differs" or low >= -threshold)
    return Verdict.CONTRADICTED if is_inside else Verdict.UNDECIDED


def choose_cells(cells: Sequence[Cell], selection: Selection, asked_of: AskedOf) -> list[Cell]:
    """Choose the cells that a selection asks for; raises NotAskedError when none is left."""
    gan, classifier = asked_of.gan, asked_of.classifier
    chosen = [cell for cell in cells if gan in (None, cell.gan)]
    if classifier is not None:
        chosen = [cell for cell in chosen if cell.classifiers <= {classifier}]
    if not chosen:
        titles = " and ".join(format_title(name) for name in (gan, classifier) if name)
        raise NotAskedError(f"it is asked of {titles} alone")
    chosen = [cell for cell in chosen if selection.same in (None, cell.is_same)]
    for name, wanted in selection.where.items():
        chosen = [cell for cell in chosen if wanted.contains(cell.coordinates[name])]
    for name, wanted in selection.where.items():
        if wanted.pick is not None and chosen:
            choose_end = min if wanted.pick == "smallest" else max
            end = choose_end(cell.coordinates[name] for cell in chosen)
            chosen = [cell for cell in chosen if cell.coordinates[name] == end]
    if not chosen:
        raise NotAskedError(f"no cell of {selection.reading} has {_describe_where(selection)}")
    return chosen


def _choose_sides(claim: Claim, source: Source) -> list[list[Cell]]:
    chosen = [
        choose_cells(source.list_cells(claim.measure, side), side, claim.asked_of)
        for side in claim.sides
    ]
    if claim.right is not None and claim.left.pairs == claim.right.pairs:
        names, others = ([cell.name for cell in cells] for cells in chosen)
        if names == others and (len(names) == 1 or claim.left.over == claim.right.over):
            raise NotAskedError(f"there is only {names[0]} on both sides")
    return chosen


def _describe_where(selection: Selection) -> str:
    words = [f"{name} {_describe(wanted)}" for name, wanted in selection.where.items()]
    if selection.same is not None:
        words.append(f"same {str(selection.same).lower()}")
    if selection.pairs is not None:
        words.append(f"{selection.pairs} pairs")
    return ", ".join(words) or "a number"


def _describe(wanted: Range) -> str:
    if wanted.min is not None and wanted.min == wanted.max:
        return f"{wanted.min:g}"
    low = None if wanted.min is None else f"at least {wanted.min:g}"
    high = None if wanted.max is None else f"at most {wanted.max:g}"
    return " ".join(filter(None, (wanted.pick, wanted.parity, low, high))) or "of any value"


def _resample(
    cells: Sequence[Cell], matrices: Sequence[PairMatrix], claim: Claim, findings: Findings
) -> Resampled:
    seed, num = findings.seed, findings.num_resamples
    if matrices:
        return resample_cells(matrices, seed, claim.left.statistic, num)
    printed = [cell.numbers for cell in cells if isinstance(cell.numbers, Printed)]
    return resample_printed(printed, findings.paper_spread.instances, seed, num)


def _count_instances(resampled: Resampled) -> tuple[tuple[str, int], ...]:
    """Count the instances of each cohort that have a number in some cell."""
    parts = resampled.components
    return tuple(sorted((part.name, int(part.is_used.any(axis=1).sum())) for part in parts))


def _qualify(answer: Answer, claim: Claim) -> Answer:
    """Change the verdict where the interval alone does not decide it, and give reasons."""
    if math.isnan(answer.low):
        return _leave_undecided(answer, "there is no interval: one instance, or no spread printed")
    if answer.low == answer.high:
        return _leave_undecided(answer, "all instances are equal, as few can be by chance")
    has_effect = answer.low > 0 if claim.direction == "above" else answer.high < 0
    is_difference = claim.right is not None and claim.direction != "differs"
    if answer.verdict is Verdict.CONTRADICTED and is_difference and has_effect:
        return replace(answer, reason="there is an effect, smaller than the threshold")
    clusters = answer.clusters
    if answer.verdict is Verdict.SUPPORTED and clusters and not clusters.is_significant:
        words = f"shuffled entries are divided as well (p = {clusters.p_value:.3f})"
        return _leave_undecided(answer, words)
    return answer


def _leave_undecided(answer: Answer, reason: str) -> Answer:
    return replace(answer, verdict=Verdict.UNDECIDED, reason=reason)
