"""Which verdicts differ between two studies: their verdicts.json, claim by claim."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.text import Text

from knowledge_gaps.report.findings.judge import Verdict
from knowledge_gaps.runtime.errors import UserError
from knowledge_gaps.runtime.files import read_json
from knowledge_gaps.runtime.printing import draw_table, make_table
from knowledge_gaps.statistics.changes import Estimate, compute_change

_BOUNDS = ("effect", "low", "high")


@dataclass(frozen=True)
class Told:
    """What one study says to a claim.

    Attributes:
        verdict: of its own tables.
        effect: with its interval; NaN where there is none.
        threshold: that the interval was held against.
    """

    verdict: Verdict
    effect: Estimate
    threshold: float


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
    def was_asked(self) -> bool:
        """Tell whether one of the studies could be asked."""
        return any(
            told is not None and told.verdict is not Verdict.NOT_ASKED
            for told in (self.before, self.after)
        )

    @property
    def is_same(self) -> bool:
        """Tell whether both have the same verdict, by the same threshold."""
        if self.before is None or self.after is None:
            return False
        return (
            self.before.verdict is self.after.verdict
            and self.before.threshold == self.after.threshold
        )


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
    return [change for change in changes if change.was_asked]


def render(changes: Sequence[Change]) -> str:
    """Return a table of the claims and a line that counts them."""
    table = make_table()
    for name in ("claim", "before", "after", "effect moved by", ""):
        table.add_column(name, no_wrap=True)
    for change in changes:
        moved = ""
        if change.before is not None and change.after is not None:
            moved = _format_estimate(compute_change(change.before.effect, change.after.effect), "+")
        cells = (change.id, _format(change.before), _format(change.after), moved, _remark(change))
        table.add_row(*map(Text, cells))
    num_same = sum(change.is_same for change in changes)
    count = f"{len(changes)} claims asked: {num_same} as before, {len(changes) - num_same} not"
    return f"{draw_table(table)}\n\n{count}"


def _read_claim(claim: dict[str, Any]) -> Told:
    said = claim["study"]
    numbers = [math.nan if said[key] is None else float(said[key]) for key in _BOUNDS]
    return Told(Verdict(said["verdict"]), Estimate(*numbers), float(claim["threshold"]))


def _format(told: Told | None) -> str:
    if told is None:
        return "no such claim"
    return f"{told.verdict.value} {_format_estimate(told.effect, '')}".rstrip()


def _format_estimate(estimate: Estimate, sign: str) -> str:
    if math.isnan(estimate.point):
        return ""
    text = f"{estimate.point:{sign}.3g}"
    if math.isnan(estimate.low):
        return text
    return f"{text} [{estimate.low:{sign}.3g}, {estimate.high:{sign}.3g}]"


def _remark(change: Change) -> str:
    if change.is_same:
        return ""
    if change.before is None or change.after is None:
        return "in one file only"
    if change.before.threshold != change.after.threshold:
        return f"threshold {change.before.threshold:g}, then {change.after.threshold:g}"
    return "another verdict"
