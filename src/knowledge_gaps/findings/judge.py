"""Verdicts: every claim is asked of a study's tables and, by the same code, of the paper's tables.

A claim is supported when the whole 95 % interval of its effect lies beyond the threshold in the
claimed direction, contradicted when all of it lies on the other side, and undecided otherwise. The
thresholds are in findings.yaml and were fixed before the study that they judge.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from knowledge_gaps.findings.schema import AskedOf, Claim, Findings, Range, Selection
from knowledge_gaps.findings.sources import Cell, NotAskedError, Printed, Source, resample_printed
from knowledge_gaps.readings.cells import MEASURES
from knowledge_gaps.readings.formats import format_title
from knowledge_gaps.statistics.bootstrap import Interval, PairMatrix, Resampled, resample_cells
from knowledge_gaps.statistics.clusters import Clusters
from knowledge_gaps.statistics.effects import bound_effect
from knowledge_gaps.statistics.measures import COVERAGE, MEMORISED, PRECISION, RECALL

_SHARES = frozenset({*MEASURES, PRECISION, RECALL, COVERAGE, MEMORISED})  # measures in [0, 1]


class Verdict(StrEnum):
    """The outcome of a claim."""

    SUPPORTED = "supported"
    CONTRADICTED = "contradicted"
    UNDECIDED = "undecided"
    NOT_ASKED = "not asked here"


@dataclass(frozen=True)
class Answer:
    """The verdict of one source on a claim, with the effect: left, or left less right."""

    verdict: Verdict
    reason: str | None = None  # why there is none, or why it is not what the interval alone says
    measure: str = ""  # as the source calls it
    effect: Interval = field(default_factory=Interval)
    left: tuple[str, ...] = ()  # names of the cells
    right: tuple[str, ...] = ()  # of those that were subtracted
    num_pairs: int = 0  # of all cells, or generator instances where the measure is theirs
    num_instances: Mapping[str, int] = field(default_factory=dict)  # by cohort of a study
    clusters: Clusters | None = None  # of the matrix of mutual fooling, where it is divided


def ask_all(findings: Findings, source: Source, extractor: str | None = None) -> dict[str, Answer]:
    """Ask one source all claims, each after those that it needs.

    A margin of a distance decides in the pilot's features alone: `extractor` is the source's, None
    where its distances have no verdict.
    """
    answers: dict[str, Answer] = {}
    pilot = findings.pilot.setting.extractor
    for claim in findings.claims:
        answer = _ask(claim, findings, source)
        needs_units = claim.threshold.margins != 0 and claim.measure not in _SHARES
        is_decided = answer.verdict in (Verdict.SUPPORTED, Verdict.CONTRADICTED)
        if needs_units and extractor not in (None, pilot) and is_decided:
            units = f"{pilot} features, the effect in those of {extractor}"
            answer = _leave_undecided(answer, f"the margin is in units of {units}")
        lacking = [name for name in claim.needs if answers[name].verdict != Verdict.SUPPORTED]
        if lacking and answer.verdict is Verdict.SUPPORTED:
            answer = _leave_undecided(answer, f"{', '.join(lacking)} is not supported")
        answers[claim.id] = answer
    return answers


def _ask(claim: Claim, findings: Findings, source: Source) -> Answer:
    """Ask one source one claim, whatever other claims it needs."""
    try:
        left, right = _choose_sides(claim, source)
    except NotAskedError as reason:
        return Answer(Verdict.NOT_ASKED, str(reason))
    cells = [*left, *right]
    resampled = _resample(cells, claim, findings)
    over = claim.left.over, claim.sides[-1].over
    effect = bound_effect(resampled, range(len(left)), range(len(left), len(cells)), over)
    if claim.measure in _SHARES:
        effect = effect.clip(0.0 if claim.right is None else -1.0, 1.0)
    num_pairs = sum(cell.num_pairs for cell in cells)
    counts = {part.name: int(part.is_used.any(axis=1).sum()) for part in resampled.components}
    answer = Answer(
        verdict=decide(effect, claim.direction, findings.get_threshold(claim)),
        measure=cells[0].measure,
        effect=effect,
        left=tuple(cell.name for cell in left),
        right=tuple(cell.name for cell in right),
        num_pairs=num_pairs,
        num_instances=counts if num_pairs > 0 else {},
        clusters=cells[0].clusters,
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


def _choose_sides(claim: Claim, source: Source) -> tuple[list[Cell], list[Cell]]:
    left, right = (
        choose_cells(source(claim.measure, side), side, claim.asked_of) if side else []
        for side in (claim.left, claim.right)
    )
    if claim.right is not None and claim.left.pairs == claim.right.pairs:
        names, others = ([cell.name for cell in cells] for cells in (left, right))
        if names == others and (len(names) == 1 or claim.left.over == claim.right.over):
            raise NotAskedError(f"there is only {names[0]} on both sides")
    return left, right


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


def _resample(cells: Sequence[Cell], claim: Claim, findings: Findings) -> Resampled:
    """Resample the cells of one source, all of which are matrices or all printed."""
    seed, num = findings.seed, findings.num_resamples
    if printed := [cell.numbers for cell in cells if isinstance(cell.numbers, Printed)]:
        return resample_printed(printed, findings.paper_spread.instances, seed, num)
    matrices = [cell.numbers for cell in cells if isinstance(cell.numbers, PairMatrix)]
    return resample_cells(matrices, seed, claim.left.statistic, num)


def _qualify(answer: Answer, claim: Claim) -> Answer:
    """Change the verdict where the interval alone does not decide it, and give reasons."""
    low, high, clusters = answer.effect.low, answer.effect.high, answer.clusters
    if math.isnan(low):
        return _leave_undecided(answer, "there is no interval: one instance, or no spread printed")
    if low == high:
        return _leave_undecided(answer, "all instances are equal, as few can be by chance")
    has_effect = low > 0 if claim.direction == "above" else high < 0
    is_difference = claim.right is not None and claim.direction != "differs"
    if answer.verdict is Verdict.CONTRADICTED and is_difference and has_effect:
        return replace(answer, reason="there is an effect, smaller than the threshold")
    if answer.verdict is Verdict.SUPPORTED and clusters and not clusters.is_significant:
        words = f"shuffled entries are divided as well (p = {clusters.p_value:.3f})"
        return _leave_undecided(answer, words)
    return answer


def _leave_undecided(answer: Answer, reason: str) -> Answer:
    return replace(answer, verdict=Verdict.UNDECIDED, reason=reason)
