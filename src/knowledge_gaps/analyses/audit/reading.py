"""The shortcut audit: may the detection rates be taken for what images show?

audit.csv is written by the stage `audit`; what its checks are is said there. A report marks every
detection rate when the audit did not pass.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from knowledge_gaps.core.columns import (
    NUM_IMAGES,
    Cast,
    read_columns,
)
from knowledge_gaps.core.errors import UserError
from knowledge_gaps.statistics.hypotheses import AUDIT_ALPHA, compute_detectable_auc
from knowledge_gaps.statistics.measures import (
    AUC,
    DETECTION_RATE,
    REAL_ACCURACY,
)

SMALLEST_P = 1e-6  # that the table's digits can show
REPLAY = "replay"
CONTROL = "control"
ROUND_TRIP = "round_trip"
SAMPLE_FILES = "sample_files"
CHECKS = (REPLAY, CONTROL, ROUND_TRIP, SAMPLE_FILES)
VERDICTS = {  # of each check, the good one first
    REPLAY: ("pass", "fail"),
    CONTROL: ("found", "not_found"),
    ROUND_TRIP: ("pass", "fail"),
    SAMPLE_FILES: ("pass", "fail"),
}

_COLUMNS = {
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


@dataclass(frozen=True)
class AuditRow:
    """One check; what a check does not measure is NaN.

    Attributes:
        check: one of CHECKS.
        subject: recipe of the classifier, or which images.
        fault: of the replay, "none" but for a control.
        instance: number of the classifier.
        steps: that it was trained for.
        num_images: of each half, or of all images of an exact check.
        detection_rate: share of replayed reals called generated.
        real_accuracy: share of other reals called real.
        auc: of replayed against other reals; 0.5 is chance.
        p_value: two-sided, of that area.
        p_holm: adjusted over all replays.
        num_defects: changed bytes of a round trip, or sample files unlike the reals.
        verdict: a word of VERDICTS.
    """

    check: str
    subject: str
    fault: str
    instance: float
    steps: float
    num_images: int
    detection_rate: float
    real_accuracy: float
    auc: float
    p_value: float
    p_holm: float
    num_defects: float
    verdict: str

    @property
    def is_good(self) -> bool:
        """Whether the check passed, or the control was found."""
        return self.verdict == VERDICTS[self.check][0]


@dataclass(frozen=True)
class Audit:
    """All checks of a study.

    Attributes:
        rows: in the table's order; at least one replay.
    """

    rows: tuple[AuditRow, ...]

    @property
    def passed(self) -> bool:
        """Whether no check found a shortcut."""
        return all(row.is_good for row in self.rows if row.check != CONTROL)

    @property
    def has_power(self) -> bool:
        """Whether every control was found, so that a shortcut would have been found too."""
        return all(row.is_good for row in self.select(CONTROL)) and bool(self.select(CONTROL))

    @property
    def detectable_auc(self) -> float:
        """Area under the ROC curve from which a replay would have failed."""
        replays = self.select(REPLAY)
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


def read_audit(path: Path) -> Audit:
    """Read audit.csv.

    Raises:
        UserError: when the file cannot be read, a column is missing or holds something else than
            it should, or there is no replay.
    """
    frame = read_columns(path, _COLUMNS)
    records = frame.to_dict("records")
    audit = Audit(tuple(AuditRow(**{str(key): row[key] for key in row}) for row in records))
    for line, row in enumerate(audit.rows, start=2):
        if row.check not in CHECKS:
            raise UserError(
                f"{path}: line {line}: check is {row.check!r}, one of {CHECKS} is needed"
            )
        if row.verdict not in VERDICTS[row.check]:
            allowed = " or ".join(VERDICTS[row.check])
            raise UserError(
                f"{path}: line {line}: verdict of {row.check} is {row.verdict!r}, "
                f"{allowed} is needed"
            )
    if not audit.select(REPLAY):
        raise UserError(f"{path}: no row of check {REPLAY!r}, at least one is needed")
    return audit


def _is_failure(row: AuditRow) -> bool:
    return row.check != CONTROL and not row.is_good


def _describe_failure(row: AuditRow) -> str:
    if row.check == REPLAY:
        p_holm = f"{row.p_holm:.2g}" if row.p_holm >= SMALLEST_P else f"below {SMALLEST_P:g}"
        return (
            f"classifier {row.subject}/{row.instance:.0f} tells replayed reals from other reals "
            f"(area under the ROC curve {row.auc:.3f}, adjusted p {p_holm})"
        )
    if row.check == ROUND_TRIP:
        return f"{row.num_defects:,.0f} bytes of the images {row.subject!r} came back changed"
    return f"{row.num_defects:,.0f} sample files are stored in another way than the reals"


def _describe_pass(audit: Audit) -> str:
    replays = audit.select(REPLAY)
    areas = sorted(row.auc for row in replays)
    num_images = sum(row.num_images for row in audit.select(ROUND_TRIP))
    limit = audit.detectable_auc
    text = (
        "Reals that went the generated images' way look like other reals to "
        f"{len(replays)} of {len(replays)} classifiers (area under the ROC curve "
        f"{areas[0]:.3f} to {areas[-1]:.3f}; beyond {1 - limit:.3f} to {limit:.3f} it would fail)"
    )
    return text if num_images == 0 else f"{text}, and {num_images:,} images came back unchanged"


def _describe_controls(audit: Audit) -> str:
    controls = audit.select(CONTROL)
    missed = [f"{row.fault} by {row.subject}" for row in controls if not row.is_good]
    if missed:
        return f"known faults were not found ({', '.join(missed)}), so one could have been missed"
    if not controls:
        return "no known fault was tried"
    lowest = min(row.auc for row in controls if math.isfinite(row.auc))
    return f"every known fault was found ({len(controls)} tried, area at least {lowest:.3f})"
