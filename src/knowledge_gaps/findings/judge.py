"""Verdicts: every claim is asked of a study's tables and, by the same code, of the paper's tables.

A claim is supported when the whole 95 % interval of its effect lies beyond the threshold in the
claimed direction, contradicted when all of it lies on the other side, and undecided otherwise. It
is void where generators that it is about do not fool the classifier in their own loss, or where the
study is not in the regime that it is asked in. The thresholds are in findings.yaml and were fixed
before the study that they judge.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from scipy.stats import combine_pvalues

from knowledge_gaps.findings.anchors import Mark
from knowledge_gaps.findings.effects import bound, choose_sides, stack
from knowledge_gaps.findings.schema import (
    Bounds,
    Claim,
    Findings,
)
from knowledge_gaps.findings.sources import (
    SHARES,
    Cell,
    InLoss,
    Measured,
    NotAskedError,
    Source,
)
from knowledge_gaps.statistics.chains import (
    Equivalence,
    Interval,
    assess_equivalence,
)
from knowledge_gaps.statistics.clusters import NUM_PERMUTATIONS, SIGNIFICANCE

_P_ERRORS = 3.0  # standard errors of a simulated p-value that it must be away from the level


class Verdict(StrEnum):
    """The outcome of a claim."""

    SUPPORTED = "supported"
    CONTRADICTED = "contradicted"
    UNDECIDED = "undecided"
    VOID = "void"
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
    num: int = 0  # pairs of all cells, or generator instances where the measure is theirs
    in_loss: InLoss | None = None  # of the cell whose own classifiers are fooled the least
    p_value: float = math.nan  # of the clusters of mutual fooling, over the chains


def ask_all(
    findings: Findings,
    source: Source,
    setting: tuple[str, str] | None = None,
    marks: Sequence[Mark] = (),
) -> dict[str, Answer]:
    """Ask one source all claims, each after those that it needs.

    A margin that is no share decides in the pilot's setting alone: dataset and extractor of the
    source, None where its verdicts need none. Claims about GANs that fool classifiers are void
    where an anchor was not reached.
    """
    answers: dict[str, Answer] = {}
    pilot = findings.pilot.setting.dataset, findings.pilot.setting.extractor
    missed = [mark.anchor.id for mark in marks if mark.is_reached is False]
    for claim in findings.claims:
        answer = _ask(claim, findings, source)
        needs_units = claim.threshold.margins != 0 and claim.measure not in SHARES
        is_asked = answer.verdict is not Verdict.NOT_ASKED
        if is_asked and needs_units and setting not in (None, pilot):
            words = f"the margin is of {pilot[0]} in {pilot[1]} features"
            answer = replace(answer, verdict=Verdict.VOID, reason=words)
        if is_asked and claim.fooled and missed and answer.verdict is not Verdict.VOID:
            words = f"regime not reached: {', '.join(missed)}"
            answer = replace(answer, verdict=Verdict.VOID, reason=words)
        lacking = [name for name in claim.needs if answers[name].verdict != Verdict.SUPPORTED]
        if lacking and answer.verdict is Verdict.SUPPORTED:
            answer = _leave_undecided(answer, f"{', '.join(lacking)} is not supported")
        answers[claim.id] = answer
    return answers


def _ask(claim: Claim, findings: Findings, source: Source) -> Answer:
    """Ask one source one claim, whatever other claims it needs."""
    try:
        left, right = choose_sides(claim, source)
    except NotAskedError as reason:
        return Answer(Verdict.NOT_ASKED, str(reason))
    cells, threshold = [*left, *right], findings.get_threshold(claim)
    if claim.direction == "equals":
        verdict, effect = _compare(left, right, threshold)
    else:
        effect = bound(claim, findings, left, right)
        verdict = decide(effect, claim.direction, threshold)
    answer = Answer(
        verdict=verdict,
        measure=cells[0].measure,
        effect=effect,
        left=tuple(cell.name for cell in left),
        right=tuple(cell.name for cell in right),
        num=sum(cell.numbers.num for cell in cells if isinstance(cell.numbers, Measured)),
    )
    answer = _qualify(answer, claim, cells)
    chosen = {"left": left, "right": right, "both": cells}.get(claim.fooled or "", [])
    return _check_fooled(answer, chosen, findings.fooled)


def _compare(
    left: Sequence[Cell], right: Sequence[Cell], margin: float
) -> tuple[Verdict, Interval]:
    """Test whether every left cell is equivalent to the mean of the right ones.

    Each of several cells is tested at its own level: all must pass (intersection-union). The effect
    is that of the cell that differs most.
    """
    if not all(isinstance(cell.numbers, Measured) for cell in [*left, *right]):
        point = max((_get_mean(cell) - _get_mean(right[0]) for cell in left), key=abs)
        return Verdict.UNDECIDED, Interval(point)
    differences = stack(left) - stack(right).mean(axis=1, keepdims=True)  # [S, L]
    tests: list[Equivalence] = [assess_equivalence(each, margin) for each in differences.T]
    effect = max((test.interval for test in tests), key=lambda each: abs(each.point))
    if all(test.is_equivalent for test in tests):
        return Verdict.SUPPORTED, effect
    is_other = any(test.is_different for test in tests)
    return Verdict.CONTRADICTED if is_other else Verdict.UNDECIDED, effect


def _get_mean(cell: Cell) -> float:
    return float(cell.numbers[0])


def decide(interval: Interval, direction: str, threshold: float) -> Verdict:
    """Compare an interval with a threshold; "differs" is beyond it on either side of 0."""
    low, high = interval.low, interval.high
    if direction == "below":
        low, high, threshold = -high, -low, -threshold
    if low > threshold or (direction == "differs" and high < -threshold):
        return Verdict.SUPPORTED
    is_inside = high <= threshold and (direction != "differs" or low >= -threshold)
    return Verdict.CONTRADICTED if is_inside else Verdict.UNDECIDED


def _qualify(answer: Answer, claim: Claim, cells: Sequence[Cell]) -> Answer:
    """Change the verdict where the interval alone does not decide it, and give reasons."""
    low, high = answer.effect.low, answer.effect.high
    if math.isnan(low):
        is_measured = isinstance(cells[0].numbers, Measured)
        words = "no spread over chains" if is_measured else "no spread is printed"
        return _leave_undecided(answer, f"there is no interval: {words}")
    if clusters := cells[0].clusters:
        p_value = float(combine_pvalues([each.p_value for each in clusters]).pvalue)
        answer = replace(answer, p_value=p_value)
        error = math.sqrt(p_value * (1 - p_value) / NUM_PERMUTATIONS)
        is_divided = p_value + _P_ERRORS * error < SIGNIFICANCE
        if answer.verdict is Verdict.SUPPORTED and not is_divided:
            words = f"GANs permuted at random are divided as well (p = {p_value:.3f})"
            return _leave_undecided(answer, words)
    has_effect = low > 0 if claim.direction == "above" else high < 0
    is_difference = claim.right is not None and claim.direction in ("above", "below")
    if answer.verdict is Verdict.CONTRADICTED and is_difference and has_effect:
        return replace(answer, reason="there is an effect, smaller than the threshold")
    return answer


def _check_fooled(answer: Answer, cells: Sequence[Cell], bounds: Bounds) -> Answer:
    """Void a claim about generators that do not fool the classifier in their own loss."""
    known = [(cell.in_loss, cell.name) for cell in cells if cell.in_loss is not None]
    if not known:
        return answer
    rate, auc = bounds.detection_rate, bounds.auc
    failed = [
        (each, name)
        for each, name in known
        if not (each.detection_rate <= rate and each.auc <= auc)  # nor is it known with NaN
    ]
    found, name = max(failed or known)
    answer = replace(answer, in_loss=found)
    if not failed:
        return answer
    return replace(
        answer,
        verdict=Verdict.VOID,
        reason=f"{name}: the classifier in the loss detects {found.detection_rate:.3f} with an AUC "
        f"of {found.auc:.3f}; at most {rate:g} and {auc:g} are needed",
    )


def _leave_undecided(answer: Answer, reason: str) -> Answer:
    return replace(answer, verdict=Verdict.UNDECIDED, reason=reason)
