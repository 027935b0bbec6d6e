"""Which verdicts differ between two studies: their verdicts.json, claim by claim."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from rich.text import Text

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.files import read_json
from knowledge_gaps.core.printing import count_words, draw_table, make_table
from knowledge_gaps.findings.judge import Verdict
from knowledge_gaps.statistics.chains import Interval, compute_change


class ChangeKind(StrEnum):
    """How a claim's verdicts in two studies compare, in the words of the line that counts them."""

    SAME = "as before"
    OTHER = "with another verdict, threshold or measure"
    ONE_ASKED = "asked in one study only"


class Reported(NamedTuple):
    """What a study's verdicts.json says of a claim; without effect where it was not asked."""

    verdict: Verdict = Verdict.NOT_ASKED
    effect: Interval = Interval()
    measure: str = ""  # of the effect
    threshold: float = math.nan  # that the interval was compared with


_NO_CLAIM = Reported()


class Change(NamedTuple):
    """A claim in two studies, with what is not as before in words."""

    id: str
    before: Reported
    after: Reported
    kind: ChangeKind
    remark: str


def read_verdicts(path: Path) -> dict[str, Reported]:
    """Read the verdicts.json of a study by the claims' ids.

    Raises:
        UserError: when it is missing or something else.
    """
    try:
        return {claim["id"]: _read_claim(claim) for claim in read_json(path)["claims"]}
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: not the verdicts of a study ({error})") from error


def list_changes(before: dict[str, Reported], after: dict[str, Reported]) -> list[Change]:
    """List the claims that at least one of two studies was asked, in the order of their files."""
    pairs = {id: (before.get(id, _NO_CLAIM), after.get(id, _NO_CLAIM)) for id in before | after}
    return [
        Change(id, *pair, *_compare(*pair))
        for id, pair in pairs.items()
        if any(each.verdict is not Verdict.NOT_ASKED for each in pair)
    ]


def render(changes: Sequence[Change]) -> str:
    """Return a table of the claims and a line that counts them."""
    table = make_table("claim", "before", "after", "effect moved by", "", overflow="fold")
    for change in changes:
        shown = _format(change.before), _format(change.after), _format_move(change)
        table.add_row(*map(Text, (change.id, *shown, change.remark)))
    kinds = Counter(change.kind for change in changes)
    counts = ", ".join(f"{kinds[kind]} {kind}" for kind in ChangeKind)
    return f"{draw_table(table)}\n\n{count_words(len(changes), 'claim')} asked: {counts}"


def _read_claim(claim: dict[str, Any]) -> Reported:
    study = claim["study"]
    numbers = (study[key] for key in ("effect", "low", "high"))
    point, low, high = (math.nan if number is None else float(number) for number in numbers)
    return Reported(
        verdict=Verdict(study["verdict"]),
        effect=Interval(
            point, low, high, degrees=math.nan if math.isnan(low) else study["degrees"]
        ),
        measure=(study["effect_words"] or "").partition(":")[0],
        threshold=float(claim["threshold"]),
    )


def _compare(before: Reported, after: Reported) -> tuple[ChangeKind, str]:
    if Verdict.NOT_ASKED in (before.verdict, after.verdict):
        return ChangeKind.ONE_ASKED, ChangeKind.ONE_ASKED.value
    if before.threshold != after.threshold:
        return ChangeKind.OTHER, f"threshold {before.threshold:g}, then {after.threshold:g}"
    if before.verdict is not after.verdict:
        return ChangeKind.OTHER, "another verdict"
    if before.measure != after.measure:
        return ChangeKind.OTHER, f"{before.measure}, then {after.measure}"
    return ChangeKind.SAME, ""


def _format(reported: Reported) -> str:
    if reported is _NO_CLAIM:
        return "no such claim"
    return f"{reported.verdict.value} {_format_interval(reported.effect, '')}".rstrip()


def _format_move(change: Change) -> str:
    """Write how far the effect moved, with its interval where both studies have one."""
    if change.before.measure != change.after.measure:
        return ""
    return _format_interval(compute_change(change.before.effect, change.after.effect), "+")


def _format_interval(interval: Interval, sign: str) -> str:
    if math.isnan(interval.point):
        return ""
    point, low, high = (f"{x:{sign}.3g}" for x in (interval.point, interval.low, interval.high))
    return point if math.isnan(interval.low) else f"{point} [{low}, {high}]"
