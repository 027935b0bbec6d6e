"""Which verdicts differ between two studies: their verdicts.json, claim by claim."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from rich.text import Text

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.files import read_json
from knowledge_gaps.core.printing import count_words, draw_table, make_table
from knowledge_gaps.findings.judge import Verdict
from knowledge_gaps.statistics.changes import Estimate, compute_change

_BOUNDS = ("effect", "low", "high")


class Outcome(StrEnum):
    """How a claim's verdicts in two studies compare, in the words of the line that counts them."""

    SAME = "as before"
    OTHER = "with another verdict, threshold or measure"
    ONE_ASKED = "asked in one study only"


@dataclass(frozen=True)
class Told:
    """What one study says to a claim.

    Attributes:
        verdict: of its own tables.
        effect: with its interval; NaN where there is none.
        measure: of the effect, the network of its features included; empty where there is none.
        threshold: that the interval was held against.
        fixed: cohorts of which the interval does not cover other instances.
    """

    verdict: Verdict
    effect: Estimate
    measure: str
    threshold: float
    fixed: tuple[str, ...]


@dataclass(frozen=True)
class Change:
    """A claim in two studies.

    Attributes:
        id: of the claim.
        before: None where the study's findings.yaml had no such claim.
        after: as before.
    """

    id: str
    before: Told | None
    after: Told | None

    @property
    def num_asked(self) -> int:
        """Count the studies that could be asked."""
        told = [told for told in (self.before, self.after) if told is not None]
        return sum(each.verdict is not Verdict.NOT_ASKED for each in told)

    @property
    def outcome(self) -> Outcome:
        """Compare the verdicts where both studies could be asked, else there is none to compare."""
        if self.before is None or self.after is None or self.num_asked < 2:
            return Outcome.ONE_ASKED
        is_same = (
            self.before.verdict is self.after.verdict
            and self.before.threshold == self.after.threshold
            and self.before.measure == self.after.measure
        )
        return Outcome.SAME if is_same else Outcome.OTHER


def read_verdicts(path: Path) -> dict[str, Told]:
    """Read what a study's verdicts.json says of it, by the claim's id.

    Raises:
        UserError: when it is missing or something else.
    """
    try:
        return {claim["id"]: _read_claim(claim) for claim in read_json(path)["claims"]}
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: not the verdicts of a study ({error})") from error


def list_changes(before: dict[str, Told], after: dict[str, Told]) -> list[Change]:
    """List the claims that at least one of two studies was asked, in the order of their files."""
    changes = [Change(id, before.get(id), after.get(id)) for id in {**before, **after}]
    return [change for change in changes if change.num_asked > 0]


def render(changes: Sequence[Change]) -> str:
    """Return a table of the claims and a line that counts them."""
    table = make_table()
    table.add_column("claim", no_wrap=True)
    for name in ("before", "after", "effect moved by", ""):
        table.add_column(name, overflow="fold")
    for change in changes:
        shown = (_format(change.before), _format(change.after), _format_move(change))
        table.add_row(*map(Text, (change.id, *shown, _remark(change))))
    outcomes = Counter(change.outcome for change in changes)
    counts = ", ".join(f"{outcomes[outcome]} {outcome}" for outcome in Outcome)
    return f"{draw_table(table)}\n\n{count_words(len(changes), 'claim')} asked: {counts}"


def _read_claim(claim: dict[str, Any]) -> Told:
    said = claim["study"]
    numbers = [math.nan if said[key] is None else float(said[key]) for key in _BOUNDS]
    return Told(
        verdict=Verdict(said["verdict"]),
        effect=Estimate(*numbers),
        measure=(said["effect_words"] or "").partition(":")[0],
        threshold=float(claim["threshold"]),
        fixed=tuple(said["fixed"]),
    )


def _format(told: Told | None) -> str:
    if told is None:
        return "no such claim"
    return f"{told.verdict.value} {_format_estimate(told.effect, '')}".rstrip()


def _format_move(change: Change) -> str:
    """Write how far the effect moved; without an interval where those of the studies are partial.

    Two studies train other instances of every cohort. An interval that holds a cohort fixed says
    nothing about what that alone does to the effect.
    """
    before, after = change.before, change.after
    if before is None or after is None or before.measure != after.measure:
        return ""
    move = compute_change(before.effect, after.effect)
    fixed = sorted({*before.fixed, *after.fixed})
    if not fixed or math.isnan(move.point):
        return _format_estimate(move, "+")
    return f"{move.point:+.3g} ({', '.join(fixed)} fixed)"


def _format_estimate(estimate: Estimate, sign: str) -> str:
    if math.isnan(estimate.point):
        return ""
    text = f"{estimate.point:{sign}.3g}"
    if math.isnan(estimate.low):
        return text
    return f"{text} [{estimate.low:{sign}.3g}, {estimate.high:{sign}.3g}]"


def _remark(change: Change) -> str:
    if change.before is None or change.after is None or change.outcome is Outcome.ONE_ASKED:
        return Outcome.ONE_ASKED.value
    if change.outcome is Outcome.SAME:
        return ""
    if change.before.threshold != change.after.threshold:
        return f"threshold {change.before.threshold:g}, then {change.after.threshold:g}"
    if change.before.verdict is change.after.verdict:
        return f"{change.before.measure}, then {change.after.measure}"
    return "another verdict"
