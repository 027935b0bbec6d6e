"""The result of the shortcut audit: do detection rates measure what images show?"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.layout import AUDIT_FILE
from knowledge_gaps.core.tables import NUM_IMAGES, Cast, read_columns
from knowledge_gaps.statistics.hypotheses import AUDIT_ALPHA, compute_detectable_auc
from knowledge_gaps.statistics.measures import AUC, DETECTION_RATE, REAL_ACCURACY

NO_FAULT = "none"
_SMALLEST_P = 1e-6  # that the table's digits can show

# what a check does not measure is NaN
COLUMNS = {
    "check": Cast.NAME,  # a `Check`
    "subject": Cast.NAME,  # recipe of the classifier, or which images
    "fault": Cast.NAME,  # of the replay, "none" but for a control
    "instance": Cast.NUMBER,  # of the classifier
    "steps": Cast.NUMBER,  # that it was trained for
    NUM_IMAGES: Cast.COUNT,  # of each half, or of all images of an exact check
    DETECTION_RATE: Cast.SHARE,  # share of replayed reals called generated
    REAL_ACCURACY: Cast.SHARE,  # share of other reals called real
    AUC: Cast.SHARE,  # of replayed against other reals; 0.5 is chance
    "p_value": Cast.SHARE,  # two-sided, of that area
    "p_holm": Cast.SHARE,  # adjusted over all replays
    "num_defects": Cast.NUMBER,  # changed bytes of a round trip, or sample files unlike the reals
    "verdict": Cast.NAME,  # a `Verdict`
}


class Check(StrEnum):
    """What a row of the audit is about."""

    REPLAY = "replay"  # a classifier of reals against replayed reals
    CONTROL = "control"  # the same with a known fault in the replay, which must be found
    ROUND_TRIP = "round_trip"  # images that take the generated images' way, byte by byte
    SAMPLE_FILES = "sample_files"  # dtype, shape and range of the stored samples


class Verdict(StrEnum):
    """Result of a row: a control is found or not, everything else passes or fails."""

    PASS = "pass"
    FAIL = "fail"
    FOUND = "found"
    NOT_FOUND = "not_found"


@dataclass(frozen=True)
class Audit:
    """All checks of a study: rows of the table, with an attribute for each of COLUMNS."""

    rows: tuple[Any, ...]

    @property
    def failures(self) -> list[Any]:
        """Rows of checks that found a shortcut; a control that was not found is none."""
        return [row for row in self.rows if row.verdict == Verdict.FAIL]

    @property
    def passed(self) -> bool:
        """Whether no check found a shortcut."""
        return not self.failures

    @property
    def has_power(self) -> bool:
        """Whether every control was found, so that a shortcut would have been found too."""
        return {row.verdict for row in self.select(Check.CONTROL)} == {Verdict.FOUND}

    @property
    def statement(self) -> str:
        """What the audit came to, in one sentence."""
        if not self.passed:
            return (
                "The shortcut audit failed, so detection rates may measure how images are stored "
                f"instead of what they show: {'; '.join(map(_describe_failure, self.failures))}."
            )
        return f"{_describe_pass(self)}; {_describe_controls(self)}."

    def select(self, check: str) -> list[Any]:
        """Return the rows of one check."""
        return [row for row in self.rows if row.check == check]


def read(reports: Path) -> Audit:
    """Read audit.csv; raises UserError when it is malformed or has no replay."""
    path = reports / AUDIT_FILE
    table = read_columns(path, COLUMNS)
    for column, known in (("check", Check), ("verdict", Verdict)):
        for line, found in enumerate(table[column], start=2):
            if found not in tuple(known):
                place = f"{path}: column {column!r}, line {line}"
                raise UserError(f"{place}: found {found!r}, one of {', '.join(known)} is needed")
    audit = Audit(tuple(table.itertuples(index=False)))
    if not audit.select(Check.REPLAY):
        raise UserError(f"{path}: no row of check {Check.REPLAY.value!r}, at least one is needed")
    return audit


def _describe_failure(row: Any) -> str:
    if row.check == Check.REPLAY:
        p_holm = f"{row.p_holm:.2g}" if row.p_holm >= _SMALLEST_P else f"below {_SMALLEST_P:g}"
        return (
            f"classifier {row.subject}/{row.instance:.0f} tells replayed reals from other reals "
            f"(area under the ROC curve {row.auc:.3f}, adjusted p {p_holm})"
        )
    if row.check == Check.ROUND_TRIP:
        return f"{row.num_defects:,.0f} bytes of the images {row.subject!r} came back changed"
    return f"{row.num_defects:,.0f} sample files are stored in another way than the reals"


def _describe_pass(audit: Audit) -> str:
    replays = audit.select(Check.REPLAY)
    areas = [row.auc for row in replays]
    fewest = min(row.num_images for row in replays)
    limit = compute_detectable_auc(fewest, len(replays), AUDIT_ALPHA)  # from which one fails
    text = (
        "Reals that went the generated images' way look like other reals to "
        f"{len(replays)} of {len(replays)} classifiers (area under the ROC curve "
        f"{min(areas):.3f} to {max(areas):.3f}; beyond {1 - limit:.3f} to {limit:.3f} it would "
        "fail)"
    )
    num_images = sum(row.num_images for row in audit.select(Check.ROUND_TRIP))
    return text if num_images == 0 else f"{text}, and {num_images:,} images came back unchanged"


def _describe_controls(audit: Audit) -> str:
    controls = audit.select(Check.CONTROL)
    missed = [f"{row.fault} by {row.subject}" for row in controls if row.verdict != Verdict.FOUND]
    if missed:
        return f"known faults were not found ({', '.join(missed)}), so one could have been missed"
    if not controls:
        return "no known fault was tried"
    lowest = min(row.auc for row in controls)
    return f"every known fault was found ({len(controls)} tried, area at least {lowest:.3f})"
