"""The page's table of findings: a claim, its verdict, effect and interval, and the paper's word."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from knowledge_gaps.findings.form import (
    describe_effect,
    describe_paper,
    describe_source,
    describe_threshold,
)
from knowledge_gaps.findings.judge import Answer, Judged, Verdict
from knowledge_gaps.findings.schema import Claim, Findings
from knowledge_gaps.readings.formats import format_counts, format_interval
from knowledge_gaps.statistics.bootstrap import Interval

_DIGITS = 3


@dataclass(frozen=True)
class VerdictRow:
    """One claim in words.

    Attributes:
        id: of the claim.
        text: what is claimed.
        setting: where the paper found it.
        why: reason of selection and threshold; empty where it is plain.
        verdict: a value of `Verdict`.
        reason: why there is no verdict, or why it is not the interval's alone; empty for none.
        effect: with its interval, or a dash.
        protocol: how the effect is made of cells; empty when the claim was not asked.
        source: rows that it was read from, and how many instances they are of.
        condition: when the claim holds.
        paper: the paper's words.
        paper_verdict: of its own table; empty where it prints none.
        paper_effect: with its interval.
        paper_protocol: how its table was read.
    """

    id: str
    text: str
    setting: str
    why: str
    verdict: str
    reason: str
    effect: str
    protocol: str
    source: str
    condition: str
    paper: str
    paper_verdict: str
    paper_effect: str
    paper_protocol: str


def make_verdict_rows(findings: Findings, judged: Iterable[Judged]) -> tuple[VerdictRow, ...]:
    """Put every judged claim into words, those that were asked first."""
    rows = [_make_row(findings, each) for each in judged]
    return tuple(sorted(rows, key=lambda row: row.verdict == Verdict.NOT_ASKED.value))


def count_verdicts(judged: Iterable[Judged]) -> dict[str, int]:
    """Count the claims of each verdict, in the order of `Verdict`."""
    found = [each.study.verdict for each in judged]
    return {verdict.value: found.count(verdict) for verdict in Verdict}


def _make_row(findings: Findings, judged: Judged) -> VerdictRow:
    claim, here, paper = judged.claim, judged.study, judged.paper
    has_table = paper.verdict is not Verdict.NOT_ASKED
    return VerdictRow(
        id=claim.id,
        text=claim.text,
        setting=claim.setting,
        why=claim.why or "",
        verdict=here.verdict.value,
        reason=here.reason or "",
        effect=_format_effect(here),
        protocol=describe_effect(claim, here) or "",
        source=_describe_source(claim, here),
        condition=describe_threshold(claim, findings),
        paper=claim.paper,
        paper_verdict=paper.verdict.value if has_table else "",
        paper_effect=_format_effect(paper),
        paper_protocol=(describe_paper(claim, findings) or "") if has_table else "",
    )


def _format_effect(answer: Answer) -> str:
    return format_interval(Interval(answer.effect, answer.low, answer.high, 0, ()), _DIGITS)


def _describe_source(claim: Claim, answer: Answer) -> str:
    if answer.num_pairs == 0:
        return ""
    return f"{describe_source(claim, answer)}; {_describe_size(answer)}"


def _describe_size(answer: Answer) -> str:
    counts = format_counts(number for _, number in answer.num_instances)
    words = f"{answer.num_pairs:,} values, {counts} instances a cohort"
    if answer.fixed:
        words += f"; does not cover other instances of {', '.join(answer.fixed)}"
    return words
