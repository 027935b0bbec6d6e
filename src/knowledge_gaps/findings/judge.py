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

from knowledge_gaps.findings.schema import (
    MUTUAL_FOOLING,
    AskedOf,
    Claim,
    Findings,
    Range,
    Selection,
)
from knowledge_gaps.findings.sources import Cell, NotAskedError, PaperSource, Source, StudySource
from knowledge_gaps.readings.cells import MEASURES
from knowledge_gaps.readings.formats import format_title
from knowledge_gaps.statistics.bootstrap import Interval, PairMatrix, Resampled, resample_cells
from knowledge_gaps.statistics.clusters import Clusters
from knowledge_gaps.statistics.effects import Over, bound_effect
from knowledge_gaps.statistics.measures import COVERAGE, MEMORISED, PRECISION, RECALL
from knowledge_gaps.statistics.printed import Printed, resample_printed
from knowledge_gaps.study import Study

SHARES = frozenset({*MEASURES, PRECISION, RECALL, COVERAGE, MEMORISED})  # measures in [0, 1]


class Verdict(StrEnum):
    """The outcome of a claim."""

    SUPPORTED = "supported"
    CONTRADICTED = "contradicted"
    UNDECIDED = "undecided"
    NOT_ASKED = "not asked here"


@dataclass(frozen=True)
class Answer:
    """The verdict of one source on a claim.

    Attributes:
        verdict: of this source.
        reason: why there is no verdict, or why it is not what the interval alone would say.
        measure: as the source calls it; empty when the claim was not asked.
        effect: left, or left less right; NaN when the claim was not asked.
        low: end of the 95 % interval; NaN where there is none.
        high: as low.
        left: names of the cells.
        right: names of the cells that were subtracted.
        num_pairs: of all cells, or generator instances where the measure is theirs.
        num_instances: by cohort, how many instances take part; the paper's cells have none.
        num_dropped: resamples without a pair of some cell.
        fixed: cohorts of which a cell has one instance; the interval does not cover others.
        clusters: of the matrix of mutual fooling, where the selection needs them.
    """

    verdict: Verdict
    reason: str | None = None
    measure: str = ""
    effect: float = math.nan
    low: float = math.nan
    high: float = math.nan
    left: tuple[str, ...] = ()
    right: tuple[str, ...] = ()
    num_pairs: int = 0
    num_instances: tuple[tuple[str, int], ...] = ()
    num_dropped: int = 0
    fixed: tuple[str, ...] = ()
    clusters: Clusters | None = None


@dataclass(frozen=True)
class Judged:
    """A claim with its answers.

    Attributes:
        claim: as in findings.yaml.
        threshold: as a number.
        study: the study's answer.
        paper: that of the paper's own table, if it prints one.
    """

    claim: Claim
    threshold: float
    study: Answer
    paper: Answer


def judge(
    study: Study, detections: pd.DataFrame, quality: pd.DataFrame, findings: Findings
) -> tuple[Judged, ...]:
    """Judge every claim.

    Args:
        study: names the cohorts of its readings.
        detections: as from `tables.read_detections`.
        quality: as from `tables.read_quality`.
        findings: claims and margins.

    Returns:
        In the order of findings.yaml.
    """
    ours = ask_all(findings, StudySource(study, detections, quality, findings.seed))
    theirs = ask_all(findings, PaperSource(findings.seed))
    return tuple(
        Judged(claim, findings.get_threshold(claim), ours[claim.id], theirs[claim.id])
        for claim in findings.claims
    )


def ask_all(findings: Findings, source: Source) -> dict[str, Answer]:
    """Ask one source all claims, each after those that it needs."""
    answers: dict[str, Answer] = {}
    for claim in findings.claims:
        answer = ask(claim, findings, source)
        pilot = findings.pilot.setting.extractor
        units = source.study.evaluation.extractor if isinstance(source, StudySource) else pilot
        needs_units = claim.threshold.margins != 0 and claim.measure not in SHARES
        is_decided = answer.verdict in (Verdict.SUPPORTED, Verdict.CONTRADICTED)
        if needs_units and units != pilot and is_decided:
            words = f"the margin is in units of {pilot} features, the effect in those of {units}"
            answer = _leave_undecided(answer, words)
        lacking = [name for name in claim.needs if answers[name].verdict != Verdict.SUPPORTED]
        if lacking and answer.verdict is Verdict.SUPPORTED:
            answer = _leave_undecided(answer, f"{', '.join(lacking)} is not supported")
        answers[claim.id] = answer
    return answers


def ask(claim: Claim, findings: Findings, source: Source) -> Answer:
    """Ask one source one claim, whatever other claims it needs."""
    try:
        left, *rest = _choose_sides(claim, source)
    except NotAskedError as reason:
        return Answer(Verdict.NOT_ASKED, str(reason))
    right = rest[0] if rest else []
    cells = [*left, *right]
    positions = range(len(left)), range(len(left), len(cells))
    over = claim.left.over, Over.MEAN if claim.right is None else claim.right.over
    interval = bound_effect(_resample(cells, claim, findings), *positions, over)
    if claim.measure in SHARES:
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
        num_pairs=sum(int((~np.isnan(matrix.values)).sum()) for matrix in _list_matrices(cells)),
        num_instances=_count_instances(cells),
        num_dropped=interval.num_dropped,
        fixed=interval.fixed,
        clusters=source.mutual.clusters if has_clusters else None,
    )
    return _qualify(answer, claim)


