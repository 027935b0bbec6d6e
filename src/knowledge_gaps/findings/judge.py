"""Verdicts: every claim is asked of a study's tables and, by the same code, of the paper's tables.

A claim is supported when the whole 95 % interval of its effect lies beyond the threshold in the
claimed direction, contradicted when all of it lies on the other side, and undecided otherwise. The
thresholds are in findings.yaml and were fixed before the study that they judge.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
import pandas as pd

from knowledge_gaps.findings.cells import (
    Cell,
    NotAskedError,
    Source,
    choose_cells,
    keep_setting,
)
from knowledge_gaps.findings.paper_cells import PaperSource
from knowledge_gaps.findings.schema import Claim, Findings
from knowledge_gaps.findings.selection import Selection
from knowledge_gaps.findings.study_cells import StudySource
from knowledge_gaps.readings.cells import MEASURES
from knowledge_gaps.readings.places import Reading
from knowledge_gaps.statistics.bootstrap import Interval, PairMatrix
from knowledge_gaps.statistics.clusters import Clusters
from knowledge_gaps.statistics.extremes import Over, bound_effect
from knowledge_gaps.statistics.measures import (
    COVERAGE,
    MEMORISED,
    PRECISION,
    RECALL,
)
from knowledge_gaps.study import Study

SHARES = frozenset({*MEASURES, PRECISION, RECALL, COVERAGE, MEMORISED})  # measures in [0, 1]


class Verdict(StrEnum):
    """What becomes of a claim."""

    SUPPORTED = "supported"
    CONTRADICTED = "contradicted"
    UNDECIDED = "undecided"
    NOT_ASKED = "not asked here"


@dataclass(frozen=True)
class Answer:
    """What one source says to a claim.

    Attributes:
        verdict: of this source.
        reason: why there is no verdict, or why it is not what the interval alone would say.
        measure: as the source calls it; empty when the claim was not asked.
        effect: left, or left less right; NaN when the claim was not asked.
        low: end of the 95 % interval; NaN where there is none.
        high: as low.
        left: names of the cells.
        right: names of the cells that were taken off.
        num_pairs: of all cells, or generator instances where the measure is theirs.
        num_instances: by cohort, how many instances take part; the paper's cells have none.
        num_dropped: resamples without a pair of some cell.
        fixed: cohorts of which a cell has one instance; the interval is silent about others.
        clusters: that the selection stands on.
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
        study: says which cohorts its readings are made of.
        detections: as from `tables.read_detections`.
        quality: as from `tables.read_quality`.
        findings: claims and margins.

    Returns:
        In the order of findings.yaml.
    """
    seed, num = findings.seed, findings.num_resamples
    ours = ask_all(findings, StudySource(study, detections, quality, seed, num))
    theirs = ask_all(findings, PaperSource(findings.paper_spread.instances, seed, num))
    return tuple(
        Judged(claim, findings.get_threshold(claim), ours[claim.id], theirs[claim.id])
        for claim in findings.claims
    )


def ask_all(findings: Findings, source: Source) -> dict[str, Answer]:
    """Ask one source all claims, each after those that it needs."""
    answers: dict[str, Answer] = {}
    for claim in findings.claims:
        answer = ask(claim, findings.get_threshold(claim), source)
        units, pilot = source.find_extractor(claim.measure), findings.pilot.setting.extractor
        if _needs_units(claim) and units not in (None, pilot) and _is_decided(answer):
            words = f"the margin is in units of {pilot} features, the effect in those of {units}"
            answer = _leave_undecided(answer, words)
        lacking = [name for name in claim.needs if answers[name].verdict != Verdict.SUPPORTED]
        if lacking and answer.verdict is Verdict.SUPPORTED:
            answer = _leave_undecided(answer, f"{', '.join(lacking)} is not supported")
        answers[claim.id] = answer
    return answers


def ask(claim: Claim, threshold: float, source: Source) -> Answer:
    """Ask one source one claim.

    Args:
        claim: what is selected.
        threshold: as from `Findings.get_threshold`.
        source: a study's tables or the paper's.
    """
    try:
        cells, left, right = _choose(claim, source)
    except NotAskedError as reason:
        return Answer(Verdict.NOT_ASKED, str(reason))
    resampled = source.resample(cells, claim.left.statistic)
    over = claim.left.over, Over.MEAN if claim.right is None else claim.right.over
    interval = _clip(bound_effect(resampled, left, right, over), claim)
    verdict = decide(interval, claim.direction, threshold)
    clusters = _find_clusters(claim, source)
    answer = Answer(
        verdict=verdict,
        measure=source.name_measure(claim.measure),
        effect=interval.point,
        low=interval.low,
        high=interval.high,
        left=tuple(cells[position].name for position in left),
        right=tuple(cells[position].name for position in right),
        num_pairs=sum(_count_pairs(cell) for cell in cells),
        num_instances=_count_instances(cells),
        num_dropped=interval.num_dropped,
        fixed=interval.fixed,
        clusters=clusters,
    )
    if math.isnan(interval.low):
        return _leave_undecided(answer, "there is no interval: one instance, or no spread printed")
    if interval.low == interval.high:
        return _leave_undecided(answer, "all instances are equal, as few can be by chance")
    if verdict is Verdict.CONTRADICTED and _is_small(interval, claim):
        return replace(answer, reason="there is an effect, smaller than the threshold")
    if verdict is Verdict.SUPPORTED and clusters is not None and not clusters.is_significant:
        return _leave_undecided(
            answer, f"shuffled entries are divided as well (p = {clusters.p_value:.3f})"
        )
    return answer


def decide(interval: Interval, direction: str, threshold: float) -> Verdict:
    """Hold an interval against a threshold.

    Args:
        interval: of the effect.
        direction: "above", "below", or "differs" for beyond the threshold on either side of 0.
        threshold: at least 0 for "differs".
    """
    low, high = interval.low, interval.high
    if direction == "below":
        low, high, threshold = -high, -low, -threshold
    if low > threshold:
        return Verdict.SUPPORTED
    if direction == "differs":
        if high < -threshold:
            return Verdict.SUPPORTED
        is_inside = -threshold <= low and high <= threshold
        return Verdict.CONTRADICTED if is_inside else Verdict.UNDECIDED
    return Verdict.CONTRADICTED if high <= threshold else Verdict.UNDECIDED


def _choose(claim: Claim, source: Source) -> tuple[list[Cell], list[int], list[int]]:
    """Choose all cells of a claim, and the positions of its left and right side among them."""
    sides = [claim.left, *([] if claim.right is None else [claim.right])]
    cells_of = [
        keep_setting(source.list_cells(claim.measure, side), claim.asked_of) for side in sides
    ]
    chosen = [choose_cells(cells, side) for cells, side in zip(cells_of, sides, strict=True)]
    if len(chosen) > 1 and _have_same_cells(chosen[0], chosen[1], sides):
        raise NotAskedError(f"there is only {chosen[0][0].name} on both sides")
    cells = [cell for side in chosen for cell in side]
    left = list(range(len(chosen[0])))
    return cells, left, list(range(len(left), len(cells)))


def _have_same_cells(left: list[Cell], right: list[Cell], sides: list[Selection]) -> bool:
    is_same = [cell.name for cell in left] == [cell.name for cell in right]
    is_same = is_same and sides[0].pairs == sides[1].pairs
    return is_same and (len(left) == 1 or sides[0].over == sides[1].over)


def _find_clusters(claim: Claim, source: Source) -> Clusters | None:
    is_asked = claim.left.reading is Reading.MUTUAL_FOOLING
    return source.find_clusters(claim.left) if is_asked else None


def _needs_units(claim: Claim) -> bool:
    """Say whether the margin of a claim is a number of something that an extractor decides."""
    return claim.threshold.margins != 0 and claim.measure not in SHARES


def _is_decided(answer: Answer) -> bool:
    return answer.verdict in (Verdict.SUPPORTED, Verdict.CONTRADICTED)


def _leave_undecided(answer: Answer, reason: str) -> Answer:
    return replace(answer, verdict=Verdict.UNDECIDED, reason=reason)


def _is_small(interval: Interval, claim: Claim) -> bool:
    """Say whether a difference lies in the claimed direction all the same."""
    if claim.right is None or claim.direction == "differs":
        return False
    return interval.low > 0 if claim.direction == "above" else interval.high < 0


def _clip(interval: Interval, claim: Claim) -> Interval:
    """Keep the interval of shares, or of a difference of shares, within what is possible."""
    if claim.measure not in SHARES:
        return interval
    floor = 0.0 if claim.right is None else -1.0
    return interval.clip(floor, 1.0)


def _count_pairs(cell: Cell) -> int:
    if not isinstance(cell.numbers, PairMatrix):
        return 0
    return int((~np.isnan(cell.numbers.values)).sum())


def _count_instances(cells: list[Cell]) -> tuple[tuple[str, int], ...]:
    """Count the instances of each cohort that have a number in some cell."""
    used: dict[str, set[int]] = {}
    for cell in cells:
        if isinstance(cell.numbers, PairMatrix):
            is_pair = ~np.isnan(cell.numbers.values)
            names = cell.numbers.generators, cell.numbers.classifiers
            for axis, name in enumerate(names):
                members = np.flatnonzero(is_pair.sum(axis=1 - axis))
                used.setdefault(name, set()).update(int(member) for member in members)
    return tuple((name, len(members)) for name, members in sorted(used.items()) if name)
