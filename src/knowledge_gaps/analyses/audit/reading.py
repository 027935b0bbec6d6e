"""The result of the shortcut audit: do detection rates measure what images show?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.core.layout import AUDIT_FILE, get_reports_directory
from knowledge_gaps.core.tables import NUM_IMAGES, Cast, read_columns
from knowledge_gaps.statistics.hypotheses import AUDIT_ALPHA, compute_detectable_auc
from knowledge_gaps.statistics.measures import AUC, DETECTION_RATE, REAL_ACCURACY

_SMALLEST_P = 1e-6  # that the table's digits can show

COLUMNS = {
    "check": Cast.NAME,
    "subject": Cast.NAME,
    "fault": Cast.NAME,
    "instance": Cast.NUMBER,
    "steps": Cast.NUMBER,
    NUM_IMAGES: Cast.COUNT,
    DETECTION_RATE: Cast.SHARE,
    REAL_ACCURACY: Cast.SHARE,
    AUC: Cast.SHARE,
    "p_value": Cast.SHARE,
    "p_holm": Cast.SHARE,
    "num_defects": Cast.NUMBER,
    "verdict": Cast.NAME,
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
class AuditRow:
    """One check; what a check does not measure is NaN."""

    check: str  # a `Check`
    subject: str  # recipe of the classifier, or which images
    fault: str  # of the replay, "none" but for a control
    instance: float  # number of the classifier
    steps: float  # that it was trained for
    num_images: int  # of each half, or of all images of an exact check
    detection_rate: float  # share of replayed reals called generated
    real_accuracy: float  # share of other reals called real
    auc: float  # of replayed against other reals; 0.5 is chance
    p_value: float  # two-sided, of that area
    p_holm: float  # adjusted over all replays
    num_defects: float  # changed bytes of a round trip, or sample files unlike the reals
    verdict: str  # a `Verdict`

    @property
    def is_good(self) -> bool:
        """Whether the check passed, or the control was found."""
        return self.verdict in (Verdict.PASS, Verdict.FOUND)


@dataclass(frozen=True)
class Audit:
    """All checks of a study in the table's order; at least one replay."""

    rows: tuple[AuditRow, ...]

    @property
    def passed(self) -> bool:
        """Whether no check found a shortcut."""
        return all(row.is_good for row in self.rows if row.check != Check.CONTROL)

    @property
    def has_power(self) -> bool:
        """Whether every control was found, so that a shortcut would have been found too."""
        controls = self.select(Check.CONTROL)
        return len(controls) > 0 and all(row.is_good for row in controls)

    @property
    def detectable_auc(self) -> float:
        """Area under the ROC curve from which a replay would have failed."""
        replays = self.select(Check.REPLAY)
        num_images = min(row.num_images for row in replays)
        return compute_detectable_auc(num_images, len(replays), AUDIT_ALPHA)

    @property
    def statement(self) -> str:
        """What the audit came to, in one sentence."""
        if not self.passed:
            found = "; ".join(_describe_failure(row) for row in self.rows if _is_failure(row))
            return (
                "The shortcut audit failed, so detection rates may measure how images are stored "
                f"instead of what they show: {found}."
            )
        return f"{_describe_pass(self)}; {_describe_controls(self)}."

    def select(self, check: str) -> tuple[AuditRow, ...]:
        """Return the rows of one check."""
        return tuple(row for row in self.rows if row.check == check)


def read(root: Path) -> Audit:
    """Read audit.csv.

    Raises:
        UserError: when the file cannot be read, a column is missing or holds something else than
            it should, or there is no replay.
    """
    path = get_reports_directory(root) / AUDIT_FILE
    records = read_columns(path, COLUMNS).to_dict("records")
    audit = Audit(tuple(AuditRow(**{str(key): row[key] for key in row}) for row in records))
    for line, row in enumerate(audit.rows, start=2):
        if row.check not in list(Check):
            allowed = ", ".join(Check)
            raise UserError(
                f"{path}: line {line}: check is {row.check!r}, one of {allowed} is needed"
            )
        good, bad = list(Verdict)[2:] if row.check == Check.CONTROL else list(Verdict)[:2]
        if row.verdict not in (good, bad):
            raise UserError(
                f"{path}: line {line}: verdict of {row.check} is {row.verdict!r}, "
                f"{good} or {bad} is needed"
            )
    if not audit.select(Check.REPLAY):
        raise UserError(f"{path}: no row of check {Check.REPLAY.value!r}, at least one is needed")
    return audit


def _is_failure(row: AuditRow) -> bool:
    return row.check != Check.CONTROL and not row.is_good


def _describe_failure(row: AuditRow) -> str:
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
    areas = sorted(row.auc for row in replays)
    num_images = sum(row.num_images for row in audit.select(Check.ROUND_TRIP))
    limit = audit.detectable_auc
    text = (
        "Reals that went the generated images' way look like other reals to "
        f"{len(replays)} of {len(replays)} classifiers (area under the ROC curve "
        f"{areas[0]:.3f} to {areas[-1]:.3f}; beyond {1 - limit:.3f} to {limit:.3f} it would fail)"
    )
    return text if num_images == 0 else f"{text}, and {num_images:,} images came back unchanged"


def _describe_controls(audit: Audit) -> str:
    controls = audit.select(Check.CONTROL)
    missed = [f"{row.fault} by {row.subject}" for row in controls if not row.is_good]
    if missed:
        return f"known faults were not found ({', '.join(missed)}), so one could have been missed"
    if not controls:
        return "no known fault was tried"
    lowest = min(row.auc for row in controls if math.isfinite(row.auc))
    return f"every known fault was found ({len(controls)} tried, area at least {lowest:.3f})"