def decide(interval: Interval, direction: str, threshold: float) -> Verdict:
    """Compare an interval with a threshold.

    Args:
        interval: of the effect.
        direction: "above", "below", or "differs" for beyond the threshold on either side of 0.
        threshold: at least 0 for "differs".
    """
    low, high = interval.low, interval.high
    if direction == "below":
        low, high, threshold = -high, -low, -threshold
    if low > threshold or (direction == "differs" and high < -threshold):
        return Verdict.SUPPORTED
    is_inside = high <= threshold and (direction != "differs" or low >= -threshold)
    return Verdict.CONTRADICTED if is_inside else Verdict.UNDECIDED


def choose_cells(
    cells: Sequence[Cell], selection: Selection, asked_of: AskedOf | None = None
) -> list[Cell]:
    """Choose the cells of a setting that a selection asks for.

    Raises:
        NotAskedError: when none is left.
    """
    gan, classifier = (None, None) if asked_of is None else (asked_of.gan, asked_of.classifier)
    chosen = [cell for cell in cells if gan in (None, cell.gan)]
    if classifier is not None:
        chosen = [cell for cell in chosen if cell.classifiers <= {classifier}]
    if not chosen:
        titles = " and ".join(format_title(name) for name in (gan, classifier) if name is not None)
        raise NotAskedError(f"it is asked of {titles} alone")
    chosen = [cell for cell in chosen if selection.same in (None, cell.is_same)]
    ranges = {
        name: wanted if isinstance(wanted, Range) else Range(min=wanted, max=wanted)
        for name, wanted in selection.where.items()
    }
    for name, wanted in ranges.items():
        chosen = [cell for cell in chosen if wanted.contains(cell.coordinates[name])]
    for name, wanted in ranges.items():
        if wanted.pick is not None and chosen:
            choose_end = min if wanted.pick == "smallest" else max
            end = choose_end(cell.coordinates[name] for cell in chosen)
            chosen = [cell for cell in chosen if cell.coordinates[name] == end]
    if not chosen:
        raise NotAskedError(f"no cell of {selection.reading} has {_describe_where(selection)}")
    return chosen


def _choose_sides(claim: Claim, source: Source) -> list[list[Cell]]:
    listed = [source.list_cells(claim.measure, side) for side in claim.sides]
    chosen = [
        choose_cells(cells, side, claim.asked_of)
        for cells, side in zip(listed, claim.sides, strict=True)
    ]
    names = [[cell.name for cell in cells] for cells in chosen]
    first, last = claim.sides[0], claim.sides[-1]
    is_same = claim.right is not None and names[0] == names[-1] and first.pairs == last.pairs
    if is_same and (len(names[0]) == 1 or first.over == last.over):
        raise NotAskedError(f"there is only {names[0][0]} on both sides")
    return chosen


def _describe_where(selection: Selection) -> str:
    words = [f"{name} {_describe(wanted)}" for name, wanted in selection.where.items()]
    if selection.same is not None:
        words.append(f"same {str(selection.same).lower()}")
    if selection.pairs is not None:
        words.append(f"{selection.pairs} pairs")
    return ", ".join(words) or "a number"


def _describe(wanted: float | Range) -> str:
    if not isinstance(wanted, Range):
        return f"{wanted:g}"
    low = None if wanted.min is None else f"at least {wanted.min:g}"
    high = None if wanted.max is None else f"at most {wanted.max:g}"
    words = [word for word in (wanted.pick, wanted.parity, low, high) if word is not None]
    return " ".join(words) or "of any value"


def _list_matrices(cells: Sequence[Cell]) -> list[PairMatrix]:
    return [cell.numbers for cell in cells if isinstance(cell.numbers, PairMatrix)]


def _resample(cells: Sequence[Cell], claim: Claim, findings: Findings) -> Resampled:
    seed, num = findings.seed, findings.num_resamples
    if matrices := _list_matrices(cells):
        return resample_cells(matrices, seed, claim.left.statistic, num)
    printed = [cell.numbers for cell in cells if isinstance(cell.numbers, Printed)]
    return resample_printed(printed, findings.paper_spread.instances, seed, num)


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


def _count_instances(cells: Sequence[Cell]) -> tuple[tuple[str, int], ...]:
    """Count the instances of each cohort that have a number in some cell."""
    used: dict[str, set[int]] = {}
    for matrix in _list_matrices(cells):
        is_pair = ~np.isnan(matrix.values)
        for axis, name in enumerate((matrix.generators, matrix.classifiers)):
            members = np.flatnonzero(is_pair.any(axis=1 - axis)).tolist()
            used.setdefault(name, set()).update(members)
    return tuple((name, len(members)) for name, members in sorted(used.items()) if name)
