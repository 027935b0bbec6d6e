"""The page's table of findings: a claim, its verdict, effect and interval, and the paper's word."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from knowledge_gaps.report.findings.judge import Answer, Judged, Verdict
from knowledge_gaps.report.findings.schema import Claim
from knowledge_gaps.report.formats import format_counts, format_interval, format_number
from knowledge_gaps.report.readings.pairs import PairSet
from knowledge_gaps.statistics.bootstrap import Interval

_PAIR_WORDS = {
    PairSet.HELD_OUT: "held-out pairs",
    PairSet.IN_LOSS: "classifiers in the loss",
    PairSet.IN_TRAINING: "generators of the classifiers' training",
}
_BEYOND = {"above": "above", "below": "below", "differs": "further from 0 than"}
_DIGITS = 3


@dataclass(frozen=True)
class VerdictRow:
    """One claim in words.

    Attributes:
        id: of the claim.
        text: what is claimed.
        setting: where the paper found it.
        protocol: what was measured, on which pairs.
        verdict: a value of `Verdict`.
        reason: why there is no verdict, or why it is not the interval's alone; empty for none.
        effect: with its interval, or a dash.
        source: the cells that it was read from.
        condition: when the claim holds.
        paper: the paper's words.
        paper_verdict: of its own table; empty where it prints none.
        paper_effect: with its interval.
    """

    id: str
    text: str
    setting: str
    protocol: str
    verdict: str
    reason: str
    effect: str
    source: str
    condition: str
    paper: str
    paper_verdict: str
    paper_effect: str


def make_verdict_rows(judged: Iterable[Judged]) -> tuple[VerdictRow, ...]:
    """Put every judged claim into words, those that were asked first."""
    rows = [_make_row(each) for each in judged]
    return tuple(sorted(rows, key=lambda row: row.verdict == Verdict.NOT_ASKED.value))


def count_verdicts(judged: Iterable[Judged]) -> dict[str, int]:
    """Count the claims of each verdict, in the order of `Verdict`."""
    found = [each.study.verdict for each in judged]
    return {verdict.value: found.count(verdict) for verdict in Verdict}


def _make_row(judged: Judged) -> VerdictRow:
    claim, here, paper = judged.claim, judged.study, judged.paper
    has_table = paper.verdict is not Verdict.NOT_ASKED
    return VerdictRow(
        id=claim.id,
        text=claim.text,
        setting=claim.setting,
        protocol=_describe_protocol(claim),
        verdict=here.verdict.value,
        reason=here.reason or "",
        effect=_format_effect(here),
        source=_describe_source(claim, here),
        condition=f"{_BEYOND[claim.direction]} {format_number(judged.threshold, _DIGITS)}",
        paper=claim.paper,
        paper_verdict=paper.verdict.value if has_table else "",
        paper_effect=_format_effect(paper),
    )


def _format_effect(answer: Answer) -> str:
    return format_interval(Interval(answer.effect, answer.low, answer.high, 0, ()), _DIGITS)


def _describe_protocol(claim: Claim) -> str:
    pairs = "" if claim.left.pairs is None else f" over {_PAIR_WORDS[claim.left.pairs]}"
    what = claim.measure.replace("_", " ")
    if claim.left.statistic != "mean":
        what = f"{claim.left.statistic} of {what}"
    return f"{what}{pairs}{'' if claim.right is None else ', a difference'}"


def _describe_source(claim: Claim, answer: Answer) -> str:
    if answer.num_pairs == 0:
        return ""
    table = "quality.csv" if claim.left.pairs is None else "detections.csv"
    num_cells = len(answer.left) + len(answer.right)
    what = "instances" if claim.left.pairs is None else "pairs"
    counts = format_counts(number for _, number in answer.num_instances)
    return (
        f"{table}: {num_cells} cell{'' if num_cells == 1 else 's'}, {answer.num_pairs} {what}, "
        f"{counts} instances a cohort"
    )
